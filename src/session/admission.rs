//! Reserves what a request is expected to cost, and then forwards the request, makes it wait until it fits, or refuses
//! it. [`super::arrival`] estimates the cost, and [`super::response`] settles it.

use super::context::Cx;
use super::effects::Directive;
use super::reservation::{OpenReservation, Reservation, Share};
use super::response::Forwarded;
use super::{RequestFacts, Session};
use crate::answer::refusal::{OverLimit, Refusal};
use crate::answer::units::amount;
use crate::config::OnError;
use crate::policy::status::LimitStatus;
use crate::quantity::Millis;
use crate::store::local::SharedData;
use crate::store::{Answer, Decision, HeldIn, Reserved, Wanted};
use crate::telemetry::access_log::Field;
use crate::telemetry::series::{Count, Distribution, Unlimited, Verdict};

/// A request that awaits a decision.
#[derive(Clone, Debug)]
struct Candidate {
    reservation: Reservation,
    facts: RequestFacts,
    /// When the request was ready to reserve.
    since: Millis,
    patience: Patience,
    /// Whether a store may have charged it in an attempt without an answer.
    may_be_charged: bool,
}

/// Whether a request that does not fit waits until it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// No limit lets it wait.
    None,
    /// It may wait, and has not had to.
    Fresh,
    /// It is in a queue of the waiting room.
    Queued,
    /// It is in a queue, and this is its last attempt.
    Ended,
}

/// A request that is paused until the store answers.
#[derive(Clone, Debug)]
pub struct AwaitStore {
    candidate: Candidate,
    /// The time after which the answer is late.
    answer_by: Millis,
}

/// A request that did not fit, and is paused until it does.
#[derive(Clone, Debug)]
pub struct Waiting {
    candidate: Candidate,
    /// When to reserve again.
    retry_at: Millis,
    /// When the wait ends in any case.
    until: Millis,
}

/// Reserves, unless requests of the same identity are waiting already: then the request queues behind them, unless it
/// never fits.
pub(super) fn reserve<S: SharedData>(
    reservation: Reservation,
    facts: RequestFacts,
    cx: &mut Cx<'_, S>,
) -> Session {
    let longest_wait = reservation.longest_wait();
    let may_wait = !longest_wait.is_zero() && !reservation.never_fits();
    let patience = if may_wait { Patience::Fresh } else { Patience::None };
    let bytes = facts.body_bytes;
    let candidate = Candidate { reservation, facts, since: cx.now, patience, may_be_charged: false };
    let queue = candidate.reservation.queue();
    if patience == Patience::Fresh
        && cx.shared.waiting.has(queue)
        && cx.shared.waiting.enter(queue, cx.stream, bytes)
    {
        let until = cx.now + longest_wait;
        return candidate.wait(until, until, cx);
    }
    candidate.reserve(cx)
}

/// Gives back what the store charged for a request that ended before `answer` came.
pub(super) fn undo<S: SharedData>(reservation: &Reservation, answer: &Answer, cx: &mut Cx<'_, S>) {
    match answer {
        Answer::Decided(Decision { held: Some(_), .. }) => cx.cancel(reservation),
        Answer::Decided(Decision { held: None, .. }) => {}
        Answer::Unavailable { why } => {
            count_and_log_unavailable(why, cx);
            cx.cancel(reservation);
        }
        Answer::Refused { why } => count_and_log_refused(why, cx),
    }
}

fn count_and_log_unavailable<S: SharedData>(why: &str, cx: &mut Cx<'_, S>) {
    cx.count(Count::StoreErrors);
    cx.stores.decided_without_answer(why, cx.now);
}

fn count_and_log_refused<S: SharedData>(why: &str, cx: &mut Cx<'_, S>) {
    cx.count(Count::StoreErrors);
    cx.stores.decided_without_call(why, cx.now);
}

/// Adds to the access log which limit refuses a request, and to metrics.
fn report_refusal<S: SharedData>(over: &OverLimit, cx: &mut Cx<'_, S>) {
    if let Some(by) = over.by() {
        let metric = by.limit.metric;
        cx.log(Field::Limit, by.label());
        if over.shows_counters() {
            cx.log(Field::Used, amount(metric, by.state.used));
        }
        cx.log(Field::LimitAmount, amount(metric, by.capacity()));
        let (owner, window) = (by.owner.kind(), by.limit.window.label());
        cx.count(Count::Refusals { owner, metric, window });
    }
    let wait = over.retry_after();
    cx.log(Field::Reason, if wait.is_some() { "used_up" } else { "never_fits" });
    if let Some(wait) = wait {
        cx.log(Field::RetryAfterMs, wait);
        cx.effects.metrics.record(Distribution::RetryAfterMs, wait.get());
    }
}

