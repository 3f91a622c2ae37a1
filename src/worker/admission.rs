//! From a request's headers to its bill: the part of the worker that reads what a request asks for.

use super::Worker;
use crate::answer::refusal::Refusal;
use crate::codec::content_encoding;
use crate::config::{AcceptEncoding, Messages, OutputMode, StreamUsage};
use crate::identity::{self, RequestView};
use crate::policy::limit::{Cost, Metric};
use crate::policy::{Access, Subject};
use crate::pricing::Tokens;
use crate::request::{self, Body, Endpoint, Request};
use crate::session::reservation::{Estimate, Reservation};
use crate::session::{Arrival, BodyVerdict, Directive, HeaderEdits, Opening, Pending, RequestFacts, Session};
use crate::store::local::SharedData;
use crate::telemetry::access_log::Field;
use crate::telemetry::stats::Stat;
use crate::tokens::Meter;
use std::borrow::Cow;

impl<S: SharedData> Worker<S> {
    /// A request's headers came.
    pub fn request_headers(
        &mut self,
        stream: u32,
        request: &impl RequestView,
        end_of_stream: bool,
        now_ms: u64,
    ) -> Opening {
        let path = request.header(":path").unwrap_or_default();
        let is_post = request.header(":method").as_deref() == Some("POST");
        let Some(endpoint) = Endpoint::from_path(&path).filter(|_| is_post) else {
            return Directive::Continue.into();
        };
        let identity = identity::find(self.config.sources(), request);
        let subject = match self.config.access(identity.as_ref()) {
            Access::Unlimited => return Directive::Continue.into(),
            Access::Rejected => {
                self.stats.add(Stat::UnknownIdentity, 1);
                self.note(stream, Field::Decision, "unknown_identity");
                if self.config.dry_run() {
                    return Directive::Continue.into();
                }
                return self.refuse(&Refusal::UnknownIdentity, endpoint, None, now_ms).into();
            }
            Access::Limited(subject) => subject,
        };
        let edits = self.narrow_accept_encoding(request);
        let speaks = self.config.messages().is_some_and(Messages::differ);
        let languages = speaks.then(|| request.header("accept-language")).flatten();
        if end_of_stream || !subject.needs_body() {
            let directive = self.decide(
                stream,
                &subject,
                RequestFacts::unread(endpoint, languages),
                Estimate::REQUEST,
                now_ms,
            );
            return Opening { directive, edits };
        }
        let headers_held = self.headers_mode.holds();
        let deployment = request::deployment(&path);
        let arrival = Arrival { endpoint, deployment, subject, languages, since_ms: now_ms, headers_held };
        self.sessions.insert(stream, Session::AwaitBody(arrival));
        Opening { directive: if headers_held { Directive::Pause } else { Directive::Continue }, edits }
    }

    /// Leaves in `accept-encoding` what the response can be read in, if it must be.
    fn narrow_accept_encoding(&self, request: &impl RequestView) -> HeaderEdits {
        let narrows =
            self.counts_tokens && self.config.accounting().accept_encoding == AcceptEncoding::Narrow;
        let asked = if narrows { request.header("accept-encoding") } else { None };
        let narrowed = asked.and_then(|asked| content_encoding::narrowed(&asked));
        HeaderEdits {
            set: narrowed.map(|encodings| ("accept-encoding", encodings)).into_iter().collect(),
            ..HeaderEdits::default()
        }
    }

    /// A part of a request's body came, or its end did, which `body` then reads whole.
    pub fn request_body(
        &mut self,
        stream: u32,
        end_of_stream: bool,
        body: impl FnOnce() -> Vec<u8>,
        now_ms: u64,
    ) -> BodyVerdict {
        match self.sessions.remove(&stream) {
            Some(Session::AwaitBody(arrival)) => {
                if arrival.headers_held {
                    self.headers_mode = self.headers_mode.body_came();
                }
                if end_of_stream {
                    return self.read_and_decide(stream, arrival, &body(), now_ms);
                }
                self.sessions.insert(stream, Session::AwaitBody(arrival));
                Directive::Pause.into()
            }
            Some(session @ (Session::AwaitStore(_) | Session::Waiting(_))) => {
                self.sessions.insert(stream, session);
                Directive::Pause.into()
            }
            Some(session) => {
                self.sessions.insert(stream, session);
                Directive::Continue.into()
            }
            None => Directive::Continue.into(),
        }
    }

    fn read_and_decide(&mut self, stream: u32, arrival: Arrival, bytes: &[u8], now_ms: u64) -> BodyVerdict {
        let body = Body::new(bytes);
        let request = Request::read(arrival.endpoint, &body).to_deployment(arrival.deployment.as_deref());
        let estimate = self.estimate(&request, &arrival.subject);
        let headers_held = arrival.headers_held;
        let is_stream = request.stream;
        let body_edit = self
            .wants_usage(&arrival, &request)
            .then(|| request::ask_for_usage(bytes, request.has_stream_options))
            .flatten();
        let asked = RequestFacts {
            endpoint: arrival.endpoint,
            languages: arrival.languages,
            choices: request.choices(),
            answers: request.answers(),
            hides_usage: body_edit.is_some(),
            model: request.model.map(Cow::into_owned),
        };
        let mut edits = HeaderEdits::default();
        if headers_held && is_stream && self.edits_of_streams(&asked).any() {
            // What is compressed cannot be changed.
            edits.set.push(("accept-encoding", "identity".to_owned()));
        }
        let directive = self.decide(stream, &arrival.subject, asked, estimate, now_ms);
        BodyVerdict { directive, body: body_edit, edits }
    }

