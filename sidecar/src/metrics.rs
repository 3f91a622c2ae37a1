//! The sidecar's metrics, for Prometheus. No label takes its values from requests, so a client cannot add time series.

use llm_rate_limit::store::wire::{Met, Reserve, Reserved, Settle, Settled};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::fmt;
use std::time::Duration;

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

/// Histograms by call.
type Histograms = Family<CallName, Histogram, fn() -> Histogram>;

/// All of the sidecar's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    reservations: Family<Outcome, Counter>,
    settlements: Family<Outcome, Counter>,
    background: Family<Outcome, Counter>,
    new_identities: Family<Outcome, Counter>,
    batches: Histograms,
    redis_seconds: Histogram,
    redis_connected: Gauge,
    redis_connections: Counter,
    scripts_loaded: Counter,
    webhooks: Family<Outcome, Counter>,
    errors: Family<Kind, Counter>,
    queue: Gauge,
    bytes: Gauge,
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("llm_rate_limit_sidecar");
        let metrics = Self {
            reservations: Family::default(),
            settlements: Family::default(),
            background: Family::default(),
            new_identities: Family::default(),
            // 1 to 4096 elements.
            batches: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1.0, 2.0, 13))),
            // 0.1 ms to 3.3 s.
            redis_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
            redis_connected: Gauge::default(),
            redis_connections: Counter::default(),
            scripts_loaded: Counter::default(),
            webhooks: Family::default(),
            errors: Family::default(),
            queue: Gauge::default(),
            bytes: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("reservations", "Reservations by outcome", metrics.reservations.clone());
        registry.register("settlements", "Settlements by outcome", metrics.settlements.clone());
        registry.register(
            "background",
            "Background responses that were kept open and usages of responses, by outcome",
            metrics.background.clone(),
        );
        registry.register(
            "new_identities",
            "Reservations of new identities, where their number is bounded: with counters of their own, or shared ones",
            metrics.new_identities.clone(),
        );
        registry.register("batch_size", "Elements of a batch", metrics.batches.clone());
        registry.register(
            "redis_seconds",
            "Duration of one round trip to Redis",
            metrics.redis_seconds.clone(),
        );
        registry.register(
            "redis_connected",
            "1 while there is a connection to Redis",
            metrics.redis_connected.clone(),
        );
        registry.register(
            "redis_connections",
            "Connections opened to Redis",
            metrics.redis_connections.clone(),
        );
        registry.register(
            "script_sources",
            "Calls repeated with the script's source because Redis did not know the script",
            metrics.scripts_loaded.clone(),
        );
        registry.register(
            "webhooks",
            "Warnings to the webhook: delivered, reported_by_another, failed, or dropped because too many waited",
            metrics.webhooks.clone(),
        );
        registry.register("errors", "Calls that got an error", metrics.errors.clone());
        registry.register("queue_depth", "Calls in flight", metrics.queue.clone());
        registry.register(
            "body_bytes",
            "Bytes of the bodies that arrive or are worked on",
            metrics.bytes.clone(),
        );
        Self { registry, ..metrics }
    }

    /// Counts the answers to a batch of reservations. Those that no settlement follows are settled with it.
    pub fn reserved(&self, batch: &[Reserve], answers: &[Reserved]) {
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

    /// Counts the answers to a batch of settlements, one for each.
    pub fn settled(&self, batch: &[Settle], answers: &[Settled]) {
        self.batches.get_or_create(&CallName { call: "settle" }).observe(size(answers.len()));
        for (one, answer) in batch.iter().zip(answers) {
            let outcome = match answer {
                Settled::Done { settled: true, .. } if one.extend => "extended",
                Settled::Done { settled: true, .. } => "settled",
                Settled::Done { settled: false, .. } => "absent",
                Settled::Failed { .. } => "failed",
            };
            self.settlements.get_or_create(&Outcome { outcome }).inc();
        }
    }

    /// Counts the answers to a batch of background responses and usages.
    pub fn met(&self, answers: &[Met]) {
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

    /// Counts `calls` that went out again with their source.
    pub fn sources_sent(&self, calls: usize) {
        self.scripts_loaded.inc_by(u64::try_from(calls).unwrap_or(u64::MAX));
    }

    /// Counts a warning for the webhook.
    pub fn webhook(&self, outcome: &'static str) {
        self.webhooks.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a call that got an error of this kind.
    pub fn error(&self, kind: &'static str) {
        self.errors.get_or_create(&Kind { kind }).inc();
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

/// A batch's size as a histogram takes it; none has 2^53 elements.
fn size(elements: usize) -> f64 {
    elements as f64
}
