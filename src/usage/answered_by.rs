//! The model that an answer names, for requests that may be for several.
//!
//! A body of any format has it in `model`. In a stream it is in the event's `model`, in its `response` or in its
//! `message`. It is looked for apart from usage, and only where somebody wants to know.

use super::framing::{Framing, Kind};
use crate::codec::lenient::{self, Accept, Text};
use crate::codec::name;
use crate::codec::outline::{Outline, Places};
use serde::de::MapAccess;
use std::borrow::Cow;

/// The members that have it.
const PLACES: Places =
    Places { vital: &["model", "response.model", "message.model", "modelVersion"], others: &[] };

/// Looks for the model's name.
#[derive(Clone, Debug, Default)]
pub(super) struct AnsweredBy {
    model: Option<String>,
    within: Within,
}

#[derive(Clone, Debug, Default)]
enum Within {
    #[default]
    Unbegun,
    Body(Outline),
    Stream(Framing),
}

impl AnsweredBy {
    /// The name, once it has come.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Takes a chunk of a body, or of a stream of this kind.
    pub(super) fn push(&mut self, chunk: &[u8], stream: Option<Kind>) {
        if self.model.is_some() {
            return;
        }
        if matches!(self.within, Within::Unbegun) {
            self.within = match stream {
                Some(kind) => Within::Stream(kind.parser(PLACES)),
                None => Within::Body(Outline::new(PLACES)),
            };
        }
        let mut found = None;
        match &mut self.within {
            Within::Unbegun => {}
            Within::Body(outline) => outline.push_and_watch(chunk, |path, value| {
                if matches!(path, "model" | "modelVersion") {
                    found = name_in(value, |text, name| lenient::read(text, name).is_ok());
                }
                found.is_some()
            }),
            Within::Stream(parser) => parser.push(chunk, |event| {
                found = found.take().or_else(|| name_in_event(event.data));
            }),
        }
        self.model = found;
    }

    /// Takes the data of an event.
    pub(super) fn read_event(&mut self, data: &[u8]) {
        if self.model.is_none() {
            self.model = name_in_event(data);
        }
    }
}

fn name_in_event(data: &[u8]) -> Option<String> {
    name_in(data, |text, name| {
        let mut event = Event(name);
        // An event that breaks off has what comes before the fault.
        let _ = lenient::read(text, &mut event);
        true
    })
}

/// The name that `read` finds in `json`.
fn name_in(json: &[u8], read: impl for<'t> FnOnce(&'t str, &mut Text<'t>) -> bool) -> Option<String> {
    let text = lenient::mend(json);
    let mut name = Text::default();
    let is_read = read(&text, &mut name);
    let name = name.0.filter(|name| is_read && !name.is_empty())?;
    // A part of a name may be another's.
    let (name, is_cut) = name::harmless_part(name);
    (!is_cut).then(|| name.into_owned())
}

/// An event, or the object in it that has the model.
struct Event<'n, 't>(&'n mut Text<'t>);

impl<'t> Accept<'t> for Event<'_, 't> {
    fn string(&mut self, _text: Cow<'t, str>) {}

    fn member_as_written<A: MapAccess<'t>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "model" | "modelVersion" => lenient::offer(object, self.0),
            "response" | "message" => lenient::offer(object, &mut Event(self.0)),
            _ => lenient::skip(object),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(content: &str, stream: Option<Kind>, size: usize) -> Option<String> {
        let mut answered = AnsweredBy::default();
        for chunk in content.as_bytes().chunks(size) {
            answered.push(chunk, stream);
        }
        answered.model().map(ToOwned::to_owned)
    }

    #[test]
    fn the_model_is_found_in_every_format() {
        for (content, expected) in [
            (r#"{"choices":[{"model":"x"}],"model":"gpt-4o","usage":{}}"#, Some("gpt-4o")),
            (r#"{"usage":{},"model" : "é\"" }"#, Some("é'")),
            (r#"{"model":"","object":"x"}"#, None),
            (r#"{"model":7}"#, None),
        ] {
            for size in [1, 1_000] {
                assert_eq!(model(content, None, size).as_deref(), expected, "{content}");
            }
        }
        for (content, expected) in [
            (
                "data: {\"id\":1}\n\ndata: {\"model\":\"gpt-4o\",\"choices\":[]}\n\ndata: {\"model\":\"b\"}\n\n",
                "gpt-4o",
            ),
            ("event: response.created\ndata: {\"response\":{\"model\":\"o3\"}}\n\n", "o3"),
            ("data: {\"type\":\"message_start\",\"message\":{\"model\":\"claude\"}}\n\n", "claude"),
        ] {
            for size in [1, 1_000] {
                assert_eq!(model(content, Some(Kind::Events), size).as_deref(), Some(expected), "{content}");
            }
        }
        let lines = "{\"model\":\"llama3.2\",\"done\":false}\n{\"model\":\"other\"}\n";
        for size in [1, 1_000] {
            assert_eq!(model(lines, Some(Kind::Objects), size).as_deref(), Some("llama3.2"));
        }
        let mut answered = AnsweredBy::default();
        answered.read_event(br#"{"model":"o3","broken":"#);
        assert_eq!(answered.model(), Some("o3"));
        let long = format!(r#"{{"model":"{}/o3"}}"#, "x".repeat(300));
        assert_eq!(model(&long, None, usize::MAX), None, "a part of a name may be another's");
    }
}
