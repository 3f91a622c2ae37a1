//! The metrics of the filter: every family with its labels, and the name that a time series has in Envoy.
//!
//! Envoy has no labels. Istio's own filters write them into a name as `<tag>=.=<value>;.;` before the metric's own
//! name, and Envoy's `stats_tags` take them out again; this filter's names have the same form, so that one regular
//! expression serves both (docs/envoy.md#metrics). `docs/metrics.md` is made of this file.
//!
//! Values come from the configuration or from a fixed list, and never from a client: nothing removes a metric.

use super::Basis;
use crate::answer::refusal::Refusal;
use crate::config::Fingerprint;
use crate::policy::limit::Metric;
use std::borrow::Cow;
use std::sync::Arc;
use strum::{EnumIter, IntoEnumIterator as _, IntoStaticStr};

/// What every name in Envoy begins with.
const PREFIX: &str = "llm_rate_limit.";

/// The most characters of a label's value.
const MAX_VALUE: usize = 128;

/// The most time series of one configuration in a worker: more plans and groups than anybody has.
pub const MAX_SERIES: usize = 20_000;

/// A metric with its labels.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name behind `llm_rate_limit_` in Prometheus.
    pub name: &'static str,
    /// Whether it counts, shows a state or has buckets.
    pub kind: Kind,
    /// The labels, in order. One that a time series does not need is left out.
    pub labels: &'static [&'static str],
    /// What it counts, for readers of `docs/metrics.md`.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// A state. It changes by increments, so that the workers of an Envoy add up.
    Gauge,
    /// Values by size.
    Histogram,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: Kind::Histogram, labels, help }
}

/// The labels that say who has sent a request.
const BY_SENDER: &[&str] = &["plan", "group", "key_name", "decision"];

static REQUESTS: Family = counter(
    "requests",
    BY_SENDER,
    "requests by what was decided about them: `admitted`, `over_limit` (429, or left while it waited), \
     `unknown_identity` (401), `uncounted` (forwarded without an answer of the store), `no_store` (503 without it), \
     `refused` (for what they are) or `not_limited`",
);
static DRY_RUN: Family = counter(
    "dry_run_requests",
    BY_SENDER,
    "requests that a dry run has forwarded, by what they would have been: `over_limit`, `refused` or \
     `unknown_identity`",
);
static REFUSALS: Family = counter(
    "refusals",
    &["owner", "metric", "window"],
    "refusals by the limit that refused: whose it is (`key`, `group`, `model` or `global`), what it limits, and its \
     window",
);
static CONTINUED: Family = counter(
    "continued",
    &["owner", "metric", "window"],
    "limits that admitted requests have gone on over, by [`on_limit`](configuration.md#what-happens-at-a-limit)",
);
static WARNINGS: Family = counter(
    "warnings",
    &["owner", "metric", "window"],
    "limits that admitted requests have found nearly used, by \
     [`warn_at`](configuration.md#warning-before-a-limit-is-reached)",
);
static REFUSED: Family = counter(
    "refused",
    &["reason"],
    "requests refused for what they are, whatever is left of the limits: `unreadable` (400), `encoding` (413, 415), \
     `endpoint`, `model` (403), `cap` (400) or `upgrade` (426)",
);
static NOT_LIMITED: Family = counter(
    "not_limited",
    &["reason"],
    "requests that no limit is for: `unlimited_key`, `no_limit_applies`, or their `path` or `method`; and those that \
     ended before any had decided: `client_left`, or `answered_early` by an upstream or another of Envoy's filters",
);
static UNREADABLE: Family =
    counter("unreadable", &[], "requests charged the most that a body could cost that nobody can read");
static STREAM_USAGE_REFUSED: Family = counter(
    "stream_usage_refused",
    &[],
    "requests answered 503 because the upstream [objects to be asked for usage](configuration.md#usage-of-streams)",
);
static DECIDED_LOCALLY: Family = counter(
    "decided_locally",
    &[],
    "requests that this Envoy has admitted or refused by its share of the limits, because Redis did not answer",
);
static STORE_ERRORS: Family = counter(
    "store_errors",
    &[],
    "reservations without an answer of the store in time, or that the sidecar refused",
);
static SETTLED: Family = counter(
    "settled",
    &["outcome"],
    "settled requests by what the final charge rests on: usage that the upstream `reported`, text that was `counted`, \
     an answer that has `failed`, or nothing (`unknown`: it stays as reserved)",
);
static SETTLEMENTS_DROPPED: Family =
    counter("settlements_dropped", &[], "settlements dropped because too many waited for the store");