/// Counts and logs the limits that are nearly used.
fn warn<'a, S: SharedData>(statuses: impl Iterator<Item = &'a LimitStatus>, cx: &mut Cx<'_, S>) {
    let mut labels = Vec::new();
    for status in statuses.filter(|status| status.is_nearly_used()) {
        let (owner, window) = (status.owner.kind(), status.limit.window.label());
        cx.count(Count::Warnings { owner, metric: status.limit.metric, window });
        labels.push(status.label());
    }
    if !labels.is_empty() {
        cx.log(Field::Warning, labels.join(", "));
    }
}

impl AwaitStore {
    pub(super) const fn due(&self) -> Millis {
        self.answer_by
    }

    #[cfg(test)]
    pub(super) fn reservation_id(&self) -> &str {
        &self.candidate.reservation.id
    }

    /// Acts on the store's answer.
    pub(super) fn on_answer<S: SharedData>(self, answer: Answer, cx: &mut Cx<'_, S>) -> Session {
        match answer {
            Answer::Decided(decision) => self.candidate.on_decision(decision, Share::Whole, cx),
            Answer::Unavailable { why } => self.candidate.on_no_answer(&why, cx),
            Answer::Refused { why } => self.candidate.on_refused_call(&why, cx),
        }
    }

    /// Goes on without an answer that is late. If the reservation has been sent, it may still be made: that of a
    /// refused request is cancelled, and that of a forwarded request stands, and is settled with it.
    pub(super) fn expire<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        if cx.stores.withdraw(cx.stream) {
            return self.candidate.on_no_answer("the reservation was not sent in time", cx);
        }
        cx.stores.give_up(cx.stream);
        self.candidate.on_no_answer("the answer did not come in time", cx)
    }

    /// Ends a request that did not wait for the answer.
    pub(super) fn abandon<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        let reservation = &self.candidate.reservation;
        cx.leave_queue(reservation);
        self.candidate.left(cx);
        if !cx.stores.withdraw(cx.stream) {
            return Session::Abandoned(self.candidate.reservation);
        }
        self.candidate.cancel_if_charged(cx);
        Session::Idle
    }
}

impl Waiting {
    pub(super) const fn due(&self) -> Millis {
        self.retry_at
    }

    /// Lets the request, now the first in its queue, reserve as soon as possible.
    pub(super) fn first_in_queue(self, now: Millis) -> Self {
        Self { retry_at: now, ..self }
    }

    /// Reserves again, for the last time if the wait is over.
    pub(super) fn retry<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        let patience = if self.until > cx.now { Patience::Queued } else { Patience::Ended };
        // If the clock was set back, the wait begins anew: it must not end by the old one.
        let since = self.candidate.since.min(cx.now);
        Candidate { patience, since, ..self.candidate }.reserve(cx)
    }

    /// Ends a request that did not wait until it fits.
    pub(super) fn leave<S: SharedData>(self, cx: &mut Cx<'_, S>) {
        cx.leave_queue(&self.candidate.reservation);
        self.candidate.left(cx);
        self.candidate.cancel_if_charged(cx);
    }
}

