//! All that a request asks of the world: the one way out of a [`Session`](super::Session).

use crate::answer::{Headers, Reply};
use crate::request::BodyEdit;
use crate::telemetry::access_log::LogFields;
use crate::telemetry::stats::Stats;

/// What an event makes of a request. The default leaves everything as it is.
#[derive(Debug, Default)]
pub struct Effects {
    /// Whether the request goes on; none where the event does not decide that.
    pub directive: Option<Directive>,
    /// Changes to the headers of the message that the event is about.
    pub headers: HeaderEdits,
    /// A change to the body that the event is about.
    pub body: Option<BodyEdit>,
    /// Fields for the access log.
    pub log: LogFields,
    /// Metrics to add up.
    pub metrics: Stats,
    /// Whether a call to the store was queued, so that the root context must take a turn.
    pub wake: bool,
    /// The request that is first in its waiting line from now on, by its stream.
    pub next_in_line: Option<u32>,
}

/// Whether a request goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Directive {
    /// Let it go on.
    Continue,
    /// Hold it back.
    Pause,
    /// Answer it here.
    Reply(Reply),
}

/// Changes to a header map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Headers to remove first.
    pub remove: Vec<&'static str>,
    /// Headers to set.
    pub set: Headers,
}
