//! From the tree to the raw types: a serde deserializer over [`Node`] with errors that have a path.
//!
//! serde_json's own messages quote the offending value, which may be an API key. Messages here name only the type of
//! such a value.

use super::document::{Node, Number};
use super::error::{Path, Problem, Step, one_of, quoted};
use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, EnumAccess, Expected, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use std::fmt;
use std::slice;

/// Reads a `T` from the tree.
///
/// # Errors
/// The first value that is missing, unknown, or of the wrong type.
pub(super) fn decode<'de, T: Deserialize<'de>>(node: &'de Node) -> Result<T, Misfit> {
    T::deserialize(At { node, path: &Path::Root }).map_err(|fault| fault.into_misfit(&Path::Root))
}

/// A problem, and the value in the tree that causes it.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) problem: Problem,
    /// The steps to the value. Without the value, the rest can be read.
    pub(super) trail: Vec<Step>,
}

/// A problem that may not have a place yet: serde creates errors without one.
#[derive(Debug)]
enum Fault {
    /// The value itself is wrong.
    Value(String),
    /// The value has an unknown member: its name, and the message.
    Unknown(String, String),
    /// The value lacks a member: its name, and the message.
    Missing(String, String),
    /// The place is known.
    Placed(Box<Misfit>),
}

impl Fault {
    /// Gives the fault this place, unless it has one.
    fn at(self, path: &Path<'_>) -> Self {
        Self::Placed(Box::new(self.into_misfit(path)))
    }

    fn into_misfit(self, path: &Path<'_>) -> Misfit {
        match self {
            Self::Value(message) => Misfit { problem: Problem::new(path, message), trail: path.steps() },
            Self::Unknown(name, message) => {
                let path = path.member(&name);
                Misfit { problem: Problem::new(&path, message), trail: path.steps() }
            }
            Self::Missing(name, message) => {
                Misfit { problem: Problem::new(&path.member(&name), message), trail: path.steps() }
            }
            Self::Placed(misfit) => *misfit,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(message) | Self::Unknown(_, message) | Self::Missing(_, message) => {
                f.write_str(message)
            }
            Self::Placed(misfit) => misfit.problem.fmt(f),
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Value(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Value(format!("expected {}, found {}", in_json_words(expected), type_name(&found)))
    }

    fn unknown_variant(found: &str, expected: &'static [&'static str]) -> Self {
        Self::Value(format!("expected {}, found {}", enum_of(expected), quoted(found)))
    }

    fn unknown_field(name: &str, expected: &'static [&'static str]) -> Self {
        Self::Unknown(name.to_owned(), format!("unknown field, expected {}", one_of(expected)))
    }

    fn missing_field(name: &'static str) -> Self {
        Self::Missing(name.to_owned(), "expected a value, found none".to_owned())
    }
}

/// An enum as a message shows it: `an enum ("a" or "b")`.
fn enum_of(values: &[&str]) -> String {
    format!("an enum ({})", one_of(values))
}

/// Translates serde's name of a type to JSON's.
fn in_json_words(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "a sequence" => "an array".to_owned(),
        "a map" => "an object".to_owned(),
        "a boolean" => "true or false".to_owned(),
        _ => text,
    }
}

/// The type of a value, without the value.
fn type_name<'a>(found: &Unexpected<'a>) -> &'a str {
    match found {
        Unexpected::Bool(true) => "true",
        Unexpected::Bool(false) => "false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
        Unexpected::Str(_) => "a string",
        Unexpected::Unit => "null",
        Unexpected::Seq => "an array",
        Unexpected::Map => "an object",
        Unexpected::Other(what) => what,
        _ => "something else",
    }
}

/// A value and its place.
struct At<'de, 'p> {
    node: &'de Node,
    path: &'p Path<'p>,
}

impl Node {
    /// The value in serde's terms.
    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Null => Unexpected::Unit,
            Self::Bool(value) => Unexpected::Bool(*value),
            Self::Number(Number::Whole(value)) => Unexpected::Signed(*value),
            Self::Number(Number::Real(value)) => Unexpected::Float(*value),
            Self::Text(value) => Unexpected::Str(value),
            Self::Array(_) => Unexpected::Seq,
            Self::Object(_) => Unexpected::Map,
            Self::Tagged => Unexpected::Other("a YAML tag"),
            Self::LeftOut => Unexpected::Other("nothing"),
        }
    }
}

