//! From a request's being forwarded to the end of its response: the real cost is read, and settled.

use super::context::Cx;
use super::effects::HeaderEdits;
use super::reservation::{FinalCost, OpenReservation};
use super::{RequestFacts, Session};
use crate::answer;
use crate::codec::content_encoding::Decoder;
use crate::config::Headers;
use crate::policy::limit::Cost;
use crate::policy::status::LimitStatus;
use crate::pricing::Tokens;
use crate::quantity::{Millis, Units};
use crate::request::BodyEdit;
use crate::store::local::SharedData;
use crate::stream_edit::EditedStream;
use crate::usage::{EndedBy, Outcome, ResponseReader};

/// Output tokens after which the store hears again what a stream costs that outgrew its reservation.
const EXTEND_STEP: u64 = 64;

/// What the filter can see of a response.
pub trait ResponseView {
    /// The value of the response header `name`, which is in lower case.
    fn header(&self, name: &str) -> Option<String>;
}

/// A request that was forwarded.
#[derive(Debug)]
pub struct Forwarded {
    pub(super) open: OpenReservation,
    /// Its limits after the decision; empty if the store gave no answer.
    pub(super) statuses: Vec<LimitStatus>,
    /// The limit in a dry run that would have refused it.
    pub(super) would_refuse: Option<String>,
    /// How long it was held back, if it was.
    pub(super) waited: Option<Millis>,
    pub(super) facts: RequestFacts,
}

/// A request whose response is passing through.
#[derive(Debug)]
pub struct Responding {
    open: OpenReservation,
    facts: RequestFacts,
    body: Body,
    /// Output tokens from which on the store hears again what the request costs.
    extend_at: u64,
    /// Whether an extension passed a limit.
    is_over: bool,
}

/// A request that is settled while its response still passes.
#[derive(Debug)]
pub struct Settled {
    /// The rest of the response, if it is edited.
    stream: Option<Box<EditedStream>>,
}

/// What happens to the body of a response.
#[derive(Debug)]
enum Body {
    /// It passes unread: nothing in it can change what the request costs, or it cannot be decompressed.
    Passes,
    /// It passes, and the usage is read out of a decompressed copy.
    Read(Box<(Decoder, ResponseReader)>),
    /// It is a stream that is read and edited on its way.
    Edited(Box<EditedStream>),
}

/// The response headers that the filter reads.
struct Head {
    status: u16,
    content_type: Option<String>,
    content_encoding: Option<String>,
}

impl Head {
    fn read(response: &dyn ResponseView) -> Self {
        Self {
            status: response.header(":status").and_then(|status| status.parse().ok()).unwrap_or(0),
            content_type: response.header("content-type"),
            content_encoding: response.header("content-encoding"),
        }
    }
}

impl Forwarded {
    pub(super) fn due(&self) -> Option<Millis> {
        self.open.renew_at()
    }

    /// Renews the slots that the request holds.
    pub(super) fn renew_leases<S: SharedData>(mut self, cx: &mut Cx<'_, S>) -> Self {
        cx.extend(&mut self.open, &Cost::default());
        self
    }

    /// The stream ended before the response began. Nobody knows what the upstream has done by then.
    pub(super) fn settle_as_reserved<S: SharedData>(self, cx: &mut Cx<'_, S>) {
        cx.settle(self.open, self.facts.model.as_deref(), FinalCost::AsReserved);
    }

    /// The response's headers came.
    pub(super) fn begin_response<S: SharedData>(
        self,
        response: &dyn ResponseView,
        end_of_stream: bool,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        cx.effects.headers = self.header_edits(cx);
        let head = Head::read(response);
        let Self { open, facts, .. } = self;
        if !(200..300).contains(&head.status) {
            settle_as_failed(open, &facts, cx);
            return Session::Settled(Settled { stream: None });
        }
        let body = Body::new(&facts, &head, cx);
        if !body.is_read() && !open.has_leases() {
            cx.settle(open, facts.model.as_deref(), FinalCost::AsReserved);
            return Session::Settled(Settled { stream: None });
        }
        let responding = Responding { open, facts, body, extend_at: EXTEND_STEP, is_over: false };
        if end_of_stream {
            responding.settle(EndedBy::Upstream, cx);
            return Session::Settled(Settled { stream: None });
        }
        Session::Responding(responding)
    }

