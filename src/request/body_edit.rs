//! Changes a body: sets `stream_options.include_usage`, where the client does not ask for usage, and the maximum of
//! output tokens.
//!
//! The rest of the body's text stays the same: members keep their order, numbers their spelling. Most bodies have none
//! of these members and get them first: however large such a body is, only its first byte is replaced.

use crate::codec::lenient::folded;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// An edit of a body: replaces some of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyEdit {
    /// The number of bytes before them, which stay.
    pub after: usize,
    /// The number of bytes to replace.
    pub replaced: usize,
    /// The bytes that replace them.
    pub with: Vec<u8>,
}

/// The members that a body is to get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMembers {
    /// `stream_options.include_usage`, set to true.
    pub include_usage: Option<IncludeUsage>,
    /// The maximum of output tokens.
    pub output_cap: Option<NewCap>,
}

/// `stream_options.include_usage`, set to true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncludeUsage {
    /// Whether the body has any `stream_options`.
    pub has_options: bool,
}

/// A maximum of output tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCap {
    /// The maximum.
    pub most: u64,
    /// The members that set it, in any case: those that the body has get it, unless they set less.
    pub names: &'static [&'static str],
    /// The object that has them; none if they are members of the body itself.
    pub within: Option<Within>,
    /// Whether the body has any of them.
    pub has_any: bool,
    /// The member to add, if it has none that every server knows.
    pub added: Option<&'static str>,
}

/// An object of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    /// Its names, in any case. A body that has none gets the first.
    pub names: &'static [&'static str],
    /// Whether the body has it.
    pub is_given: bool,
}

impl NewMembers {
    /// Whether the body must be read to be changed.
    pub fn need_reading(&self) -> bool {
        self.include_usage.is_some_and(|it| it.has_options)
            || self.output_cap.as_ref().is_some_and(NewCap::needs_reading)
    }

    /// The edit of `body`, a JSON object with members. None if it is not such an object, or nothing is to change.
    pub fn edit(&self, body: &[u8]) -> Option<BodyEdit> {
        if self.need_reading() {
            return self.rewritten(body).map(|with| BodyEdit { after: 0, replaced: body.len(), with });
        }
        let start = body.iter().position(|byte| *byte == b'{')?;
        let members = body.get(start.saturating_add(1)..)?;
        if members.trim_ascii_start().first() == Some(&b'}') {
            return None;
        }
        let mut with = String::from("{");
        for (name, value) in self.added() {
            // Writing to a string cannot fail.
            let _ = write!(with, "\"{name}\":{value},");
        }
        (with.len() > 1).then(|| BodyEdit { after: 0, replaced: start + 1, with: with.into_bytes() })
    }

