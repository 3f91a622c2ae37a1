//! The text of an answer, in any form: all of it costs tokens, and once.

use crate::codec::lenient::{self, Accept};
use serde::de::{MapAccess, SeqAccess};
use std::borrow::Cow;

/// Collects the text of a message or of a delta: of its parts, its reasoning, and the names and arguments of the tools
/// that it calls. Sound has a transcript; images have no text.
///
/// Some servers send the same text under several names beside each other, so that every client finds one that it
/// knows. Of these the longest counts.
#[derive(Clone, Debug, Default)]
pub(super) struct AnswerText {
    /// The text of objects that have ended.
    ended: String,
    /// The reasoning in the object that is being read: the longest of all names for it.
    reasoning: String,
    /// The other text in it.
    content: String,
    /// The calls of tools in it: the longest of all names for them.
    calls: String,
    /// Whether there has been a string or an object, even an empty one.
    pub(super) has_begun: bool,
    /// Whether some of the text is reasoning.
    pub(super) shows_reasoning: bool,
    /// Functions that it names: a call has one name.
    pub(super) called: u64,
    /// The JSON of the arguments of these calls, as far as it is here.
    pub(super) arguments: String,
}

impl AnswerText {
    /// All of it: in an object reasoning comes first and calls last, whatever the order of its members.
    pub(super) fn into_text(mut self) -> String {
        self.end_object();
        self.ended
    }

    /// Adds another text of the same object.
    pub(super) fn add(&mut self, other: Self) {
        self.has_begun |= other.has_begun;
        self.shows_reasoning |= other.shows_reasoning;
        self.called = self.called.saturating_add(other.called);
        self.arguments.push_str(&other.arguments);
        append(&mut self.content, other.into_text());
    }

    fn end_object(&mut self) {
        for text in [&mut self.reasoning, &mut self.content, &mut self.calls] {
            if !text.is_empty() {
                append(&mut self.ended, std::mem::take(text));
            }
        }
    }

    /// The text of the next value of `object`.
    fn inner<'b, A: MapAccess<'b>>(
        &mut self,
        object: &mut A,
        add: fn(&mut Self, String, u64, String),
    ) -> Result<(), A::Error> {
        let mut inner = Self::default();
        // Of a value that breaks off, everything before the fault counts.
        let read = lenient::offer(object, &mut inner);
        self.shows_reasoning |= inner.shows_reasoning;
        let (called, arguments) = (inner.called, std::mem::take(&mut inner.arguments));
        add(self, inner.into_text(), called, arguments);
        read
    }
}

impl<'b> Accept<'b> for AnswerText {
    fn string(&mut self, text: Cow<'b, str>) {
        self.has_begun = true;
        append(&mut self.content, text.into_owned());
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, self)
    }

    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "reasoning_content" | "reasoning" | "reasoning_text" | "reasoning_details" | "thinking"
            | "thinking_blocks" => self.inner(object, |place, text, _, _| {
                place.shows_reasoning |= !text.is_empty();
                keep_longer(&mut place.reasoning, text);
            }),
            "tool_calls" | "function_call" => self.inner(object, |place, text, called, arguments| {
                keep_longer(&mut place.calls, text);
                keep_longer(&mut place.arguments, arguments);
                place.called = place.called.max(called);
            }),
            "name" => self.inner(object, |place, text, _, _| {
                place.called = place.called.saturating_add(u64::from(!text.is_empty()));
                append(&mut place.content, text);
            }),
            "content" | "refusal" | "text" | "transcript" | "audio" | "summary" | "function" | "custom"
            | "code" | "tool_plan" => self.inner(object, |place, text, called, arguments| {
                place.called = place.called.saturating_add(called);
                append(&mut place.arguments, arguments);
                append(&mut place.content, text);
            }),
            "arguments" => {
                let mut given = Given::default();
                // Of a value that breaks off, everything before the fault counts.
                let read = lenient::offer(object, &mut given);
                append(&mut self.arguments, given.0.clone());
                append(&mut self.content, given.0);
                read
            }
            "partial_json" => self.inner(object, |place, text, _, _| {
                append(&mut place.arguments, text.clone());
                append(&mut place.content, text);
            }),
            "input" => {
                // Anthropic's input is an object: its text is the JSON itself.
                let json = lenient::raw(object)?;
                let text = serde_json::from_str(json).unwrap_or_else(|_| json.to_owned());
                append(&mut self.arguments, text.clone());
                append(&mut self.content, text);
                Ok(())
            }
            _ => lenient::skip(object),
        }
    }

    fn end(&mut self) {
        self.has_begun = true;
        self.end_object();
    }
}

