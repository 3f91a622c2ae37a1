//! A request's life in the filter, as a value that handles events.
//!
//! A [`Session`] is an enum of phases, each with the data that it needs. [`Session::on`] consumes a phase and an event
//! and returns the next phase, so that nothing is done twice; [`Effects`] is its only output. Nothing here calls Envoy,
//! and time is an argument, so that all of it runs in native tests. [`crate::worker`] keeps the sessions by stream.
//!
//! ```text
//! Idle ── headers ──> AwaitBody ── body ──> AwaitStore ── answer ──> Forwarded ── headers ──> Responding ──> Settled
//!                         │                  ^  │  ^                       │                                    ^
//!                         v large body       │  v  │ due                   └── error ──> Objecting ── body ─────┘
//!                      Reading ── steps ─────┘ Waiting
//!
//! Idle ── headers of a request that asks for an earlier response ──> Asking ── headers ──> Following
//! Idle ── headers of a request that nothing limits ──> Passing ── headers ──> Idle
//! ```

mod admission;
mod arrival;
mod background;
mod charged;
mod context;
mod effects;
mod estimate;
mod fall_back;
mod following;
pub mod headers_mode;
mod held;
mod incoming;
pub mod inspection;
mod learning;
mod objection;
mod objectors;
mod output_cap;
pub mod quote;
mod reading;
mod refusals;
pub mod reservation;
mod response;
mod response_flags;
mod route;
pub mod sorting;
mod unanswered;
pub mod waiting_room;

pub use admission::{AwaitStore, Waiting};
pub use arrival::AwaitBody;
pub(crate) use background::settle_met;
pub use context::{Cx, Shared};
pub use effects::{Amended, Directive, Effects, HeaderEdits};
pub use following::Following;
pub use incoming::Buffer;
pub use objection::Objection;
pub use objectors::{Asked, Destination};
pub use reading::Reading;
pub use response::{Forwarded, Responding, ResponseView, Settled};
pub use response_flags::ResponseFlags;

use crate::identity::RequestView;
use crate::policy::Candidates;
use crate::quantity::Millis;
use crate::request::Endpoint;
use crate::store::Answer;
#[cfg(test)]
use crate::store::HeldIn;
use crate::store::local::SharedData;
use crate::telemetry::series::{SenderLabels, Unlimited};
use crate::usage::learned_output::Sender;
use reservation::Reservation;
use std::sync::Arc;

/// The phase of a request.
#[derive(Debug, Default)]
pub enum Session {
    /// Nothing remains to be done: the request has not begun, is not limited, or is over.
    #[default]
    Idle,
    /// The headers have arrived, and the body has not.
    AwaitBody(AwaitBody),
    /// The body has arrived, and is read in steps because it is large.
    Reading(Box<Reading>),
    /// The request is paused until the store answers.
    AwaitStore(AwaitStore),
    /// The request did not fit, and is paused until it does.
    Waiting(Waiting),
    /// The request ended before the store answered: what the store has charged must be undone.
    Abandoned(Reservation),
    /// The request has been forwarded, and the response has not begun.
    Forwarded(Forwarded),
    /// The upstream has answered with an error, which is held until it has been read.
    Objecting(Objection),
    /// The response is passing through.
    Responding(Responding),
    /// Nothing limits the request, and its response has not begun.
    Passing,
    /// The request costs nothing, and its answer may report the usage of an earlier one.
    Asking,
    /// That answer is passing through.
    Following(Box<Following>),
    /// The request is settled, and the rest of the response is a stream that must be edited.
    Settled(Settled),
}

