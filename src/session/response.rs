//! The response of a forwarded request: reads the real cost while the response passes, and settles the reservation, or
//! leaves it open if the cost is still to come ([`super::background`]).

use super::background;
use super::charged::Charged;
use super::context::Cx;
use super::effects::HeaderEdits;
use super::learning::{Lesson, Seen, learn_prompt};
use super::objection::Objection;
use super::reservation::{FinalCost, OpenReservation};
use super::unanswered::{is_unanswered, is_upstreams};
use super::{RequestFacts, Session};
use crate::answer;
use crate::codec::content_encoding::Decoder;
use crate::codec::media_type;
use crate::config::{Headers, OutputMode};
use crate::policy::limit::Cost;
use crate::policy::status::LimitStatus;
use crate::pricing::Tokens;
use crate::quantity::{Millis, Units};
use crate::request::BodyEdit;
use crate::store::local::SharedData;
use crate::stream_edit::EditedStream;
use crate::telemetry::Basis;
use crate::telemetry::access_log::Field;
use crate::usage::{EndedBy, Outcome, Reasoning, ResponseReader, ResponseState};

/// The status of an answer that is no error by its status.
const OK: u16 = 200;

/// The status of a refusal by a limit.
const TOO_MANY_REQUESTS: u16 = 429;

/// Output tokens between two extensions of a reservation that its stream has outgrown.
const EXTEND_STEP: u64 = 64;

/// The parts of a response that the filter reads.
pub trait ResponseView {
    /// The value of the response header `name`, which is in lower case.
    fn header(&self, name: &str) -> Option<String>;
    /// One of Envoy's attributes: the bytes of a text, or a number's eight, the lowest first. Each read costs as much
    /// as a header's, so only errors are worth it.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;
    /// The status, of a response of which nothing else may be read; 0 if there is none.
    fn status(&self) -> u16 {
        self.header(":status").and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

/// Who has refused the request with this `status`, if a limit has.
pub(super) fn refused_by(status: u16, response: &dyn ResponseView) -> Option<answer::Source> {
    let source = || if is_upstreams(response) { answer::Source::Upstream } else { answer::Source::Gateway };
    (status == TOO_MANY_REQUESTS).then(source)
}

/// Lets a response with this `status`, if it is a 429, say who has refused a request that has no reservation. Nobody
/// else says so.
pub(super) fn name_source<S: SharedData>(status: u16, response: &dyn ResponseView, cx: &mut Cx<'_, S>) {
    if cx.config.headers() != Headers::None {
        let HeaderEdits { set, remove } = &mut cx.effects.headers;
        match refused_by(status, response) {
            Some(source) => set.push(source.header()),
            None => remove.push(answer::SOURCE),
        }
    }
}

/// A request that was forwarded and has no response yet.
#[derive(Clone, Debug)]
pub struct Forwarded {
    pub(super) open: OpenReservation,
    /// The limits after the decision; empty if the store gave no answer.
    pub(super) statuses: Vec<LimitStatus>,
    /// The limit in a dry run that would have refused the request.
    pub(super) would_refuse: Option<String>,
    /// How long the request waited until it fitted, if it did.
    pub(super) waited: Option<Millis>,
    pub(super) facts: RequestFacts,
}

/// A request with a response that is passing through.
#[derive(Debug)]
pub struct Responding {
    open: OpenReservation,
    facts: RequestFacts,
    body: Body,
    lesson: Lesson,
    /// The output tokens at which the reservation is extended next, if the stream has outgrown it.
    extend_at: u64,
    /// Whether an extension passed a limit.
    is_over: bool,
}

/// A request that was settled before the end of its stream, which is edited.
#[derive(Debug)]
pub struct Settled {
    /// The editor of the rest of it.
    stream: Box<EditedStream>,
}

/// How the body of a response passes.
#[derive(Debug)]
enum Body {
    /// Unread: nothing in it can change the cost, or the filter cannot decode it.
    Passes,
    /// Unchanged, while the usage is read from a decoded copy.
    Read(Box<(Decoder, ResponseReader)>),
    /// As a stream that is both read and edited.
    Edited(Box<EditedStream>),
}

/// The response headers that the filter reads.
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
}

impl Head {
    pub(super) fn read(response: &dyn ResponseView) -> Self {
        Self {
            content_type: response.header("content-type"),
            content_encoding: response.header("content-encoding"),
            status: response.status(),
        }
    }
}

impl Forwarded {
    pub(super) fn due(&self) -> Option<Millis> {
        self.open.renew_at()
    }

