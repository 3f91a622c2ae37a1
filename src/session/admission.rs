//! Reserves what a request is expected to cost, and then forwards the request, makes it wait until it fits, or refuses
//! it. [`super::arrival`] estimates the cost, and [`super::response`] settles it.

use super::arrival::log_estimate;
use super::context::Cx;
use super::effects::Directive;
use super::fall_back::{Fallback, Passed, go_on};
use super::reservation::{AtLimit, OpenReservation, Reservation, Share};
use super::response::Forwarded;
use super::{RequestFacts, Session};
use crate::answer::refusal::{OverLimit, Refusal};
use crate::answer::units::amount;
use crate::config::OnError;
use crate::policy::status::LimitStatus;
use crate::quantity::Millis;
use crate::request::BodyEdit;
use crate::store::local::SharedData;
use crate::store::{Answer, Decision, HeldIn, Reserved, Wanted};
use crate::telemetry::access_log::Field;
use crate::telemetry::series::{Count, Distribution, Unlimited, Verdict};
use crate::window::{Fit, WindowState};
use std::sync::Arc;

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
    /// The request for the other models that it may be for.
    fallbacks: Vec<Fallback>,
    /// The limit over which it goes on for another model, and the change that its body gets.
    fallen: Option<Box<(Passed, BodyEdit)>>,
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
///
/// It may go on as one of the `fallbacks` instead.
pub(super) fn reserve<S: SharedData>(
    reservation: Reservation,
    facts: RequestFacts,
    fallbacks: Vec<Fallback>,
    cx: &mut Cx<'_, S>,
) -> Session {
    let candidate = Candidate {
        reservation,
        facts,
        since: cx.now,
        patience: Patience::None,
        may_be_charged: false,
        fallbacks,
        fallen: None,
    };
    candidate.begin(cx)
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
    /// Reserves for the first time, or queues.
    fn begin<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        let longest_wait = self.reservation.longest_wait();
        let may_wait = !longest_wait.is_zero() && !self.reservation.never_fits();
        let patience = if may_wait { Patience::Fresh } else { Patience::None };
        let candidate = Self { patience, ..self };
        let (queue, bytes) = (candidate.reservation.queue(), candidate.facts.body_bytes);
        if patience == Patience::Fresh
            && cx.shared.waiting.has(queue)
            && cx.shared.waiting.enter(queue, cx.stream, bytes)
        {
            let until = candidate.since + longest_wait;
            return candidate.wait(until, until, cx);
        }
        candidate.reserve(cx)
    }

    /// Reserves the estimate, unless a refusal is in force that holds for it.
    fn reserve<S: SharedData>(self, cx: &mut Cx<'_, S>) -> Session {
        let mut refused_unasked = Vec::new();
        // One that may fall back asks in any case: a limit that lets it may be over too.
        if self.patience == Patience::None && self.fallbacks.is_empty() {
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
        let Some(held) = held else {
            let candidate = match self.fall_back(share, &states, cx) {
                Ok(session) => return session,
                Err(candidate) => *candidate,
            };
            return candidate.on_refusal(share, &states, cx);
        };
        if self.reservation.never_fits() {
            cx.give_back(self.reservation.clone(), held);
            return self.refuse_for_good(cx);
        }
        cx.shared.refusals.forget(&self.reservation);
        self.decided(Verdict::Admitted, Some(share), cx);
        let shown = [AtLimit::Refuse, AtLimit::FallBack, AtLimit::Continue];
        let statuses = self.reservation.statuses(share, &states, &shown);
        go_on(&self.passed(share, &states), cx);
        let in_dry_run = self.reservation.statuses(share, &states, &[AtLimit::Report]);
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

    /// Makes a request that a store has not admitted wait, or refuses it.
    fn on_refusal<S: SharedData>(self, share: Share, states: &[WindowState], cx: &mut Cx<'_, S>) -> Session {
        if share == Share::Whole && self.patience == Patience::None {
            cx.shared.refusals.remember(&self.reservation, states, cx.now);
        }
        match self.over_limit(self.reservation.statuses(share, states, &[AtLimit::Refuse])) {
            Some(over) => self.wait_or_refuse(over, Some(share), cx),
            None => self.deny(cx),
        }
    }

    /// Reserves the request for another model, if it is over a limit that lets it go on as that.
    fn fall_back<S: SharedData>(
        self,
        share: Share,
        states: &[WindowState],
        cx: &mut Cx<'_, S>,
    ) -> Result<Session, Box<Self>> {
        let mut passed = self.over(AtLimit::FallBack, share, states);
        let found = passed.find_map(|passed| {
            let model = passed.how.model.as_ref()?;
            let fallback = self.fallbacks.iter().find(|fallback| fallback.model == *model)?;
            Some((passed, fallback.clone()))
        });
        drop(passed);
        let Some((passed, Fallback { model, edit, reservation, facts })) = found else {
            return Err(Box::new(self));
        };
        self.leave_queue(cx);
        self.cancel_if_charged(cx);
        cx.log(Field::Model, model);
        log_estimate(&reservation, cx);
        let fallen = Some(Box::new((passed, edit)));
        let fallbacks = Vec::new();
        let candidate = Self { reservation, facts, may_be_charged: false, fallbacks, fallen, ..self };
        Ok(candidate.begin(cx))
    }

    /// The limits over which the request goes on that a store has admitted.
    fn passed(&self, share: Share, states: &[WindowState]) -> Vec<Passed> {
        let fallen = self.fallen.iter().map(|fallen| fallen.0.clone());
        fallen.chain(self.over(AtLimit::Continue, share, states)).collect()
    }

    /// The limits that do this with a request that does not fit under them.
    fn over<'a>(
        &'a self,
        at_limit: AtLimit,
        share: Share,
        states: &'a [WindowState],
    ) -> impl Iterator<Item = Passed> + 'a {
        let lines = self.reservation.lines.iter().zip(states);
        lines.filter(move |(line, _)| line.at_limit == at_limit).filter_map(move |(line, state)| {
            let status = line.status(share, *state);
            let how = line.applied.continues().filter(|_| status.state.fit != Fit::Now)?;
            Some(Passed { status, how: Arc::clone(how) })
        })
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
                let fallen: Vec<_> = candidate.fallen.iter().map(|fallen| fallen.0.clone()).collect();
                go_on(&fallen, cx);
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
        cx.effects.amended.model = self.fallen.map(|fallen| fallen.1);
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
