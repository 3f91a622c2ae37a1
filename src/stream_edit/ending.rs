//! How a stream is ended before its upstream has ended it, in whatever format it is.

use super::{chat, messages, responses};
use serde_json::Value;
use std::fmt::Write as _;

/// What has been seen of a stream that its end must fit.
#[derive(Debug, Default)]
pub(super) enum Ending {
    /// Nothing yet.
    #[default]
    Unknown,
    Chat(chat::Ending),
    Messages(messages::Ending),
    Responses(Box<responses::Ending>),
}

impl Ending {
    /// Takes the next event.
    pub(super) fn note(&mut self, event: Value) {
        match self {
            Self::Unknown => *self = Self::begun_by(event),
            Self::Chat(ending) => ending.note(&event),
            Self::Messages(ending) => ending.note(&event),
            Self::Responses(ending) => ending.note(event),
        }
    }

    fn begun_by(event: Value) -> Self {
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        if event.get("choices").is_some_and(Value::is_array) {
            chat::Ending::begun_by(event).map_or(Self::Unknown, Self::Chat)
        } else if kind == "message_start" {
            Self::Messages(messages::Ending::default())
        } else if kind == "response.created" {
            Self::Responses(Box::new(responses::Ending::begun_by(event)))
        } else {
            Self::Unknown
        }
    }

    /// The events that end the stream here. None if that cannot be told.
    pub(super) fn write(&self, choices: u64, output_tokens: u64) -> Option<String> {
        match self {
            Self::Unknown => None,
            Self::Chat(ending) => ending.write(choices),
            Self::Messages(ending) => Some(ending.write(output_tokens)),
            Self::Responses(ending) => ending.write(),
        }
    }
}

/// An event that says in its data what it is, as those of Anthropic and of the Responses API do.
pub(super) fn write_event(out: &mut String, event: &Value) {
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = write!(out, "event: {kind}\ndata: {event}\n\n");
}
