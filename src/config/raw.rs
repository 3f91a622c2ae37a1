//! The configuration's fields as users write them: the one place that says what they are called.
//!
//! These types know names and shapes; whether the values make sense is checked where they are turned into a
//! [`Config`](super::Config). A field that is not here is an error. The doc comments are the reference for users.

use super::document::Number;
use super::error::quoted;
use super::secret::Secret;
use crate::limits::Metric;
use crate::tokens;
use serde::de::{Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, de};
use std::collections::BTreeMap;
use std::fmt;

/// The whole configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Root {
    /// Where use is counted.
    pub store: Store,
    /// Where a request says who sent it: the first source that yields a value decides. By default the headers
    /// `authorization`, `x-api-key` and `api-key`, then the client's address.
    pub identity: Option<Vec<Source>>,
    /// Sets of limits, by name.
    pub plans: BTreeMap<String, Plan>,
    /// Limits that several keys share beside their own, by name: 1 to 64 letters, digits, `.`, `_` and `-`.
    pub groups: BTreeMap<String, Plan>,
    /// The keys that are known, and what they may do.
    pub keys: Vec<Key>,
    /// What everybody else may do; without it everybody else has no limits but `models` and `global`.
    pub default: Option<Fallback>,
    /// Limits on all requests for the models that a pattern matches, whoever sends them. Who is `unlimited` is exempt.
    pub models: BTreeMap<String, ModelLimits>,
    /// Limits on all requests together. Who is `unlimited` is exempt.
    pub global: GlobalLimits,
    /// How much output is reserved before a request is forwarded.
    pub output_reservation: OutputReservation,
    /// Where a stream's usage comes from if the client did not ask for it.
    pub stream_usage: StreamUsage,
    /// What happens to a stream that has passed a limit.
    pub on_stream_over: OnStreamOver,
    /// Whether a request that the upstream answered with an error is given back, as its tokens are; by default it
    /// is not.
    pub refund_requests_on_error: bool,
    /// What becomes of `accept-encoding` where tokens are limited.
    pub accept_encoding: AcceptEncoding,
    /// What a refusal says.
    pub rejection: Rejection,
    /// Which headers tell clients about their limits.
    pub headers: Headers,
    /// The encoding that counts the tokens of a model, by a pattern of model names.
    pub encodings: BTreeMap<String, Encoding>,
}

/// Where use is counted. The fields that only one type uses may stand beside the other, so that changing the type is
/// changing one word.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Store {
    /// Which store.
    #[serde(rename = "type")]
    pub kind: StoreType,
    /// `redis`: Envoy's name for the cluster that is the sidecar. Needed.
    pub cluster: Option<String>,
    /// `redis`: how long a request waits for the store, in milliseconds; 50 by default.
    pub timeout_ms: Option<Number>,
    /// `redis`: what happens when the store does not answer in time.
    pub on_error: OnError,
    /// `redis` with `on_error` `local`: how many Envoys share the limits meanwhile; 1 by default.
    pub replicas: Option<Number>,
    /// `redis`: the sidecar's `AUTH_TOKEN`.
    pub auth_token: Option<Secret>,
    /// How many identities this Envoy counts at a time; 65536 by default.
    pub max_identities: Option<Number>,
}

/// A kind of store.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreType {
    /// This Envoy process, all its workers.
    #[default]
    Local,
    /// Redis by way of the sidecar: all Envoys that use it.
    Redis,
}

/// What happens to a request whose limits could not be asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It is forwarded.
    Allow,
    /// It is answered 503.
    Deny,
    /// This Envoy enforces its share of the limits by itself.
    #[default]
    Local,
}

/// Where a request says who sent it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A request header, by name; `Bearer` before its value is left out.
    Header(String),
    /// The client's address as Envoy trusts it.
    ClientIp(ClientIp),
    /// Dynamic metadata that an earlier filter set: the filter's namespace, then the path in it.
    Metadata(Vec<String>),
}

/// The client's address. It has no options.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct ClientIp {}

