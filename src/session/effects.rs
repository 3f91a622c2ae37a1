//! The effects of an event: everything that a [`Session`](super::Session) wants done outside itself.

use crate::answer::{Headers, Reply};
use crate::request::BodyEdit;
use crate::telemetry::access_log::LogFields;
use crate::telemetry::stats::Stats;
use std::sync::Arc;

/// The effects of an event. The default leaves everything as it is.
#[derive(Debug, Default)]
pub struct Effects {
    /// Whether to forward the request; none if the event does not decide that.
    pub directive: Option<Directive>,
    /// Changes to the headers of the message that the event is about.
    pub headers: HeaderEdits,
    /// A change to the body that the event is about.
    pub body: Option<BodyEdit>,
    /// Changes to the request, which is held, for a limit over which it goes on.
    pub amended: Amended,
    /// Fields for the access log.
    pub log: LogFields,
    /// Metrics to add up.
    pub metrics: Stats,
    /// Whether a call to the store was queued, so that the root context must take a turn.
    pub wake: bool,
    /// The work that a step has done, in units of [`STEP_WORK`](crate::request::steps::STEP_WORK).
    pub work: u64,
    /// The stream of the request that has become the first in its queue.
    pub next_in_queue: Option<u32>,
}

impl Effects {
    /// These effects and those of a `later` event in the same callback.
    #[must_use]
    pub(crate) fn then(mut self, later: Self) -> Self {
        self.directive = later.directive.or(self.directive);
        self.headers.remove.extend(later.headers.remove);
        self.headers.set.extend(later.headers.set);
        self.body = later.body.or(self.body);
        self.amended.routes.extend(later.amended.routes);
        self.amended.model = later.amended.model.or(self.amended.model);
        self.log.extend(later.log);
        self.wake |= later.wake;
        self.work = self.work.saturating_add(later.work);
        self.next_in_queue = self.next_in_queue.or(later.next_in_queue);
        self
    }
}

/// Whether to forward a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Directive {
    /// Forward the request, or let a part of it pass.
    Continue,
    /// Pause the request.
    Pause,
    /// Answer the request with this reply.
    Reply(Reply),
}

/// Changes to a request that is held, after all others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amended {
    /// Headers by which Envoy chooses a route, each with its new value, or none if it is to be removed. Envoy then
    /// chooses anew.
    pub routes: Vec<(Arc<str>, Option<Arc<str>>)>,
    /// The model in the body.
    pub model: Option<BodyEdit>,
}

/// Changes to a header map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Headers to remove first.
    pub remove: Vec<&'static str>,
    /// Headers to set.
    pub set: Headers,
}
