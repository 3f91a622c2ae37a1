//! The sidecar's metrics, for Prometheus. No label takes its values from requests, so a client cannot add time series.

mod process;

use crate::store::Ended;
use llm_rate_limit::store::wire::{Met, Reserve, Reserved, Settle, Settled};
use process::Process;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use strum::{EnumIter, IntoEnumIterator as _, IntoStaticStr};

/// The media type of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallName {
    call: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// The kind of an error: of a call, or of what the sidecar does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ErrorKind {
    /// Redis is unavailable.
    RedisAway,
    /// Redis answered a command with an error.
    Redis,
    /// The maximum number of calls is in flight.
    QueueFull,
    /// The body or the query of a call is invalid.
    Malformed,
    /// The body of a call is too large.
    TooLarge,
    /// A batch has too many elements.
    TooMany,
    /// The body of a call did not arrive in time.
    TooSlow,
    /// The body of a call made room for others.
    Crowded,
    /// The token of a call is missing or wrong.
    Unauthorized,
    /// The caller speaks another version of the wire.
    Version,
    /// The task of a call panicked.
    Crashed,
    /// No route has the path of a call.
    NotFound,
    /// The path of a call does not take its method.
    Method,
    /// What a refused reservation has charged cannot be given back.
    Rollback,
    /// Nothing can be learned about the counts of prompts.
    Learning,
}

