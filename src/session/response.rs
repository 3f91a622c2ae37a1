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
use crate::stream_edit::StreamEditor;
use crate::usage::{Outcome, ResponseReader};

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
    /// Undoes the response's compression and reads the usage in it. None if nothing in it can change what the request
    /// costs, or if it cannot be decompressed; then only its end matters.
    reader: Option<(Decoder, ResponseReader)>,
    /// Output tokens from which on the store hears again what the request costs.
    extend_at: u64,
    /// Whether an extension passed a limit.
    is_over: bool,
    /// Changes the response on its way, if it is a stream that is to be changed.
    editor: Option<Box<StreamEditor>>,
}

/// A request that is settled while its response still passes.
#[derive(Debug)]
pub struct Settled {
    editor: Option<Box<StreamEditor>>,
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
            // The upstream did no work, so its tokens are given back.
            let keeps_request = !cx.config.accounting().refund_requests_on_error;
            let cost = Cost { requests: Units::new(u64::from(keeps_request)), ..Cost::default() };
            cx.settle(open, facts.model.as_deref(), FinalCost::Cost(cost));
            return Session::Settled(Settled { editor: None });
        }
        let editor = editor(&facts, &head, cx);
        let reader = reader(&facts, &head, cx);
        if reader.is_none() && !open.has_leases() {
            cx.settle(open, facts.model.as_deref(), FinalCost::AsReserved);
            return Session::Settled(Settled { editor });
        }
        let responding = Responding { open, facts, reader, extend_at: EXTEND_STEP, is_over: false, editor };
        if end_of_stream {
            responding.settle(cx);
            return Session::Settled(Settled { editor: None });
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

/// What reads the response; none if nothing in it can change what the request costs (only requests are limited), or if
/// it cannot be decompressed.
fn reader<S>(facts: &RequestFacts, head: &Head, cx: &Cx<'_, S>) -> Option<(Decoder, ResponseReader)> {
    if !cx.shared.counts_tokens {
        return None;
    }
    let tokenizer = cx.config.encodings().tokenizer(facts.model.as_deref());
    let decoder = Decoder::new(head.content_encoding.as_deref())?;
    let reader = ResponseReader::new(facts.endpoint, head.content_type.as_deref(), facts.choices, tokenizer);
    Some((decoder, reader))
}

/// What changes the response, if it is a stream that is to be changed and is not compressed.
fn editor<S: SharedData>(facts: &RequestFacts, head: &Head, cx: &Cx<'_, S>) -> Option<Box<StreamEditor>> {
    let edits = cx.stream_edits(facts.hides_usage);
    let is_stream = head.content_type.as_ref().is_some_and(|kind| kind.starts_with("text/event-stream"));
    let is_plain = head.content_encoding.as_ref().is_none_or(|encoding| encoding == "identity");
    (edits.any() && is_stream && is_plain).then(|| Box::new(StreamEditor::new(edits)))
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
        self.reader.as_ref().map_or(0, |(_, reader)| reader.so_far())
    }

    /// Reads the next part of the response, settles as soon as its cost is certain, and edits that part.
    pub(super) fn read<S: SharedData>(
        mut self,
        buffer: &dyn Fn() -> Vec<u8>,
        end_of_stream: bool,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let needs_chunk = self.reader.is_some() || self.editor.is_some();
        let chunk = &*if needs_chunk { buffer() } else { Vec::new() };
        let mut outcome = None;
        if let Some((decoder, reader)) = &mut self.reader {
            decoder.push(chunk, |bytes| {
                outcome = reader.push(bytes);
                outcome.is_some()
            });
        }
        let mut editor = self.editor.take();
        let edited = editor.as_mut().map(|editor| edited(editor, chunk, end_of_stream));
        if outcome.is_none() && !end_of_stream {
            self.extend_if_outgrown(cx);
            let end = self.is_over.then(|| editor.as_mut()?.cut(self.facts.choices, self.output_tokens()));
            replace(chunk, edited.map(|bytes| [bytes, end.flatten().unwrap_or_default()].concat()), cx);
            return Session::Responding(Self { editor, ..self });
        }
        replace(chunk, edited, cx);
        match outcome {
            Some(outcome) => settle(self.open, &self.facts, outcome, cx),
            None => self.settle(cx),
        }
        Session::Settled(Settled { editor })
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
        self.settle(cx);
        Session::Settled(Settled { editor: None })
    }

    /// The response is over: its cost is what was read in it.
    pub(super) fn settle<S: SharedData>(self, cx: &mut Cx<'_, S>) {
        let outcome = self.reader.map_or(Outcome::Unknown, |(_, reader)| reader.finish());
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
        if let Some(editor) = &mut self.editor {
            let chunk = buffer();
            let edited = edited(editor, &chunk, end_of_stream);
            replace(&chunk, Some(edited), cx);
        }
        self
    }
}

fn edited(editor: &mut StreamEditor, chunk: &[u8], end_of_stream: bool) -> Vec<u8> {
    let mut edited = editor.push(chunk);
    if end_of_stream {
        edited.extend(editor.finish());
    }
    edited
}

/// Sends `edited` in place of `chunk`, if that makes a difference.
fn replace<S>(chunk: &[u8], edited: Option<Vec<u8>>, cx: &mut Cx<'_, S>) {
    let changed = edited.filter(|edited| edited != chunk);
    cx.effects.body = changed.map(|with| BodyEdit { replaced: chunk.len(), with });
}

/// Settles to what a response was found to have used.
fn settle<S: SharedData>(open: OpenReservation, facts: &RequestFacts, outcome: Outcome, cx: &mut Cx<'_, S>) {
    let model = facts.model.as_deref();
    let final_cost = match outcome {
        Outcome::Reported(usage) => {
            cx.shared.learned.observe(model, usage.output_tokens / facts.answers.max(1));
            FinalCost::Cost(cx.cost(model, &usage.tokens()))
        }
        Outcome::Counted { output_tokens } => {
            let tokens = Tokens { output: output_tokens, ..open.estimate().tokens };
            FinalCost::Cost(cx.cost(model, &tokens))
        }
        Outcome::Unknown => FinalCost::AsReserved,
    };
    cx.settle(open, model, final_cost);
}
