//! The configuration's fields as users write them: the one place that says what they are called.
//!
//! These types know names and shapes; whether the values make sense is checked where they are turned into a
//! [`Config`](super::Config). A field that is not here is an error. The doc comments are the reference for users.

mod accounting;
mod answer;
mod limits;
mod source;
mod store;

pub use accounting::{
    AcceptEncoding, Encoding, OnStreamOver, OutputMode, OutputReservation, Price, StreamUsage, Weights,
};
pub use answer::{Headers, Messages, Rejection};
#[cfg(test)]
pub use limits::FallbackLimits;
pub use limits::{Algorithm, Fallback, GlobalLimits, Key, Limits, ModelLimits, Plan, Window, WindowMetric};
pub use source::{ClientIp, Source};
pub use store::{OnError, Store, StoreType};

use super::document::Number;
use super::secret::Secret;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// The whole configuration.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Root {
    /// Where use is counted.
    pub store: Store,
    /// Where a request says who sent it: the first source that yields a value decides. By default the headers
    /// `authorization`, `x-api-key` and `api-key`, then the client's address.
    pub identity: Option<Vec<Source>>,
    /// A secret of 16 bytes or more. With it the ids of keys and clients in the store, in logs and in metrics are HMACs, of
    /// which nobody without it can tell whose they are. Another secret starts new counters.
    pub hash_secret: Option<Secret>,
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
    /// Whether nothing is refused: everything is counted, and what would have been refused is told.
    pub dry_run: bool,
    /// How many requests may wait at a time in each of Envoy's workers, 0 to 1000000; 1000 by default. See `max_wait_ms`.
    pub max_waiting: Option<Number>,
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
    /// How many tokens a token counts for under limits on tokens.
    pub weights: Weights,
    /// What models cost, by a pattern of model names; limits on `cost_usd` need them. The most specific pattern counts,
    /// and a model that none matches costs nothing.
    pub prices: BTreeMap<String, Price>,
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
