//! The id of a response that may go on in the background, and whether it has ended.
//!
//! A body has them in `id` and `status`. In a stream they are in the `response` of its events, whose types say whether
//! it has ended. They are looked for apart from usage, and only where somebody wants to know.

use crate::codec::lenient::{self, Accept, Text};
use crate::codec::outline::{Outline, Places};
use crate::codec::sse::Parser;
use serde::de::MapAccess;

/// The longest id that is kept, in bytes. Nothing waits for a response with a longer one.
const MAX_ID_BYTES: usize = 512;

/// The members of a body.
const OF_BODY: Places = Places { vital: &["id", "status"], others: &[] };

/// The members of an event.
const OF_EVENT: Places = Places { vital: &["type", "response.id"], others: &[] };

/// What an answer has said about its response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseState {
    /// Its id.
    pub id: Option<String>,
    /// Whether it goes on; none if nothing says so.
    pub is_running: Option<bool>,
}

/// Looks for the state of a response.
#[derive(Clone, Debug, Default)]
pub(super) struct StateFinder {
    state: ResponseState,
    within: Within,
}

#[derive(Clone, Debug, Default)]
enum Within {
    #[default]
    Unbegun,
    Body(Outline),
    Stream(Parser),
}

impl StateFinder {
    /// The state so far.
    pub(super) const fn state(&self) -> &ResponseState {
        &self.state
    }

    /// Whether a part of the state is still to come.
    pub(super) const fn is_incomplete(&self) -> bool {
        self.state.id.is_none() || self.state.is_running.is_none()
    }

    /// Takes a chunk of a stream or of a body.
    pub(super) fn push(&mut self, chunk: &[u8], is_stream: bool) {
        if matches!(self.within, Within::Unbegun) {
            self.within = match is_stream {
                true => Within::Stream(Parser::new(OF_EVENT)),
                false => Within::Body(Outline::new(OF_BODY)),
            };
        }
        let Self { state, within } = self;
        match within {
            Within::Unbegun => {}
            Within::Body(outline) => outline.push_and_watch(chunk, |path, value| {
                match path {
                    "id" => state.id = text_in(value).filter(|id| is_id(id)),
                    "status" => state.is_running = text_in(value).map(|status| is_running(&status)),
                    _ => {}
                }
                state.id.is_some() && state.is_running.is_some()
            }),
            Within::Stream(parser) => parser.push(chunk, |event| read_event(state, event.data)),
        }
    }

    /// Takes the data of an event.
    pub(super) fn read_event(&mut self, data: &[u8]) {
        read_event(&mut self.state, data);
    }
}

/// Whether a response with this `status` has not ended.
fn is_running(status: &str) -> bool {
    matches!(status, "queued" | "in_progress")
}

fn is_id(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len())
}

fn text_in(json: &[u8]) -> Option<String> {
    let json = lenient::mend(json);
    let mut text = Text::default();
    lenient::read(&json, &mut text).ok()?;
    text.0.map(|text| text.into_owned())
}

fn read_event(state: &mut ResponseState, data: &[u8]) {
    // Most events have neither.
    if state.id.is_some() && memchr::memmem::find(data, b"response.").is_none() {
        return;
    }
    let text = lenient::mend(data);
    let mut event = Event::default();
    // An event that breaks off has what comes before the fault.
    let _ = lenient::read(&text, &mut event);
    let id = event.id.0.filter(|id| is_id(id)).map(|id| id.into_owned());
    state.id = state.id.take().or(id);
    let Some(kind) = event.kind.0.as_deref().and_then(|kind| kind.strip_prefix("response.")) else { return };
    match kind {
        "created" | "queued" | "in_progress" => state.is_running = Some(true),
        "completed" | "incomplete" | "failed" | "cancelled" => state.is_running = Some(false),
        _ => {}
    }
}

#[derive(Default)]
struct Event<'b> {
    kind: Text<'b>,
    id: Text<'b>,
}

impl<'b> Accept<'b> for Event<'b> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => lenient::offer(object, &mut self.kind),
            "response" => lenient::offer(object, &mut Response(&mut self.id)),
            _ => lenient::skip(object),
        }
    }
}

struct Response<'i, 'b>(&'i mut Text<'b>);

impl<'b> Accept<'b> for Response<'_, 'b> {
    fn member_as_written<A: MapAccess<'b>>(&mut self, name: &str, object: &mut A) -> Result<(), A::Error> {
        match name {
            "id" => lenient::offer(object, self.0),
            _ => lenient::skip(object),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(content: &str, is_stream: bool, size: usize) -> (Option<String>, Option<bool>) {
        let mut finder = StateFinder::default();
        for chunk in content.as_bytes().chunks(size) {
            finder.push(chunk, is_stream);
        }
        let ResponseState { id, is_running } = finder.state().clone();
        (id, is_running)
    }

    #[test]
    fn the_state_is_found_in_bodies() {
        for (body, id, is_running) in [
            (r#"{"id":"resp_1","status":"queued","usage":null}"#, Some("resp_1"), Some(true)),
            (
                r#"{"output":[{"id":"msg","status":"x"}],"status":"in_progress","id":"r"}"#,
                Some("r"),
                Some(true),
            ),
            (r#"{"id":"r","status":"completed"}"#, Some("r"), Some(false)),
            (r#"{"id":"r","status":null}"#, Some("r"), None),
            (r#"{"id":7,"status":"cancelled""#, None, Some(false)),
            (r#"{"id":"","status":"failed"}"#, None, Some(false)),
        ] {
            for size in [1, 1_000] {
                assert_eq!(state(body, false, size), (id.map(ToOwned::to_owned), is_running), "{body}");
            }
        }
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(MAX_ID_BYTES + 1));
        assert_eq!(state(&long, false, 100), (None, None));
    }

    #[test]
    fn the_state_is_found_in_streams() {
        let created =
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\"}}\n\n";
        let delta = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"response.completed\"}\n\n";
        let ended = "data: {\"type\":\"response.failed\",\"response\":{\"id\":\"other\"}}\n\n";
        let r = || Some("r".to_owned());
        for size in [1, 1_000] {
            assert_eq!(state(created, true, size), (r(), Some(true)));
            assert_eq!(state(&[created, delta].concat(), true, size), (r(), Some(true)));
            assert_eq!(state(&[created, delta, ended].concat(), true, size), (r(), Some(false)));
            assert_eq!(state(ended, true, size), (Some("other".into()), Some(false)));
            assert_eq!(state(delta, true, size), (None, None));
        }
    }
}