/// An event in the life of a request.
#[derive(Clone)]
pub enum Event<'a> {
    /// The request's headers arrived.
    RequestHeaders {
        /// The headers.
        request: &'a dyn RequestView,
        /// Whether nothing follows.
        end_of_stream: bool,
    },
    /// A part of the request's body arrived, or its trailers, which end the body.
    RequestBody {
        /// Reads what has arrived of the body.
        buffer: &'a Buffer<'a>,
        /// The bytes that have arrived; none if nobody knows.
        size: Option<usize>,
        /// Whether nothing follows.
        end_of_stream: bool,
    },
    /// It is the request's turn to do some of the work that remains to be done.
    Step {
        /// Reads the body.
        buffer: &'a Buffer<'a>,
    },
    /// The store answered the reservation, or failed to.
    StoreAnswered(Answer),
    /// The store has made the reservation after all, although the request has gone on without an answer.
    ReservationStands,
    /// The request has become the first in its queue.
    FirstInQueue,
    /// The deadline that [`Session::due`] returned has come.
    Due,
    /// The response's headers arrived.
    ResponseHeaders {
        /// The headers.
        response: &'a dyn ResponseView,
        /// Whether nothing follows.
        end_of_stream: bool,
    },
    /// A part of the response's body arrived.
    ResponseBody {
        /// Reads that part.
        buffer: &'a dyn Fn() -> Vec<u8>,
        /// Whether nothing follows.
        end_of_stream: bool,
    },
    /// The response's trailers arrived: the body is over.
    ResponseTrailers,
    /// An extension took the reservation past a limit.
    LimitPassed,
    /// The stream ended, for whatever reason.
    StreamDone {
        /// Reads Envoy's response flags, which give the reason.
        flags: &'a dyn Fn() -> ResponseFlags,
    },
}

/// The facts about a request that its wait and its response depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// The API that the request calls.
    pub endpoint: Endpoint,
    /// The header `accept-language`, if refusals depend on it.
    pub languages: Option<String>,
    /// The bytes of its body, which Envoy keeps while the request waits.
    pub body_bytes: u64,
    /// The models that the request may be for.
    pub models: Candidates,
    /// The number of answers in the response.
    pub choices: u64,
    /// The number of answers that the model makes: more than `choices` if the request wants the best of several.
    pub answers: u64,
    /// The most output tokens that it allows, of all answers together; none if it sets no maximum.
    pub output_cap: Option<u64>,
    /// Whose it is, for what is learned of its answer.
    pub sender: Sender,
    /// Whose it is, for metrics.
    pub labels: SenderLabels,
    /// The id by which Envoy knows it, for the sidecar's log.
    pub request_id: Option<Arc<str>>,
    /// The filter's request for usage that the client did not ask for, and that must be hidden from it.
    pub asked: Option<Asked>,
    /// Whether the model may go on in the background when the client has left.
    pub background: bool,
    /// Whether the response may report tokens that the request must be charged for.
    pub spends_tokens: bool,
}

impl RequestFacts {
    /// The facts of a request of `sender` to `endpoint` whose body was not read.
    pub const fn unread(
        endpoint: Endpoint,
        sender: Sender,
        labels: SenderLabels,
        languages: Option<String>,
    ) -> Self {
        let models = if endpoint.has_format() { Candidates::UNKNOWN } else { Candidates::NONE };
        Self {
            endpoint,
            languages,
            body_bytes: 0,
            models,
            choices: 1,
            answers: 1,
            output_cap: None,
            sender,
            labels,
            request_id: None,
            asked: None,
            background: false,
            spends_tokens: true,
        }
    }

    /// The model that it names, or the first of several; none if it names none or may be any.
    pub fn model(&self) -> Option<&str> {
        match &self.models {
            Candidates::One(name) => Some(name.as_str()).filter(|name| !name.is_empty()),
            Candidates::Several(names) => names.first().map(String::as_str),
            Candidates::Any(_) => None,
        }
    }
}