static SETTLEMENTS_REFUSED: Family = counter(
    "settlements_refused",
    &[],
    "settlements dropped because they can never be done, such as on a counter that something else has overwritten; the \
     log says why",
);
static TOKENS: Family = counter(
    "tokens",
    &["kind", "family"],
    "tokens of settled requests by family of models: `input` and `output` as they are charged, weights applied; and \
     as the upstream reports them, of the input `cached_input` and `cache_write`, and of the output `reasoning`",
);
static ESTIMATED_TOKENS: Family = counter(
    "estimated_tokens",
    &["kind", "family"],
    "tokens that the requests in `tokens` were expected to use when they came, `input` and `output`: against those, \
     how good the estimates are",
);
static ESTIMATE_ERROR: Family = counter(
    "estimate_error_tokens",
    &["direction", "family"],
    "tokens by which counts of prompts were `over` or `under` what the upstream has reported",
);

static STORE_UP: Family = gauge("store_up", &[], "workers whose store answers; none with the store `local`");
static WORKERS_WITHOUT_STORE: Family = gauge(
    "workers_without_store",
    &[],
    "workers whose store does not: an alert when it is above 0 for a while; none with the store `local`",
);
static WAITING: Family = gauge("waiting", &[], "requests that wait until they fit, as of the last second");
static CONTEXTS: Family = gauge("contexts", &[], "requests that the filter knows, as of the last second");
static CONFIG_INFO: Family = gauge(
    "config_info",
    &["hash"],
    "workers that limit by the configuration with this hash, the first 16 digits of its SHA-256; 0 once it is replaced",
);

static CALLOUT_MS: Family = histogram(
    "callout_ms",
    &["call"],
    "milliseconds until the sidecar has answered a call, or has not: `reserve`, `settle`, `background` or `probe`",
);
static BATCH_SIZE: Family = histogram("batch_size", &["call"], "requests in one call to the sidecar");
static WAIT_MS: Family =
    histogram("wait_ms", &[], "milliseconds that requests have waited until they fitted, or did not");
static REQUEST_TOKENS: Family = histogram(
    "request_tokens",
    &["kind"],
    "tokens of a request, `input` and `output`, where they were measured",
);
static RETRY_AFTER_MS: Family =
    histogram("retry_after_ms", &[], "milliseconds after which refused requests may come again");

/// All families, in the order of `docs/metrics.md`.
pub static FAMILIES: [&Family; 27] = [
    &REQUESTS,
    &REFUSALS,
    &CONTINUED,
    &WARNINGS,
    &REFUSED,
    &NOT_LIMITED,
    &DRY_RUN,
    &UNREADABLE,
    &STREAM_USAGE_REFUSED,
    &TOKENS,
    &ESTIMATED_TOKENS,
    &ESTIMATE_ERROR,
    &SETTLED,
    &SETTLEMENTS_DROPPED,
    &SETTLEMENTS_REFUSED,
    &STORE_ERRORS,
    &DECIDED_LOCALLY,
    &STORE_UP,
    &WORKERS_WITHOUT_STORE,
    &WAITING,
    &CONTEXTS,
    &CONFIG_INFO,
    &CALLOUT_MS,
    &BATCH_SIZE,
    &WAIT_MS,
    &REQUEST_TOKENS,
    &RETRY_AFTER_MS,
];

/// All labels, each once: the tags that Envoy must be told.
pub fn tags() -> Vec<&'static str> {
    let mut tags: Vec<&str> = Vec::new();
    for tag in FAMILIES.iter().flat_map(|family| family.labels) {
        if !tags.contains(tag) {
            tags.push(tag);
        }
    }
    tags
}

/// What was decided about a request, in the access log and in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Verdict {
    /// It was forwarded under its limits.
    Admitted,
    /// It was answered 429, or its client left while it waited until it fitted.
    OverLimit,
    /// It was answered 401.
    UnknownIdentity,
    /// It was forwarded without an answer of the store.
    Uncounted,
    /// It was answered 503 without it.
    NoStore,
    /// It was refused for what it is.
    Refused,
    /// No limit is for it, or none was asked.
    NotLimited,
}

