//! A configuration as it arrives: a tree of JSON values. Other files check its meaning.
//!
//! Envoy passes on the text of a `StringValue`, JSON or YAML, but a `google.protobuf.Struct` as serialised protobuf
//! (docs/envoy.md#configuration-formats). This file turns all of them into the same tree. Text that begins with a brace
//! or a bracket must be strict JSON. Unlike other JSON trees, this one keeps repeated members, so that they can be
//! reported. It may contain API keys, so it has no `Debug`.

use super::error::{ConfigError, Path, Problem, Problems, Step};
use crate::quantity::MAX_EXACT;
use prost::Message as _;
use prost_types::value::Kind;
use serde::de::{
    self, Deserialize, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess,
};
use std::fmt;

/// The first byte of every serialised `Struct` that is not empty: field 1, length-delimited.
/// <https://protobuf.dev/programming-guides/encoding/>
const STRUCT_TAG: u8 = 0x0a;

/// A value. Members of objects are in the order of the text, or by name if they come from a `Struct`.
#[derive(PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
    /// A YAML tag, which has no meaning here.
    Tagged,
    /// The place of an element that was left out of its array, so that the other elements keep their numbers.
    LeftOut,
}

/// A number. A `Struct` has only doubles, so every whole double is an integer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer.
    Whole(i64),
    /// A fraction, or an integer so large that a double may not be exact.
    Real(f64),
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        /// 2⁵³: up to here every integer is a double.
        #[expect(clippy::cast_precision_loss, reason = "it is exact")]
        const EXACT: f64 = (MAX_EXACT + 1) as f64;
        #[expect(clippy::cast_possible_truncation, reason = "whole, and far smaller than an i64 can be")]
        if value.fract() == 0.0 && value.abs() <= EXACT {
            Self::Whole(value as i64)
        } else {
            Self::Real(value)
        }
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::Whole(value)
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "no integer of that size is allowed anywhere")]
        i64::try_from(value).map_or(Self::Real(value as f64), Self::Whole)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => write!(f, "{value}"),
            Self::Real(value) if value.abs() >= 1e21 => write!(f, "{value:e}"),
            Self::Real(value) => write!(f, "{value}"),
        }
    }
}

impl Node {
    /// Reads JSON or YAML text or a serialised `Struct`.
    ///
    /// # Errors
    /// Bytes that are neither, no bytes at all, or an object with a member that is given twice.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, ConfigError> {
        let whole = |message: String| ConfigError::from(Problem::new(&Path::Root, message));
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(whole("expected a configuration, found none".to_owned()));
        }
        // Text first: every `Struct` has control characters, which text has nowhere, but text that begins with a line
        // feed may decode as a `Struct` by chance.
        let node = match (Self::from_text(bytes), bytes.first()) {
            (Ok(node), _) => node,
            (Err(text_error), Some(&STRUCT_TAG)) => match prost_types::Struct::decode(bytes) {
                Ok(decoded) => Self::from(decoded),
                Err(struct_error) => {
                    return Err(whole(format!("{text_error}; nor a google.protobuf.Struct: {struct_error}")));
                }
            },
            (Err(error), _) => return Err(whole(error)),
        };
        let mut problems = Problems::default();
        node.find_repeated(&Path::Root, &mut problems);
        problems.none_or(node)
    }

    /// Reads JSON or YAML, or returns a message. YAML includes JSON, but accepts much that is a mistake in JSON.
    fn from_text(bytes: &[u8]) -> Result<Self, String> {
        if matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'[')) {
            serde_json::from_slice(bytes).map_err(|error| format!("expected JSON: {error}"))
        } else {
            yaml_serde::from_slice(bytes).map_err(|error| format!("expected JSON or YAML: {error}"))
        }
    }

    /// Leaves out the value at the end of `trail`. Returns false if there is none, or if it is the whole tree.
    pub(super) fn leave_out(&mut self, trail: &[Step]) -> bool {
        match (trail, self) {
            ([Step::Member(name)], Self::Object(members)) => {
                let before = members.len();
                members.retain(|(found, _)| found != name);
                members.len() < before
            }
            ([Step::Element(index)], Self::Array(elements)) => {
                let element = elements.get_mut(*index);
                element.is_some_and(|element| std::mem::replace(element, Self::LeftOut) != Self::LeftOut)
            }
            ([Step::Member(name), rest @ ..], Self::Object(members)) => {
                members.iter_mut().any(|(found, value)| found == name && value.leave_out(rest))
            }
            ([Step::Element(index), rest @ ..], Self::Array(elements)) => {
                elements.get_mut(*index).is_some_and(|element| element.leave_out(rest))
            }
            _ => false,
        }
    }

    /// The name of a member. In YAML it may be any value; no field has the name that such a value becomes here.
    fn into_name(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Null => "null".to_owned(),
            Self::Array(_) | Self::Object(_) | Self::Tagged | Self::LeftOut => "?".to_owned(),
        }
    }

    /// Reports every member that repeats one of its object.
    fn find_repeated(&self, path: &Path<'_>, problems: &mut Problems) {
        match self {
            Self::Object(members) => {
                let mut names = std::collections::BTreeSet::new();
                for (name, value) in members {
                    let path = path.member(name);
                    if !names.insert(name) {
                        problems.add(&path, "expected once, found again");
                    }
                    value.find_repeated(&path, problems);
                }
            }
            Self::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    element.find_repeated(&path.element(index), problems);
                }
            }
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) | Self::Tagged | Self::LeftOut => {}
        }
    }
}