/// Arguments of a call: a string of JSON, or the object itself, which is Ollama's.
#[derive(Default)]
struct Given(String);

impl<'b> Accept<'b> for Given {
    fn string(&mut self, text: Cow<'b, str>) {
        append(&mut self.0, text.into_owned());
    }

    fn element<A: SeqAccess<'b>>(&mut self, array: &mut A) -> Result<Option<()>, A::Error> {
        lenient::offer_element(array, self)
    }

    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        let value = lenient::raw(object)?;
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&serde_json::Value::from(name).to_string());
        self.0.push(':');
        self.0.push_str(value);
        Ok(())
    }

    fn end(&mut self) {
        self.0.push_str(if self.0.is_empty() { "{}" } else { "}" });
    }
}

/// Most texts are the first of their place, and are not copied.
fn append(place: &mut String, text: String) {
    if place.is_empty() {
        *place = text;
    } else {
        place.push_str(&text);
    }
}

fn keep_longer(place: &mut String, text: String) {
    if text.len() > place.len() {
        *place = text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> (String, bool) {
        let mut text = AnswerText::default();
        let _ = lenient::read(json, &mut text);
        let shows_reasoning = text.shows_reasoning;
        (text.into_text(), shows_reasoning)
    }

    #[test]
    fn the_same_text_under_several_names_counts_once() {
        for (json, expected) in [
            (r#"{"content":"b","reasoning":"a","reasoning_content":"a"}"#, ("ab", true)),
            (r#"{"reasoning":"a","reasoning_details":[{"type":"reasoning.text","text":"a"}]}"#, ("a", true)),
            (
                r#"{"reasoning_content":"a","thinking_blocks":[{"type":"thinking","thinking":"a","signature":"s"}]}"#,
                ("a", true),
            ),
            (r#"{"reasoning":"a","content":[{"text":"b"}],"reasoning_content":"a"}"#, ("ab", true)),
            (
                r#"{"reasoning":"a","reasoning_details":[{"type":"reasoning.encrypted","data":"x"}]}"#,
                ("a", true),
            ),
            (
                r#"{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}],
                    "function_call":{"name":"f","arguments":"{}"}}"#,
                ("f{}", false),
            ),
            // Blocks beside each other are different texts.
            (r#"[{"thinking":"a"},{"text":"b"},{"thinking":"a"}]"#, ("aba", true)),
            (
                r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"a"}]},"b"]}"#,
                ("ab", true),
            ),
            (r#"{"content":null,"reasoning":"","name":"f"}"#, ("f", false)),
            (r#"{"name":"f","input":{"a": 1}}"#, (r#"f{"a": 1}"#, false)),
            (r#"{"name":"f","input":"a\n"}"#, ("fa\n", false)),
            (r#"{"name":"f","arguments":{"a": 1,"b":[{}]}}"#, (r#"f{"a":1,"b":[{}]}"#, false)),
            (r#"{"name":"f","arguments":{}}"#, ("f{}", false)),
            (r#"{"reasoning":"a","content":"b","conte"#, ("ab", true)),
            (r#"{"content":[{"text":"a"},{"text":"b"},"#, ("ab", false)),
            (r#""a""#, ("a", false)),
            ("null", ("", false)),
        ] {
            assert_eq!(text(json), (expected.0.to_owned(), expected.1), "{json}");
        }
    }
}