    fn header_edits<S: SharedData>(&self, cx: &Cx<'_, S>) -> HeaderEdits {
        let mut edits = HeaderEdits::default();
        if cx.config.headers() == Headers::None {
            return edits;
        }
        if !self.statuses.is_empty() {
            edits.remove = answer::replaced_headers().collect();
            edits.set = cx.dialect(self.facts.endpoint).rate_limit_headers(&self.statuses, cx.now.get());
        }
        let waited = self.waited.map(|waited| ("x-ratelimit-waited-ms", waited.to_string()));
        let would_refuse = self.would_refuse.clone().map(|limit| ("x-ratelimit-dry-run", limit));
        edits.set.extend(waited.into_iter().chain(would_refuse));
        edits
    }
}

impl Body {
    fn new<S: SharedData>(facts: &RequestFacts, head: &Head, cx: &Cx<'_, S>) -> Self {
        // Where only requests are limited, the body cannot change the cost.
        if !cx.shared.counts_tokens {
            return Self::Passes;
        }
        let Some(decoder) = Decoder::new(head.content_encoding.as_deref()) else { return Self::Passes };
        let (kind, choices) = (head.content_type.as_deref(), facts.choices);
        let tokenizer = cx.config.encodings().tokenizer(facts.model.as_deref());
        let reader = ResponseReader::new(facts.endpoint, kind, choices, tokenizer);
        let edits = cx.stream_edits(facts.hides_usage);
        let is_stream = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        let is_plain = head.content_encoding.as_ref().is_none_or(|encoding| encoding == "identity");
        if edits.any() && is_stream && is_plain {
            Self::Edited(Box::new(EditedStream::new(edits, reader)))
        } else {
            Self::Read(Box::new((decoder, reader)))
        }
    }

    const fn is_read(&self) -> bool {
        !matches!(self, Self::Passes)
    }

    /// Takes a chunk; returns the bytes to send in its place, if it is edited, and the outcome when it is certain.
    fn push(&mut self, chunk: &[u8]) -> (Option<Vec<u8>>, Option<Outcome>) {
        match self {
            Self::Passes => (None, None),
            Self::Read(reading) => {
                let (decoder, reader) = &mut **reading;
                let mut outcome = None;
                decoder.push(chunk, |bytes| {
                    outcome = reader.push(bytes);
                    outcome.is_some()
                });
                if decoder.is_broken() {
                    reader.skip_rest();
                }
                (None, outcome)
            }
            Self::Edited(stream) => {
                let (edited, outcome) = stream.push(chunk);
                (Some(edited), outcome)
            }
        }
    }

    /// The body was ended by `ended_by`: returns the bytes that still wait, and the outcome.
    fn finish(self, ended_by: EndedBy) -> (Vec<u8>, Outcome) {
        match self {
            Self::Passes => (Vec::new(), Outcome::Unknown),
            Self::Read(reading) => (Vec::new(), reading.1.finish(ended_by)),
            Self::Edited(stream) => stream.finish(ended_by),
        }
    }
}

impl Responding {
    pub(super) fn due(&self) -> Option<Millis> {
        self.open.renew_at()
    }

    /// Renews the slots that the request holds.
    pub(super) fn renew_leases<S: SharedData>(mut self, cx: &mut Cx<'_, S>) -> Self {
        self.is_over |= cx.extend(&mut self.open, &Cost::default());
        self
    }

    /// An extension took the reservation past a limit: the stream may have to end.
    pub(super) fn limit_passed(self) -> Self {
        Self { is_over: true, ..self }
    }

    /// About how many tokens of output have come.
    fn output_tokens(&self) -> u64 {
        match &self.body {
            Body::Passes => 0,
            Body::Read(reading) => reading.1.so_far(),
            Body::Edited(stream) => stream.so_far(),
        }
    }

    /// Reads the next part of the response, settles as soon as its cost is certain, and edits that part.
    pub(super) fn read<S: SharedData>(
        mut self,
        buffer: &dyn Fn() -> Vec<u8>,
        end_of_stream: bool,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let chunk = &*if self.body.is_read() { buffer() } else { Vec::new() };
        let (mut edited, outcome) = self.body.push(chunk);
        if end_of_stream {
            let (rest, outcome) = self.body.finish(EndedBy::Upstream);
            replace(chunk, edited.map(|edited| [edited, rest].concat()), cx);
            settle(self.open, &self.facts, outcome, cx);
            return Session::Settled(Settled { stream: None });
        }
        if let Some(outcome) = outcome {
            replace(chunk, edited, cx);
            settle(self.open, &self.facts, outcome, cx);
            let stream = if let Body::Edited(stream) = self.body { Some(stream) } else { None };
            return Session::Settled(Settled { stream });
        }
        self.extend_if_outgrown(cx);
        if self.is_over
            && let Body::Edited(stream) = &mut self.body
        {
            edited.get_or_insert_default().extend(stream.cut(self.facts.choices).unwrap_or_default());
        }
        replace(chunk, edited, cx);
        Session::Responding(self)
    }

