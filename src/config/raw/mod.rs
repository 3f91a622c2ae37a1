//! The configuration's fields as users write them: the one place that has their names.
//!
//! These types have names and shapes only; the modules that build a [`Config`](super::Config) check the values. A field
//! that is not here is an error. The doc comments are the reference for users, through the schema.

mod accounting;
mod answer;
mod claim;
mod endpoints;
mod inspect;
mod limits;
mod on_limit;
mod source;
mod store;

pub use accounting::{
    AcceptEncoding, Encoding, OnStreamOver, OnUnreadable, OutputMode, OutputReservation, Price,
    PromptEstimates, StreamUsage, Weights,
};
pub use answer::{Headers, Messages, Rejection};
pub use claim::{Amount, ClaimedAmount, ClaimedName, ClaimedWord, Word};
pub use endpoints::{Endpoint, HeadersMode, WebSocket};
pub use inspect::Inspect;
#[cfg(test)]
pub use limits::FallbackLimits;
pub use limits::{
    Algorithm, Fallback, GlobalLimits, Group, Key, Limits, ModelLimits, Plan, SHORTHANDS, StartsOn, Terms,
    Window, WindowMetric,
};
pub use on_limit::{Continue, OnLimit, RouteHeader};
pub use source::{ClientIp, Source};
pub use store::{OnError, Store, StoreType};

use super::document::Number;
use super::secret::Secret;
use crate::pricing::Unpriced;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// The whole configuration.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Root {
    /// The store that counts use.
    pub store: Store,
    /// Where a request carries its sender's identity: the first source that yields a value decides. By default the
    /// headers `authorization`, `x-api-key`, `api-key` and `x-goog-api-key`, the query parameter `key`, then the
    /// client's address.
    pub identity: Option<Vec<Source>>,
    /// A secret of 16 bytes or more. With it, the ids of keys and clients in the store, in logs and in metrics are
    /// HMACs, which nobody without the secret can trace back. Another secret starts new counters.
    pub hash_secret: Option<Secret>,
    /// Sets of limits, by name.
    pub plans: BTreeMap<String, Plan>,
    /// Limits that several keys share beside their own, by name: 1 to 64 letters, digits, `.`, `_` and `-`.
    pub groups: BTreeMap<String, Group>,
    /// The known keys, and what each may do.
    pub keys: Vec<Key>,
    /// What everybody else may do; if it is left out, only `models` and `global` limit everybody else.
    pub default: Option<Fallback>,
    /// Limits on all requests for the models that a pattern matches, from all senders. `unlimited` keys are exempt.
    pub models: BTreeMap<String, ModelLimits>,
    /// Limits on all requests together. `unlimited` keys are exempt.
    pub global: GlobalLimits,
    /// What happens to requests, by a pattern of their paths: of several the most specific one counts, before what is
    /// known of paths. `*` alone is for paths that no other pattern matches and that are not known; its default is
    /// `count`.
    pub endpoints: BTreeMap<String, Endpoint>,
    /// What happens to a WebSocket to an LLM endpoint under limits. To any other endpoint it is a request to that.
    pub websocket: WebSocket,
    /// Whether nothing is refused: every request is counted, and those over a limit are only reported.
    pub dry_run: bool,
    /// Whether tokens are counted, and requests logged with their sender and their tokens, where no limit applies too.
    pub meter: bool,
    /// Whether metrics of requests have the name of the key as a label (`key_name`): as many time series as keys.
    pub metrics_by_name: bool,
    /// The most requests that wait at a time in each of Envoy's workers, 0 to 1000000; 1000 by default. See
    /// `max_wait_ms`.
    pub max_waiting: Option<Number>,
    /// The most bytes of the bodies of those requests, 0 to 1099511627776; 67108864 by default.
    pub max_waiting_bytes: Option<Number>,
    /// Whether headers of requests wait for their bodies.
    pub headers_mode: HeadersMode,
    /// What the tokens of prompts are estimated by that nobody can count exactly.
    pub prompt_estimates: PromptEstimates,
    /// How much output is reserved before a request is forwarded.
    pub output_reservation: OutputReservation,
    /// The source of a stream's usage if the client does not request it; by default `inject` where tokens or dollars
    /// are limited, and not only in a dry run.
    pub stream_usage: Option<StreamUsage>,
    /// What happens to a stream that has passed a limit.
    pub on_stream_over: OnStreamOver,
    /// What happens to a request whose body nobody can read, where limits depend on it.
    pub on_unreadable: OnUnreadable,
    /// Whether limits on requests get a request back that the upstream answers with an error, as limits on tokens get
    /// its tokens back; false by default.
    pub refund_requests_on_error: bool,
    /// What happens to a request's `accept-encoding` where tokens are limited.
    pub accept_encoding: AcceptEncoding,
    /// The text of a refusal.
    pub rejection: Rejection,
    /// The headers that report limits to clients.
    pub headers: Headers,
    /// Where the filter answers about itself: by default nowhere.
    pub inspect: Option<Inspect>,
    /// The encoding that counts the tokens of a model, by a pattern of model names.
    pub encodings: BTreeMap<String, Encoding>,
    /// The tokens of a document that a request only names, by an address or an id, 0 to 9007199254740991. By default,
    /// ten pages as the model counts them.
    pub unknown_document_tokens: Option<Number>,
    /// How much each token counts under limits on tokens.
    pub weights: Weights,
    /// What models cost, by a pattern of model names; limits on `cost_usd` need them. The most specific pattern counts.
    pub prices: BTreeMap<String, Price>,
    /// What the requests of a model cost that no pattern of `prices` matches.
    pub unpriced: Unpriced,
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