    /// Notes that Redis has made the reservation after all.
    pub(super) fn counted(self) -> Self {
        Self { open: self.open.counted(), ..self }
    }

    /// Renews the request's leases.
    pub(super) fn renew_leases<S: SharedData>(mut self, cx: &mut Cx<'_, S>) -> Self {
        cx.extend(&mut self.open, &Cost::default());
        self
    }

    /// Settles a request that ended before its response began. Nobody knows what work the upstream has done.
    pub(super) fn settle_as_reserved<S: SharedData>(self, cx: &mut Cx<'_, S>) {
        cx.settle(self.open, &self.facts, Charged::AS_RESERVED);
    }

    /// Edits the response's headers and decides how the body passes. Settles at once if the body cannot change the
    /// cost.
    pub(super) fn begin_response<S: SharedData>(
        self,
        response: &dyn ResponseView,
        end_of_stream: bool,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let head = Head::read(response);
        if self.facts.asked.is_some()
            && !end_of_stream
            && let Some(decoder) = Objection::decoder(&head, response)
        {
            return Objection::hold(self, head.status, decoder, cx);
        }
        cx.effects.headers = self.header_edits(refused_by(head.status, response), cx);
        // An upgrade that the upstream accepts lives as long as the connection.
        let is_upgraded = head.status == 101;
        if !is_upgraded && !(200..300).contains(&head.status) {
            if is_unanswered(response) {
                cx.settle(self.open, &self.facts, Charged::AS_RESERVED);
                return Session::Idle;
            }
            return self.fail(head.status, cx);
        }
        let Self { open, facts, .. } = self;
        let body = if is_upgraded { Body::Passes } else { Body::new(&open, &facts, &head, cx) };
        if !body.is_read() && !open.has_leases() {
            cx.settle(open, &facts, Charged::AS_RESERVED);
            return Session::Idle;
        }
        let is_learned = cx.config.accounting().output_mode == OutputMode::Learned;
        // The median of a model that reasons completes answers that break off.
        let may_reason =
            || cx.may_hide_reasoning(facts.model(), open.estimate().wants.effort, Reasoning::Unknown);
        let is_learned = is_learned || may_reason();
        let lesson = Lesson::new(is_learned && body.is_read() && facts.endpoint.has_format());
        let responding = Responding { open, facts, body, lesson, extend_at: EXTEND_STEP, is_over: false };
        if end_of_stream {
            responding.settle(Seen::All, EndedBy::Upstream, cx);
            return Session::Idle;
        }
        Session::Responding(responding)
    }

    /// Settles a request that the upstream has answered with this status, an error.
    pub(super) fn fail<S: SharedData>(self, status: u16, cx: &mut Cx<'_, S>) -> Session {
        settle_as_failed(self.open, &self.facts, status, cx);
        Session::Idle
    }