impl Candidate {
    /// Reserves the estimate, unless a refusal is in force that holds for it.
    fn reserve<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        let mut refused_unasked = Vec::new();
        if self.patience == Patience::None {
            if let Some(over) = self.recalled(cx) {
                // Whoever may wait asks later, and is counted then.
                if self.reservation.longest_wait() == Millis::default() {
                    cx.shared.refusals.refused(&self.reservation);
                }
                return self.wait_or_refuse(over, Some(Share::Whole), cx);
            }
            refused_unasked = cx.shared.refusals.asked(&self.reservation, cx.now);
        }
        let Reservation { ref id, max_new_identities, is_final, ref request_id, .. } = self.reservation;
        let charges = self.reservation.charges(Share::Whole);
        let request_id = request_id.clone();
        let wanted = Wanted { id, charges, max_new_identities, is_final, request_id, refused_unasked };
        match cx.stores.reserve(cx.stream, wanted, cx.now) {
            Reserved::Answered(Answer::Decided(decision)) => self.on_decision(decision, Share::Whole, cx),
            Reserved::Answered(Answer::Unavailable { why } | Answer::Refused { why }) => {
                log::error!("{why}");
                self.deny(cx)
            }
            Reserved::Queued { answer_by } => {
                cx.effects.wake = true;
                cx.direct(Directive::Pause);
                Session::AwaitStore(AwaitStore { answer_by, candidate: self })
            }
        }
    }

    /// The refusal in force that holds for the request, if there is one.
    fn recalled<S: SharedData>(&self, cx: &Cx<'_, S>) -> Option<OverLimit> {
        let statuses = cx.shared.refusals.recall(&self.reservation, cx.now)?;
        self.over_limit(statuses)
    }

    /// Forwards the request, makes it wait or refuses it, by a decision under `share` of the limits. Under a share,
    /// nobody knows the state of the whole limits, so the client sees the share.
    fn on_decision<S: SharedData>(self, decision: Decision, share: Share, cx: &mut Cx<'_, S>) -> Session {
        let Decision { held, states } = decision;
        let statuses = self.reservation.statuses(share, &states, false);
        let Some(held) = held else {
            if share == Share::Whole && self.patience == Patience::None {
                cx.shared.refusals.remember(&self.reservation, &states, cx.now);
            }
            return match self.over_limit(statuses) {
                Some(over) => self.wait_or_refuse(over, Some(share), cx),
                None => self.deny(cx),
            };
        };
        if self.reservation.never_fits() {
            cx.give_back(self.reservation.clone(), held);
            return self.refuse_for_good(cx);
        }
        cx.shared.refusals.forget(&self.reservation);
        self.decided(Verdict::Admitted, Some(share), cx);
        let in_dry_run = self.reservation.statuses(share, &states, true);
        warn(statuses.iter().chain(&in_dry_run), cx);
        let would_refuse = OverLimit::new(in_dry_run, None);
        let would_refuse = would_refuse.as_ref().and_then(OverLimit::by);
        if let Some(by) = would_refuse {
            let (sender, decision) = (self.facts.labels.clone(), Verdict::OverLimit);
            cx.count(Count::DryRunRequests { sender, decision });
            cx.log(Field::DryRun, by.label());
        }
        let would_refuse = would_refuse.map(|by| by.limit.name.to_string());
        self.forward(held, statuses, would_refuse, cx)
    }

    /// What is decided about the request, by a store under `share` of the limits, or by none; and how long that took if
    /// the request had to wait until it fitted.
    fn decided<S: SharedData>(&self, decision: Verdict, share: Option<Share>, cx: &mut Cx<'_, S>) {
        cx.decide(decision, self.facts.labels.clone());
        let store = match share {
            None => None,
            Some(Share::Whole) if cx.stores.is_shared() => Some("redis"),
            Some(Share::Whole) => Some("local"),
            Some(Share::Of(_)) => {
                cx.count(Count::DecidedLocally);
                Some("fallback")
            }
        };
        if let Some(store) = store {
            cx.log(Field::Store, store);
        }
        if matches!(self.patience, Patience::Queued | Patience::Ended) {
            let waited = cx.now - self.since;
            cx.log(Field::WaitedMs, waited);
            cx.effects.metrics.record(Distribution::WaitMs, waited.get());
        }
    }

    /// What is decided about a request that ended before it was admitted or refused: if it had to wait, its limits have
    /// held it back.
    fn left<S: SharedData>(&self, cx: &mut Cx<'_, S>) {
        if matches!(self.patience, Patience::Queued | Patience::Ended) {
            self.decided(Verdict::OverLimit, None, cx);
            cx.log(Field::Reason, Unlimited::ClientLeft.name());
        } else {
            cx.not_limited(Unlimited::ClientLeft);
        }
    }

    /// The refusal by the limits with these statuses; none if the request fits under all of them.
    fn over_limit(&self, statuses: Vec<LimitStatus>) -> Option<OverLimit> {
        let over = OverLimit::new(statuses, self.reservation.name.clone())?;
        Some(over.with_partial_prompt(self.reservation.estimate.is_partial))
    }

    /// Refuses a request that never fits, whatever a store says or does not say.
    fn refuse_for_good<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        match self.over_limit(self.reservation.statuses_without_answer()) {
            Some(over) => self.wait_or_refuse(over.without_counters(), None, cx),
            None => self.deny(cx),
        }
    }

    /// Makes a request that is over a limit wait, if it fits soon enough and the waiting room has a place. Refuses it
    /// otherwise. A store has decided under `share` of the limits, or none.
    fn wait_or_refuse<S: SharedData>(
        self,
        over: OverLimit,
        share: Option<Share>,
        cx: &mut Cx<'_, S>,
    ) -> Session {
        let until = self.since + Reservation::max_wait(over.statuses());
        let retry_at = over.retry_after().map(|wait| cx.now + wait).filter(|at| *at <= until);
        let may_wait = matches!(self.patience, Patience::Fresh | Patience::Queued);
        if let (Some(retry_at), true) = (retry_at, may_wait) {
            let (queue, bytes) = (self.reservation.queue(), self.facts.body_bytes);
            if cx.shared.waiting.is_first(queue, cx.stream) {
                return self.wait(retry_at, until, cx);
            }
            if cx.shared.waiting.enter(queue, cx.stream, bytes) {
                let is_first = cx.shared.waiting.is_first(queue, cx.stream);
                return self.wait(if is_first { retry_at } else { until }, until, cx);
            }
        }
        self.decided(Verdict::OverLimit, share, cx);
        report_refusal(&over, cx);
        self.refuse(&Refusal::OverLimit(over), cx)
    }

    fn wait<S: SharedData>(self, retry_at: Millis, until: Millis, cx: &mut Cx<'_, S>) -> Session {
        cx.direct(Directive::Pause);
        Session::Waiting(Waiting {
            candidate: Self { patience: Patience::Queued, ..self },
            retry_at: retry_at.min(until),
            until,
        })
    }

    /// Treats a request without an answer as the configuration says. The store may have charged it all the same.
    fn on_no_answer<S: SharedData>(self, why: &str, cx: &mut Cx<'_, S>) -> Session {
        count_and_log_unavailable(why, cx);
        let candidate = Self { may_be_charged: true, ..self };
        match cx.stores.on_error() {
            OnError::Allow | OnError::Deny if candidate.reservation.never_fits() => {
                candidate.refuse_for_good(cx)
            }
            OnError::Allow => {
                candidate.decided(Verdict::Uncounted, None, cx);
                candidate.forward(HeldIn::Uncounted, Vec::new(), None, cx)
            }
            OnError::Deny => candidate.deny(cx),
            OnError::Local(config) => {
                let share = Share::Of(config.replicas);
                let reservation = &candidate.reservation;
                let whole = || reservation.charges(Share::Whole);
                let answer =
                    cx.stores.reserve_share(&reservation.id, reservation.charges(share), whole, cx.now);
                match answer {
                    Answer::Decided(decision) => candidate.on_decision(decision, share, cx),
                    Answer::Unavailable { why } | Answer::Refused { why } => {
                        log::error!("{why}");
                        candidate.deny(cx)
                    }
                }
            }
        }
    }

    /// Treats a request that the sidecar does not take. That is no outage, so `on_error: allow` does not forward it:
    /// whoever can make such requests would pass every limit. This Envoy's share of the limits still counts it.
    fn on_refused_call<S: SharedData>(self, why: &str, cx: &mut Cx<'_, S>) -> Session {
        count_and_log_refused(why, cx);
        if let OnError::Local(config) = cx.stores.on_error() {
            let share = Share::Of(config.replicas);
            let answer = cx.stores.reserve_share_alone(self.reservation.charges(share), cx.now);
            if let Answer::Decided(decision) = answer {
                return self.on_decision(decision, share, cx);
            }
        }
        if self.reservation.never_fits() {
            return self.refuse_for_good(cx);
        }
        self.deny(cx)
    }

    fn deny<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        self.decided(Verdict::NoStore, None, cx);
        self.refuse(&Refusal::NoStore, cx)
    }

    /// Refuses the request. A request that waits reserves again under the same id, so nothing earlier cancels what a
    /// store may have charged.
    fn refuse<S: SharedData>(self, refusal: &Refusal, cx: &mut Cx<'_, S>) -> Session {
        self.leave_queue(cx);
        self.cancel_if_charged(cx);
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
        let waited = self.leave_queue(cx);
        cx.direct(Directive::Continue);
        let open = OpenReservation::new(self.reservation, held, cx.now).after_no_answer(self.may_be_charged);
        Session::Forwarded(Forwarded { open, statuses, would_refuse, waited, facts: self.facts })
    }

    fn cancel_if_charged<S: SharedData>(&self, cx: &mut Cx<'_, S>) {
        if self.may_be_charged {
            cx.cancel(&self.reservation);
        }
    }

    /// Leaves the queue. Returns how long the request has waited, if it has.
    fn leave_queue<S: SharedData>(&self, cx: &mut Cx<'_, S>) -> Option<Millis> {
        matches!(self.patience, Patience::Queued | Patience::Ended).then(|| {
            cx.leave_queue(&self.reservation);
            cx.now - self.since
        })
    }
}
