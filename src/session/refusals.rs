//! Refusals that are still in force: a request that would not fit either is refused without asking the store, so that a
//! key over its limit costs next to nothing.
//!
//! What is remembered of a counter is its state at the last refusal, and the cost that did not fit until a time that
//! the store has named. A request that costs less may fit. Others may give back what they do not use, and limits may be
//! raised or reset, so now and then one request asks all the same ([`ASK_EVERY`]); and what this worker gives back or
//! admits is forgotten at once. Nothing is remembered of slots, which are free again at any time, nor of limits that
//! refuse nothing. Requests that may wait always ask.

use super::reservation::{AtLimit, Line, Reservation, Share};
use crate::policy::limit::Metric;
use crate::policy::status::LimitStatus;
use crate::quantity::{Millis, Units};
use crate::window::{Fit, Window, WindowState};
use std::collections::HashMap;
use std::sync::Arc;

/// After this, a request asks the store anew for a counter that refuses.
const ASK_EVERY: Millis = Millis::new(100);

/// The most counters that are remembered, each in some 200 bytes.
const MAX_COUNTERS: usize = 4_096;

/// The counters of recent refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    counters: HashMap<Counter, Known>,
    /// When those that refuse no more were last dropped.
    cleared: Millis,
}

/// A counter, as the stores tell them apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Counter {
    scope: Arc<str>,
    identity: Arc<str>,
    name: Arc<str>,
    window: Window,
}

/// What is known of a counter.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The amount and the window under which that is so. Requests may say amounts of their own under one counter.
    bound: (Units, Window),
    state: WindowState,
    /// When that was its state.
    at: Millis,
    /// The cost that does not fit, and until when; none if another limit refused.
    refused: Option<(Units, Millis)>,
    /// From then on, a request asks the store.
    ask_at: Millis,
    /// The requests that were refused without asking, since one asked.
    unasked: u32,
}

impl Refusals {
    /// The store has refused `reservation` with these states.
    pub(super) fn remember(&mut self, reservation: &Reservation, states: &[WindowState], now: Millis) {
        self.make_room(now);
        for (line, state) in reservation.lines.iter().zip(states).filter(|(line, _)| may_refuse(line)) {
            let refused = match state.fit {
                Fit::After(wait) => Some((line.cost, now + wait.get())),
                Fit::Now | Fit::Never => None,
            };
            let counter = Counter::of(line);
            let unasked = self.counters.get(&counter).map_or(0, |known| known.unasked);
            let known = Known {
                bound: bound(line),
                state: *state,
                at: now,
                refused,
                ask_at: now + ASK_EVERY,
                unasked,
            };
            if self.counters.len() < MAX_COUNTERS || self.counters.contains_key(&counter) {
                self.counters.insert(counter, known);
            }
        }
    }

    /// The store has admitted `reservation`, or gets some of it back.
    pub(super) fn forget(&mut self, reservation: &Reservation) {
        if self.is_empty() {
            return;
        }
        for line in &reservation.lines {
            self.counters.remove(&Counter::of(line));
        }
    }

    /// The status of each limit of `reservation` that is known, if one of them refuses it, and no request is due that
    /// asks.
    pub(super) fn recall(&self, reservation: &Reservation, now: Millis) -> Option<Vec<LimitStatus>> {
        let mut statuses = Vec::new();
        let mut is_refused = false;
        for line in reservation.lines.iter().filter(|line| may_refuse(line)) {
            // A clock that was set back says nothing about what was remembered by the old one.
            let known = self.counters.get(&Counter::of(line));
            let known = known.filter(|known| known.at <= now && known.bound == bound(line));
            let Some(known) = known else { continue };
            let wait = known.refused.filter(|(cost, until)| line.cost >= *cost && *until > now);
            if wait.is_some() && known.ask_at <= now {
                return None;
            }
            is_refused |= wait.is_some();
            let wait = wait.map(|(_, until)| until - now);
            statuses.push(line.status(Share::Whole, known.state_at(now, wait)));
        }
        is_refused.then_some(statuses)
    }

    /// A request with this `reservation` was refused without asking.
    pub(super) fn refused(&mut self, reservation: &Reservation) {
        for line in &reservation.lines {
            if let Some(known) = self.counters.get_mut(&Counter::of(line)) {
                known.unasked = known.unasked.saturating_add(1);
            }
        }
    }