/// Why a request is not limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Unlimited {
    /// Its key is exempt.
    UnlimitedKey,
    /// None of the limits is for it.
    NoLimitApplies,
    /// Nothing at its path is limited.
    Path,
    /// Nothing with its method is limited.
    Method,
    /// Its client left before a limit was asked.
    ClientLeft,
    /// An upstream, or another filter of Envoy, answered before a limit was asked.
    AnsweredEarly,
}

impl Unlimited {
    /// Its word.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Verdict {
    /// Its word.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Who has sent a request, as far as the configuration names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SenderLabels {
    /// The plan.
    pub plan: Option<Arc<str>>,
    /// The group.
    pub group: Option<Arc<str>>,
    /// The name of the key, where the configuration asks for it.
    pub key_name: Option<Arc<str>>,
}

/// A kind of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum TokenKind {
    /// Of the prompt.
    Input,
    /// Of the answer.
    Output,
    /// Of the prompt, read from a cache.
    CachedInput,
    /// Of the prompt, written to a cache.
    CacheWrite,
    /// Of the answer, reasoning.
    Reasoning,
}

/// Whether an estimate was too high or too low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Direction {
    /// Too high.
    Over,
    /// Too low.
    Under,
}

/// A time series of a counter. The variants are the families, with their labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the families have help texts")]
pub enum Count {
    Requests { sender: SenderLabels, decision: Verdict },
    DryRunRequests { sender: SenderLabels, decision: Verdict },
    Refusals { owner: &'static str, metric: Metric, window: String },
    Continued { owner: &'static str, metric: Metric, window: String },
    Warnings { owner: &'static str, metric: Metric, window: String },
    Refused { reason: &'static str },
    NotLimited { reason: Unlimited },
    Unreadable,
    StreamUsageRefused,
    DecidedLocally,
    StoreErrors,
    Settled { outcome: Basis },
    SettlementsDropped,
    SettlementsRefused,
    Tokens { kind: TokenKind, family: &'static str },
    EstimatedTokens { kind: TokenKind, family: &'static str },
    EstimateErrorTokens { direction: Direction, family: &'static str },
}

/// A time series of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the families have help texts")]
pub enum Distribution {
    CalloutMs { call: &'static str },
    BatchSize { call: &'static str },
    WaitMs,
    RequestTokens { kind: TokenKind },
    RetryAfterMs,
}

/// A time series of a gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the families have help texts")]
pub enum Gauge {
    StoreUp,
    WorkersWithoutStore,
    Waiting,
    Contexts,
    ConfigInfo { hash: Fingerprint },
}

/// Labels with their values.
type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;

impl Count {
    /// Those that are known before any request: they are there at zero from the start.
    pub fn at_start() -> Vec<Self> {
        let mut all = vec![
            Self::Unreadable,
            Self::StreamUsageRefused,
            Self::DecidedLocally,
            Self::StoreErrors,
            Self::SettlementsDropped,
            Self::SettlementsRefused,
        ];
        all.extend(Basis::iter().map(|outcome| Self::Settled { outcome }));
        all.extend(Refusal::REASONS.map(|reason| Self::Refused { reason }));
        all.extend(Unlimited::iter().map(|reason| Self::NotLimited { reason }));
        all
    }

    /// Its family.
    pub fn family(&self) -> &'static Family {
        match self {
            Self::Requests { .. } => &REQUESTS,
            Self::DryRunRequests { .. } => &DRY_RUN,
            Self::Refusals { .. } => &REFUSALS,
            Self::Continued { .. } => &CONTINUED,
            Self::Warnings { .. } => &WARNINGS,
            Self::Refused { .. } => &REFUSED,
            Self::NotLimited { .. } => &NOT_LIMITED,
            Self::Unreadable => &UNREADABLE,
            Self::StreamUsageRefused => &STREAM_USAGE_REFUSED,
            Self::DecidedLocally => &DECIDED_LOCALLY,
            Self::StoreErrors => &STORE_ERRORS,
            Self::Settled { .. } => &SETTLED,
            Self::SettlementsDropped => &SETTLEMENTS_DROPPED,
            Self::SettlementsRefused => &SETTLEMENTS_REFUSED,
            Self::Tokens { .. } => &TOKENS,
            Self::EstimatedTokens { .. } => &ESTIMATED_TOKENS,
            Self::EstimateErrorTokens { .. } => &ESTIMATE_ERROR,
        }
    }

    /// Its name in Envoy.
    pub fn name(&self) -> String {
        name(self.family(), self.labels())
    }

    fn labels(&self) -> Labels<'_> {
        match self {
            Self::Requests { sender, decision } | Self::DryRunRequests { sender, decision } => {
                let SenderLabels { plan, group, key_name } = sender;
                let named = [("plan", plan), ("group", group), ("key_name", key_name)].into_iter();
                let known = named.filter_map(|(tag, value)| Some((tag, Cow::Borrowed(&**value.as_ref()?))));
                known.chain([("decision", decision.name().into())]).collect()
            }
            Self::Refusals { owner, metric, window }
            | Self::Continued { owner, metric, window }
            | Self::Warnings { owner, metric, window } => vec![
                ("owner", (*owner).into()),
                ("metric", metric.name().into()),
                ("window", window.as_str().into()),
            ],
            Self::Refused { reason } => vec![("reason", (*reason).into())],
            Self::NotLimited { reason } => vec![("reason", reason.name().into())],
            Self::Settled { outcome } => vec![("outcome", outcome.name().into())],
            Self::Tokens { kind, family } | Self::EstimatedTokens { kind, family } => {
                vec![("kind", <&str>::from(kind).into()), ("family", (*family).into())]
            }
            Self::EstimateErrorTokens { direction, family } => {
                vec![("direction", <&str>::from(direction).into()), ("family", (*family).into())]
            }
            Self::Unreadable
            | Self::StreamUsageRefused
            | Self::DecidedLocally
            | Self::StoreErrors
            | Self::SettlementsDropped
            | Self::SettlementsRefused => Vec::new(),
        }
    }
}

impl Distribution {
    /// Its family.
    pub fn family(self) -> &'static Family {
        match self {
            Self::CalloutMs { .. } => &CALLOUT_MS,
            Self::BatchSize { .. } => &BATCH_SIZE,
            Self::WaitMs => &WAIT_MS,
            Self::RequestTokens { .. } => &REQUEST_TOKENS,
            Self::RetryAfterMs => &RETRY_AFTER_MS,
        }
    }

    /// Its name in Envoy.
    pub fn name(self) -> String {
        let labels = match self {
            Self::CalloutMs { call } | Self::BatchSize { call } => vec![("call", call.into())],
            Self::RequestTokens { kind } => vec![("kind", <&str>::from(kind).into())],
            Self::WaitMs | Self::RetryAfterMs => Vec::new(),
        };
        name(self.family(), labels)
    }
}

impl Gauge {
    /// Those that are there from the start.
    pub const AT_START: [Self; 4] = [Self::StoreUp, Self::WorkersWithoutStore, Self::Waiting, Self::Contexts];

    /// Its family.
    pub fn family(self) -> &'static Family {
        match self {
            Self::StoreUp => &STORE_UP,
            Self::WorkersWithoutStore => &WORKERS_WITHOUT_STORE,
            Self::Waiting => &WAITING,
            Self::Contexts => &CONTEXTS,
            Self::ConfigInfo { .. } => &CONFIG_INFO,
        }
    }

    /// Its name in Envoy.
    pub fn name(self) -> String {
        let labels = match self {
            Self::ConfigInfo { hash } => vec![("hash", hash.to_string().into())],
            Self::StoreUp | Self::WorkersWithoutStore | Self::Waiting | Self::Contexts => Vec::new(),
        };
        name(self.family(), labels)
    }
}

/// The name in Envoy of the time series of `family` with `labels`, in Istio's form.
fn name(family: &Family, labels: Labels<'_>) -> String {
    let mut name = PREFIX.to_owned();
    for (tag, value) in labels {
        name.push_str(tag);
        name.push_str("=.=");
        // These would end a value too early.
        let clean =
            |letter: char| if matches!(letter, ';' | '=') || letter.is_control() { '_' } else { letter };
        name.extend(value.chars().take(MAX_VALUE).map(clean));
        name.push_str(";.;");
    }
    name.push_str(family.name);
    name
}

#[cfg(test)]
mod tests;