    /// Those that a body has not, with their values.
    fn added(&self) -> impl Iterator<Item = (&'static str, String)> {
        let usage = self.include_usage.filter(|usage| !usage.has_options);
        let usage = usage.map(|_| ("stream_options", r#"{"include_usage":true}"#.to_owned()));
        let cap = self.output_cap.as_ref().and_then(NewCap::added);
        usage.into_iter().chain(cap)
    }

    /// `body` with these members. None if it is not a JSON object.
    fn rewritten(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut body: Members<'_> = serde_json::from_slice(body).ok()?;
        if self.include_usage.is_some_and(|usage| usage.has_options) {
            let options = body.get("stream_options");
            let options = options.and_then(|options| serde_json::from_str::<Members<'_>>(options).ok());
            let options = options.unwrap_or_default().with("include_usage", "true").text();
            body = body.with("stream_options", &options);
        }
        if let Some(cap) = self.output_cap.as_ref().filter(|cap| cap.needs_reading()) {
            body = match cap.within {
                Some(within) => body.with_lowered(within, cap)?,
                None => body.lowered(cap),
            };
        }
        for (name, value) in self.added() {
            body = body.with(name, &value);
        }
        Some(body.text().into_bytes())
    }
}

impl NewCap {
    /// Whether the body must be read to be given it.
    fn needs_reading(&self) -> bool {
        self.has_any || self.within.is_some_and(|within| within.is_given)
    }

    /// The member that a body is to get that has none that every server knows, with its value. An object that is there
    /// gets it with its other members.
    fn added(&self) -> Option<(&'static str, String)> {
        let added = self.added?;
        match self.within {
            None => Some((added, self.most.to_string())),
            Some(within) if within.is_given => None,
            Some(within) => Some((within.names.first()?, format!("{{\"{added}\":{}}}", self.most))),
        }
    }
}

/// The thinking that `body` asks for, in tokens of its output; none if it asks for none, or cannot be read.
///
/// <https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking>: the budget is less than `max_tokens`.
/// Gemini's thoughts are within `maxOutputTokens` too: <https://ai.google.dev/gemini-api/docs/thinking>.
pub fn thinking_budget(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Thinking {
        /// The other name is Cohere's.
        #[serde(alias = "token_budget")]
        budget_tokens: Option<u64>,
    }
    #[derive(Deserialize)]
    struct Body {
        thinking: Option<Thinking>,
        #[serde(rename = "generationConfig", alias = "generation_config")]
        options: Option<Options>,
    }
    #[derive(Deserialize)]
    struct Options {
        #[serde(rename = "thinkingConfig", alias = "thinking_config")]
        thinking: Option<ThinkingConfig>,
    }
    #[derive(Deserialize)]
    struct ThinkingConfig {
        /// Negative where the model decides.
        #[serde(rename = "thinkingBudget", alias = "thinking_budget")]
        budget: Option<i64>,
    }
    let body = serde_json::from_slice::<Body>(body).ok()?;
    let of_options = || body.options?.thinking?.budget.and_then(|budget| u64::try_from(budget).ok());
    body.thinking.and_then(|thinking| thinking.budget_tokens).or_else(of_options)
}

/// An object's members, each value as it is written.
#[derive(Debug, Default)]
pub(super) struct Members<'b>(Vec<(Cow<'b, str>, Cow<'b, str>)>);

impl Members<'_> {
    /// Their names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// The same with `name` set to `value`, at the end.
    fn with(mut self, name: &str, value: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned().into(), value.to_owned().into()));
        self
    }

    /// The same with no larger maximum than `cap` in the members that set one.
    fn lowered(mut self, cap: &NewCap) -> Self {
        for (name, value) in &mut self.0 {
            let sets = cap.names.iter().any(|known| is_for_some(name, known));
            // Some servers take 0 for no maximum.
            let is_less = || value.parse::<u64>().is_ok_and(|value| (1..=cap.most).contains(&value));
            if sets && !is_less() {
                *value = cap.most.to_string().into();
            }
        }
        self
    }

    /// The same with such a maximum in the objects at `within`. None if one of them is no object, or has a name that
    /// only some servers take for that.
    fn with_lowered(mut self, within: Within, cap: &NewCap) -> Option<Self> {
        for (name, value) in &mut self.0 {
            if within.names.iter().any(|known| is_for_some(name, known)) {
                if !within.names.contains(&&**name) {
                    return None;
                }
                // Null is as good as left out.
                let object = if *value == "null" { "{}" } else { &**value };
                let mut members = serde_json::from_str::<Members<'_>>(object).ok()?.lowered(cap);
                if let Some(added) = cap.added {
                    members = members.with(added, &cap.most.to_string());
                }
                *value = members.text().into();
            }
        }
        Some(self)
    }

