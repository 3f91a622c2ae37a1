//! How the events of a stream come: as Server-Sent Events, or as JSON objects.

use super::places::PLACES;
use crate::codec::sse::Event;
use crate::codec::{objects, sse};

/// Takes events out of a stream.
#[derive(Clone, Debug)]
pub(super) enum Framing {
    /// Server-Sent Events.
    Events(sse::Parser),
    /// Objects, in an array or in lines.
    Objects(objects::Parser),
}

impl Default for Framing {
    fn default() -> Self {
        Self::events()
    }
}

impl Framing {
    /// Server-Sent Events.
    pub(super) fn events() -> Self {
        Self::Events(sse::Parser::new(PLACES))
    }

    /// Objects.
    pub(super) fn objects() -> Self {
        Self::Objects(objects::Parser::new(PLACES))
    }

    /// Takes a chunk and calls `each` with every event that ends in it.
    pub(super) fn push(&mut self, chunk: &[u8], each: impl FnMut(Event<'_>)) {
        match self {
            Self::Events(parser) => parser.push(chunk, each),
            Self::Objects(parser) => parser.push(chunk, each),
        }
    }

    /// Reports the event that the end of the stream cut off, if there is one.
    pub(super) fn finish(self, each: impl FnMut(Event<'_>)) {
        match self {
            Self::Events(parser) => parser.finish(each),
            Self::Objects(parser) => parser.finish(each),
        }
    }
}