impl Session {
    /// The phase after `event`. An event that does not concern a phase leaves it as it is.
    ///
    /// A reservation is settled on leaving `Forwarded` or `Responding`, and cancelled on leaving the phases before:
    /// since each arm consumes its phase, nothing is settled twice.
    #[must_use]
    pub fn on<S: SharedData>(self, event: Event<'_>, cx: &mut Cx<'_, S>) -> Self {
        match (self, event) {
            (Self::Idle, Event::RequestHeaders { request, end_of_stream }) => {
                route::begin(request, end_of_stream, cx)
            }

            (Self::AwaitBody(phase), Event::RequestBody { buffer, size, end_of_stream }) => {
                phase.read(buffer, size, end_of_stream, cx)
            }
            (Self::AwaitBody(phase), Event::Due) => Self::AwaitBody(phase.release_held_headers(cx)),
            // The upstream can answer before the body is complete only if the headers went first; another filter, or
            // Envoy itself, always can. Such a request is not counted.
            (Self::AwaitBody(_) | Self::Reading(_), Event::ResponseHeaders { response, .. }) => {
                cx.not_limited(Unlimited::AnsweredEarly);
                response::name_source(response.status(), response, cx);
                Self::Idle
            }
            (Self::AwaitBody(_) | Self::Reading(_), Event::StreamDone { .. }) => {
                cx.not_limited(Unlimited::ClientLeft);
                Self::Idle
            }

            (Self::Reading(phase), Event::Step { buffer }) => phase.step(buffer, cx),

            (
                session @ (Self::Reading(_) | Self::AwaitStore(_) | Self::Waiting(_)),
                Event::RequestBody { .. },
            ) => {
                cx.direct(Directive::Pause);
                session
            }
            (Self::AwaitStore(phase), Event::StoreAnswered(answer)) => phase.on_answer(answer, cx),
            (Self::AwaitStore(phase), Event::Due) => phase.expire(cx),
            (Self::AwaitStore(phase), Event::StreamDone { .. }) => phase.abandon(cx),
            (Self::Abandoned(reservation), Event::StoreAnswered(answer)) => {
                admission::undo(&reservation, &answer, cx);
                Self::Idle
            }

            (Self::Waiting(phase), Event::FirstInQueue) => Self::Waiting(phase.first_in_queue(cx.now)),
            (Self::Waiting(phase), Event::Due) => phase.retry(cx),
            (Self::Waiting(phase), Event::StreamDone { .. }) => {
                phase.leave(cx);
                Self::Idle
            }

            (session @ (Self::AwaitStore(_) | Self::Waiting(_)), Event::ResponseHeaders { response, .. }) => {
                response::name_source(response.status(), response, cx);
                session
            }
            (Self::Passing, Event::ResponseHeaders { response, .. }) => {
                response::name_source(response.status(), response, cx);
                Self::Idle
            }
            (Self::Passing, Event::StreamDone { .. }) => Self::Idle,

            (Self::Forwarded(phase), Event::ResponseHeaders { response, end_of_stream }) => {
                phase.begin_response(response, end_of_stream, cx)
            }
            (Self::Forwarded(phase), Event::ReservationStands) => Self::Forwarded(phase.counted()),
            (Self::Forwarded(phase), Event::Due) => Self::Forwarded(phase.renew_leases(cx)),
            (Self::Forwarded(phase), Event::StreamDone { .. }) => {
                phase.settle_as_reserved(cx);
                Self::Idle
            }

            (Self::Objecting(phase), Event::ResponseBody { buffer, end_of_stream }) => {
                phase.read(buffer, end_of_stream, cx)
            }
            (Self::Objecting(phase), Event::ResponseTrailers) => phase.decide(cx),
            (Self::Objecting(phase), Event::ReservationStands) => Self::Objecting(phase.counted()),
            (Self::Objecting(phase), Event::Due) => Self::Objecting(phase.renew_leases(cx)),
            (Self::Objecting(phase), Event::StreamDone { .. }) => {
                phase.leave(cx);
                Self::Idle
            }

            (Self::Responding(phase), Event::ResponseBody { buffer, end_of_stream }) => {
                phase.read(buffer, end_of_stream, cx)
            }
            (Self::Responding(phase), Event::ResponseTrailers) => phase.trailers(cx),
            (Self::Responding(phase), Event::ReservationStands) => Self::Responding(phase.counted()),
            (Self::Responding(phase), Event::LimitPassed) => Self::Responding(phase.limit_passed()),
            (Self::Responding(phase), Event::Due) => Self::Responding(phase.renew_leases(cx)),
            (Self::Responding(phase), Event::StreamDone { flags }) => {
                phase.leave(flags().ended_by(), cx);
                Self::Idle
            }

            (Self::Asking, Event::ResponseHeaders { response, end_of_stream }) => {
                Following::begin(response, end_of_stream, cx)
            }
            (Self::Following(phase), Event::ResponseBody { buffer, end_of_stream }) => {
                phase.read(&buffer(), end_of_stream, cx)
            }
            (Self::Following(phase), Event::ResponseTrailers) => {
                phase.end(cx);
                Self::Idle
            }
            (Self::Asking | Self::Following(_), Event::StreamDone { .. }) => Self::Idle,

            (Self::Settled(phase), Event::ResponseBody { buffer, end_of_stream }) => {
                phase.edit(buffer, end_of_stream, cx)
            }
            (Self::Settled(_), Event::StreamDone { .. }) => Self::Idle,

            (session, _) => session,
        }
    }

