//! The fields that say what clients are told.

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use std::collections::BTreeMap;
use std::fmt;

/// What a refusal says.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Rejection {
    /// The error's message, or messages by language. `{limit}`, `{metric}`, `{window}`, `{retry_after}` and `{name}` are
    /// filled in; `{{` and `}}` are braces.
    pub message: Option<Messages>,
}

/// One message, or several by language.
#[derive(Debug)]
pub enum Messages {
    /// For everybody.
    One(String),
    /// By the language that `accept-language` prefers, such as `en` or `zh-CN`; `default` is for all others, and needed.
    ByLanguage(BTreeMap<String, String>),
}

/// Which headers tell clients about their limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Headers {
    /// Those of the API that is called: `x-ratelimit-*` everywhere, `anthropic-ratelimit-*` too on `/messages`.
    #[default]
    Auto,
    /// OpenAI's `x-ratelimit-*` and its shape of errors, whatever the API.
    Openai,
    /// Anthropic's `anthropic-ratelimit-*` and its shape of errors, whatever the API.
    Anthropic,
    /// The IETF draft's `ratelimit` and `ratelimit-policy`.
    Ietf,
    /// None, except when to try again.
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