    /// The headers that the client gets beside the upstream's, or in their place. A 429 says who has refused the
    /// request, and an upstream's own keeps what it says about the upstream's limits.
    pub(super) fn header_edits<S: SharedData>(
        &self,
        refused_by: Option<answer::Source>,
        cx: &Cx<'_, S>,
    ) -> HeaderEdits {
        let mut edits = HeaderEdits::default();
        if cx.config.headers() == Headers::None {
            return edits;
        }
        if !self.statuses.is_empty() && refused_by != Some(answer::Source::Upstream) {
            edits.remove = answer::replaced_headers();
            edits.set = cx.dialect(self.facts.endpoint).rate_limit_headers(&self.statuses, cx.now);
        } else if refused_by.is_none() {
            edits.remove.push(answer::SOURCE);
        }
        let waited = self.waited.map(|waited| ("x-ratelimit-waited-ms", waited.to_string()));
        let would_refuse = self.would_refuse.clone().map(|limit| ("x-ratelimit-dry-run", limit));
        edits.set.extend(waited.into_iter().chain(would_refuse));
        edits.set.extend(refused_by.map(answer::Source::header));
        edits
    }
}

impl Body {
    fn new<S: SharedData>(open: &OpenReservation, facts: &RequestFacts, head: &Head, cx: &Cx<'_, S>) -> Self {
        // Where only requests are limited, the body cannot change the cost, unless it says whose limits they are.
        let is_certain = facts.models.one().is_some();
        let spends_tokens = cx.shared.counts_tokens && facts.spends_tokens;
        if !spends_tokens && (is_certain || !open.depends_on_model()) {
            return Self::Passes;
        }
        // Of an unknown endpoint, only an answer of a kind that may report usage is read.
        let kind = head.content_type.as_deref();
        let may_report = |kind: &str| media_type::is_json(kind) || media_type::is_event_stream(kind);
        if !facts.endpoint.has_format() && !kind.is_none_or(may_report) {
            return Self::Passes;
        }
        let Some(decoder) = Decoder::of_response(head.content_encoding.as_deref()) else {
            return Self::Passes;
        };
        let choices = facts.choices;
        let tokenizer = cx.config.encodings().tokenizer(facts.model()).wanting(open.estimate().wants);
        let reader = ResponseReader::new(facts.endpoint, kind, choices, tokenizer);
        let reader = reader.looking_for_model(!is_certain).looking_for_state(facts.background);
        let edits = cx.stream_edits(facts.asked.is_some());
        let is_stream = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
        let is_plain = head.content_encoding.as_ref().is_none_or(|encoding| encoding == "identity");
        if edits.any() && is_stream && is_plain && facts.endpoint.has_format() {
            Self::Edited(Box::new(EditedStream::new(edits, reader)))
        } else {
            Self::Read(Box::new((decoder, reader)))
        }
    }

    const fn is_read(&self) -> bool {
        !matches!(self, Self::Passes)
    }

    /// Takes a chunk, and shows it, decoded, to `lesson`. Returns the bytes to send in its place, if the body is
    /// edited, and the outcome, once it is certain: at the end, while something else is not known.
    fn push(&mut self, chunk: &[u8], lesson: &mut Lesson) -> (Option<Vec<u8>>, Option<Outcome>) {
        match self {
            Self::Passes => (None, None),
            Self::Read(reading) => {
                let (decoder, reader) = &mut **reading;
                let mut outcome = None;
                decoder.push(chunk, |bytes| {
                    lesson.push(bytes);
                    outcome = outcome.or(reader.push(bytes));
                    outcome.is_some() && !reader.misses_something()
                });
                if decoder.fault().is_some() {
                    reader.skip_rest();
                }
                (None, outcome.filter(|_| !reader.misses_something()))
            }
            Self::Edited(stream) => {
                lesson.push(chunk);
                let (edited, outcome) = stream.push(chunk);
                (Some(edited), outcome.filter(|_| !stream.reader().misses_something()))
            }
        }
    }

    /// Ends the body, which `ended_by` ended. Returns the bytes that the editor has kept, and the outcome.
    fn finish(self, ended_by: EndedBy) -> (Vec<u8>, Outcome) {
        match self {
            Self::Passes => (Vec::new(), Outcome::Unknown),
            Self::Read(reading) => (Vec::new(), reading.1.finish(ended_by)),
            Self::Edited(stream) => stream.finish(ended_by),
        }
    }

    /// The state of a response that may go on in the background.
    fn state(&self) -> ResponseState {
        let state = match self {
            Self::Passes => None,
            Self::Read(reading) => reading.1.state(),
            Self::Edited(stream) => stream.reader().state(),
        };
        state.cloned().unwrap_or_default()
    }

    /// The model that it names, if that was looked for.
    fn model(&self) -> Option<&str> {
        match self {
            Self::Passes => None,
            Self::Read(reading) => reading.1.model(),
            Self::Edited(stream) => stream.reader().model(),
        }
    }
}

impl Responding {
    pub(super) fn due(&self) -> Option<Millis> {
        self.open.renew_at()
    }

    /// Whether a chunk of the body can change anything, before the last.
    pub(super) const fn is_read(&self) -> bool {
        self.body.is_read()
    }

    /// Notes that Redis has made the reservation after all.
    pub(super) fn counted(self) -> Self {
        Self { open: self.open.counted(), ..self }
    }

    /// Renews the request's leases.
    pub(super) fn renew_leases<S: SharedData>(mut self, cx: &mut Cx<'_, S>) -> Self {
        self.is_over |= cx.extend(&mut self.open, &Cost::default());
        self
    }

