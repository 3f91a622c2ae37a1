//! One worker of Envoy: its requests, its store, and what waits to be sent.
//!
//! Each method is one of Envoy's callbacks, with what it says as arguments and what to do as its result. Nothing here
//! calls Envoy, so all of it runs in native tests; time is an argument, in milliseconds since the epoch.

use crate::account::{Account, Bill, Closing, Estimate, Held, Output, Settlement};
use crate::answer::{self, Wording};
use crate::config::{Config, Headers, OnError, Store};
use crate::headers_mode::HeadersMode;
use crate::identity::{self, RequestView};
use crate::limits::Cost;
use crate::policy::{Access, Subject};
use crate::refusal::{OverLimit, Refusal, Standing};
use crate::request::{Body, Endpoint, Request};
use crate::session::{
    Arrival, Asked, Directive, Forwarded, HeaderEdits, Pending, Responding, ResponseHead, Session,
};
use crate::stats::{Stat, Stats};
use crate::store::batch::{Callout, Kind, ReserveQueue, SettleQueue, StoreAnswer};
use crate::store::local::{Hold, LocalStore, SharedData};
use crate::tokens::Tokenizers;
use crate::usage::{Outcome, ResponseReader};
use crate::wire::{Reserve, Settle, WindowState};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// At most one line a second says that the store does not answer.
const LOG_PERIOD_MS: u64 = 1_000;

/// A worker.
#[derive(Debug)]
pub struct Worker<S> {
    config: Arc<Config>,
    /// None if nobody's tokens are limited.
    tokenizers: Option<Tokenizers>,
    /// None if nothing is ever counted here.
    local: Option<LocalStore<S>>,
    reserves: ReserveQueue,
    settles: SettleQueue,
    sessions: HashMap<u32, Session>,
    headers_mode: HeadersMode,
    /// Prefix and number of the next reservation.
    next_id: (u64, u64),
    stats: Stats,
    /// Whether something was queued since [`Worker::take_wake`] was last asked.
    wake: bool,
    logged_ms: u64,
}

/// What a turn of the event loop brought: callouts to make, and requests to resume or answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// To send.
    pub callouts: Vec<Callout>,
    /// What to do with which stream.
    pub directives: Vec<(u32, Directive)>,
}

