//! The fields of everything that has limits: plans, groups, models, keys, the default, and all requests together.

use super::{Amount, ClaimedName, ClaimedWord, Number, OnLimit, Word};
use crate::config::error::quoted;
use crate::config::secret::Secret;
use crate::policy::limit::Metric;
use crate::quantity::NonZeroMillis;
use serde::de::{Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, de};
use std::collections::BTreeMap;
use std::fmt;

/// Defines structs that have limits: first their own fields, then those that every such struct has. serde's `flatten`
/// does the same, but loses the path of an error.
macro_rules! with_limits {
    ($($(#[$outer:meta])* struct $name:ident { $($(#[$inner:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$outer])*
        #[derive(Debug, Default, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields, default, expecting = "an object")]
        pub struct $name {
            $($(#[$inner])* pub $field: $type,)*
            /// The most requests in any minute.
            pub rpm: Option<Amount>,
            /// The most requests in any day.
            pub rpd: Option<Amount>,
            /// The most tokens in any minute, prompt and completion together.
            pub tpm: Option<Amount>,
            /// The most tokens in any day, prompt and completion together.
            pub tpd: Option<Amount>,
            /// The most prompt tokens in any minute.
            pub input_tpm: Option<Amount>,
            /// The most completion tokens in any minute.
            pub output_tpm: Option<Amount>,
            /// The most requests in flight at any moment.
            pub max_concurrency: Option<Amount>,
            /// `max_concurrency`: the duration after which a request counts as ended if its Envoy has disappeared, `1s`
            /// to `1d`; `10m` by default.
            pub lease_ttl: Option<String>,
            /// Limits over other windows.
            pub windows: Vec<Window>,
            /// The longest that a request over a limit waits to fit, instead of being refused, in milliseconds, 0 to
            /// 60000; 0 by default.
            pub max_wait_ms: Option<Number>,
            /// What becomes of a request over one of these limits: `"refuse"`, `"wait"`, or an object by which it goes
            /// on; by default it waits if `max_wait_ms` lets it, and is refused.
            pub on_limit: Option<OnLimit>,
            /// Whether these limits refuse nothing: every request is counted, and those over a limit are only reported.
            pub dry_run: Option<bool>,
            /// The part of each limit from which on answers warn that it is nearly used, up to 1, such as 0.8; no
            /// warning by default.
            pub warn_at: Option<Number>,
        }

        impl $name {
            /// The limits that are not for a pattern of models.
            pub fn limits(&self) -> Limits<'_> {
                Limits {
                    shorthands: [
                        self.rpm.as_ref(),
                        self.rpd.as_ref(),
                        self.tpm.as_ref(),
                        self.tpd.as_ref(),
                        self.input_tpm.as_ref(),
                        self.output_tpm.as_ref(),
                    ],
                    max_concurrency: self.max_concurrency.as_ref(),
                    lease_ttl: self.lease_ttl.as_deref(),
                    windows: &self.windows,
                    max_wait_ms: self.max_wait_ms,
                    on_limit: self.on_limit.as_ref(),
                    dry_run: self.dry_run,
                    warn_at: self.warn_at,
                }
            }
        }
    )*};
}

/// Defines structs that have limits, limits on models and terms: first their own fields, then those that every such
/// struct has.
macro_rules! with_terms {
    ($($(#[$outer:meta])* struct $name:ident { $($(#[$inner:meta])* $field:ident: $type:ty,)* })*) => {$(
        with_limits! {
            $(#[$outer])*
            struct $name {
                $($(#[$inner])* $field: $type,)*
                /// Limits on models, by a pattern of model names, beside the others.
                models: BTreeMap<String, ModelLimits>,
                /// Patterns of the models that requests may name; all by default. Others are answered 403, and so are
                /// requests that name none. A key's list replaces its plan's.
                allow_models: Option<Vec<String>>,
                /// Patterns of the models that requests may not name, not even if they are allowed. A key's are beside
                /// its plan's.
                deny_models: Vec<String>,
                /// The most output tokens of an answer, 1 or more. Requests that ask for more are answered 400, unless
                /// `clamp` is set, and those that set no maximum reserve this much. A key's replaces its plan's.
                max_output_tokens: Option<Number>,
                /// Whether requests that ask for more than `max_output_tokens`, or set no maximum, get it in their
                /// bodies; by default as the plan, or `false`.
                clamp: Option<bool>,
            }
        }

        impl $name {
            /// The limits on models, and what requests may ask for.
            pub fn terms(&self) -> Terms<'_> {
                Terms {
                    models: &self.models,
                    allow_models: self.allow_models.as_deref(),
                    deny_models: &self.deny_models,
                    max_output_tokens: self.max_output_tokens,
                    clamp: self.clamp,
                }
            }
        }
    )*};
}

with_limits! {
    /// Limits on all models together that a pattern matches.
    struct ModelLimits {}

    /// Limits on all requests.
    struct GlobalLimits {}
}

with_terms! {
    /// The limits that each key on a plan has for itself.
    struct Plan {}

    /// The limits that the keys of a group share.
    struct Group {
        /// The name of the group that it is in, which shares its limits among all its groups.
        group: Option<String>,
    }

    /// A key and its limits: `plan`, limits of its own, `group`, or several of these; or `unlimited`.
    struct Key {
        /// The key itself. Either this or `key_sha256` is required.
        key: Option<Secret>,
        /// The SHA-256 of the key, 64 hexadecimal digits: `printf %s KEY | sha256sum`.
        key_sha256: Option<Secret>,
        /// The name of the key in messages and logs.
        name: Option<Word<ClaimedName>>,
        /// A plan's name. Limits beside it replace the plan's limits for the same metric and window, and add to the
        /// others.
        plan: Option<Word<ClaimedWord>>,
        /// A group's name. The group's limits hold for all its keys together, beside those of each key.
        group: Option<Word<ClaimedWord>>,
        /// Whether the key has no limits, not even those of `models` and `global`.
        unlimited: bool,
    }

    /// Limits for everybody who is not in `keys`. Each identity has its own counters.
    struct FallbackLimits {
        /// The name of all of them in messages and logs, or where each request says its own.
        name: Option<Word<ClaimedName>>,
        /// A plan's name, as for a key.
        plan: Option<Word<ClaimedWord>>,
        /// A group's name, as for a key: whoever is not in `keys` is in it.
        group: Option<Word<ClaimedWord>>,
        /// The store `redis`: the most identities without counters that get some in a second, at each sidecar, 1 to
        /// 1000000; no bound by default. Beyond it, new ones share one counter for each limit until the second is over.
        max_new_identities_per_second: Option<Number>,
    }
}

/// The limits on models, and what requests may ask for.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Limits, by a pattern of models.
    pub models: &'a BTreeMap<String, ModelLimits>,
    /// The patterns of models that are allowed; none if all are.
    pub allow_models: Option<&'a [String]>,
    /// The patterns of models that are denied.
    pub deny_models: &'a [String],
    /// The most output tokens of an answer.
    pub max_output_tokens: Option<Number>,
    /// Whether requests for more get that.
    pub clamp: Option<bool>,
}

/// The limits that have fields of their own: the field, what is limited, and the length of the window.
pub const SHORTHANDS: [(&str, Metric, NonZeroMillis); 6] = [
    ("rpm", Metric::Requests, NonZeroMillis::MINUTE),
    ("rpd", Metric::Requests, NonZeroMillis::DAY),
    ("tpm", Metric::TotalTokens, NonZeroMillis::MINUTE),
    ("tpd", Metric::TotalTokens, NonZeroMillis::DAY),
    ("input_tpm", Metric::InputTokens, NonZeroMillis::MINUTE),
    ("output_tpm", Metric::OutputTokens, NonZeroMillis::MINUTE),
];

/// Limits as they are written.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// The amounts of those [`SHORTHANDS`] that are given.
    pub shorthands: [Option<&'a Amount>; SHORTHANDS.len()],
    /// The most requests in flight.
    pub max_concurrency: Option<&'a Amount>,
    /// The length of a lease on a place.
    pub lease_ttl: Option<&'a str>,
    /// Limits over other windows.
    pub windows: &'a [Window],
    /// The longest that a request waits.
    pub max_wait_ms: Option<Number>,
    /// What becomes of requests that do not fit.
    pub on_limit: Option<&'a OnLimit>,
    /// Whether nothing is refused.
    pub dry_run: Option<bool>,
    /// The part of a limit from which on answers warn.
    pub warn_at: Option<Number>,
}

/// A limit over a window.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Window {
    /// What is counted.
    pub metric: WindowMetric,
    /// The most that any window admits: a whole number; for `cost_usd`, dollars with at most 6 decimals.
    pub limit: Amount,
    /// The window's length: a duration such as `500ms`, `10s`, `1m`, `6h`, `1d` or `1w`; 31 days at most. `1mo` and
    /// `1y` are a month and a year of the calendar, for `fixed_window`, and with `timezone` or `starts_on`, `1d` and
    /// `1w` are a day and a week of it.
    pub window: String,
    /// How use is counted over the window; `fixed_window` by default for `cost_usd` and for windows of the calendar,
    /// else `sliding_window`.
    #[serde(default)]
    pub algorithm: Option<Algorithm>,
    /// `sliding_window`: the number of segments, 1 to 1000, each a millisecond or longer; 60 by default.
    #[serde(default)]
    pub segments: Option<Number>,
    /// `token_bucket`: the most that is admitted at once, 1 or more; as `limit` by default.
    #[serde(default)]
    pub burst: Option<Number>,
    /// Windows of the calendar: the zone of its days, by its name in the IANA database, such as `America/New_York`;
    /// `UTC` by default.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Windows of the calendar: the first day of `1w`, `monday` to `sunday`, `monday` by default; of `1mo`, 1 to 31 or
    /// the last day of a shorter month, 1 by default; or of `1y`, as `MM-DD`, `01-01` by default.
    #[serde(default)]
    pub starts_on: Option<StartsOn>,
    /// What becomes of a request over this limit; by default as the limits that it belongs to.
    #[serde(default)]
    pub on_limit: Option<OnLimit>,
    /// Whether this limit refuses nothing; by default as the limits that it belongs to.
    #[serde(default)]
    pub dry_run: Option<bool>,
    /// The part of this limit from which on answers warn that it is nearly used, up to 1; by default as the limits that
    /// it belongs to.
    #[serde(default)]
    pub warn_at: Option<Number>,
}

/// The first day of a window of the calendar.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(untagged))]
pub enum StartsOn {
    /// The day of a month.
    Number(Number),
    /// The day of a week, or the day of a year.
    Text(String),
}

impl<'de> Deserialize<'de> for StartsOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;

        impl Visitor<'_> for NumberOrText {
            type Value = StartsOn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or a string")
            }

            fn visit_i64<E>(self, number: i64) -> Result<StartsOn, E> {
                Ok(StartsOn::Number(number.into()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<StartsOn, E> {
                Ok(StartsOn::Number(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<StartsOn, E> {
                Ok(StartsOn::Number(number.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<StartsOn, E> {
                Ok(StartsOn::Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(NumberOrText)
    }
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
    /// Prompt tokens that the provider does not read from its cache, those written to it included.
    UncachedInputTokens,
    /// Completion tokens, reasoning included.
    OutputTokens,
    /// Completion tokens that are reasoning.
    ReasoningTokens,
    /// Prompt and completion tokens together.
    TotalTokens,
    /// The cost of requests in US dollars, by `prices`.
    CostUsd,
}

impl From<WindowMetric> for Metric {
    fn from(metric: WindowMetric) -> Self {
        match metric {
            WindowMetric::Requests => Self::Requests,
            WindowMetric::InputTokens => Self::InputTokens,
            WindowMetric::UncachedInputTokens => Self::UncachedInputTokens,
            WindowMetric::OutputTokens => Self::OutputTokens,
            WindowMetric::ReasoningTokens => Self::ReasoningTokens,
            WindowMetric::TotalTokens => Self::TotalTokens,
            WindowMetric::CostUsd => Self::CostUsd,
        }
    }
}

/// How use is counted over a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, strum::IntoStaticStr)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Algorithm {
    /// Use leaves the window segment by segment: no window of this length, wherever it begins, admits more than the
    /// limit.
    SlidingWindow,
    /// Windows follow one another, aligned to the epoch in UTC. Each begins empty.
    FixedWindow,
    /// A bucket of `burst`, refilled evenly by the limit in each window.
    TokenBucket,
}

impl Algorithm {
    /// Its name.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The rights of everybody who is not in `keys`.
#[derive(Debug)]
pub enum Fallback {
    /// `"reject"`: nothing. Their requests are answered 401.
    Reject,
    /// `"unlimited"`: anything. The limits of `models` and `global` do not hold for them either.
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
