//! One request's way through the filter, as a value that handles events.
//!
//! A [`Session`] is an enum of phases. [`Session::on`] consumes it with an event and returns the next phase, so that no
//! phase is entered twice and each carries what it needs; [`Effects`] is its only way out. Nothing here calls Envoy,
//! and time is an argument, so that all of it runs in native tests. [`crate::worker`] keeps the sessions by their
//! streams.
//!
//! ```text
//! Idle ── headers ──> AwaitBody ── body ──> AwaitStore ── answer ──> Forwarded ── headers ──> Responding ──> Settled
//!                                               │  ^
//!                                               v  │ its time has come
//!                                              Waiting
//! ```

mod admission;
mod arrival;
mod context;
mod effects;
pub mod headers_mode;
pub mod reservation;
mod response;
mod response_flags;
pub mod waiting_room;

pub use admission::{AwaitStore, Waiting};
pub use arrival::AwaitBody;
pub use context::{Cx, Shared};
pub use effects::{Directive, Effects, HeaderEdits};
pub use response::{Forwarded, Responding, ResponseView, Settled};
pub use response_flags::ResponseFlags;

use crate::identity::RequestView;
use crate::quantity::Millis;
use crate::request::Endpoint;
use crate::store::Answer;
use crate::store::local::SharedData;
use reservation::Reservation;

/// The phase of a request.
#[derive(Debug, Default)]
pub enum Session {
    /// Nothing is to be done: it has not begun, it is not limited, or it is over.
    #[default]
    Idle,
    /// Its headers are held back, or have gone on, and its body is still to come.
    AwaitBody(AwaitBody),
    /// It is held back until the store answers.
    AwaitStore(AwaitStore),
    /// It did not fit, and is held back until it does.
    Waiting(Waiting),
    /// It ended before the store answered; whatever the store charges must be undone.
    Abandoned(Reservation),
    /// It was forwarded, and its response has not begun.
    Forwarded(Forwarded),
    /// Its response is passing through.
    Responding(Responding),
    /// It is settled, and the rest of its response passes unread.
    Settled(Settled),
}

/// One thing that happens to a request.
#[derive(Clone)]
pub enum Event<'a> {
    /// Its headers came. `end_of_stream`: no body follows.
    RequestHeaders {
        /// The headers.
        request: &'a dyn RequestView,
        /// Whether nothing follows.
        end_of_stream: bool,
    },
    /// A part of its body came, or its trailers did, which end it.
    RequestBody {
        /// Reads all of the body that has come.
        buffer: &'a dyn Fn() -> Vec<u8>,
        /// Whether nothing follows.
        end_of_stream: bool,
    },
    /// The store answered the reservation, or is known not to.
    StoreAnswered(Answer),
    /// The request is the first in its waiting line from now on.
    FirstInLine,
    /// The time that [`Session::due`] named has come.
    Due,
    /// The headers of its response came.
    ResponseHeaders {
        /// The headers.
        response: &'a dyn ResponseView,
        /// Whether nothing follows.
        end_of_stream: bool,
    },
    /// A part of the body of its response came.
    ResponseBody {
        /// Reads that part.
        buffer: &'a dyn Fn() -> Vec<u8>,
        /// Whether nothing follows.
        end_of_stream: bool,
    },
    /// The trailers of its response came: the body is over.
    ResponseTrailers,
    /// An extension took its reservation past a limit.
    LimitPassed,
    /// The stream is over, however it ended.
    StreamDone {
        /// Reads Envoy's response flags, which say why.
        flags: &'a dyn Fn() -> ResponseFlags,
    },
}

/// What its response must know of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// The API that it calls.
    pub endpoint: Endpoint,
    /// Its `accept-language`, if that makes a difference.
    pub languages: Option<String>,
    /// The model that it names.
    pub model: Option<String>,
    /// How many answers its response holds.
    pub choices: u64,
    /// How many answers are made for them: more if the best of several is requested.
    pub answers: u64,
    /// Whether the filter asked for usage in the client's place, and must hide it.
    pub hides_usage: bool,
}

impl RequestFacts {
    /// The facts of a request to `endpoint` whose body was not read.
    pub const fn unread(endpoint: Endpoint, languages: Option<String>) -> Self {
        Self { endpoint, languages, model: None, choices: 1, answers: 1, hides_usage: false }
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
                arrival::begin(request, end_of_stream, cx)
            }

            (Self::AwaitBody(phase), Event::RequestBody { buffer, end_of_stream }) => {
                phase.read(buffer, end_of_stream, cx)
            }
            (Self::AwaitBody(phase), Event::Due) => Self::AwaitBody(phase.release_held_headers(cx)),
            // The upstream answered before it had the whole request, which it only can if the headers went first.
            (Self::AwaitBody(_), Event::ResponseHeaders { .. } | Event::StreamDone { .. }) => Self::Idle,

            (session @ (Self::AwaitStore(_) | Self::Waiting(_)), Event::RequestBody { .. }) => {
                cx.direct(Directive::Pause);
                session
            }
            (Self::AwaitStore(phase), Event::StoreAnswered(answer)) => phase.answered(answer, cx),
            (Self::AwaitStore(phase), Event::Due) => phase.expire(cx),
            (Self::AwaitStore(phase), Event::StreamDone { .. }) => phase.abandon(cx),
            (Self::Abandoned(reservation), Event::StoreAnswered(answer)) => {
                admission::undo(&reservation, &answer, cx);
                Self::Idle
            }

            (Self::Waiting(phase), Event::FirstInLine) => Self::Waiting(phase.first_in_line(cx.now)),
            (Self::Waiting(phase), Event::Due) => phase.retry(cx),
            (Self::Waiting(phase), Event::StreamDone { .. }) => {
                phase.leave(cx);
                Self::Idle
            }

            (Self::Forwarded(phase), Event::ResponseHeaders { response, end_of_stream }) => {
                phase.begin_response(response, end_of_stream, cx)
            }
            (Self::Forwarded(phase), Event::Due) => Self::Forwarded(phase.renew_leases(cx)),
            (Self::Forwarded(phase), Event::StreamDone { .. }) => {
                phase.settle_as_reserved(cx);
                Self::Idle
            }

            (Self::Responding(phase), Event::ResponseBody { buffer, end_of_stream }) => {
                phase.read(buffer, end_of_stream, cx)
            }
            (Self::Responding(phase), Event::ResponseTrailers) => phase.trailers(cx),
            (Self::Responding(phase), Event::LimitPassed) => Self::Responding(phase.limit_passed()),
            (Self::Responding(phase), Event::Due) => Self::Responding(phase.renew_leases(cx)),
            (Self::Responding(phase), Event::StreamDone { flags }) => {
                phase.settle(flags().ended_by(), cx);
                Self::Idle
            }

            (Self::Settled(phase), Event::ResponseBody { buffer, end_of_stream }) => {
                Self::Settled(phase.edit(buffer, end_of_stream, cx))
            }
            (Self::Settled(_), Event::StreamDone { .. }) => Self::Idle,

            (session, _) => session,
        }
    }

    /// When [`Event::Due`] is to happen to the request, if ever: the one deadline of its phase.
    pub fn due(&self) -> Option<Millis> {
        match self {
            Self::AwaitBody(phase) => phase.due(),
            Self::AwaitStore(phase) => phase.due(),
            Self::Waiting(phase) => Some(phase.due()),
            Self::Forwarded(phase) => phase.due(),
            Self::Responding(phase) => phase.due(),
            Self::Idle | Self::Abandoned(_) | Self::Settled(_) => None,
        }
    }

    /// Whether nothing is to be done about the rest of the request.
    pub const fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }
}
