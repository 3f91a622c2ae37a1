//! The fields of whatever has limits: plans, groups, models, keys, the default and all together.

use super::Number;
use crate::config::error::quoted;
use crate::config::secret::Secret;
use crate::policy::limit::Metric;
use crate::quantity::NonZeroMillis;
use serde::de::{Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, de};
use std::collections::BTreeMap;
use std::fmt;

/// Defines structs that hold limits: the fields given, then those that every such struct has. serde's `flatten` would
/// do the same but loses the path of an error.
macro_rules! with_limits {
    ($($(#[$outer:meta])* struct $name:ident { $($(#[$inner:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$outer])*
        #[derive(Debug, Default, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields, default, expecting = "an object")]
        pub struct $name {
            $($(#[$inner])* pub $field: $type,)*
            /// Requests in any minute.
            pub rpm: Option<Number>,
            /// Requests in any day.
            pub rpd: Option<Number>,
            /// Prompt and completion tokens in any minute.
            pub tpm: Option<Number>,
            /// Prompt and completion tokens in any day.
            pub tpd: Option<Number>,
            /// Prompt tokens in any minute.
            pub input_tpm: Option<Number>,
            /// Completion tokens in any minute.
            pub output_tpm: Option<Number>,
            /// Requests in flight at any moment.
            pub max_concurrency: Option<Number>,
            /// `max_concurrency`: for how long a request that is never heard of again keeps its place, `1s` to `1d`;
            /// `10m` by default.
            pub lease_ttl: Option<String>,
            /// Limits over other windows.
            pub windows: Vec<Window>,
            /// How long a request that does not fit is held, if it fits by then, instead of being refused, in
            /// milliseconds, 0 to 60000; 0 by default.
            pub max_wait_ms: Option<Number>,
            /// Whether these limits refuse nothing: everything is counted, and what would have been refused is told.
            pub dry_run: Option<bool>,
        }

        impl $name {
            /// The limits that are not a model's.
            pub fn limits(&self) -> Limits<'_> {
                Limits {
                    shorthands: [
                        ("rpm", Metric::Requests, NonZeroMillis::MINUTE, self.rpm),
                        ("rpd", Metric::Requests, NonZeroMillis::DAY, self.rpd),
                        ("tpm", Metric::TotalTokens, NonZeroMillis::MINUTE, self.tpm),
                        ("tpd", Metric::TotalTokens, NonZeroMillis::DAY, self.tpd),
                        ("input_tpm", Metric::InputTokens, NonZeroMillis::MINUTE, self.input_tpm),
                        ("output_tpm", Metric::OutputTokens, NonZeroMillis::MINUTE, self.output_tpm),
                    ],
                    max_concurrency: self.max_concurrency,
                    lease_ttl: self.lease_ttl.as_deref(),
                    windows: &self.windows,
                    max_wait_ms: self.max_wait_ms,
                    dry_run: self.dry_run,
                }
            }
        }
    )*};
}

with_limits! {
    /// A set of limits: a plan's, which whoever is on it has for himself, or a group's, which its keys have together.
    struct Plan {
        /// Limits on models, by a pattern of model names, beside the others.
        models: BTreeMap<String, ModelLimits>,
    }

    /// Limits on the models that a pattern matches: together, not each.
    struct ModelLimits {}

    /// Limits on all requests.
    struct GlobalLimits {}

    /// A key and what it may do: `plan`, limits of its own, `group`, several of these, or `unlimited`.
    struct Key {
        /// The key itself. Give it or `key_sha256`.
        key: Option<Secret>,
        /// The SHA-256 of the key, 64 hexadecimal digits: `printf %s KEY | sha256sum`.
        key_sha256: Option<Secret>,
        /// What to call it in messages.
        name: Option<String>,
        /// A plan's name. Limits given beside it replace the plan's for the same metric and window, and add to the
        /// others.
        plan: Option<String>,
        /// A group's name. Its limits hold for all its keys together, beside those of each.
        group: Option<String>,
        /// Whether it has no limits, not even those of `models` and `global`.
        unlimited: bool,
        /// Limits on models, by a pattern of model names, beside the others.
        models: BTreeMap<String, ModelLimits>,
    }

    /// Limits for those who are not listed: each has its own counters.
    struct FallbackLimits {
        /// A plan's name, as for a key.
        plan: Option<String>,
        /// Limits on models, by a pattern of model names, beside the others.
        models: BTreeMap<String, ModelLimits>,
    }
}

/// Limits as they are written, shorthands with what they stand for.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Field name, metric, length of the window, and the amount if the field is given.
    pub shorthands: [(&'static str, Metric, NonZeroMillis, Option<Number>); 6],
    /// Requests in flight.
    pub max_concurrency: Option<Number>,
    /// How long a place is kept.
    pub lease_ttl: Option<&'a str>,
    /// Limits over other windows.
    pub windows: &'a [Window],
    /// How long a request is held.
    pub max_wait_ms: Option<Number>,
    /// Whether nothing is refused.
    pub dry_run: Option<bool>,
}

/// A limit over a window.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Window {
    /// What is counted.
    pub metric: WindowMetric,
    /// The most that any window admits: a whole number, or dollars with at most 6 decimals for `cost_usd`.
    pub limit: Number,
    /// Its length: an integer with a unit, `500ms`, `10s`, `1m`, `6h` or `1d`; 31 days at most. `1mo` is a month of the
    /// calendar in UTC, for `fixed_window`.
    pub window: String,
    /// How use is counted over it; `fixed_window` by default for `cost_usd` and for months, else `sliding_window`.
    #[serde(default)]
    pub algorithm: Option<Algorithm>,
    /// `sliding_window`: how many segments it is cut into, 1 to 1000 and none shorter than a millisecond; 60 by
    /// default.
    #[serde(default)]
    pub segments: Option<Number>,
    /// `token_bucket`: the most that fits at once, 1 or more; as `limit` by default.
    #[serde(default)]
    pub burst: Option<Number>,
    /// Whether this limit refuses nothing; by default as the other limits that it stands among.
    #[serde(default)]
    pub dry_run: Option<bool>,
}

/// What is counted over a window.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WindowMetric {
    /// Requests.
    Requests,
    /// Prompt tokens.
    InputTokens,
    /// Completion tokens, reasoning included.
    OutputTokens,
    /// Prompt and completion tokens together.
    TotalTokens,
    /// What requests cost in US dollars, by `prices`.
    CostUsd,
}

impl From<WindowMetric> for Metric {
    fn from(metric: WindowMetric) -> Self {
        match metric {
            WindowMetric::Requests => Self::Requests,
            WindowMetric::InputTokens => Self::InputTokens,
            WindowMetric::OutputTokens => Self::OutputTokens,
            WindowMetric::TotalTokens => Self::TotalTokens,
            WindowMetric::CostUsd => Self::CostUsd,
        }
    }
}

/// How use is counted over a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Use leaves segment by segment: no window of this length, wherever it begins, admits more than the limit.
    SlidingWindow,
    /// Windows follow one another, aligned to the epoch in UTC, and each begins empty.
    FixedWindow,
    /// A bucket of `burst`, refilled evenly by the limit in each window.
    TokenBucket,
}

impl Algorithm {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlidingWindow => "sliding_window",
            Self::FixedWindow => "fixed_window",
            Self::TokenBucket => "token_bucket",
        }
    }
}

/// What those who are not listed may do.
#[derive(Debug)]
pub enum Fallback {
    /// `"reject"`: nothing; they are answered 401.
    Reject,
    /// `"unlimited"`: anything, without the limits of `models` and `global` too.
    Unlimited,
    /// A plan or limits.
    Limited(Box<FallbackLimits>),
}

impl<'de> Deserialize<'de> for Fallback {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "\"reject\", \"unlimited\" or an object";

        struct WordOrLimits;

        impl<'de> Visitor<'de> for WordOrLimits {
            type Value = Fallback;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Fallback, E> {
                match word {
                    "reject" => Ok(Fallback::Reject),
                    "unlimited" => Ok(Fallback::Unlimited),
                    _ => Err(E::custom(format_args!("expected {EXPECTED}, found {}", quoted(word)))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fallback, A::Error> {
                FallbackLimits::deserialize(MapAccessDeserializer::new(map))
                    .map(|limits| Fallback::Limited(Box::new(limits)))
            }
        }

        deserializer.deserialize_any(WordOrLimits)
    }
}
