//! A large body that is read and counted in steps, between which the worker serves other requests.
//!
//! The body has arrived and waits in Envoy; each step reads a piece of it. What is found, charged and refused is the
//! same as for a small body ([`super::arrival`]), however the work is cut. A client that leaves ends the session, and
//! with it all that the session holds. The bodies of one worker that are read hold [`MAX_HELD`](super::held::MAX_HELD)
//! bytes together; whoever comes beyond that has not begun, and waits for its turn.

use super::Session;
use super::arrival::{AwaitBody, found_form, found_uncoded};
use super::context::Cx;
use super::effects::Directive;
use super::estimate;
use super::fall_back::other_models;
use super::held::{Place, Share};
use super::incoming::{Buffer, Decoding, Incoming};
use crate::answer::refusal::BadBody;
use crate::codec::content_encoding::Bounds;
use crate::policy::Candidates;
use crate::request::steps::{Counting, PIECE, Read, Reading as Body, STEP_WORK};
use crate::request::{Request, TextTokens};
use crate::store::local::SharedData;
use crate::tokens::Tokenizer;
use std::iter;
use std::ops::ControlFlow;

/// Bytes of memory for each byte of a body that is read: its text, its texts without escapes, and their places.
const MEMORY: u64 = 4;

/// The size to assume of a body in a content coding, in sizes of the coded body.
const DECODED: u64 = 8;

/// The largest body that is gone through at once where that is seldom needed: to change a member that the client has
/// set, or to look for the fields of a form in JSON.
pub(super) const MAX_AT_ONCE: usize = 1 << 20;

/// A request with a large body that has arrived.
#[derive(Debug)]
pub struct Reading {
    /// The request, which has the size of the body as it was sent.
    arrival: AwaitBody,
    stage: Stage,
    /// The memory that it holds; none until it may begin.
    share: Option<Share>,
    /// Its place among those that wait for memory.
    place: Option<Place>,
}

#[derive(Debug)]
enum Stage {
    /// The body is read, decoded if it is coded.
    Body(Source, Box<Body>),
    /// The body is read as it was sent, since an upstream may do that.
    AsSent { read: usize, body: Box<Body>, why: Why },
    /// The texts are counted.
    Counting { outcome: Box<Outcome>, counts: Vec<Counting> },
}

/// Where a body's bytes come from.
#[derive(Debug)]
enum Source {
    /// From Envoy, from this byte on.
    Plain(usize),
    Coded(Decoding),
}

/// Why a body is read as it was sent.
#[derive(Debug)]
enum Why {
    /// This is in it if it is decoded.
    Coded(Box<Read>),
    /// Nobody can tell what it says; its size, if that is known.
    Bad(BadBody, Option<u64>),
}

/// What a body says.
#[derive(Debug)]
enum Outcome {
    Read {
        read: Read,
        is_coded: bool,
    },
    /// Nobody can tell, but an upstream may read it as this.
    Unread {
        bad: BadBody,
        size: Option<u64>,
        read: Option<Read>,
    },
}

/// What a step leads to: another stage, or the next phase.
type Next = ControlFlow<Session, (AwaitBody, Stage)>;

impl Reading {
    /// Begins to read a body of `arrival` that has arrived.
    pub(super) fn begin<S: SharedData>(
        arrival: AwaitBody,
        incoming: Incoming,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let size = arrival.size;
        let body = || Box::new(Body::new(arrival.endpoint, size));
        let stage = match incoming {
            Incoming::Plain => Stage::Body(Source::Plain(0), body()),
            Incoming::Coded(codings, decoding) => {
                let decoding = decoding.unwrap_or_else(|| Decoding::new(&codings, &cx.shared.reading));
                Stage::Body(Source::Coded(decoding), body())
            }
            Incoming::Bad(bad) => {
                let size = matches!(bad, BadBody::Unreadable(_)).then_some(size as u64);
                Stage::AsSent { read: 0, body: body(), why: Why::Bad(bad, size) }
            }
        };
        cx.direct(Directive::Pause);
        Session::Reading(Box::new(Self { arrival, stage, share: None, place: None }))
    }

    /// Does a part of the work. Does none if there is no memory for it yet.
    pub(super) fn step<S: SharedData>(
        mut self: Box<Self>,
        buffer: &Buffer<'_>,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let claim = self.claim();
        let Some(mut share) = self.share.take().or_else(|| cx.shared.reading.claim(claim, &mut self.place))
        else {
            return Session::Reading(self);
        };
        let Self { arrival, stage, .. } = *self;
        let next = match stage {
            Stage::Body(source, body) => step_body(arrival, source, body, buffer, cx),
            Stage::AsSent { read, body, why } => step_as_sent(arrival, read, body, why, buffer, cx),
            Stage::Counting { outcome, counts } => step_counting(arrival, outcome, counts, cx),
        };
        // Whatever a step does, it is not for nothing: another may have its turn.
        cx.effects.work = cx.effects.work.max(1);
        match next {
            ControlFlow::Continue((arrival, stage)) => {
                share.set(claim.max(stage.held()));
                Session::Reading(Box::new(Self { arrival, stage, share: Some(share), place: None }))
            }
            ControlFlow::Break(session) => session,
        }
    }

