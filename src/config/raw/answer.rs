//! The fields for answers to clients: the message of a refusal, and headers.

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use std::collections::BTreeMap;
use std::fmt;

/// The text of a refusal.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Rejection {
    /// The error message, or messages by language. `{limit}`, `{metric}`, `{window}`, `{retry_after}` and `{name}` are
    /// placeholders; `{{` and `}}` are braces.
    pub message: Option<Messages>,
}

/// One message, or several by language.
#[derive(Debug)]
pub enum Messages {
    /// One message for everybody.
    One(String),
    /// A message for each language that `accept-language` may prefer, such as `en` or `zh-CN`. `default` is for all
    /// other languages, and required.
    ByLanguage(BTreeMap<String, String>),
}

/// The headers that report limits to clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Headers {
    /// The headers of the API that is called: `x-ratelimit-*` everywhere, and `anthropic-ratelimit-*` on `/messages`.
    #[default]
    Auto,
    /// OpenAI's `x-ratelimit-*` and the shape of its errors, whatever the API.
    Openai,
    /// Anthropic's `anthropic-ratelimit-*` and the shape of its errors, whatever the API.
    Anthropic,
    /// `ratelimit` and `ratelimit-policy` of the IETF draft.
    Ietf,
    /// No headers, except those that report when to retry.
    None,
}

impl<'de> Deserialize<'de> for Messages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;

        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Messages;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message or an object of messages by language")
            }

            fn visit_str<E: de::Error>(self, message: &str) -> Result<Messages, E> {
                Ok(Messages::One(message.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Messages, A::Error> {
                BTreeMap::deserialize(MapAccessDeserializer::new(map)).map(Messages::ByLanguage)
            }
        }

        deserializer.deserialize_any(OneOrSeveral)
    }
}
