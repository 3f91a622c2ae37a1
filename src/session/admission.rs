//! From a reservation to the request's way: forwarded, held back until it fits, or refused.

use super::context::Cx;
use super::effects::Directive;
use super::reservation::{OpenReservation, Reservation, Share};
use super::response::Forwarded;
use super::{RequestFacts, Session};
use crate::answer::refusal::{OverLimit, Refusal};
use crate::config::OnError;
use crate::policy::status::LimitStatus;
use crate::quantity::Millis;
use crate::store::local::SharedData;
use crate::store::{Answer, Decision, HeldIn};
use crate::telemetry::access_log::Field;
use crate::telemetry::stats::Stat;

/// A request that is to be decided.
#[derive(Debug)]
struct Candidate {
    reservation: Reservation,
    facts: RequestFacts,
    /// When it first asked.
    since: Millis,
    /// Whether it may be held back if it does not fit.
    may_wait: bool,
    /// Whether it stands in a waiting line, or has stood in one.
    has_waited: bool,
}

/// A request that is held back until the store answers.
#[derive(Debug)]
pub struct AwaitStore {
    candidate: Candidate,
    /// When the answer is late; none once the reservation cannot be taken back any more.
    answer_by: Option<Millis>,
}

/// A request that did not fit, and is held back until it does.
#[derive(Debug)]
pub struct Waiting {
    candidate: Candidate,
    /// When to ask the store again.
    retry_at: Millis,
    /// When its wait ends in any case.
    until: Millis,
}

/// Makes `reservation`, unless others of its identity wait already.
pub(super) fn reserve<S: SharedData>(
    reservation: Reservation,
    facts: RequestFacts,
    cx: &mut Cx<'_, S>,
) -> Session {
    let longest_wait = reservation.longest_wait();
    let may_wait = !longest_wait.is_zero();
    let candidate = Candidate { reservation, facts, since: cx.now, may_wait, has_waited: false };
    let line = candidate.reservation.line();
    if may_wait && cx.shared.waiting.has(line) && cx.shared.waiting.enter(line, cx.stream) {
        let until = cx.now + longest_wait;
        return candidate.wait(until, until, cx);
    }
    candidate.ask(cx)
}

/// The store answered the reservation of a request that has ended: whatever it charged is given back.
pub(super) fn undo<S: SharedData>(reservation: &Reservation, answer: &Answer, cx: &mut Cx<'_, S>) {
    match answer {
        Answer::Decided(Decision { held: Some(_), .. }) => cx.cancel(reservation),
        Answer::Decided(Decision { held: None, .. }) => {}
        Answer::Unavailable { why } => {
            report_unavailable(why, cx);
            cx.cancel(reservation);
        }
    }
}

fn report_unavailable<S: SharedData>(why: &str, cx: &mut Cx<'_, S>) {
    cx.count(Stat::StoreErrors, 1);
    cx.stores.log_unavailable(why, cx.now);
}

impl AwaitStore {
    pub(super) const fn due(&self) -> Option<Millis> {
        self.answer_by
    }

    /// The store answered.
    pub(super) fn answered<S: SharedData>(self, answer: Answer, cx: &mut Cx<'_, S>) -> Session {
        match answer {
            Answer::Decided(decision) => self.candidate.decided(decision, Share::Whole, cx),
            Answer::Unavailable { why } => self.candidate.unanswered(&why, cx),
        }
    }

    /// The answer is late. A reservation that is on its way still gets one: the callout has a time limit of its own.
    pub(super) fn expire<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        if cx.stores.withdraw(cx.stream) {
            self.candidate.unanswered("it was not asked in time", cx)
        } else {
            Session::AwaitStore(Self { answer_by: None, ..self })
        }
    }

    /// The request ended.
    pub(super) fn abandon<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        let reservation = self.candidate.reservation;
        cx.leave_line(&reservation);
        if cx.stores.withdraw(cx.stream) { Session::Idle } else { Session::Abandoned(reservation) }
    }
}

impl Waiting {
    pub(super) const fn due(&self) -> Millis {
        self.retry_at
    }

    /// The request is the first of its line, which asks the store as soon as possible.
    pub(super) fn first_in_line(self, now: Millis) -> Self {
        Self { retry_at: now, ..self }
    }

    /// Asks the store again, for the last time if the wait is over.
    pub(super) fn retry<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        Candidate { may_wait: self.until > cx.now, ..self.candidate }.ask(cx)
    }

    /// The request ended.
    pub(super) fn leave<S: SharedData>(self, cx: &mut Cx<'_, S>) {
        cx.leave_line(&self.candidate.reservation);
    }
}

