//! The fields that determine the cost of a request: reservation, streams, errors, encodings, weights and prices.

use super::Number;
use crate::tokens;
use serde::de::{Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, de};
use std::collections::BTreeMap;
use std::fmt;

/// How much output is reserved before a request is forwarded.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct OutputReservation {
    /// The tokens to reserve for a request that sets no maximum; 512 by default.
    pub default_tokens: Option<Number>,
    /// How to choose the reservation.
    pub mode: OutputMode,
}

/// How much output to reserve for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OutputMode {
    /// The maximum that the request sets, else `default_tokens`.
    Declared,
    /// The maximum that the request sets, else a length that 19 of 20 answers of its model stay within, beginning with
    /// `default_tokens`.
    #[default]
    Learned,
    /// Nothing: output is charged after it has been produced.
    None,
}

/// The source of a stream's usage if the client does not request it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StreamUsage {
    /// The filter counts the stream's text.
    Count,
    /// Where tokens or dollars are limited, the filter requests usage from the upstream
    /// (`stream_options.include_usage`) and hides it from the client.
    Inject,
}

/// What happens to a stream that has passed a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnStreamOver {
    /// The stream goes on, and later requests wait.
    #[default]
    Continue,
    /// The stream ends as if it had reached its maximum: `finish_reason` `length`, then `[DONE]`.
    Finish,
}

/// What the tokens of prompts are estimated by that nobody can count exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PromptEstimates {
    /// By the rules of their models, corrected by the usage that answers to earlier prompts have reported: for each
    /// model, and for prompts of text, with tools, with images and with documents, to 0.9 to 1.5 times the rules.
    Learned,
    /// By the rules of their models alone.
    #[default]
    Rules,
}

/// What happens to a request whose body nobody can read, where limits depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnUnreadable {
    /// It is charged the most that it could cost: a token for each byte, for the dearest model, under the limits of
    /// every model, but no more than lets it through if nothing else is spent.
    #[default]
    Charge,
    /// It is answered 400.
    Refuse,
}

/// What happens to a request's `accept-encoding` where tokens are limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AcceptEncoding {
    /// Only encodings that the filter can read remain in it.
    #[default]
    Narrow,
    /// It stays as it is; a response that the filter cannot read is charged as reserved.
    Keep,
}

/// How much each token counts under limits on tokens. Costs in dollars depend on `prices` alone.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Weights {
    /// The weight of a prompt token that was read from a cache, 0 to 1; 1 by default.
    pub cached_input_factor: Option<Number>,
    /// The weight of a reasoning token, 0 to 10; 1 by default.
    pub reasoning_factor: Option<Number>,
    /// The weight of every token of a model, by a pattern of model names, 0 to 1000. The most specific pattern counts.
    pub models: BTreeMap<String, Number>,
}

/// What a model costs, in dollars per million tokens, with at most 6 decimals.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Price {
    /// The prompt.
    pub input: Number,
    /// The part of the prompt that is read from a cache; as `input` by default.
    #[serde(default)]
    pub cached_input: Option<Number>,
    /// The part of the prompt that is written to a cache; as `input` by default.
    #[serde(default)]
    pub cache_write: Option<Number>,
    /// The answer, reasoning included.
    pub output: Number,
}

/// The encoding of a model: its name, or its name and a factor.
#[derive(Debug)]
pub struct Encoding {
    /// The encoding.
    pub encoding: tokens::Encoding,
    /// The factor to multiply the count by, for models without a public encoding; 1 by default.
    pub factor: Option<Number>,
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
