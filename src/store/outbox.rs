//! Calls that wait until a callout to the sidecar takes them, one callout at a time, and that are sent again if they do
//! not arrive.
//!
//! Whatever keeps one of them from arriving delays no other: a call that fails by itself rests for a while of its own.
//! Only a callout without an answer makes all of them wait.

use super::sidecar::Pause;
use crate::quantity::Millis;
use std::collections::{BTreeMap, VecDeque};

/// Calls on their way.
#[derive(Clone, Debug)]
pub(super) struct Outbox<T> {
    gathering: VecDeque<Queued<T>>,
    /// Those that have failed by themselves, by the end of their rest.
    resting: BTreeMap<(Millis, u64), Queued<T>>,
    in_flight: Vec<Queued<T>>,
    /// The pause of all after a callout without an answer.
    pause: Option<Pause>,
    next_rest: u64,
}

/// A call.
#[derive(Clone, Debug)]
pub(super) struct Queued<T> {
    pub(super) call: T,
    /// Its last rest, if it has failed by itself.
    rest: Option<Pause>,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self {
            gathering: VecDeque::new(),
            resting: BTreeMap::new(),
            in_flight: Vec::new(),
            pause: None,
            next_rest: 0,
        }
    }
}

impl<T> Outbox<T> {
    /// Adds a call.
    pub(super) fn push(&mut self, call: T) {
        self.gathering.push_back(Queued { call, rest: None });
    }

    /// How many calls wait.
    pub(super) fn waiting(&self) -> usize {
        self.gathering.len().saturating_add(self.resting.len())
    }

    /// Removes a call to make room: one that rests if there is one, or else the oldest.
    pub(super) fn pop(&mut self) -> Option<T> {
        let resting = self.resting.pop_first().map(|(_, queued)| queued);
        resting.or_else(|| self.gathering.pop_front()).map(|queued| queued.call)
    }

    /// Removes a call that is `of_kind`, one that rests if there is one, or else the oldest. Returns whether there was
    /// one.
    pub(super) fn remove(&mut self, of_kind: impl Fn(&T) -> bool) -> bool {
        let resting = self.resting.iter().find(|(_, queued)| of_kind(&queued.call)).map(|(key, _)| *key);
        if let Some(key) = resting {
            return self.resting.remove(&key).is_some();
        }
        let oldest = self.gathering.iter().position(|queued| of_kind(&queued.call));
        oldest.and_then(|at| self.gathering.remove(at)).is_some()
    }

    /// Whether nothing waits or is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting() == 0 && self.in_flight.is_empty()
    }

    /// When a pause or a rest ends for which calls wait.
    pub(super) fn next_due(&self) -> Option<Millis> {
        if !self.in_flight.is_empty() {
            return None;
        }
        let pause = self.pause.map(|pause| pause.until);
        if !self.gathering.is_empty() {
            return pause;
        }
        let (rested, _) = self.resting.first_key_value()?.0;
        Some(pause.map_or(*rested, |pause| pause.max(*rested)))
    }

    /// Takes the calls of the next callout: at most `most`, up to the first that does not join those before it, if a
    /// callout may leave now. `joins` is asked about each in its order, and must agree to the first.
    pub(super) fn send(&mut self, most: usize, mut joins: impl FnMut(&T) -> bool, now: Millis) {
        let is_paused = self.pause.is_some_and(|pause| now < pause.until);
        if is_paused || !self.in_flight.is_empty() {
            return;
        }
        while let Some(rested) = self.resting.first_entry().filter(|first| first.key().0 <= now) {
            self.gathering.push_back(rested.remove());
        }
        let len = self.gathering.iter().take(most).take_while(|queued| joins(&queued.call)).count();
        self.in_flight = self.gathering.drain(..len).collect();
    }

    /// All calls.
    pub(super) fn calls_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let waiting = self.gathering.iter_mut().chain(self.resting.values_mut());
        waiting.chain(&mut self.in_flight).map(|queued| &mut queued.call)
    }

    /// Takes all calls, those under way first.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        let Self { gathering, resting, in_flight, .. } = std::mem::take(self);
        let waiting = gathering.into_iter().chain(resting.into_values());
        in_flight.into_iter().chain(waiting).map(|queued| queued.call).collect()
    }

    /// How many calls are under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The callout has ended with an answer: the calls of it, in their order.
    pub(super) fn answered(&mut self) -> Vec<Queued<T>> {
        self.pause = None;
        std::mem::take(&mut self.in_flight)
    }

    /// The callout has ended without an answer: the calls of it, in their order.
    pub(super) fn unanswered(&mut self, now: Millis) -> Vec<Queued<T>> {
        self.pause = Some(Pause::after(self.pause, now));
        std::mem::take(&mut self.in_flight)
    }

    /// Lets a call rest that has failed by itself, each time for longer.
    pub(super) fn rest(&mut self, queued: Queued<T>, now: Millis) {
        let rest = Pause::after(queued.rest, now);
        self.next_rest = self.next_rest.wrapping_add(1);
        self.resting.insert((rest.until, self.next_rest), Queued { rest: Some(rest), ..queued });
    }

    /// Ends the pause and all rests, because the reason for them is gone.
    pub(super) fn hasten(&mut self) {
        self.pause = None;
        self.gathering.extend(std::mem::take(&mut self.resting).into_values());
    }

    /// Puts calls back to where they were, before all others.
    pub(super) fn put_back(&mut self, queued: Vec<Queued<T>>) {
        for queued in queued.into_iter().rev() {
            self.gathering.push_front(queued);
        }
    }
}