impl ErrorKind {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What has become of a warning for the webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Delivery {
    /// The webhook has taken it.
    Delivered,
    /// Another sidecar has reported it.
    ReportedByAnother,
    /// The webhook has not taken it.
    Failed,
    /// Too many waited.
    Dropped,
}

/// Histograms by call.
type Histograms = Family<CallName, Histogram, fn() -> Histogram>;

/// The calls that do work.
const CALLS: [&str; 3] = ["reserve", "settle", "background"];

/// All of the sidecar's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reservations: Family<Outcome, Counter>,
    settlements: Family<Outcome, Counter>,
    background: Family<Outcome, Counter>,
    new_identities: Family<Outcome, Counter>,
    batches: Histograms,
    requests: Histograms,
    scripts: Histograms,
    redis_seconds: Histogram,
    redis_connected: Gauge,
    redis_connections: Counter,
    /// In seconds.
    redis_clock_ahead: Gauge<f64, AtomicU64>,
    scripts_loaded: Counter,
    webhooks: Family<Outcome, Counter>,
    errors: Family<Kind, Counter>,
    connections: Gauge,
    queue: Gauge,
    bytes: Gauge,
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let outcomes = |outcomes: &[&'static str]| {
            let family = Family::<Outcome, Counter>::default();
            outcomes.iter().for_each(|&outcome| drop(family.get_or_create(&Outcome { outcome })));
            family
        };
        // 1 to 4096 elements.
        let sizes: fn() -> Histogram = || Histogram::new(exponential_buckets(1.0, 2.0, 13));
        let calls = |histogram: fn() -> Histogram| {
            let family = Histograms::new_with_constructor(histogram);
            CALLS.iter().for_each(|&call| drop(family.get_or_create(&CallName { call })));
            family
        };
        let errors = Family::<Kind, Counter>::default();
        ErrorKind::iter().for_each(|kind| drop(errors.get_or_create(&Kind { kind: kind.name() })));
        let deliveries: Vec<&'static str> = Delivery::iter().map(Into::into).collect();
        let metrics = Self {
            reservations: outcomes(&["admitted", "refused", "failed"]),
            settlements: outcomes(&["settled", "extended", "absent", "needless", "failed"]),
            background: outcomes(&["met", "waits", "failed"]),
            new_identities: outcomes(&["own", "shared"]),
            batches: calls(sizes),
            requests: calls(durations),
            scripts: calls(durations),
            redis_seconds: durations(),
            redis_connected: Gauge::default(),
            redis_connections: Counter::default(),
            redis_clock_ahead: Gauge::default(),
            scripts_loaded: Counter::default(),
            webhooks: outcomes(&deliveries),
            errors,
            connections: Gauge::default(),
            queue: Gauge::default(),
            bytes: Gauge::default(),
            registry: Registry::default(),
        };
        Self { registry: metrics.registered(), ..metrics }
    }

    fn registered(&self) -> Registry {
        let mut root = Registry::default();
        root.register_collector(Box::new(Process));
        let registry = root.sub_registry_with_prefix("llm_rate_limit_sidecar");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The sidecar that runs", Info::new(version));
        registry.register("reservations", "Reservations by outcome", self.reservations.clone());
        registry.register("settlements", "Settlements by outcome", self.settlements.clone());
        let background = "Background responses that were kept open and usages of responses, by outcome";
        registry.register("background", background, self.background.clone());
        let new_identities =
            "Reservations of new identities where their number is bounded: with own counters, or shared";
        registry.register("new_identities", new_identities, self.new_identities.clone());
        registry.register("batch_size", "Elements of a batch", self.batches.clone());
        let requests = "Duration of a call, from its head to its answer";
        registry.register("request_seconds", requests, self.requests.clone());
        let scripts = "Duration of the scripts of a call: all of its round trips to Redis";
        registry.register("script_seconds", scripts, self.scripts.clone());
        registry.register("redis_seconds", "Duration of one round trip to Redis", self.redis_seconds.clone());
        let connected = "1 while there is a connection to Redis";
        registry.register("redis_connected", connected, self.redis_connected.clone());
        registry.register("redis_connections", "Connections opened to Redis", self.redis_connections.clone());
        let ahead = "Seconds by which Redis's clock is ahead of this machine's, as of the last second; below 0 if it \
                     is behind, and 0 on a Redis Cluster";
        registry.register("redis_clock_ahead_seconds", ahead, self.redis_clock_ahead.clone());
        let sources = "Calls repeated with the script's source because Redis did not know the script";
        registry.register("script_sources", sources, self.scripts_loaded.clone());
        let webhooks = "Warnings to the webhook, by outcome: `dropped` if too many waited";
        registry.register("webhooks", webhooks, self.webhooks.clone());
        let errors = "Errors by kind: calls that got one, and what failed that the sidecar does by itself";
        registry.register("errors", errors, self.errors.clone());
        registry.register("connections", "Open connections of callers", self.connections.clone());
        registry.register("queue_depth", "Calls in flight", self.queue.clone());
        let bytes = "Bytes of the bodies that arrive or are worked on";
        registry.register("body_bytes", bytes, self.bytes.clone());
        root
    }

    /// Measures a call to `path`, from its head to its answer.
    pub fn request(&self, path: &str, took: Duration) {
        if let Some(call) = CALLS.into_iter().find(|call| path.strip_prefix("/v1/") == Some(*call)) {
            self.requests.get_or_create(&CallName { call }).observe(took.as_secs_f64());
        }
    }

    /// Measures the scripts of a `call`.
    fn scripts(&self, call: &'static str, took: Duration) {
        self.scripts.get_or_create(&CallName { call }).observe(took.as_secs_f64());
    }

    /// Records that a caller has opened a connection.
    pub fn opened(&self) {
        self.connections.inc();
    }

    /// Records that a connection of a caller has ended.
    pub fn closed(&self) {
        self.connections.dec();
    }

    /// Counts the answers to a batch of reservations, of which the scripts `took` so long. Those that no settlement
    /// follows are settled with it.
    pub fn reserved(&self, batch: &[Reserve], answers: &[Reserved], took: Duration) {
        self.scripts("reserve", took);
        self.batches.get_or_create(&CallName { call: "reserve" }).observe(size(answers.len()));
        for (one, answer) in batch.iter().zip(answers) {
            if one.is_final && matches!(answer, Reserved::Decided { admitted: true, .. }) {
                self.settlements.get_or_create(&Outcome { outcome: "needless" }).inc();
            }
            let outcome = match answer {
                Reserved::Decided { admitted: true, .. } => "admitted",
                Reserved::Decided { admitted: false, .. } => "refused",
                Reserved::Failed { .. } => "failed",
            };
            self.reservations.get_or_create(&Outcome { outcome }).inc();
        }
    }

    /// Counts the answers to a batch of settlements, one for each, of which the scripts `took` so long.
    pub fn settled(&self, batch: &[Settle], ended: &[Ended], took: Duration) {
        self.scripts("settle", took);
        self.batches.get_or_create(&CallName { call: "settle" }).observe(size(ended.len()));
        for (one, Ended { answer, .. }) in batch.iter().zip(ended) {
            let outcome = match answer {
                Settled::Done { settled: true, .. } if one.extend => "extended",
                Settled::Done { settled: true, .. } => "settled",
                Settled::Done { settled: false, .. } => "absent",
                Settled::Failed { .. } => "failed",
            };
            self.settlements.get_or_create(&Outcome { outcome }).inc();
        }
    }

    /// Counts the answers to a batch of background responses and usages, of which the scripts `took` so long.
    pub fn met(&self, answers: &[Met], took: Duration) {
        self.scripts("background", took);
        self.batches.get_or_create(&CallName { call: "background" }).observe(size(answers.len()));
        for answer in answers {
            let outcome = match answer {
                Met::Done { found: Some(_) } => "met",
                Met::Done { found: None } => "waits",
                Met::Failed { .. } => "failed",
            };
            self.background.get_or_create(&Outcome { outcome }).inc();
        }
    }

    /// Counts a reservation of a new identity, which gets counters of its `own` or shares those of others.
    pub fn newcomer(&self, own: bool) {
        let outcome = if own { "own" } else { "shared" };
        self.new_identities.get_or_create(&Outcome { outcome }).inc();
    }

    /// Measures a round trip to Redis, with or without an answer.
    pub fn round_trip(&self, took: Duration) {
        self.redis_seconds.observe(took.as_secs_f64());
    }

    /// Records that a connection to Redis is open.
    pub fn connected(&self) {
        self.redis_connected.set(1);
        self.redis_connections.inc();
    }

    /// Records that the connection to Redis is lost, or that an attempt failed.
    pub fn disconnected(&self) {
        self.redis_connected.set(0);
    }

    /// Records by how many milliseconds Redis's clock is ahead of this machine's.
    pub fn clock_ahead(&self, ms: i64) {
        self.redis_clock_ahead.set(ms as f64 / 1_000.0);
    }

    /// Counts `calls` that went out again with their source.
    pub fn sources_sent(&self, calls: usize) {
        self.scripts_loaded.inc_by(u64::try_from(calls).unwrap_or(u64::MAX));
    }

    /// Counts a warning for the webhook.
    pub fn webhook(&self, delivery: Delivery) {
        self.webhooks.get_or_create(&Outcome { outcome: delivery.into() }).inc();
    }

    /// Counts an error of this kind.
    pub fn error(&self, kind: ErrorKind) {
        self.errors.get_or_create(&Kind { kind: kind.name() }).inc();
    }

    /// All metrics as OpenMetrics text, with `in_flight` calls in the queue and `bytes` of bodies now.
    ///
    /// # Errors
    /// Writing to a `String` does not fail.
    pub fn render(&self, in_flight: usize, bytes: usize) -> Result<String, fmt::Error> {
        self.queue.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A histogram of durations, from 0.1 ms to 3.3 s.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 16))
}

