//! The fields of what becomes of requests that do not fit under a limit.

use crate::config::error::quoted;
use serde::de::{Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, de};
use std::fmt;

/// What becomes of a request that does not fit.
#[derive(Debug)]
pub enum OnLimit {
    /// `"refuse"`: it is refused at once.
    Refuse,
    /// `"wait"`: it waits for `max_wait_ms`, and is refused if it does not fit by then.
    Wait,
    /// It goes on.
    Continue(Continue),
}

/// How a request goes on that is over a limit. It is charged all the same.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Continue {
    /// That it goes on: `true`.
    #[serde(rename = "continue")]
    pub goes_on: bool,
    /// A header that the request gets, by which Envoy may choose another route. It is removed from what clients send.
    #[serde(default)]
    pub header: Option<RouteHeader>,
    /// The model that its body names from then on, whose limits and price hold for it. A request whose body cannot be
    /// changed is refused.
    #[serde(default)]
    pub model: Option<String>,
}

/// A header that a request gets.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct RouteHeader {
    /// Its name.
    pub name: String,
    /// Its value: 1 to 256 printable characters of ASCII.
    pub value: String,
}

impl<'de> Deserialize<'de> for OnLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "\"refuse\", \"wait\" or an object";

        struct WordOrContinue;

        impl<'de> Visitor<'de> for WordOrContinue {
            type Value = OnLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<OnLimit, E> {
                match word {
                    "refuse" => Ok(OnLimit::Refuse),
                    "wait" => Ok(OnLimit::Wait),
                    _ => Err(E::custom(format_args!("expected {EXPECTED}, found {}", quoted(word)))),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OnLimit, A::Error> {
                Continue::deserialize(MapAccessDeserializer::new(map)).map(OnLimit::Continue)
            }
        }

        deserializer.deserialize_any(WordOrContinue)
    }
}