    /// A request with this `reservation` asks the store now. Returns for each of its limits how many were refused
    /// without asking since one asked; nothing if there were none.
    pub(super) fn asked(&mut self, reservation: &Reservation, now: Millis) -> Vec<u32> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut unasked = Vec::new();
        for (place, line) in reservation.lines.iter().enumerate() {
            let Some(known) = self.counters.get_mut(&Counter::of(line)) else { continue };
            known.ask_at = known.ask_at.max(now + ASK_EVERY);
            if known.unasked > 0 {
                unasked.resize(place, 0);
                unasked.push(std::mem::take(&mut known.unasked));
            }
        }
        unasked
    }

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// Drops what refuses no more, if there is no room.
    fn make_room(&mut self, now: Millis) {
        if self.counters.len() >= MAX_COUNTERS && now >= self.cleared + ASK_EVERY {
            self.cleared = now;
            self.counters.retain(|_, known| known.refused.is_some_and(|(_, until)| until > now));
        }
    }
}

impl Counter {
    fn of(line: &Line) -> Self {
        let applied = &line.applied;
        Self {
            scope: Arc::clone(&applied.scope),
            identity: Arc::clone(&applied.identity),
            name: Arc::clone(&applied.limit.name),
            window: applied.limit.window.counted(),
        }
    }
}

impl Known {
    /// The state by `now`, for a request that fits after `wait`, if that is known.
    fn state_at(&self, now: Millis, wait: Option<Millis>) -> WindowState {
        let fit = wait.and_then(Millis::non_zero).map_or(Fit::Now, Fit::After);
        WindowState { reset: self.state.reset - (now - self.at), fit, ..self.state }
    }
}

fn bound(line: &Line) -> (Units, Window) {
    (line.applied.limit.amount, line.applied.limit.window)
}