    /// The memory that it will need.
    fn claim(&self) -> u64 {
        let size = self.arrival.size as u64;
        let decoded = match &self.stage {
            Stage::Body(Source::Coded(_), _) => size.saturating_mul(DECODED).min(Bounds::REQUEST.most()),
            _ => size,
        };
        decoded.max(size).saturating_mul(MEMORY)
    }
}

impl Stage {
    /// About how many bytes of memory it takes.
    fn held(&self) -> u64 {
        let of_source = |source: &Source| match source {
            Source::Plain(_) => 0,
            Source::Coded(decoding) => decoding.held(),
        };
        match self {
            Self::Body(source, body) => of_source(source).saturating_add(body.held()),
            Self::AsSent { body, why: Why::Coded(read), .. } => body.held().saturating_add(read.texts.held()),
            Self::AsSent { body, why: Why::Bad(..), .. } => body.held(),
            Self::Counting { outcome, .. } => outcome.read().map_or(0, |read| read.texts.held()),
        }
    }
}

impl Outcome {
    const fn read(&self) -> Option<&Read> {
        match self {
            Self::Read { read, .. } => Some(read),
            Self::Unread { read, .. } => read.as_ref(),
        }
    }

    /// The models that its text is counted for.
    fn models(&self, arrival: &AwaitBody) -> Candidates {
        match self {
            Self::Read { read, .. } => arrival.models_of(&read.request),
            Self::Unread { read: Some(read), .. } => {
                estimate::models_of(&read.request, &arrival.unread_models())
            }
            Self::Unread { read: None, .. } => arrival.unread_models(),
        }
    }
}

fn step_body<S: SharedData>(
    arrival: AwaitBody,
    mut source: Source,
    mut body: Box<Body>,
    buffer: &Buffer<'_>,
    cx: &mut Cx<'_, S>,
) -> Next {
    if body.is_read() {
        return after_body(arrival, body.into_read(), matches!(source, Source::Coded(_)), cx);
    }
    let worked =
        if body.wants_bytes() { feed(&mut source, &mut body, buffer, arrival.size) } else { Ok(body.step()) };
    match worked {
        Ok(work) => {
            cx.effects.work = work;
            ControlFlow::Continue((arrival, Stage::Body(source, body)))
        }
        Err(bad) if arrival.refuses(&bad, cx) => ControlFlow::Break(Session::Idle),
        Err(bad) => as_sent(arrival, Why::Bad(bad, None)),
    }
}

/// Gives the body its next bytes, or its end. Returns the work that this was.
fn feed(source: &mut Source, body: &mut Body, buffer: &Buffer<'_>, size: usize) -> Result<u64, BadBody> {
    match source {
        Source::Plain(read) => Ok(feed_plain(read, body, buffer, size)),
        Source::Coded(decoding) => {
            if let Some(piece) = decoding.take(PIECE) {
                return Ok(body.push(piece));
            }
            if decoding.is_over() {
                body.finish();
                return Ok(1);
            }
            decoding.step(buffer, size)
        }
    }
}

fn feed_plain(read: &mut usize, body: &mut Body, buffer: &Buffer<'_>, size: usize) -> u64 {
    let piece =
        if body.is_hopeless() { Vec::new() } else { buffer(*read..size.min(read.saturating_add(PIECE))) };
    if piece.is_empty() {
        body.finish();
        return 1;
    }
    *read = read.saturating_add(piece.len());
    body.push(&piece)
}

/// Reads the body as it was sent.
fn as_sent(arrival: AwaitBody, why: Why) -> Next {
    let body = Box::new(Body::new(arrival.endpoint, arrival.size));
    ControlFlow::Continue((arrival, Stage::AsSent { read: 0, body, why }))
}

fn after_body<S: SharedData>(arrival: AwaitBody, read: Read, is_coded: bool, cx: &mut Cx<'_, S>) -> Next {
    let size = Some(read.request.size().max(arrival.size as u64));
    if let Some(fault) = read.request.fault.clone() {
        let bad = BadBody::Unreadable(fault);
        if arrival.refuses(&bad, cx) {
            return ControlFlow::Break(Session::Idle);
        }
        if is_coded {
            return as_sent(arrival, Why::Bad(bad, size));
        }
        return count(arrival, Outcome::Unread { bad, size, read: None }, cx);
    }
    if may_be_form(&arrival, &read) {
        let bad = BadBody::Unreadable(found_form());
        if arrival.refuses(&bad, cx) {
            return ControlFlow::Break(Session::Idle);
        }
        return count(arrival, Outcome::Unread { bad, size, read: Some(read) }, cx);
    }
    if is_coded {
        return as_sent(arrival, Why::Coded(Box::new(read)));
    }
    count(arrival, Outcome::Read { read, is_coded }, cx)
}

