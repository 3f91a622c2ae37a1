//! What may be written, or left to a claim of each request.

use super::Number;
use serde::de::{Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, de};
use std::fmt;
use std::marker::PhantomData;

/// A word, or where requests say it.
#[derive(Debug)]
pub enum Word<C> {
    /// The word.
    Written(String),
    /// The place.
    Claimed(C),
}

/// The amount of a limit, or where requests say it.
#[derive(Debug)]
pub enum Amount {
    /// The amount.
    Written(Number),
    /// The place.
    Claimed(Box<ClaimedAmount>),
}

/// A plan or a group that each request names: either in a header or in metadata.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct ClaimedWord {
    /// A request header, by name, which only a trusted proxy sets: the gateway must remove it from what clients send.
    #[serde(default)]
    pub header: Option<String>,
    /// Dynamic metadata that an earlier filter set: the filter's namespace, then the path in it.
    #[serde(default)]
    pub metadata: Option<Vec<String>>,
    /// The name that holds for requests that say none, or one that is not in the configuration.
    pub default: String,
}

/// A name that each request says: either in a header or in metadata.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct ClaimedName {
    /// A request header, by name, which only a trusted proxy sets: the gateway must remove it from what clients send.
    pub header: Option<String>,
    /// Dynamic metadata that an earlier filter set: the filter's namespace, then the path in it.
    pub metadata: Option<Vec<String>>,
    /// The name of requests that say none; no name by default.
    pub default: Option<String>,
}

/// The amount of a limit that each request says: either in a header or in metadata, as a number or as text that is one.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct ClaimedAmount {
    /// A request header, by name, which only a trusted proxy sets: the gateway must remove it from what clients send.
    #[serde(default)]
    pub header: Option<String>,
    /// Dynamic metadata that an earlier filter set: the filter's namespace, then the path in it.
    #[serde(default)]
    pub metadata: Option<Vec<String>>,
    /// The amount for requests that say no number, or one below zero.
    pub default: Number,
    /// The largest amount: a larger number counts as this.
    pub max: Number,
}

impl<'de, C: Deserialize<'de>> Deserialize<'de> for Word<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrClaim<C>(PhantomData<C>);

        impl<'de, C: Deserialize<'de>> Visitor<'de> for TextOrClaim<C> {
            type Value = Word<C>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an object")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Word<C>, E> {
                Ok(Word::Written(word.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Word<C>, A::Error> {
                C::deserialize(MapAccessDeserializer::new(map)).map(Word::Claimed)
            }
        }

        deserializer.deserialize_any(TextOrClaim(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrClaim;

        impl<'de> Visitor<'de> for NumberOrClaim {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or an object")
            }

            fn visit_u64<E>(self, value: u64) -> Result<Amount, E> {
                Ok(Amount::Written(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Amount, E> {
                Ok(Amount::Written(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Amount, E> {
                Ok(Amount::Written(value.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Amount, A::Error> {
                ClaimedAmount::deserialize(MapAccessDeserializer::new(map)).map(Box::new).map(Amount::Claimed)
            }
        }

        deserializer.deserialize_any(NumberOrClaim)
    }
}