impl<'de> de::Deserializer<'de> for At<'de, '_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Number(Number::Whole(value)) => visitor.visit_i64(*value),
            Node::Number(Number::Real(value)) => visitor.visit_f64(*value),
            Node::Text(value) => visitor.visit_borrowed_str(value),
            Node::Tagged | Node::LeftOut => Err(de::Error::invalid_type(self.node.unexpected(), &visitor)),
            Node::Array(elements) => {
                visitor.visit_seq(Elements { rest: elements.iter().enumerate(), path: self.path })
            }
            Node::Object(members) => {
                visitor.visit_map(Members { rest: members.iter(), value: None, path: self.path })
            }
        }
    }

    /// `null` is a value of the wrong type, not a member that is left out. Otherwise a limit that a template failed to
    /// fill in would silently be no limit.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    /// serde would also accept an array of the fields in their order, which no user means.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.node {
            Node::Array(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// `"variant"`, or `{"variant": content}`.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.node {
            Node::Text(variant) => visitor.visit_enum(Choice { variant, content: None, path: self.path }),
            Node::Object(members) => match members.as_slice() {
                [(variant, content)] if variants.contains(&variant.as_str()) => {
                    visitor.visit_enum(Choice { variant, content: Some(content), path: self.path })
                }
                // Not "an enum": the name of an object's member is wrong.
                [(variant, _)] => {
                    Err(Fault::Value(format!("expected {}, found {}", one_of(variants), quoted(variant))))
                }
                _ => Err(Fault::Value(format!(
                    "expected an object with one member, {}, found {} members",
                    one_of(variants),
                    members.len()
                ))),
            },
            other => Err(Fault::Value(format!(
                "expected {}, found {}",
                enum_of(variants),
                type_name(&other.unexpected())
            ))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier ignored_any
    }
}

/// The elements of an array.
struct Elements<'de, 'p> {
    rest: std::iter::Enumerate<slice::Iter<'de, Node>>,
    path: &'p Path<'p>,
}

impl<'de> SeqAccess<'de> for Elements<'de, '_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let next = self.rest.find(|(_, node)| !matches!(node, Node::LeftOut));
        let Some((index, node)) = next else { return Ok(None) };
        let path = self.path.element(index);
        seed.deserialize(At { node, path: &path }).map(Some).map_err(|fault| fault.at(&path))
    }
}

/// The members of an object.
struct Members<'de, 'p> {
    rest: slice::Iter<'de, (String, Node)>,
    /// The member of which only the name has been read.
    value: Option<&'de (String, Node)>,
    path: &'p Path<'p>,
}

impl<'de> MapAccess<'de> for Members<'de, '_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.value = self.rest.next();
        let Some((name, _)) = self.value else { return Ok(None) };
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let Some((name, node)) = self.value.take() else {
            return Err(de::Error::custom("a value was read before its name"));
        };
        let path = self.path.member(name);
        seed.deserialize(At { node, path: &path }).map_err(|fault| fault.at(&path))
    }
}

/// A variant of an enum.
struct Choice<'de, 'p> {
    variant: &'de str,
    content: Option<&'de Node>,
    path: &'p Path<'p>,
}

impl<'de> EnumAccess<'de> for Choice<'de, '_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let value = seed.deserialize(StrDeserializer::new(self.variant))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de, '_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(Fault::Value(format!("expected {:?}, found an object", self.variant))),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        let Some(node) = self.content else {
            return Err(Fault::Value(format!("expected {{{:?}: …}}, found a string", self.variant)));
        };
        let path = self.path.member(self.variant);
        seed.deserialize(At { node, path: &path }).map_err(|fault| fault.at(&path))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Fault> {
        Err(de::Error::invalid_type(Unexpected::TupleVariant, &visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        Err(de::Error::invalid_type(Unexpected::StructVariant, &visitor))
    }
}