impl<S: SharedData> Worker<S> {
    /// A worker with `config`. `seed` is random, so that no two workers of a fleet make the same reservation id.
    /// Blocks until the vocabularies that the configuration can need are ready.
    pub fn new(config: Arc<Config>, data: S, seed: u64) -> Self {
        let timeout_ms = match config.store() {
            Store::Local(_) => 0,
            Store::Redis(redis) => u64::try_from(redis.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let local = config.store().local().map(|local| LocalStore::new(data, local.max_identities));
        if let Some(local) = &local {
            local.prepare();
        }
        Self {
            tokenizers: config.needs_tokens().then(|| Tokenizers::load(config.encodings().clone())),
            config,
            local,
            reserves: ReserveQueue::new(timeout_ms),
            settles: SettleQueue::default(),
            sessions: HashMap::new(),
            headers_mode: HeadersMode::default(),
            next_id: (seed, 0),
            stats: Stats::default(),
            wake: false,
            logged_ms: 0,
        }
    }

    /// What was counted since this was last asked.
    pub fn take_stats(&mut self) -> impl Iterator<Item = (Stat, u64)> {
        let dropped = self.settles.take_dropped();
        self.stats.add(Stat::SettlementsDropped, dropped);
        self.stats.take()
    }

    /// Whether [`Worker::turn`] has something to send that it had not when this was last asked.
    pub fn take_wake(&mut self) -> bool {
        std::mem::take(&mut self.wake)
    }

    /// Whether all that was to be sent has arrived.
    pub fn is_idle(&self) -> bool {
        self.settles.is_empty()
    }

    /// Whether anything is to be done about the rest of `stream`.
    pub fn knows(&self, stream: u32) -> bool {
        self.sessions.contains_key(&stream)
    }

    /// Whether [`Worker::response_body`] wants to see the response of `stream`.
    pub fn reads_response(&self, stream: u32) -> bool {
        matches!(self.sessions.get(&stream), Some(Session::Responding(_)))
    }

    /// A request's headers came.
    pub fn request_headers(
        &mut self,
        stream: u32,
        request: &impl RequestView,
        end_of_stream: bool,
        now_ms: u64,
    ) -> Directive {
        let path = request.header(":path").unwrap_or_default();
        let is_post = request.header(":method").as_deref() == Some("POST");
        let Some(endpoint) = Endpoint::from_path(&path).filter(|_| is_post) else {
            return Directive::Continue;
        };
        let identity = identity::find(self.config.sources(), request);
        let subject = match self.config.access(identity.as_ref()) {
            Access::Unlimited => return Directive::Continue,
            Access::Rejected => {
                self.stats.add(Stat::UnknownIdentity, 1);
                return self.refuse(&Refusal::UnknownIdentity);
            }
            Access::Limited(subject) => subject,
        };
        if end_of_stream || !subject.needs_body() {
            return self.decide(stream, &subject, Asked::UNREAD, Estimate::NOTHING, now_ms);
        }
        let headers_held = self.headers_mode.holds();
        let arrival = Arrival { headers_held, ..Arrival::new(endpoint, subject, now_ms) };
        self.sessions.insert(stream, Session::AwaitBody(arrival));
        if headers_held { Directive::Pause } else { Directive::Continue }
    }

    /// A part of a request's body came, or its end did, which `body` then reads whole.
    pub fn request_body(
        &mut self,
        stream: u32,
        end_of_stream: bool,
        body: impl FnOnce() -> Vec<u8>,
        now_ms: u64,
    ) -> Directive {
        match self.sessions.remove(&stream) {
            Some(Session::AwaitBody(arrival)) => {
                if arrival.headers_held {
                    self.headers_mode = self.headers_mode.body_came();
                }
                if end_of_stream {
                    self.read_and_decide(stream, arrival, &body(), now_ms)
                } else {
                    self.sessions.insert(stream, Session::AwaitBody(arrival));
                    Directive::Pause
                }
            }
            Some(session @ Session::AwaitStore(_)) => {
                self.sessions.insert(stream, session);
                Directive::Pause
            }
            Some(session) => {
                self.sessions.insert(stream, session);
                Directive::Continue
            }
            None => Directive::Continue,
        }
    }

    /// A response's headers came. `end_of_stream`: nothing follows.
    pub fn response_headers(
        &mut self,
        stream: u32,
        head: ResponseHead<'_>,
        end_of_stream: bool,
        now_ms: u64,
    ) -> HeaderEdits {
        let forwarded = match self.sessions.remove(&stream) {
            Some(Session::Forwarded(forwarded)) => forwarded,
            // An upstream that answers before it has the whole request, which it only can if the headers went first.
            Some(Session::AwaitBody(_)) | None => return HeaderEdits::default(),
            Some(session) => {
                self.sessions.insert(stream, session);
                return HeaderEdits::default();
            }
        };
        let edits = self.edits(&forwarded.standings);
        if !(200..300).contains(&head.status) {
            // The upstream did no work: its tokens are given back, the request is not.
            self.close(forwarded.account, Closing::Cost(Cost { requests: 1, ..Cost::default() }), now_ms);
            self.sessions.insert(stream, Session::Settled);
            return edits;
        }
        let Some(reader) = self.reader(&forwarded.asked, &head) else {
            self.close(forwarded.account, Closing::AsReserved, now_ms);
            self.sessions.insert(stream, Session::Settled);
            return edits;
        };
        let responding = Responding { account: forwarded.account, reader };
        if end_of_stream {
            self.finish(stream, responding, now_ms);
        } else {
            self.sessions.insert(stream, Session::Responding(responding));
        }
        edits
    }

    /// A part of a response's body passed.
    pub fn response_body(&mut self, stream: u32, chunk: &[u8], end_of_stream: bool, now_ms: u64) {
        match self.sessions.remove(&stream) {
            Some(Session::Responding(mut responding)) => {
                if let Some(outcome) = responding.reader.push(chunk) {
                    self.close_by(responding.account, outcome, now_ms);
                    self.sessions.insert(stream, Session::Settled);
                } else if end_of_stream {
                    self.finish(stream, responding, now_ms);
                } else {
                    self.sessions.insert(stream, Session::Responding(responding));
                }
            }
            Some(session) => {
                self.sessions.insert(stream, session);
            }
            None => {}
        }
    }

    /// A response's trailers came: its body is over.
    pub fn response_trailers(&mut self, stream: u32, now_ms: u64) {
        self.response_body(stream, &[], true, now_ms);
    }

    /// A stream is over, however it ended.
    pub fn stream_done(&mut self, stream: u32, now_ms: u64) {
        match self.sessions.remove(&stream) {
            Some(Session::AwaitStore(pending)) if !self.reserves.withdraw(stream) => {
                self.sessions.insert(stream, Session::Abandoned(pending.bill));
            }
            // Nobody waited for the response to begin, and nobody knows what the upstream has done by then.
            Some(Session::Forwarded(forwarded)) => self.close(forwarded.account, Closing::AsReserved, now_ms),
            Some(Session::Responding(responding)) => {
                self.finish(stream, responding, now_ms);
                self.sessions.remove(&stream);
            }
            // Its answer is still to come.
            Some(session @ Session::Abandoned(_)) => {
                self.sessions.insert(stream, session);
            }
            Some(Session::AwaitBody(_) | Session::AwaitStore(_) | Session::Settled) | None => {}
        }
    }

    /// Something was queued, or time has passed.
    pub fn turn(&mut self, now_ms: u64) -> Turn {
        let mut directives = Vec::new();
        for stream in self.reserves.expired(now_ms) {
            directives.extend(self.unanswered(stream, "it was not asked in time", now_ms));
        }
        directives.extend(self.let_headers_go(now_ms));
        let callouts =
            self.reserves.next_callout(now_ms).into_iter().chain(self.settles.next_callout(now_ms)).collect();
        Turn { callouts, directives }
    }

    /// A callout ended with the body of a 200, or without.
    pub fn callout_answered(&mut self, kind: Kind, answer: Result<&[u8], String>, now_ms: u64) -> Turn {
        let directives = match kind {
            Kind::Settle => {
                if let Some(why) = self.settles.answered(answer, now_ms) {
                    self.log_store_error(&why, now_ms);
                }
                Vec::new()
            }
            Kind::Reserve => {
                let answers = self.reserves.answered(answer);
                answers
                    .into_iter()
                    .filter_map(|(stream, answer)| self.answered(stream, answer, now_ms))
                    .collect()
            }
        };
        let turn = self.turn(now_ms);
        Turn { directives: directives.into_iter().chain(turn.directives).collect(), ..turn }
    }

    fn read_and_decide(&mut self, stream: u32, arrival: Arrival, body: &[u8], now_ms: u64) -> Directive {
        let body = Body::new(body);
        let request = Request::read(arrival.endpoint, &body);
        let input_tokens = self
            .tokenizers
            .as_ref()
            .map_or(0, |tokenizers| request.input_tokens(&tokenizers.counter(request.model.as_deref())));
        let output = match request.output_cap() {
            Some(tokens) => Output::Declared(tokens),
            None => Output::Guessed(self.config.default_output_tokens().saturating_mul(request.choices)),
        };
        let estimate = Estimate { input_tokens, output };
        let choices = request.choices;
        let asked = Asked { model: request.model.map(Cow::into_owned), choices };
        self.decide(stream, &arrival.subject, asked, estimate, now_ms)
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
        let pending = Pending { bill, asked };
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
        let Some(local) = &self.local else { return self.deny(&pending.bill) };
        match local.reserve(&pending.bill.share(replicas), now_ms) {
            Ok(decision) => self.decided(stream, pending, decision.hold.map(held), &decision.states),
            Err(error) => {
                log::error!("{error}");
                self.deny(&pending.bill)
            }
        }
    }

    /// The store has decided; `held` says where the reservation is, if there is one.
    fn decided(
        &mut self,
        stream: u32,
        pending: Pending,
        held: Option<Held>,
        states: &[WindowState],
    ) -> Directive {
        let Pending { bill, asked } = pending;
        let standings = bill.standings(states);
        match held {
            Some(held) => {
                self.stats.add(Stat::Admitted, 1);
                self.forward(stream, Forwarded { account: Account::open(bill, held), standings, asked })
            }
            None => {
                self.stats.add(Stat::OverLimit, 1);
                match OverLimit::new(standings, bill.name) {
                    Some(over) => self.refuse(&Refusal::OverLimit(over)),
                    None => self.refuse(&Refusal::NoStore),
                }
            }
        }
    }

    fn forward(&mut self, stream: u32, forwarded: Forwarded) -> Directive {
        self.sessions.insert(stream, Session::Forwarded(forwarded));
        Directive::Continue
    }

    fn refuse(&self, refusal: &Refusal) -> Directive {
        Directive::Reply(refusal.reply(&self.wording()))
    }

    fn wording(&self) -> Wording<'_> {
        Wording { message: self.config.rejection_message(), headers: self.config.headers() }
    }

    /// What the store said about the reservation of `stream`.
    fn answered(&mut self, stream: u32, answer: StoreAnswer, now_ms: u64) -> Option<(u32, Directive)> {
        let (admitted, states) = match answer {
            StoreAnswer::Decided { admitted, states } => (admitted, states),
            StoreAnswer::Unknown { why } => return self.unanswered(stream, &why, now_ms),
        };
        match self.sessions.remove(&stream)? {
            Session::AwaitStore(pending) => {
                let directive = self.decided(stream, pending, admitted.then_some(Held::Redis), &states);
                Some((stream, directive))
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
    fn unanswered(&mut self, stream: u32, why: &str, now_ms: u64) -> Option<(u32, Directive)> {
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
                let Pending { bill, asked } = pending;
                let account = Account::open(bill, Held::Uncounted);
                self.forward(stream, Forwarded { account, standings: Vec::new(), asked })
            }
            OnError::Deny => self.deny(&pending.bill),
            OnError::Local(share) => {
                let replicas = u64::from(share.replicas.get());
                let cancel = pending.bill.cancel();
                let directive = self.reserve_locally(stream, pending, replicas, Held::LocalInstead, now_ms);
                if directive != Directive::Continue {
                    self.send_settlement(cancel);
                }
                directive
            }
        };
        Some((stream, directive))
    }

    fn deny(&mut self, bill: &Bill) -> Directive {
        self.stats.add(Stat::StoreErrorsDenied, 1);
        if matches!(self.config.store(), Store::Redis(_)) {
            self.send_settlement(bill.cancel());
        }
        self.refuse(&Refusal::NoStore)
    }

    /// Headers that were held too long for a body that never came go on.
    fn let_headers_go(&mut self, now_ms: u64) -> Vec<(u32, Directive)> {
        let mode = self.headers_mode;
        let mut gone = Vec::new();
        for (stream, session) in &mut self.sessions {
            if let Session::AwaitBody(arrival) = session
                && arrival.headers_held
                && mode.gives_up(arrival.since_ms, now_ms)
            {
                arrival.headers_held = false;
                gone.push((*stream, Directive::Continue));
            }
        }
        for _ in &gone {
            self.headers_mode = self.headers_mode.gave_up();
        }
        gone
    }

    fn edits(&self, standings: &[Standing]) -> HeaderEdits {
        if standings.is_empty() || self.config.headers() == Headers::None {
            return HeaderEdits::default();
        }
        HeaderEdits {
            remove: answer::replaced_headers().collect(),
            set: answer::rate_limit_headers(standings),
        }
    }

    /// What reads the response; none if nothing in it can change what the request cost (only requests are limited),
    /// or if it is compressed.
    fn reader(&self, asked: &Asked, head: &ResponseHead<'_>) -> Option<ResponseReader> {
        let is_plain = head.content_encoding.is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
        let counter = self.tokenizers.as_ref().filter(|_| is_plain)?.counter(asked.model.as_deref());
        Some(ResponseReader::new(head.content_type, asked.choices, counter))
    }

    /// The response is over: what it cost is what was read in it.
    fn finish(&mut self, stream: u32, responding: Responding, now_ms: u64) {
        let Responding { account, reader } = responding;
        self.close_by(account, reader.finish(), now_ms);
        self.sessions.insert(stream, Session::Settled);
    }

    fn close_by(&mut self, account: Account, outcome: Outcome, now_ms: u64) {
        let cost =
            |input_tokens, output_tokens| Closing::Cost(Cost { requests: 1, input_tokens, output_tokens });
        let closing = match outcome {
            Outcome::Reported(usage) => cost(usage.input_tokens, usage.output_tokens),
            Outcome::Counted { output_tokens } => cost(account.estimate().input_tokens, output_tokens),
            Outcome::Unknown => Closing::AsReserved,
        };
        self.close(account, closing, now_ms);
    }

    fn close(&mut self, account: Account, closing: Closing, now_ms: u64) {
        let cost = closing.cost(&account);
        self.stats.add(Stat::Settled, 1);
        self.stats.add(Stat::InputTokens, cost.input_tokens);
        self.stats.add(Stat::OutputTokens, cost.output_tokens);
        let Settlement { local, remote } = account.close(closing);
        if let Some((charges, hold)) = local
            && let Some(store) = &self.local
            && let Err(error) = store.settle(&charges, hold, now_ms)
        {
            log::error!("{error}");
        }
        if let Some(settle) = remote {
            self.send_settlement(settle);
        }
    }

    fn send_settlement(&mut self, settle: Settle) {
        self.settles.push(settle);
        self.wake = true;
    }

    fn log_store_error(&mut self, why: &str, now_ms: u64) {
        if now_ms >= self.logged_ms.saturating_add(LOG_PERIOD_MS) {
            self.logged_ms = now_ms;
            log::warn!("the store did not answer: {why}");
        }
    }
}

#[cfg(test)]
mod tests;