impl Candidate {
    /// Asks the store.
    fn ask<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        let charges = self.reservation.charges(Share::Whole);
        match cx.stores.reserve(cx.stream, &self.reservation.id, charges, cx.now) {
            Some(Answer::Decided(decision)) => self.decided(decision, Share::Whole, cx),
            Some(Answer::Unavailable { why }) => {
                log::error!("{why}");
                self.deny(cx)
            }
            None => {
                cx.effects.wake = true;
                cx.direct(Directive::Pause);
                Session::AwaitStore(AwaitStore { answer_by: cx.stores.answer_by(cx.now), candidate: self })
            }
        }
    }

    /// The store decided, under `share` of the limits. Under a share, nothing is known of the whole limits, and the
    /// client sees the share.
    fn decided<S: SharedData>(self, decision: Decision, share: Share, cx: &mut Cx<'_, S>) -> Session {
        let Decision { held, states } = decision;
        let statuses = self.reservation.statuses(share, &states, false);
        let Some(held) = held else {
            let is_partial = self.reservation.estimate.is_partial;
            return match OverLimit::new(statuses, self.reservation.name.clone()) {
                Some(over) => self.wait_or_refuse(over.with_partial_prompt(is_partial), cx),
                None => self.refuse(&Refusal::NoStore, cx),
            };
        };
        cx.count(Stat::Admitted, 1);
        cx.log(Field::Decision, "admitted");
        let would_refuse = OverLimit::new(self.reservation.statuses(share, &states, true), None);
        let would_refuse = would_refuse.as_ref().and_then(OverLimit::by).map(|by| by.limit.name.to_string());
        if let Some(limit) = &would_refuse {
            cx.count(Stat::DryRunOverLimit, 1);
            cx.log(Field::DryRun, limit);
        }
        self.forward(held, statuses, would_refuse, cx)
    }

    /// A request that is over a limit waits if it fits soon enough and there is room; else it is refused.
    fn wait_or_refuse<S: SharedData>(self, over: OverLimit, cx: &mut Cx<'_, S>) -> Session {
        let until = self.since + Reservation::max_wait(over.statuses());
        let retry_at = over.retry_after_ms().map(|ms| cx.now + Millis::new(ms)).filter(|at| *at <= until);
        if let (Some(retry_at), true) = (retry_at, self.may_wait) {
            let line = self.reservation.line();
            if cx.shared.waiting.is_first(line, cx.stream) {
                return self.wait(retry_at, until, cx);
            }
            if cx.shared.waiting.enter(line, cx.stream) {
                let is_first = cx.shared.waiting.is_first(line, cx.stream);
                return self.wait(if is_first { retry_at } else { until }, until, cx);
            }
        }
        cx.count(Stat::OverLimit, 1);
        cx.log(Field::Decision, "over_limit");
        if let Some(by) = over.by() {
            cx.log(Field::Limit, &by.limit.name);
        }
        self.refuse(&Refusal::OverLimit(over), cx)
    }

    fn wait<S: SharedData>(self, retry_at: Millis, until: Millis, cx: &mut Cx<'_, S>) -> Session {
        cx.direct(Directive::Pause);
        Session::Waiting(Waiting {
            candidate: Self { has_waited: true, ..self },
            retry_at: retry_at.min(until),
            until,
        })
    }

    /// The store gave no answer to a reservation that it may hold all the same.
    fn unanswered<S: SharedData>(self, why: &str, cx: &mut Cx<'_, S>) -> Session {
        report_unavailable(why, cx);
        match cx.stores.on_error() {
            OnError::Allow => {
                cx.count(Stat::StoreErrorsAllowed, 1);
                cx.log(Field::Decision, "uncounted");
                self.forward(HeldIn::Uncounted, Vec::new(), None, cx)
            }
            OnError::Deny => self.deny(cx),
            OnError::Local(config) => {
                let share = Share::Of(config.replicas);
                match cx.stores.reserve_instead(&self.reservation.charges(share), cx.now) {
                    Answer::Decided(decision) => {
                        let cancellation = self.reservation.cancellation();
                        let session = self.decided(decision, share, cx);
                        // A request that waits asks again under the same id.
                        if matches!(cx.effects.directive, Some(Directive::Reply(_))) {
                            cx.effects.wake |= cx.stores.cancel(cancellation);
                        }
                        session
                    }
                    Answer::Unavailable { why } => {
                        log::error!("{why}");
                        self.deny(cx)
                    }
                }
            }
        }
    }

    fn deny<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        cx.count(Stat::StoreErrorsDenied, 1);
        cx.log(Field::Decision, "no_store");
        cx.cancel(&self.reservation);
        self.refuse(&Refusal::NoStore, cx)
    }

    fn refuse<S: SharedData>(self, refusal: &Refusal, cx: &mut Cx<'_, S>) -> Session {
        self.leave_line(cx);
        cx.refuse(refusal, self.facts.endpoint, self.facts.languages.as_deref());
        Session::Idle
    }

    fn forward<S: SharedData>(
        self,
        held: HeldIn,
        statuses: Vec<LimitStatus>,
        would_refuse: Option<String>,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let waited = self.leave_line(cx);
        cx.direct(Directive::Continue);
        let open = OpenReservation::new(self.reservation, held, cx.now);
        Session::Forwarded(Forwarded { open, statuses, would_refuse, waited, facts: self.facts })
    }

    /// The request waits no more. Returns how long it has waited, if it has.
    fn leave_line<S: SharedData>(&self, cx: &mut Cx<'_, S>) -> Option<Millis> {
        self.has_waited.then(|| {
            cx.leave_line(&self.reservation);
            cx.now - self.since
        })
    }
}
