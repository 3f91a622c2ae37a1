//! From a request's headers to its being forwarded or refused: the part of the worker that decides.

use super::Worker;
use crate::access_log::Field;
use crate::account::{Account, Bill, Estimate, Held};
use crate::answer::{Dialect, Wording};
use crate::config::{AcceptEncoding, Messages, OnError, OutputMode, Store, StreamUsage};
use crate::content_encoding;
use crate::identity::{self, RequestView};
use crate::limits::Cost;
use crate::policy::{Access, Subject};
use crate::pricing::Tokens;
use crate::refusal::{OverLimit, Refusal};
use crate::request::{self, Body, Endpoint, Request};
use crate::session::{
    Arrival, Asked, BodyVerdict, Directive, Forwarded, HeaderEdits, Opening, Pending, Session,
};
use crate::stats::Stat;
use crate::store::batch::StoreAnswer;
use crate::store::local::{Hold, SharedData};
use crate::wire::{Charge, Reserve, WindowState};
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
                self.notes.add(stream, Field::Decision, "unknown_identity");
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
            let directive =
                self.decide(stream, &subject, Asked::unread(endpoint, languages), Estimate::REQUEST, now_ms);
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
        let narrows = self.config.accounting().accept_encoding == AcceptEncoding::Narrow;
        let asked =
            self.tokenizers.as_ref().filter(|_| narrows).and_then(|_| request.header("accept-encoding"));
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
        let estimate = self.estimate(&request);
        let with_usage =
            self.wants_usage(&arrival, &request).then(|| request::ask_for_usage(bytes)).flatten();
        let asked = Asked {
            endpoint: arrival.endpoint,
            languages: arrival.languages,
            choices: request.choices(),
            hides_usage: with_usage.is_some(),
            model: request.model.map(Cow::into_owned),
        };
        let directive = self.decide(stream, &arrival.subject, asked, estimate, now_ms);
        BodyVerdict { directive, body: with_usage }
    }

    /// What `request` is expected to cost.
    fn estimate(&self, request: &Request<'_>) -> Estimate {
        let Some(tokenizers) = &self.tokenizers else { return Estimate::REQUEST };
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
        let tokens = Tokens { input: request.input_tokens(&tokenizers.counter(model)), ..Tokens::default() };
        Estimate {
            tokens,
            base: self.cost(model, &tokens),
            full: self.cost(model, &Tokens { output, ..tokens }),
            is_guess: cap.is_none(),
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
        self.tokenizers.is_some()
            && self.config.accounting().stream_usage == StreamUsage::Inject
            && matches!(arrival.endpoint, Endpoint::ChatCompletions | Endpoint::Completions)
            && arrival.headers_held
            && request.stream
            && !request.include_usage
    }

    /// Reserves what the request is expected to cost, here or by asking.
    fn decide(
        &mut self,
        stream: u32,
        subject: &Subject,
        asked: Asked,
        estimate: Estimate,
        now_ms: u64,
    ) -> Directive {
        let bill = self.bill(subject, asked.model.as_deref(), estimate);
        if bill.charges.is_empty() {
            return Directive::Continue;
        }
        self.note_estimate(stream, &bill, &asked);
        let longest_ms = bill.longest_wait_ms();
        let pending = Pending { bill, asked, since_ms: now_ms, may_wait: longest_ms > 0 };
        let queue = pending.bill.queue();
        if pending.may_wait
            && self.waiting.has(queue)
            && self.waiting.enter(queue, stream, now_ms.saturating_add(longest_ms))
        {
            self.sessions.insert(stream, Session::Waiting(pending));
            return Directive::Pause;
        }
        self.ask(stream, pending, now_ms)
    }

    /// Asks the store, here or by way of the sidecar.
    pub(super) fn ask(&mut self, stream: u32, pending: Pending, now_ms: u64) -> Directive {
        match self.config.store() {
            Store::Local(_) => self.reserve_locally(stream, pending, 1, Held::Local, now_ms),
            Store::Redis(_) => {
                let reserve = Reserve { id: pending.bill.id.clone(), charges: pending.bill.charges.clone() };
                self.reserves.push(stream, reserve, now_ms);
                self.sessions.insert(stream, Session::AwaitStore(pending));
                self.wake = true;
                Directive::Pause
            }
        }
    }

    fn note_estimate(&mut self, stream: u32, bill: &Bill, asked: &Asked) {
        let name = bill.name.as_deref().map(|name| (Field::Name, name));
        let model = asked.model.as_deref().map(|model| (Field::Model, model));
        for (field, value) in name.into_iter().chain(model) {
            self.notes.add(stream, field, value);
        }
        if self.tokenizers.is_some() {
            self.notes.add(stream, Field::EstimatedInputTokens, bill.estimate.full.input_tokens);
            self.notes.add(stream, Field::ReservedOutputTokens, bill.estimate.full.output_tokens);
        }
    }

    fn bill(&mut self, subject: &Subject, model: Option<&str>, estimate: Estimate) -> Bill {
        let (seed, number) = self.next_id;
        self.next_id = (seed, number.wrapping_add(1));
        let limits = subject.limits(model).collect();
        Bill::new(format!("{seed:016x}-{number:x}"), subject.name(), limits, estimate)
    }

    fn reserve_locally(
        &mut self,
        stream: u32,
        pending: Pending,
        replicas: u64,
        held: impl FnOnce(Hold) -> Held,
        now_ms: u64,
    ) -> Directive {
        let Some(local) = &self.local else { return self.deny(stream, &pending, now_ms) };
        let share = pending.bill.share(replicas);
        match local.reserve(&share, now_ms) {
            Ok(decision) => {
                let held = decision.hold.map(held);
                self.decided(stream, pending, held, Some(&share), &decision.states, now_ms)
            }
            Err(error) => {
                log::error!("{error}");
                self.deny(stream, &pending, now_ms)
            }
        }
    }

    /// The store has decided; `held` says where the reservation is, if there is one, and `share` what was reserved
    /// instead of the whole bill. That is told to the client then: of its whole limits nothing is known.
    fn decided(
        &mut self,
        stream: u32,
        pending: Pending,
        held: Option<Held>,
        share: Option<&[Charge]>,
        states: &[WindowState],
        now_ms: u64,
    ) -> Directive {
        let reserved = share.unwrap_or(&pending.bill.charges);
        let standings = pending.bill.standings(reserved, states, false);
        let would_refuse = OverLimit::new(pending.bill.standings(reserved, states, true), None);
        let Some(held) = held else {
            return match OverLimit::new(standings, pending.bill.name.clone()) {
                Some(over) => self.wait_or_refuse(stream, pending, over, now_ms),
                None => self.refuse(&Refusal::NoStore, pending.asked.endpoint, None, now_ms),
            };
        };
        self.stats.add(Stat::Admitted, 1);
        self.notes.add(stream, Field::Decision, "admitted");
        let would_refuse = would_refuse.as_ref().and_then(OverLimit::by).map(|by| by.limit.name.clone());
        if let Some(limit) = &would_refuse {
            self.stats.add(Stat::DryRunOverLimit, 1);
            self.notes.add(stream, Field::DryRun, limit);
        }
        let waited_ms = self.leave_waiting(stream, &pending, now_ms);
        let Pending { bill, asked, .. } = pending;
        self.forward(
            stream,
            Forwarded {
                account: Account::open(bill, held, now_ms),
                standings,
                would_refuse,
                waited_ms,
                asked,
            },
        )
    }

    /// A request is over a limit: it waits if it fits soon enough and there is room, else it is refused.
    fn wait_or_refuse(&mut self, stream: u32, pending: Pending, over: OverLimit, now_ms: u64) -> Directive {
        let until_ms = pending.since_ms.saturating_add(Bill::max_wait_ms(over.standings()));
        let at_ms =
            over.retry_after_ms().map(|ms| now_ms.saturating_add(ms)).filter(|at_ms| *at_ms <= until_ms);
        if let (Some(at_ms), true) = (at_ms, pending.may_wait) {
            let queue = pending.bill.queue();
            if self.waiting.is_first(queue, stream) || self.waiting.enter(queue, stream, until_ms) {
                self.waiting.ask_again(queue, at_ms);
                self.sessions.insert(stream, Session::Waiting(pending));
                return Directive::Pause;
            }
        }
        self.leave_waiting(stream, &pending, now_ms);
        self.stats.add(Stat::OverLimit, 1);
        self.notes.add(stream, Field::Decision, "over_limit");
        if let Some(by) = over.by() {
            self.notes.add(stream, Field::Limit, &by.limit.name);
        }
        let Asked { endpoint, languages, .. } = &pending.asked;
        self.refuse(&Refusal::OverLimit(over), *endpoint, languages.as_deref(), now_ms)
    }

    /// The request waits no more. For how long it has, in milliseconds, if it did.
    fn leave_waiting(&mut self, stream: u32, pending: &Pending, now_ms: u64) -> Option<u64> {
        if !pending.may_wait && pending.bill.longest_wait_ms() == 0 {
            return None;
        }
        self.waiting.leave(pending.bill.queue(), stream);
        let waited_ms = now_ms.saturating_sub(pending.since_ms);
        (waited_ms > 0).then_some(waited_ms)
    }

    /// Asks again for those that wait and whose time has come.
    pub(super) fn call_waiting(&mut self, now_ms: u64) -> Vec<(u32, Directive)> {
        let mut directives = Vec::new();
        // Each that leaves makes way for the next.
        loop {
            let due = self.waiting.due(now_ms);
            if due.is_empty() {
                return directives;
            }
            for (stream, may_wait) in due {
                let directive = match self.sessions.remove(&stream) {
                    Some(Session::Waiting(pending)) => {
                        self.ask(stream, Pending { may_wait, ..pending }, now_ms)
                    }
                    Some(session) => {
                        self.sessions.insert(stream, session);
                        continue;
                    }
                    None => continue,
                };
                if directive != Directive::Pause {
                    directives.push((stream, directive));
                }
            }
        }
    }

    fn forward(&mut self, stream: u32, forwarded: Forwarded) -> Directive {
        self.sessions.insert(stream, Session::Forwarded(forwarded));
        Directive::Continue
    }

    fn refuse(
        &self,
        refusal: &Refusal,
        endpoint: Endpoint,
        languages: Option<&str>,
        now_ms: u64,
    ) -> Directive {
        let message = self.config.messages().map(|messages| messages.of(languages));
        let dialect = self.dialect(endpoint);
        Directive::Reply(refusal.reply(&Wording { message, dialect, now_ms }))
    }

    /// In whose terms a client of `endpoint` is told.
    pub(super) fn dialect(&self, endpoint: Endpoint) -> Dialect {
        Dialect { headers: self.config.headers(), endpoint }
    }

    /// What the store said about the reservation of `stream`.
    pub(super) fn answered(
        &mut self,
        stream: u32,
        answer: StoreAnswer,
        now_ms: u64,
    ) -> Option<(u32, Directive)> {
        let (admitted, states) = match answer {
            StoreAnswer::Decided { admitted, states } => (admitted, states),
            StoreAnswer::Unknown { why } => return self.unanswered(stream, &why, now_ms),
        };
        match self.sessions.remove(&stream)? {
            Session::AwaitStore(pending) => {
                let directive =
                    self.decided(stream, pending, admitted.then_some(Held::Redis), None, &states, now_ms);
                (directive != Directive::Pause).then_some((stream, directive))
            }
            Session::Abandoned(bill) => {
                if admitted {
                    self.send_settlement(bill.cancel());
                }
                None
            }
            session => {
                self.sessions.insert(stream, session);
                None
            }
        }
    }

    /// The store said nothing about the reservation of `stream`, which it may hold all the same.
    pub(super) fn unanswered(&mut self, stream: u32, why: &str, now_ms: u64) -> Option<(u32, Directive)> {
        self.stats.add(Stat::StoreErrors, 1);
        self.log_store_error(why, now_ms);
        let pending = match self.sessions.remove(&stream)? {
            Session::AwaitStore(pending) => pending,
            Session::Abandoned(bill) => {
                self.send_settlement(bill.cancel());
                return None;
            }
            session => {
                self.sessions.insert(stream, session);
                return None;
            }
        };
        let on_error = match self.config.store() {
            Store::Local(_) => OnError::Deny,
            Store::Redis(redis) => redis.on_error,
        };
        let directive = match on_error {
            OnError::Allow => {
                self.stats.add(Stat::StoreErrorsAllowed, 1);
                self.notes.add(stream, Field::Decision, "uncounted");
                let waited_ms = self.leave_waiting(stream, &pending, now_ms);
                let Pending { bill, asked, .. } = pending;
                let account = Account::open(bill, Held::Uncounted, now_ms);
                let standings = Vec::new();
                self.forward(stream, Forwarded { account, standings, would_refuse: None, waited_ms, asked })
            }
            OnError::Deny => self.deny(stream, &pending, now_ms),
            OnError::Local(share) => {
                let replicas = u64::from(share.replicas.get());
                let cancel = pending.bill.cancel();
                let directive = self.reserve_locally(stream, pending, replicas, Held::LocalInstead, now_ms);
                // A request that waits asks again under the same id.
                if matches!(directive, Directive::Reply(_)) {
                    self.send_settlement(cancel);
                }
                directive
            }
        };
        (directive != Directive::Pause).then_some((stream, directive))
    }

    fn deny(&mut self, stream: u32, pending: &Pending, now_ms: u64) -> Directive {
        self.leave_waiting(stream, pending, now_ms);
        self.stats.add(Stat::StoreErrorsDenied, 1);
        self.notes.add(stream, Field::Decision, "no_store");
        if matches!(self.config.store(), Store::Redis(_)) {
            self.send_settlement(pending.bill.cancel());
        }
        self.refuse(&Refusal::NoStore, pending.asked.endpoint, None, now_ms)
    }
}