    /// Lets the store, and so others, see the spend of a stream that has outgrown its reservation while it happens.
    fn extend_if_outgrown<S: SharedData>(&mut self, cx: &mut Cx<'_, S>) {
        let output = self.output_tokens();
        if output < self.extend_at {
            return;
        }
        self.extend_at = output.saturating_add(EXTEND_STEP);
        let tokens = Tokens { output, ..self.open.estimate().tokens };
        let cost = cx.cost(self.facts.model.as_deref(), &tokens);
        if self.open.is_outgrown_by(&cost) {
            self.is_over |= cx.extend(&mut self.open, &cost);
        }
    }

    /// The trailers came, so that the body is over. Nothing can be added to it any more.
    pub(super) fn trailers<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        self.settle(EndedBy::Upstream, cx);
        Session::Settled(Settled { stream: None })
    }

    /// The response is over: its cost is what was read in it.
    pub(super) fn settle<S: SharedData>(self, ended_by: EndedBy, cx: &mut Cx<'_, S>) {
        let (_, outcome) = self.body.finish(ended_by);
        settle(self.open, &self.facts, outcome, cx);
    }
}

impl Settled {
    /// The rest of a response passes, edited if it is a stream that is to be changed.
    pub(super) fn edit<S: SharedData>(
        mut self,
        buffer: &dyn Fn() -> Vec<u8>,
        end_of_stream: bool,
        cx: &mut Cx<'_, S>,
    ) -> Self {
        if let Some(mut stream) = self.stream.take() {
            let chunk = buffer();
            let (mut edited, _) = stream.push(&chunk);
            if end_of_stream {
                edited.extend(stream.finish(EndedBy::Upstream).0);
            } else {
                self.stream = Some(stream);
            }
            replace(&chunk, Some(edited), cx);
        }
        self
    }
}

/// Sends `edited` in place of `chunk`, if that makes a difference.
fn replace<S>(chunk: &[u8], edited: Option<Vec<u8>>, cx: &mut Cx<'_, S>) {
    let changed = edited.filter(|edited| edited != chunk);
    cx.effects.body = changed.map(|with| BodyEdit { replaced: chunk.len(), with });
}

/// Settles to what a response was found to have used.
fn settle<S: SharedData>(open: OpenReservation, facts: &RequestFacts, outcome: Outcome, cx: &mut Cx<'_, S>) {
    let model = facts.model.as_deref();
    let estimate = open.estimate().tokens;
    let final_cost = match outcome {
        Outcome::Reported(usage) => {
            let reasons = usage.reasoning_tokens.is_some_and(|tokens| tokens > 0);
            cx.shared.learned.observe(model, usage.output_tokens / facts.answers.max(1), reasons);
            FinalCost::Cost(cx.cost(model, &usage.tokens(&estimate)))
        }
        Outcome::Counted { usage, shows_reasoning } => {
            let tokens = usage.tokens(&estimate);
            let least = cx.cost(model, &tokens);
            if shows_reasoning || cx.reasons(model) {
                // The upstream may have made more than it has shown.
                let output = cx.median_output(model).saturating_mul(facts.answers);
                let likely = cx.cost(model, &Tokens { output, ..tokens });
                FinalCost::Between { least, likely }
            } else {
                FinalCost::Cost(least)
            }
        }
        Outcome::Failed => return settle_as_failed(open, facts, cx),
        Outcome::Unknown => FinalCost::AsReserved,
    };
    cx.settle(open, model, final_cost);
}

/// Settles a request that the upstream answered with an error. It did no work, so its tokens are given back.
fn settle_as_failed<S: SharedData>(open: OpenReservation, facts: &RequestFacts, cx: &mut Cx<'_, S>) {
    let keeps_request = !cx.config.accounting().refund_requests_on_error;
    let cost = Cost { requests: Units::new(u64::from(keeps_request)), ..Cost::default() };
    cx.settle(open, facts.model.as_deref(), FinalCost::Cost(cost));
}
