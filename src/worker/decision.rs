//! From the store's answer to a request's being forwarded, held or refused: the part of the worker that decides.

use super::Worker;
use crate::answer::refusal::{OverLimit, Refusal};
use crate::answer::{Dialect, Wording};
use crate::config::{OnError, Store};
use crate::request::Endpoint;
use crate::session::reservation::{HeldIn, OpenReservation, Reservation};
use crate::session::{Directive, Forwarded, Pending, RequestFacts, Session};
use crate::store::local::{Receipt, SharedData};
use crate::store::sidecar::StoreAnswer;
use crate::store::wire::{Charge, Reserve, WindowState};
use crate::telemetry::access_log::Field;
use crate::telemetry::stats::Stat;

impl<S: SharedData> Worker<S> {
    /// Asks the store, here or by way of the sidecar.
    pub(super) fn ask(&mut self, stream: u32, pending: Pending, now_ms: u64) -> Directive {
        match self.config.store() {
            Store::Local(_) => self.reserve_locally(stream, pending, 1, HeldIn::Local, now_ms),
            Store::Redis(_) => {
                let reserve = Reserve { id: pending.bill.id.clone(), charges: pending.bill.charges.clone() };
                self.reserves.push(stream, reserve, now_ms);
                self.sessions.insert(stream, Session::AwaitStore(pending));
                self.wake = true;
                Directive::Pause
            }
        }
    }

    fn reserve_locally(
        &mut self,
        stream: u32,
        pending: Pending,
        replicas: u64,
        held: impl FnOnce(Receipt) -> HeldIn,
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
        held: Option<HeldIn>,
        share: Option<&[Charge]>,
        states: &[WindowState],
        now_ms: u64,
    ) -> Directive {
        let reserved = share.unwrap_or(&pending.bill.charges);
        let standings = pending.bill.standings(reserved, states, false);
        let would_refuse = OverLimit::new(pending.bill.standings(reserved, states, true), None);
        let Some(held) = held else {
            let is_partial = pending.bill.estimate.is_partial;
            return match OverLimit::new(standings, pending.bill.name.clone()) {
                Some(over) => {
                    self.wait_or_refuse(stream, pending, over.with_partial_prompt(is_partial), now_ms)
                }
                None => self.refuse(&Refusal::NoStore, pending.asked.endpoint, None, now_ms),
            };
        };
        self.stats.add(Stat::Admitted, 1);
        self.note(stream, Field::Decision, "admitted");
        let would_refuse = would_refuse.as_ref().and_then(OverLimit::by).map(|by| by.limit.name.clone());
        if let Some(limit) = &would_refuse {
            self.stats.add(Stat::DryRunOverLimit, 1);
            self.note(stream, Field::DryRun, limit);
        }
        let waited_ms = self.leave_waiting(stream, &pending, now_ms);
        let Pending { bill, asked, .. } = pending;
        self.forward(
            stream,
            Forwarded {
                account: OpenReservation::open(bill, held, now_ms),
                standings,
                would_refuse,
                waited_ms,
                asked,
            },
        )
    }

    /// A request is over a limit: it waits if it fits soon enough and there is room, else it is refused.
    fn wait_or_refuse(&mut self, stream: u32, pending: Pending, over: OverLimit, now_ms: u64) -> Directive {
        let until_ms = pending.since_ms.saturating_add(Reservation::max_wait_ms(over.standings()));
        let at_ms =
            over.retry_after_ms().map(|ms| now_ms.saturating_add(ms)).filter(|at_ms| *at_ms <= until_ms);
        if let (Some(at_ms), true) = (at_ms, pending.may_wait) {
            let queue = pending.bill.queue();
            if self.waiting.is_first(queue, stream) || self.waiting.enter(queue, stream, until_ms) {
                self.waiting.ask_again(queue, at_ms);
                self.sessions.insert(stream, Session::Waiting(Pending { was_held: true, ..pending }));
                return Directive::Pause;
            }
        }
        self.leave_waiting(stream, &pending, now_ms);
        self.stats.add(Stat::OverLimit, 1);
        self.note(stream, Field::Decision, "over_limit");
        if let Some(by) = over.by() {
            self.note(stream, Field::Limit, &by.limit.name);
        }
        let RequestFacts { endpoint, languages, .. } = &pending.asked;
        self.refuse(&Refusal::OverLimit(over), *endpoint, languages.as_deref(), now_ms)
    }

    /// The request waits no more. For how long it has, in milliseconds, if it did.
    fn leave_waiting(&mut self, stream: u32, pending: &Pending, now_ms: u64) -> Option<u64> {
        if !pending.was_held {
            return None;
        }
        self.waiting.leave(pending.bill.queue(), stream);
        Some(now_ms.saturating_sub(pending.since_ms))
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

    pub(super) fn refuse(
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
                    self.decided(stream, pending, admitted.then_some(HeldIn::Redis), None, &states, now_ms);
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
                self.note(stream, Field::Decision, "uncounted");
                let waited_ms = self.leave_waiting(stream, &pending, now_ms);
                let Pending { bill, asked, .. } = pending;
                let account = OpenReservation::open(bill, HeldIn::Uncounted, now_ms);
                let standings = Vec::new();
                self.forward(stream, Forwarded { account, standings, would_refuse: None, waited_ms, asked })
            }
            OnError::Deny => self.deny(stream, &pending, now_ms),
            OnError::Local(share) => {
                let replicas = u64::from(share.replicas.get());
                let cancel = pending.bill.cancel();
                let directive = self.reserve_locally(stream, pending, replicas, HeldIn::LocalInstead, now_ms);
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
        self.note(stream, Field::Decision, "no_store");
        if matches!(self.config.store(), Store::Redis(_)) {
            self.send_settlement(pending.bill.cancel());
        }
        self.refuse(&Refusal::NoStore, pending.asked.endpoint, None, now_ms)
    }
}