impl From<prost_types::Struct> for Node {
    fn from(value: prost_types::Struct) -> Self {
        Self::Object(value.fields.into_iter().map(|(name, value)| (name, Self::from(value))).collect())
    }
}

impl From<prost_types::Value> for Node {
    fn from(value: prost_types::Value) -> Self {
        match value.kind {
            None | Some(Kind::NullValue(_)) => Self::Null,
            Some(Kind::BoolValue(value)) => Self::Bool(value),
            Some(Kind::NumberValue(value)) => Self::Number(value.into()),
            Some(Kind::StringValue(value)) => Self::Text(value),
            Some(Kind::ListValue(list)) => Self::Array(list.values.into_iter().map(Self::from).collect()),
            Some(Kind::StructValue(value)) => Self::from(value),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            // YAML without a document.
            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Number(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Number(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Number(value.into()))
            }

            // YAML has integers of this size. None is valid anywhere, but serde's own message would show the number,
            // which may be a key.
            fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
                Ok(Node::Number(Number::Real(value as f64)))
            }

            fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
                Ok(Node::Number(Number::Real(value as f64)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = access.next_element()? {
                    elements.push(element);
                }
                Ok(Node::Array(elements))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = access.next_entry::<Node, Node>()? {
                    members.push((name.into_name(), value));
                }
                Ok(Node::Object(members))
            }

            fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Node, A::Error> {
                let (IgnoredAny, content) = access.variant()?;
                content.newtype_variant::<IgnoredAny>().map(|_| Node::Tagged)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: &[u8]) -> String {
        Node::from_bytes(bytes).err().unwrap().to_string()
    }

    #[test]
    fn whole_doubles_are_integers() {
        assert_eq!(Number::from(5.0), Number::Whole(5));
        assert_eq!(Number::from(-0.0), Number::Whole(0));
        assert_eq!(Number::from(0.5), Number::Real(0.5));
        assert_eq!(Number::from(u64::MAX), Number::Real(18_446_744_073_709_551_615.0));
        assert_eq!(Number::from(1e300).to_string(), "1e300");
        assert_eq!(Number::from(f64::NAN).to_string(), "NaN");
    }

    #[test]
    fn nothing_is_no_configuration() {
        assert_eq!(message(b""), "configuration: expected a configuration, found none");
        assert_eq!(message(b" \n"), "configuration: expected a configuration, found none");
    }

    #[test]
    fn text_may_begin_with_a_line_feed() {
        assert!(Node::from_bytes(b"\n{\"plans\": {}}").is_ok());
        assert!(message(b"\n{\"plans\": {}").starts_with("configuration: expected JSON: EOF"));
    }

    #[test]
    fn every_repeated_member_is_reported() {
        assert_eq!(
            message(br#"{"a": 1, "a": [{"b": 1, "b": 1, "b": 1}]}"#),
            "a: expected once, found again\na[0].b: expected once, found again\na[0].b: expected once, found again"
        );
    }

    #[test]
    fn yaml_is_read_and_its_mistakes_have_their_place() {
        let text = "# limits\ndefault:\n  rpm: 5\n  models: {gpt-4*: {rpm: 1.5}}\nlist: [no, ~, 0x10, '1']\n1: true\n";
        let yaml = Node::from_bytes(text.as_bytes()).ok().unwrap();
        let json = br#"{"default": {"rpm": 5, "models": {"gpt-4*": {"rpm": 1.5}}},
            "list": ["no", null, 16, "1"], "1": true}"#;
        assert!(yaml == Node::from_bytes(json).ok().unwrap());
        assert_eq!(
            message(b"a: b: c\n"),
            "configuration: expected JSON or YAML: mapping values are not allowed in this context at line 1 column 5"
        );
        assert_eq!(message(b"a: {b: 1, b: 2}"), "a.b: expected once, found again");
        assert!(message(b"a: 1\n---\nb: 2\n").contains("more than one document"));
    }

    #[test]
    fn text_that_begins_as_json_must_be_json() {
        assert!(message(b"{rpm: 5}").starts_with("configuration: expected JSON: key must be a string"));
        assert!(message(b" [1,]").starts_with("configuration: expected JSON: trailing comma"));
    }

    #[test]
    fn values_that_only_yaml_has_are_kept_for_the_decoder_to_refuse() {
        let node = |text: &str| Node::from_bytes(text.as_bytes()).ok().unwrap();
        assert!(node("a: !tag x") == Node::Object(vec![("a".to_owned(), Node::Tagged)]));
        assert!(node("? [a]\n: x") == Node::Object(vec![("?".to_owned(), Node::Text("x".to_owned()))]));
        let large = Node::Number(Number::Real(1e38));
        assert!(
            node("a: 100000000000000000000000000000000000000") == Node::Object(vec![("a".to_owned(), large)])
        );
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(message("[".repeat(100_000).as_bytes()).contains("recursion limit"));
        assert!(message(format!("a: {}", "[".repeat(1_000)).as_bytes()).contains("recursion limit"));
        let laughs = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned()
            + &('b'..='i')
                .map(|c| {
                    let before = char::from(c as u8 - 1);
                    format!("{c}: &{c} [{}]\n", vec![format!("*{before}"); 10].join(", "))
                })
                .collect::<String>();
        assert!(message(laughs.as_bytes()).contains("repetition limit"));
    }
}