/// Whether a request in JSON is, or may be, one in a form too. A form is not looked through if it is not the text that
/// was read, or very large.
fn may_be_form(arrival: &AwaitBody, read: &Read) -> bool {
    let text = read.texts.body();
    let is_looked_through = read.request.is_plain() && text.len() <= MAX_AT_ONCE;
    arrival.says_form() && (!is_looked_through || arrival.is_form_too(text.as_bytes()))
}

fn step_as_sent<S: SharedData>(
    arrival: AwaitBody,
    mut read: usize,
    mut body: Box<Body>,
    why: Why,
    buffer: &Buffer<'_>,
    cx: &mut Cx<'_, S>,
) -> Next {
    if !body.is_read() {
        cx.effects.work = if body.wants_bytes() {
            feed_plain(&mut read, &mut body, buffer, arrival.size)
        } else {
            body.step()
        };
        return ControlFlow::Continue((arrival, Stage::AsSent { read, body, why }));
    }
    let as_sent = body.into_read();
    match why {
        Why::Coded(read) if as_sent.request.has_content() => {
            let bad = BadBody::Unreadable(found_uncoded());
            if arrival.refuses(&bad, cx) {
                return ControlFlow::Break(Session::Idle);
            }
            let size = Some(read.request.size().max(arrival.size as u64));
            count(arrival, Outcome::Unread { bad, size, read: Some(as_sent) }, cx)
        }
        Why::Coded(read) => count(arrival, Outcome::Read { read: *read, is_coded: true }, cx),
        Why::Bad(bad, size) => {
            let read = Some(as_sent).filter(|read| read.request.fault.is_none());
            count(arrival, Outcome::Unread { bad, size, read }, cx)
        }
    }
}

/// Begins to count.
fn count<S: SharedData>(arrival: AwaitBody, outcome: Outcome, cx: &mut Cx<'_, S>) -> Next {
    let models = outcome.models(&arrival);
    let mut tokenizers =
        if outcome.read().is_some() { estimate::tokenizers(&models, cx) } else { Vec::new() };
    let others = other_models(&arrival.subject, &models, cx);
    for other in others.iter().flat_map(|other| estimate::tokenizers(other, cx)) {
        match tokenizers.iter_mut().find(|known| known.has_vocabulary_of(&other)) {
            // What either of them weighs counts.
            Some(known) => *known = known.for_either(other),
            None => tokenizers.push(other),
        }
    }
    let counts = tokenizers.into_iter().map(Counting::new).collect();
    ControlFlow::Continue((arrival, Stage::Counting { outcome: Box::new(outcome), counts }))
}

fn step_counting<S: SharedData>(
    arrival: AwaitBody,
    outcome: Box<Outcome>,
    mut counts: Vec<Counting>,
    cx: &mut Cx<'_, S>,
) -> Next {
    if let Some(read) = outcome.read()
        && let Some(counting) = counts.iter_mut().find(|counting| !counting.is_done())
    {
        let models = outcome.models(&arrival);
        let all = iter::once(models.clone()).chain(other_models(&arrival.subject, &models, cx));
        let all: Vec<_> = all.collect();
        let is_enough = |tokens| {
            let mut each = all.iter().map(|models| estimate::is_enough(models, &arrival.subject, cx));
            each.all(|is_enough| is_enough(tokens))
        };
        let work = counting.step(&read.texts, STEP_WORK, is_enough);
        cx.effects.work = work;
        return ControlFlow::Continue((arrival, Stage::Counting { outcome, counts }));
    }
    let counted = |request: &Request<'_>, tokenizer: Tokenizer| {
        let of_vocabulary = |counting: &&Counting| counting.tokenizer().has_vocabulary_of(&tokenizer);
        let counting = counts.iter().find(of_vocabulary);
        // A token has a byte at least.
        let unknown = (TextTokens::plain(request.size()), false);
        counting.map_or(unknown, |count| (count.tokens(), count.has_stopped()))
    };
    ControlFlow::Break(match *outcome {
        Outcome::Read { read: Read { request, texts }, is_coded } => {
            let bytes = (!is_coded).then(|| texts.body().as_bytes());
            arrival.admit_read(&request, &|tokenizer, _| counted(&request, tokenizer), bytes, cx)
        }
        Outcome::Unread { bad, size, read } => match read {
            Some(Read { request, .. }) => {
                let count = |tokenizer, _: &dyn Fn(u64) -> bool| counted(&request, tokenizer);
                arrival.admit_unread(&bad, size, Some((&request, &count)), cx)
            }
            None => arrival.admit_unread(&bad, size, None, cx),
        },
    })
}