    /// The object as text.
    fn text(&self) -> String {
        let mut text = String::from("{");
        for (name, value) in &self.0 {
            let comma = if text.len() > 1 { "," } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{}:{value}", serde_json::Value::from(&**name));
        }
        text.push('}');
        text
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyMembers;

        impl<'de> Visitor<'de> for AnyMembers {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = object.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((member.0.0, Cow::Borrowed(member.1.get())));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(AnyMembers)
    }
}

/// Whether some reader takes the member `name` for the one that is `known`.
fn is_for_some(name: &str, known: &str) -> bool {
    folded(name).eq_ignore_ascii_case(known)
}

/// A member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'b>(#[serde(borrow)] Cow<'b, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(has_options: bool) -> NewMembers {
        NewMembers { include_usage: Some(IncludeUsage { has_options }), output_cap: None }
    }

    fn capped(most: u64, has_any: bool) -> NewMembers {
        let names = &["max_tokens", "max_completion_tokens"];
        let added = (!has_any).then_some("max_tokens");
        let output_cap = Some(NewCap { most, names, within: None, has_any, added });
        NewMembers { include_usage: None, output_cap }
    }

    fn edited(body: &str, has_options: bool) -> Option<String> {
        changed(body, &asking(has_options))
    }

    fn changed(body: &str, members: &NewMembers) -> Option<String> {
        let BodyEdit { replaced, mut with, .. } = members.edit(body.as_bytes())?;
        with.extend_from_slice(&body.as_bytes()[replaced..]);
        Some(String::from_utf8(with).unwrap())
    }

    #[test]
    fn nothing_changes_but_the_option() {
        for (body, expected) in [
            (
                r#"{"stream_options":{"include_usage":false,"x":[1, 2]},"temperature": 1.50, "n":1}"#,
                r#"{"temperature":1.50,"n":1,"stream_options":{"x":[1, 2],"include_usage":true}}"#,
            ),
            (r#"{"stream_options":null}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (
                r#"{"a\"b":"\u00e9","stream_options":1}"#,
                r#"{"a\"b":"\u00e9","stream_options":{"include_usage":true}}"#,
            ),
        ] {
            assert_eq!(edited(body, true).unwrap(), expected);
        }
    }

    #[test]
    fn a_body_without_options_is_not_copied() {
        let body =
            format!(" \n{{ \"model\":\"m\", \"messages\":\"{}\", \"stream\":true}}", "x".repeat(1 << 20));
        let edit = asking(false).edit(body.as_bytes()).unwrap();
        assert!(edit.replaced == 3 && edit.with.len() < 60);
        let (before, after) = body.split_once('{').unwrap();
        assert_eq!(before.trim(), "");
        let changed = edited(&body, false).unwrap();
        assert_eq!(changed, format!("{{\"stream_options\":{{\"include_usage\":true}},{after}"));
        assert!(serde_json::from_str::<serde_json::Value>(&changed).is_ok());
    }

    #[test]
    fn a_body_that_is_no_object_is_not_changed() {
        for body in ["", "[]", "{", "null", "{\"a\":}"] {
            assert_eq!(asking(true).edit(body.as_bytes()), None);
        }
        assert_eq!(asking(false).edit(b"[1]"), None);
        assert_eq!(NewMembers::default().edit(br#"{"a":1}"#), None);
        assert_eq!(asking(false).edit(b" { }"), None);
    }

    #[test]
    fn a_maximum_is_lowered_where_it_is_and_added_where_none_is() {
        for (body, expected) in [
            (r#"{"max_tokens":900,"n":1.0}"#, r#"{"max_tokens":100,"n":1.0}"#),
            (
                r#"{"max_tokens":7,"max_completion_tokens":900}"#,
                r#"{"max_tokens":7,"max_completion_tokens":100}"#,
            ),
            (r#"{"max_tokens":null}"#, r#"{"max_tokens":100}"#),
            (r#"{"max_tokens":0}"#, r#"{"max_tokens":100}"#),
            (r#"{"max_tokens":"900","Max_Tokens":1e9}"#, r#"{"max_tokens":100,"Max_Tokens":100}"#),
            (r#"{"max_tokens":-1,"max_tokens":101}"#, r#"{"max_tokens":100,"max_tokens":100}"#),
        ] {
            assert_eq!(changed(body, &capped(100, true)).unwrap(), expected);
        }
        let added = changed(r#"{"model":"m", "stream":true}"#, &capped(100, false)).unwrap();
        assert_eq!(added, r#"{"max_tokens":100,"model":"m", "stream":true}"#);
    }

    #[test]
    fn both_members_are_set_at_once() {
        let both = |has_options, has_any| NewMembers {
            output_cap: capped(9, has_any).output_cap,
            ..asking(has_options)
        };
        for (has_options, has_any, body) in [
            (false, false, r#"{"a":1}"#),
            (true, false, r#"{"a":1,"stream_options":{}}"#),
            (false, true, r#"{"a":1,"max_tokens":10}"#),
            (true, true, r#"{"a":1,"stream_options":null,"max_tokens":null}"#),
        ] {
            let text = changed(body, &both(has_options, has_any)).unwrap();
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            let expected =
                serde_json::json!({"a": 1, "stream_options": {"include_usage": true}, "max_tokens": 9});
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn a_thinking_budget_is_found() {
        let body = br#"{"model":"m","thinking":{"type":"enabled","budget_tokens":2048}}"#;
        assert_eq!(thinking_budget(body), Some(2048));
        for none in [&b"{}"[..], br#"{"thinking":null}"#, br#"{"thinking":{"type":"adaptive"}}"#, b"[1]"] {
            assert_eq!(thinking_budget(none), None);
        }
    }
}