    /// Whether the event can bring anything. [`Session::on`] returns the same phase for all others, without effects:
    /// they need not even look at the clock.
    pub fn heeds(&self, event: &Event<'_>) -> bool {
        match (self, event) {
            (Self::Idle, event) => matches!(event, Event::RequestHeaders { .. }),
            (Self::Passing, event) => {
                matches!(event, Event::ResponseHeaders { .. } | Event::StreamDone { .. })
            }
            (Self::Forwarded(_) | Self::Responding(_) | Self::Settled(_), Event::RequestBody { .. }) => false,
            (Self::Responding(phase), Event::ResponseBody { end_of_stream: false, .. }) => phase.is_read(),
            _ => true,
        }
    }

    /// The deadline of the phase, if it has one. The worker sends [`Event::Due`] then.
    pub fn due(&self) -> Option<Millis> {
        match self {
            Self::AwaitBody(phase) => phase.due(),
            Self::AwaitStore(phase) => Some(phase.due()),
            Self::Waiting(phase) => Some(phase.due()),
            Self::Forwarded(phase) => phase.due(),
            Self::Objecting(phase) => phase.due(),
            Self::Responding(phase) => phase.due(),
            Self::Idle
            | Self::Reading(_)
            | Self::Abandoned(_)
            | Self::Passing
            | Self::Asking
            | Self::Following(_)
            | Self::Settled(_) => None,
        }
    }

    /// Whether the deadline is that of an answer of the store.
    pub const fn awaits_answer(&self) -> bool {
        matches!(self, Self::AwaitStore(_))
    }

    /// Whether more may come for the request's line of the access log.
    pub const fn may_log(&self) -> bool {
        match self {
            Self::AwaitBody(_)
            | Self::Reading(_)
            | Self::AwaitStore(_)
            | Self::Waiting(_)
            | Self::Forwarded(_)
            | Self::Objecting(_)
            | Self::Responding(_) => true,
            Self::Idle
            | Self::Abandoned(_)
            | Self::Passing
            | Self::Asking
            | Self::Following(_)
            | Self::Settled(_) => false,
        }
    }

    /// Whether work remains to be done, for which the worker sends [`Event::Step`].
    pub const fn has_work(&self) -> bool {
        matches!(self, Self::Reading(_))
    }

    /// Whether nothing remains to be done about the request.
    pub const fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }
}

/// A copy of a request that has a reservation, for tests that go on from one state in several ways.
#[cfg(test)]
#[derive(Clone, Debug)]
pub(crate) enum Snapshot {
    AwaitStore(AwaitStore),
    Waiting(Waiting),
    Abandoned(Reservation),
    Forwarded(Forwarded),
    Responding(Box<response::Snapshot>),
}

#[cfg(test)]
impl Session {
    /// The request for a copy; none in a phase without a reservation.
    pub(crate) fn into_snapshot(self) -> Option<Snapshot> {
        Some(match self {
            Self::AwaitStore(phase) => Snapshot::AwaitStore(phase),
            Self::Waiting(phase) => Snapshot::Waiting(phase),
            Self::Abandoned(reservation) => Snapshot::Abandoned(reservation),
            Self::Forwarded(phase) => Snapshot::Forwarded(phase),
            Self::Responding(phase) => Snapshot::Responding(Box::new(phase.into_snapshot()?)),
            _ => return None,
        })
    }
}

#[cfg(test)]
impl Snapshot {
    /// The request.
    pub(crate) fn into_session(self) -> Session {
        match self {
            Self::AwaitStore(phase) => Session::AwaitStore(phase),
            Self::Waiting(phase) => Session::Waiting(phase),
            Self::Abandoned(reservation) => Session::Abandoned(reservation),
            Self::Forwarded(phase) => Session::Forwarded(phase),
            Self::Responding(phase) => Session::Responding(phase.into_responding()),
        }
    }

    /// The id of the reservation and, of a request that was forwarded, the store that has it; until it is settled.
    pub(crate) fn reservation(&self) -> Option<(&str, Option<&HeldIn>)> {
        match self {
            Self::AwaitStore(phase) => Some((phase.reservation_id(), None)),
            Self::Forwarded(phase) => Some(phase.open.id_and_store()),
            Self::Responding(phase) => Some(phase.open.id_and_store()),
            _ => None,
        }
    }
}