fn may_refuse(line: &Line) -> bool {
    line.at_limit == AtLimit::Refuse && line.applied.limit.metric != Metric::Concurrency
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Applied;
    use crate::session::reservation::tests::{limit, reservation};

    const SECOND: Millis = Millis::SECOND;

    fn at(now: u64) -> Millis {
        Millis::new(now)
    }

    /// A reservation of 30 tokens of input, and so many of output.
    fn tokens(amount: u64, output: u64) -> Reservation {
        reservation(vec![limit(Metric::TotalTokens, amount)], output, false)
    }

    fn refused(wait: u64) -> WindowState {
        let fit = at(wait).non_zero().map_or(Fit::Now, Fit::After);
        WindowState { used: Units::new(95), reset: at(60_000), fit, granted: Units::ZERO }
    }

    fn waits(refusals: &Refusals, reservation: &Reservation, now: u64) -> Option<u64> {
        refusals.recall(reservation, at(now)).map(|statuses| statuses[0].wait().unwrap().get())
    }

    #[test]
    fn a_refusal_holds_for_what_costs_as_much_and_counts_down() {
        let mut refusals = Refusals::default();
        assert_eq!(waits(&refusals, &tokens(100, 5), 0), None);
        refusals.remember(&tokens(100, 5), &[refused(9_000)], at(1_000));
        assert_eq!(waits(&refusals, &tokens(100, 5), 1_000), Some(9_000));
        assert_eq!(waits(&refusals, &tokens(100, 50), 1_050), Some(8_950));
        assert_eq!(waits(&refusals, &tokens(100, 4), 1_050), None, "it costs less");
        assert_eq!(waits(&refusals, &tokens(101, 5), 1_050), None, "it is another limit");
        let statuses = refusals.recall(&tokens(100, 5), at(1_050)).unwrap();
        assert_eq!((statuses[0].state.used, statuses[0].state.reset), (Units::new(95), at(59_950)));
        assert_eq!(waits(&refusals, &tokens(100, 5), 999), None, "the clock has been set back");
        assert_eq!(waits(&refusals, &tokens(100, 5), 10_000), None, "it may fit");
    }

    #[test]
    fn now_and_then_one_request_asks() {
        let mut refusals = Refusals::default();
        refusals.remember(&tokens(100, 5), &[refused(60_000)], at(0));
        let mut asks = Vec::new();
        for now in 0..1_000 {
            if waits(&refusals, &tokens(100, 5), now).is_none() {
                refusals.asked(&tokens(100, 5), at(now));
                asks.push(now);
            }
        }
        assert_eq!(asks, [100, 200, 300, 400, 500, 600, 700, 800, 900]);
    }

    #[test]
    fn the_next_that_asks_brings_the_number_of_those_that_did_not() {
        let mut refusals = Refusals::default();
        let limits = [Metric::Requests, Metric::Concurrency, Metric::TotalTokens].map(|of| limit(of, 100));
        let one = reservation(limits.to_vec(), 5, false);
        assert_eq!(refusals.asked(&one, at(0)), [0; 0]);
        refusals.remember(&one, &[refused(0), refused(0), refused(9_000)], at(0));
        for _ in 0..3 {
            refusals.refused(&one);
        }
        // Another that had asked before is refused meanwhile.
        refusals.remember(&one, &[refused(0), refused(0), refused(9_000)], at(99));
        let of_tokens = tokens(100, 5);
        refusals.refused(&of_tokens);
        assert_eq!(refusals.asked(&one, at(100)), [3, 0, 4]);
        assert_eq!(refusals.asked(&one, at(200)), [0; 0]);
    }

    #[test]
    fn what_is_given_back_is_not_refused_any_longer() {
        let mut refusals = Refusals::default();
        refusals.remember(&tokens(100, 5), &[refused(9_000)], at(0));
        refusals.forget(&tokens(100, 0));
        assert_eq!(waits(&refusals, &tokens(100, 5), 1), None);
    }

    #[test]
    fn a_counter_is_remembered_once_whatever_amount_requests_say() {
        let mut refusals = Refusals::default();
        for amount in 100..200 {
            refusals.remember(&tokens(amount, 5), &[refused(9_000)], at(0));
        }
        assert_eq!(refusals.counters.len(), 1);
        assert_eq!(waits(&refusals, &tokens(199, 5), 1), Some(8_999));
        assert_eq!(waits(&refusals, &tokens(150, 5), 1), None, "nobody knows under this one");
        refusals.forget(&tokens(120, 5));
        assert_eq!(waits(&refusals, &tokens(199, 5), 1), None, "something was given back");
    }

    #[test]
    fn the_limits_beside_the_one_that_refuses_are_shown_as_they_were() {
        let mut refusals = Refusals::default();
        let limits = || vec![limit(Metric::Requests, 9), limit(Metric::TotalTokens, 100)];
        let both = reservation(limits(), 5, false);
        refusals.remember(&both, &[refused(0), refused(9_000)], at(0));
        let statuses = refusals.recall(&both, at(10)).unwrap();
        let waits: Vec<_> = statuses.iter().map(|status| status.wait().unwrap().get()).collect();
        assert_eq!(waits, [0, 8_990]);
        let requests = reservation(vec![limit(Metric::Requests, 9)], 5, false);
        assert_eq!(refusals.recall(&requests, at(10)), None, "only tokens are short");
    }

    #[test]
    fn slots_and_limits_in_a_dry_run_refuse_nothing() {
        for reservation in [
            reservation(vec![limit(Metric::Concurrency, 1)], 5, false),
            reservation(vec![Applied { dry_run: true, ..limit(Metric::Requests, 1) }], 5, false),
        ] {
            let mut refusals = Refusals::default();
            refusals.remember(&reservation, &[refused(9_000)], at(0));
            assert_eq!(refusals.recall(&reservation, at(1)), None);
        }
    }

    #[test]
    fn memory_is_bounded_and_what_has_passed_makes_room() {
        let mut refusals = Refusals::default();
        let of = |number: usize| {
            let applied = Applied { identity: number.to_string().into(), ..limit(Metric::TotalTokens, 100) };
            reservation(vec![applied], 5, false)
        };
        for number in 0..2 * MAX_COUNTERS {
            refusals.remember(&of(number), &[refused(1_000)], at(0));
        }
        assert_eq!(refusals.counters.len(), MAX_COUNTERS);
        let first = of(0);
        refusals.remember(&first, &[refused(1_001)], at(1));
        assert_eq!(waits(&refusals, &first, 1), Some(1_001), "who has a place keeps it");
        refusals.remember(&first, &[refused(999)], at(1));
        let new = of(1_000_000);
        refusals.remember(&new, &[refused(1_000)], at(0));
        assert_eq!(waits(&refusals, &new, 0), None);
        refusals.remember(&new, &[refused(1_000)], SECOND);
        assert_eq!(waits(&refusals, &new, 1_000), Some(1_000));
        assert_eq!(refusals.counters.len(), 1);
    }
}