/// A batch's size as a histogram takes it; none has 2^53 elements.
fn size(elements: usize) -> f64 {
    elements as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn families_are_there_at_zero_from_the_start() {
        let text = Metrics::new().render(0, 0).unwrap();
        for series in [
            r#"llm_rate_limit_sidecar_reservations_total{outcome="failed"} 0"#,
            r#"llm_rate_limit_sidecar_settlements_total{outcome="needless"} 0"#,
            r#"llm_rate_limit_sidecar_background_total{outcome="waits"} 0"#,
            r#"llm_rate_limit_sidecar_new_identities_total{outcome="shared"} 0"#,
            r#"llm_rate_limit_sidecar_errors_total{kind="rollback"} 0"#,
            r#"llm_rate_limit_sidecar_errors_total{kind="learning"} 0"#,
            r#"llm_rate_limit_sidecar_errors_total{kind="queue_full"} 0"#,
            r#"llm_rate_limit_sidecar_webhooks_total{outcome="reported_by_another"} 0"#,
            r#"llm_rate_limit_sidecar_request_seconds_count{call="reserve"} 0"#,
            r#"llm_rate_limit_sidecar_script_seconds_count{call="settle"} 0"#,
            r#"llm_rate_limit_sidecar_batch_size_count{call="background"} 0"#,
            "llm_rate_limit_sidecar_connections 0",
            r#"llm_rate_limit_sidecar_build_info{version=""#,
        ] {
            assert!(text.contains(series), "{series}: {text}");
        }
        for process in ["cpu_seconds_total", "resident_memory_bytes", "open_fds", "start_time_seconds"] {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("process_{process} ")));
            assert!(line.unwrap().parse::<f64>().unwrap() >= 0.0, "{process}");
        }
    }

    /// Whatever is counted, no time series comes that was not there from the start: a rate sees its first step.
    #[test]
    fn nothing_that_is_counted_adds_a_series() {
        let metrics = Metrics::new();
        let series = || {
            let text = metrics.render(0, 0).unwrap();
            let names = text.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()));
            names.filter(|name| !name.starts_with("process_")).collect::<Vec<_>>()
        };
        let at_start = series();
        ErrorKind::iter().for_each(|kind| metrics.error(kind));
        Delivery::iter().for_each(|delivery| metrics.webhook(delivery));
        let failed = || Reserved::Failed { error: "no".to_owned(), unavailable: true };
        let decided = |admitted| Reserved::Decided { admitted, windows: Vec::new() };
        let is_final = Reserve { is_final: true, ..Reserve::default() };
        let batch = [is_final, Reserve::default(), Reserve::default()];
        metrics.reserved(&batch, &[decided(true), decided(false), failed()], Duration::ZERO);
        let done = |settled| Ended::from(Settled::Done { settled, over: false });
        let extension = Settle { extend: true, ..Settle::default() };
        let batch = [extension, Settle::default(), Settle::default(), Settle::default()];
        let settled = [
            done(true),
            done(true),
            done(false),
            Settled::Failed { error: "no".to_owned(), permanent: true }.into(),
        ];
        metrics.settled(&batch, &settled, Duration::ZERO);
        metrics.met(
            &[Met::Done { found: None }, Met::Failed { error: "no".to_owned(), permanent: true }],
            Duration::ZERO,
        );
        [true, false].into_iter().for_each(|own| metrics.newcomer(own));
        CALLS.into_iter().for_each(|call| metrics.request(&format!("/v1/{call}"), Duration::ZERO));
        assert_eq!(series(), at_start);
    }

    /// The page's table of the sidecar's metrics. `UPDATE_DOCS=1 cargo test -p llm-rate-limit-cli metrics_page` writes
    /// it.
    #[test]
    fn the_metrics_page_lists_every_family() {
        let text = Metrics::new().render(0, 0).unwrap();
        let mut table = "| metric | kind | labels | what it shows |\n|---|---|---|---|\n".to_owned();
        let of = |kind: &str, name: &str| {
            let prefix = format!("# {kind} {name} ");
            text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
        };
        for name in text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()) {
            let (kind, help) = (of("TYPE", name), of("HELP", name));
            let suffix = match kind.as_str() {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let mut labels: Vec<&str> = Vec::new();
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let Some((series, rest)) = line.split_once('{') else { continue };
                if !series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')) {
                    continue;
                }
                let of_line = rest.split(',').filter_map(|label| Some(label.split_once('=')?.0));
                labels.extend(of_line.filter(|label| *label != "le"));
            }
            labels.sort_unstable();
            labels.dedup();
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let help = help.trim_end_matches('.');
            writeln!(table, "| `{name}{suffix}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once("<!-- sidecar -->\n").unwrap();
        let (_, after) = rest.split_once("<!-- end of sidecar -->").unwrap();
        let generated = format!("{before}<!-- sidecar -->\n{table}<!-- end of sidecar -->{after}");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &generated).unwrap();
            return;
        }
        assert_eq!(page, generated, "UPDATE_DOCS=1 cargo test -p llm-rate-limit-cli metrics_page writes it");
    }
}