    /// Remembers that an extension took the reservation past a limit. The next chunk ends the stream, if the
    /// configuration says so.
    pub(super) fn limit_passed(self) -> Self {
        Self { is_over: true, ..self }
    }

    /// About how many output tokens have arrived.
    fn output_tokens(&self) -> u64 {
        match &self.body {
            Body::Passes => 0,
            Body::Read(reading) => reading.1.so_far(),
            Body::Edited(stream) => stream.so_far(),
        }
    }

    /// Reads and edits the next chunk, and settles as soon as the cost is certain.
    pub(super) fn read<S: SharedData>(
        mut self,
        buffer: &dyn Fn() -> Vec<u8>,
        end_of_stream: bool,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let chunk = &*if self.body.is_read() { buffer() } else { Vec::new() };
        let (mut edited, outcome) = self.body.push(chunk, &mut self.lesson);
        if end_of_stream {
            self.find_model(cx);
            let state = self.body.state();
            let (rest, outcome) = self.body.finish(EndedBy::Upstream);
            replace(chunk, edited.map(|edited| [edited, rest].concat()), cx);
            let ending = Ending { state, outcome, lesson: self.lesson, seen: Seen::All };
            settle(self.open, &self.facts, ending, cx);
            return Session::Idle;
        }
        if let Some(outcome) = outcome {
            replace(chunk, edited, cx);
            self.find_model(cx);
            let state = self.body.state();
            let ending = Ending { state, outcome, lesson: self.lesson, seen: Seen::Enough };
            settle(self.open, &self.facts, ending, cx);
            return match self.body {
                Body::Edited(stream) => Session::Settled(Settled { stream }),
                Body::Passes | Body::Read(_) => Session::Idle,
            };
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

    /// Extends the reservation of a stream that has outgrown it, so that limits count the stream while it runs.
    fn extend_if_outgrown<S: SharedData>(&mut self, cx: &mut Cx<'_, S>) {
        let output = self.output_tokens();
        // Where the format is unknown, only the usage in the end counts.
        if output < self.extend_at || !self.facts.endpoint.has_format() {
            return;
        }
        self.extend_at = output.saturating_add(EXTEND_STEP);
        // Nobody knows yet how much of it is reasoning, and what is no reasoning need not end a stream.
        let tokens = Tokens { output, may_reason: false, ..self.open.estimate().tokens };
        let cost = cx.cost(&self.facts.models, &tokens);
        if self.open.is_outgrown_by(&cost) {
            self.is_over |= cx.extend(&mut self.open, &cost);
        }
    }

    /// Settles at the trailers, which end the body. Nothing can be added to the body here.
    pub(super) fn trailers<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        self.settle(Seen::All, EndedBy::Upstream, cx);
        Session::Idle
    }

    /// Settles a response that its client or its upstream has left.
    pub(super) fn leave<S: SharedData>(self, ended_by: EndedBy, cx: &mut Cx<'_, S>) {
        self.settle(Seen::Part, ended_by, cx);
    }

    /// Settles to what the response has shown.
    fn settle<S: SharedData>(mut self, seen: Seen, ended_by: EndedBy, cx: &mut Cx<'_, S>) {
        self.find_model(cx);
        let state = self.body.state();
        let (_, outcome) = self.body.finish(ended_by);
        let ending = Ending { state, outcome, lesson: self.lesson, seen };
        settle(self.open, &self.facts, ending, cx);
    }

    /// If the answer names its model, the request was for no other.
    fn find_model<S: SharedData>(&mut self, cx: &mut Cx<'_, S>) {
        let Some(model) = self.body.model() else { return };
        if let Some(models) = self.facts.models.answered_by(model) {
            cx.log(Field::Model, model);
            self.open.is_for(&models);
            self.facts.models = models;
        }
    }
}

impl Settled {
    /// Edits the rest of the response.
    pub(super) fn edit<S: SharedData>(
        mut self,
        buffer: &dyn Fn() -> Vec<u8>,
        end_of_stream: bool,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let chunk = buffer();
        let (mut edited, _) = self.stream.push(&chunk);
        if end_of_stream {
            edited.extend(self.stream.finish(EndedBy::Upstream).0);
            replace(&chunk, Some(edited), cx);
            return Session::Idle;
        }
        replace(&chunk, Some(edited), cx);
        Session::Settled(self)
    }
}

/// Sends `edited` in place of `chunk`, if they differ.
fn replace<S>(chunk: &[u8], edited: Option<Vec<u8>>, cx: &mut Cx<'_, S>) {
    let changed = edited.filter(|edited| edited != chunk);
    cx.effects.body = changed.map(|with| BodyEdit { after: 0, replaced: chunk.len(), with });
}

/// What a response has shown when it is settled.
struct Ending {
    /// What it has said about itself, if it may go on in the background.
    state: ResponseState,
    outcome: Outcome,
    lesson: Lesson,
    /// How much of it has come.
    seen: Seen,
}

/// Settles to what a response has shown, and learns from it, or leaves the reservation open if the response goes on in
/// the background.
fn settle<S: SharedData>(
    open: OpenReservation,
    facts: &RequestFacts,
    Ending { state, outcome, lesson, seen }: Ending,
    cx: &mut Cx<'_, S>,
) {
    let model = facts.model();
    let models = &facts.models;
    if facts.background && background::may_go_on(&state, outcome) {
        background::leave_open(open, facts, &state, outcome, cx);
        return;
    }
    let has_format = facts.endpoint.has_format();
    let estimate = open.estimate().tokens;
    let charged = match outcome {
        Outcome::Reported(usage) => {
            if has_format {
                lesson.learn(facts, &usage, seen, cx);
                learn_prompt(&open.estimate(), facts, &usage, cx);
            }
            let cost = FinalCost::Cost(cx.cost(models, &usage.tokens(&estimate)));
            Charged { cost, basis: Basis::Reported, usage: Some(usage) }
        }
        // Without a format, nobody knows whether that text is an answer.
        Outcome::Counted { .. } if !has_format => Charged::AS_RESERVED,
        Outcome::Counted { usage, reasoning } => {
            let tokens = usage.tokens(&estimate);
            let least = cx.cost(models, &tokens);
            let cost = if cx.may_hide_reasoning(model, open.estimate().wants.effort, reasoning) {
                // The upstream may have made more than it has shown.
                let output = cx.median_output(model).saturating_mul(facts.answers);
                let likely = cx.cost(models, &Tokens { output, ..tokens });
                FinalCost::Between { least, likely }
            } else {
                FinalCost::Cost(least)
            };
            Charged { cost, basis: Basis::Counted, usage: Some(usage) }
        }
        Outcome::Failed => return settle_as_failed(open, facts, OK, cx),
        Outcome::Unknown => Charged::AS_RESERVED,
    };
    cx.settle(open, facts, charged);
}

/// Settles a request that the upstream answered with an error, with `status` or behind one of success. It did no work,
/// so its tokens are given back.
fn settle_as_failed<S: SharedData>(
    open: OpenReservation,
    facts: &RequestFacts,
    status: u16,
    cx: &mut Cx<'_, S>,
) {
    let keeps_request = !cx.config.accounting().refund_requests_on_error;
    let cost = Cost { requests: Units::new(u64::from(keeps_request)), ..Cost::default() };
    // Whoever invents keys must not use up what others may spend.
    let final_cost = match status {
        401 | 403 => FinalCost::OfSender(cost),
        _ => FinalCost::Cost(cost),
    };
    cx.settle(open, facts, Charged::failed(final_cost));
}

/// A copy of a response that passes and is read.
#[cfg(test)]
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(super) open: OpenReservation,
    facts: RequestFacts,
    reader: ResponseReader,
    lesson: Lesson,
    extend_at: u64,
    is_over: bool,
}

#[cfg(test)]
impl Responding {
    /// The response for a copy, if its body is read and not edited.
    pub(super) fn into_snapshot(self) -> Option<Snapshot> {
        let Self { open, facts, body: Body::Read(reading), lesson, extend_at, is_over } = self else {
            return None;
        };
        Some(Snapshot { open, facts, reader: reading.1, lesson, extend_at, is_over })
    }
}

#[cfg(test)]
impl Snapshot {
    /// The response, of which the rest comes without a content coding.
    pub(super) fn into_responding(self) -> Responding {
        let Self { open, facts, reader, lesson, extend_at, is_over } = self;
        let body = Body::Read(Box::new((Decoder::of_response(None).unwrap(), reader)));
        Responding { open, facts, body, lesson, extend_at, is_over }
    }
}
