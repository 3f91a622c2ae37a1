//! How the events of a stream come: as Server-Sent Events, or as JSON objects.

use crate::codec::outline::Places;
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
        Kind::Events.parser(Places::default())
    }
}

/// What a stream consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Server-Sent Events.
    Events,
    /// Objects, in an array or in lines.
    Objects,
}

impl Kind {
    /// A parser of such a stream, which reports these `places` of what is too large.
    pub(super) fn parser(self, places: Places) -> Framing {
        match self {
            Self::Events => Framing::Events(sse::Parser::new(places)),
            Self::Objects => Framing::Objects(objects::Parser::new(places)),
        }
    }
}

impl Framing {
    /// What the stream consists of.
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Events(_) => Kind::Events,
            Self::Objects(_) => Kind::Objects,
        }
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
