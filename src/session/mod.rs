//! One request's way through the filter, as an enum of phases that are consumed by value: no phase can be entered
//! twice, and what a phase needs it carries.
//!
//! [`crate::worker`] drives it; `proxy.rs` translates Envoy's callbacks into calls of the worker.

pub mod headers_mode;
pub mod reservation;
pub mod waiting_room;

use crate::answer::{Headers, Reply};
use crate::codec::content_encoding::Decoder;
use crate::policy::Subject;
use crate::policy::status::LimitStatus;
use crate::request::{BodyEdit, Endpoint};
use crate::session::reservation::{OpenReservation, Reservation};
use crate::stream_edit::StreamEditor;
use crate::usage::ResponseReader;

/// Where a request stands. A request that is not limited, or is over, has no session.
#[derive(Debug)]
pub enum Session {
    /// Its headers are held back until its body has come.
    AwaitBody(Arrival),
    /// It is held back until the store has answered.
    AwaitStore(Pending),
    /// It did not fit, and is held back until it does.
    Waiting(Pending),
    /// It ended while the store was being asked; what the store charged must be undone.
    Abandoned(Reservation),
    /// It was forwarded, and its response has not begun.
    Forwarded(Forwarded),
    /// Its response is passing through.
    Responding(Responding),
    /// It is settled, and the rest of its response passes unread, or edited.
    Settled(Option<Box<StreamEditor>>),
}

/// A request whose headers were read.
#[derive(Debug)]
pub struct Arrival {
    /// Which API it calls.
    pub endpoint: Endpoint,
    /// The deployment that its path names.
    pub deployment: Option<String>,
    /// Whose it is, and what limits them.
    pub subject: Subject,
    /// Its `accept-language`, if that makes a difference.
    pub languages: Option<String>,
    /// When its headers came, in milliseconds.
    pub since_ms: u64,
    /// Whether its headers are still held back.
    pub headers_held: bool,
}

/// A request that waits for the store.
#[derive(Debug)]
pub struct Pending {
    /// What it is to be charged.
    pub bill: Reservation,
    /// What it asks for.
    pub asked: RequestFacts,
    /// When it first asked, in milliseconds.
    pub since_ms: u64,
    /// Whether it may be held back if it does not fit.
    pub may_wait: bool,
    /// Whether it has been held back.
    pub was_held: bool,
}

/// What a request asks for, as far as its response must be read by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// Which API it calls.
    pub endpoint: Endpoint,
    /// Its `accept-language`, if that makes a difference.
    pub languages: Option<String>,
    /// The model that it names.
    pub model: Option<String>,
    /// How many answers its response holds.
    pub choices: u64,
    /// How many answers are made for them: more if the best of several is asked for.
    pub answers: u64,
    /// Whether the filter asked for usage in the client's place, and must hide it.
    pub hides_usage: bool,
}

impl RequestFacts {
    /// What is known of a request to `endpoint` whose body was not read.
    pub const fn unread(endpoint: Endpoint, languages: Option<String>) -> Self {
        Self { endpoint, languages, model: None, choices: 1, answers: 1, hides_usage: false }
    }
}

/// A request that was forwarded.
#[derive(Debug)]
pub struct Forwarded {
    /// What it owes.
    pub account: OpenReservation,
    /// How its limits stand; empty if the store gave no answer.
    pub standings: Vec<LimitStatus>,
    /// The limit in a dry run that would have refused it.
    pub would_refuse: Option<String>,
    /// For how long it was held back, in milliseconds, if it was.
    pub waited_ms: Option<u64>,
    /// What it asked for.
    pub asked: RequestFacts,
}

/// A request whose response is passing through.
#[derive(Debug)]
pub struct Responding {
    /// What it owes.
    pub account: OpenReservation,
    /// What it asked for.
    pub asked: RequestFacts,
    /// Undoes the response's compression and looks for the usage in it. None if nothing in it can change what the
    /// request cost, or if it cannot be read; then only its end is waited for.
    pub reader: Option<(Decoder, ResponseReader)>,
    /// Output tokens from which on the store is told again what the request costs.
    pub tell_at: u64,
    /// Whether a limit was passed by what was told.
    pub is_over: bool,
    /// Changes the response on its way, if it is a stream that is to be changed.
    pub editor: Option<Box<StreamEditor>>,
}

impl Responding {
    /// About how many tokens of output have come.
    pub fn so_far(&self) -> u64 {
        self.reader.as_ref().map_or(0, |(_, reader)| reader.so_far())
    }
}

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Directive {
    /// Let it go on.
    Continue,
    /// Hold it back.
    Pause,
    /// Answer it here.
    Reply(Reply),
}

/// What to do with a request whose headers came.
#[derive(Debug, PartialEq, Eq)]
pub struct Opening {
    /// Whether it goes on.
    pub directive: Directive,
    /// What to change in its headers first.
    pub edits: HeaderEdits,
}

/// What to do with a request whose body, or a part of it, came.
#[derive(Debug, PartialEq, Eq)]
pub struct BodyVerdict {
    /// Whether it goes on.
    pub directive: Directive,
    /// What to change in its body, which is only asked while its headers are held back.
    pub body: Option<BodyEdit>,
    /// What to change in its headers.
    pub edits: HeaderEdits,
}

impl From<Directive> for Opening {
    fn from(directive: Directive) -> Self {
        Self { directive, edits: HeaderEdits::default() }
    }
}

impl From<Directive> for BodyVerdict {
    fn from(directive: Directive) -> Self {
        Self { directive, body: None, edits: HeaderEdits::default() }
    }
}

/// What the worker needs to know of a response's headers.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// HTTP status.
    pub status: u16,
    /// `content-type`, if there is one.
    pub content_type: Option<&'a str>,
    /// `content-encoding`, if there is one.
    pub content_encoding: Option<&'a str>,
}

/// What to change in headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Headers to remove first.
    pub remove: Vec<&'static str>,
    /// Headers to set.
    pub set: Headers,
}
