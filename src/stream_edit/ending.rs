//! Ends a stream before its upstream does, in the format of its events.

use super::{chat, gemini, messages, responses};
use serde_json::Value;

/// The state of a stream that determines its ending.
#[derive(Debug, Default)]
pub(super) enum Ending {
    /// No event has shown the format yet.
    #[default]
    Unknown,
    Chat(chat::Ending),
    Gemini(gemini::Ending),
    Messages(messages::Ending),
    Responses(Box<responses::Ending>),
}

impl Ending {
    /// Takes the next event.
    pub(super) fn update(&mut self, event: Value) {
        match self {
            Self::Unknown => *self = Self::from_first_event(event),
            Self::Chat(ending) => ending.update(&event),
            Self::Gemini(ending) => ending.update(&event),
            Self::Messages(ending) => ending.update(&event),
            Self::Responses(ending) => ending.update(event),
        }
    }

    fn from_first_event(event: Value) -> Self {
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        if event.get("choices").is_some_and(Value::is_array) {
            chat::Ending::from_first_event(event).map_or(Self::Unknown, Self::Chat)
        } else if event.get("candidates").is_some_and(Value::is_array) {
            gemini::Ending::from_first_event(event).map_or(Self::Unknown, Self::Gemini)
        } else if kind == "message_start" {
            Self::Messages(messages::Ending::default())
        } else if kind == "response.created" {
            Self::Responses(Box::new(responses::Ending::from_first_event(event)))
        } else {
            Self::Unknown
        }
    }

    /// The events that end the stream now. None if the stream cannot be ended now.
    pub(super) fn write(&self, choices: u64, output_tokens: u64) -> Option<String> {
        match self {
            Self::Unknown => None,
            Self::Chat(ending) => ending.write(choices),
            Self::Gemini(ending) => ending.write(choices),
            Self::Messages(ending) => Some(ending.write(output_tokens)),
            Self::Responses(ending) => ending.write(),
        }
    }
}