    /// What `request` of `subject` is expected to cost.
    fn estimate(&self, request: &Request<'_>, subject: &Subject) -> Estimate {
        if !self.counts_tokens {
            return Estimate::REQUEST;
        }
        let accounting = self.config.accounting();
        let model = request.model.as_deref();
        let default = accounting.default_output_tokens;
        let guess = || match accounting.output_mode {
            OutputMode::Declared => default,
            OutputMode::Learned => self.learned.expect(model, default),
            OutputMode::None => 0,
        };
        let cap = request.output_cap().filter(|_| accounting.output_mode != OutputMode::None);
        let output = cap.unwrap_or_else(|| guess().saturating_mul(request.answers()));
        let most = most_input(subject, model);
        let weighed =
            |input| accounting.weights.weigh(model, &Tokens { input, ..Tokens::default() }).input_tokens;
        let is_enough = |input| most.is_some_and(|most| weighed(input) > most);
        let meter = Meter::new(self.config.encodings().tokenizer(model), &is_enough);
        let tokens = Tokens { input: request.input_tokens(&meter), ..Tokens::default() };
        Estimate {
            tokens,
            base: self.cost(model, &tokens),
            full: self.cost(model, &Tokens { output, ..tokens }),
            is_guess: cap.is_none(),
            is_partial: meter.has_stopped(),
        }
    }

    /// What a request for `model` costs that uses `tokens`.
    pub(super) fn cost(&self, model: Option<&str>, tokens: &Tokens) -> Cost {
        let weighed = self.config.accounting().weights.weigh(model, tokens);
        Cost {
            requests: 1,
            input_tokens: weighed.input_tokens,
            output_tokens: weighed.output_tokens,
            cost_micro_usd: self.config.price(model).map_or(0, |price| price.cost_micro_usd(tokens)),
        }
    }

    /// Whether to ask for a stream's usage in the client's place.
    fn wants_usage(&self, arrival: &Arrival, request: &Request<'_>) -> bool {
        self.counts_tokens
            && self.config.accounting().stream_usage == StreamUsage::Inject
            && matches!(arrival.endpoint, Endpoint::ChatCompletions | Endpoint::Completions)
            && arrival.headers_held
            && request.stream
            && request.is_json
            && !request.include_usage
    }

    /// Reserves what the request is expected to cost, here or by asking.
    fn decide(
        &mut self,
        stream: u32,
        subject: &Subject,
        asked: RequestFacts,
        estimate: Estimate,
        now_ms: u64,
    ) -> Directive {
        let bill = self.bill(subject, asked.model.as_deref(), estimate);
        if bill.charges.is_empty() {
            return Directive::Continue;
        }
        self.note_estimate(stream, &bill, &asked);
        self.tell_unpriced(&bill, asked.model.as_deref());
        let longest_ms = bill.longest_wait_ms();
        let pending = Pending { bill, asked, since_ms: now_ms, may_wait: longest_ms > 0, was_held: false };
        let queue = pending.bill.queue();
        if pending.may_wait
            && self.waiting.has(queue)
            && self.waiting.enter(queue, stream, now_ms.saturating_add(longest_ms))
        {
            self.sessions.insert(stream, Session::Waiting(Pending { was_held: true, ..pending }));
            return Directive::Pause;
        }
        self.ask(stream, pending, now_ms)
    }

    /// Says once that a budget does not hold for `model`, because the configuration has no price for it.
    fn tell_unpriced(&mut self, bill: &Reservation, model: Option<&str>) {
        let has_budget = bill.limits.iter().any(|applied| applied.limit.metric == Metric::CostUsd);
        if has_budget && self.config.price(model).is_none() && self.unpriced.is_news(model) {
            let model = model.unwrap_or("none");
            log::warn!(
                "prices: there is none for model {model:?}, so its requests cost nothing under limits on cost_usd"
            );
        }
    }

    fn note_estimate(&mut self, stream: u32, bill: &Reservation, asked: &RequestFacts) {
        let name = bill.name.as_deref().map(|name| (Field::Name, name));
        let model = asked.model.as_deref().map(|model| (Field::Model, model));
        for (field, value) in name.into_iter().chain(model) {
            self.note(stream, field, value);
        }
        if self.counts_tokens {
            self.note(stream, Field::EstimatedInputTokens, bill.estimate.full.input_tokens);
            self.note(stream, Field::ReservedOutputTokens, bill.estimate.full.output_tokens);
        }
    }

    fn bill(&mut self, subject: &Subject, model: Option<&str>, estimate: Estimate) -> Reservation {
        let (seed, number) = self.next_id;
        self.next_id = (seed, number.wrapping_add(1));
        let limits = subject.limits(model).collect();
        Reservation::new(format!("{seed:016x}-{number:x}"), subject.name(), limits, estimate)
    }
}

/// The most tokens of input that a request of `subject` for `model` is ever admitted with; none if nothing bounds them.
fn most_input(subject: &Subject, model: Option<&str>) -> Option<u64> {
    let bounds = subject.limits(model).filter(|applied| {
        !applied.dry_run && matches!(applied.limit.metric, Metric::InputTokens | Metric::TotalTokens)
    });
    bounds.map(|applied| applied.limit.window.capacity(applied.limit.amount)).min()
}