/// Defines structs that hold limits: the fields given, then those that every such struct has. serde's `flatten` would
/// do the same but loses the path of an error.
macro_rules! with_limits {
    ($($(#[$outer:meta])* struct $name:ident { $($(#[$inner:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$outer])*
        #[derive(Debug, Default, Deserialize)]
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
            /// Limits over other windows.
            pub windows: Vec<Window>,
        }

        impl $name {
            /// The limits that are not a model's.
            pub fn limits(&self) -> Limits<'_> {
                Limits {
                    shorthands: [
                        ("rpm", Metric::Requests, MINUTE_MS, self.rpm),
                        ("rpd", Metric::Requests, DAY_MS, self.rpd),
                        ("tpm", Metric::TotalTokens, MINUTE_MS, self.tpm),
                        ("tpd", Metric::TotalTokens, DAY_MS, self.tpd),
                        ("input_tpm", Metric::InputTokens, MINUTE_MS, self.input_tpm),
                        ("output_tpm", Metric::OutputTokens, MINUTE_MS, self.output_tpm),
                    ],
                    windows: &self.windows,
                }
            }
        }
    )*};
}

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;

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
    /// Field name, metric, length of the window in milliseconds, and the amount if the field is given.
    pub shorthands: [(&'static str, Metric, u64, Option<Number>); 6],
    /// Limits over other windows.
    pub windows: &'a [Window],
}

/// A limit over a window.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Window {
    /// What is counted.
    pub metric: Metric,
    /// The most that any window admits.
    pub limit: Number,
    /// Its length: an integer with a unit, `500ms`, `10s`, `1m`, `6h` or `1d`; 31 days at most.
    pub window: String,
    /// How use is counted over it.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// `sliding_window`: how many segments it is cut into, 1 to 1000 and none shorter than a millisecond; 60 by
    /// default.
    #[serde(default)]
    pub segments: Option<Number>,
}

/// How use is counted over a window.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Use leaves segment by segment.
    #[default]
    SlidingWindow,
}

/// What those who are not listed may do.
#[derive(Debug)]
pub enum Fallback {
    /// `"reject"`: nothing; they are answered 401.
    Reject,
    /// `"unlimited"`: anything, without the limits of `models` and `global` too.
    Unlimited,
    /// A plan or limits.
    Limited(FallbackLimits),
}

/// How much output is reserved before a request is forwarded.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct OutputReservation {
    /// Tokens to reserve for a request that sets no maximum; 512 by default.
    pub default_tokens: Option<Number>,
    /// How to guess the output of such a request.
    pub mode: OutputMode,
}

/// How much output to reserve for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputMode {
    /// The maximum that the request sets, else `default_tokens`.
    Declared,
    /// The maximum that the request sets, else what its model's answers stay within nineteen times of twenty,
    /// beginning with `default_tokens`.
    #[default]
    Learned,
    /// Nothing: output is charged when it has been produced.
    None,
}

/// Where a stream's usage comes from if the client did not ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamUsage {
    /// Its text is counted here.
    #[default]
    Count,
    /// The filter asks the upstream (`stream_options.include_usage`) and hides the answer from the client.
    Inject,
}

/// What happens to a stream that has passed a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStreamOver {
    /// It goes on, and later requests wait.
    #[default]
    Continue,
    /// It is ended as if it had reached its maximum: `finish_reason` `length`, then `[DONE]`.
    Finish,
}

/// What becomes of `accept-encoding` where tokens are limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptEncoding {
    /// The upstream is asked for encodings that the filter can read only.
    #[default]
    Narrow,
    /// It stays; a response that cannot be read is charged as reserved.
    Keep,
}

/// What a refusal says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Rejection {
    /// The error's message. `{limit}`, `{metric}`, `{window}`, `{retry_after}` and `{name}` are filled in; `{{` and
    /// `}}` are braces.
    pub message: Option<String>,
}

/// Which headers tell clients about their limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Headers {
    /// Those of the API that is called.
    #[default]
    Auto,
    /// OpenAI's, whatever the API.
    Openai,
    /// None.
    None,
}

/// The encoding of a model: its name, or its name and a factor.
#[derive(Debug)]
pub struct Encoding {
    /// The encoding.
    pub encoding: tokens::Encoding,
    /// What to multiply its count by, for models whose own encoding is not public; 1 by default.
    pub factor: Option<Number>,
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyNumber;

        impl Visitor<'_> for AnyNumber {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(value.into())
            }

            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(value.into())
            }

            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(value.into())
            }
        }

        deserializer.deserialize_any(AnyNumber)
    }
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
                FallbackLimits::deserialize(MapAccessDeserializer::new(map)).map(Fallback::Limited)
            }
        }

        deserializer.deserialize_any(WordOrLimits)
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct WithFactor {
            encoding: tokens::Encoding,
            #[serde(default)]
            factor: Option<Number>,
        }

        struct NameOrObject;

        impl<'de> Visitor<'de> for NameOrObject {
            type Value = Encoding;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an encoding's name or an object")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Encoding, E> {
                let encoding = tokens::Encoding::deserialize(de::value::StrDeserializer::new(name))?;
                Ok(Encoding { encoding, factor: None })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Encoding, A::Error> {
                let given = WithFactor::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Encoding { encoding: given.encoding, factor: given.factor })
            }
        }

        deserializer.deserialize_any(NameOrObject)
    }
}
