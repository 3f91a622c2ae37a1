//! The requests that have work to do, in turns, and how much of it one turn does.
//!
//! A step is bounded by bytes, and the time of a byte differs by the text and the machine. So a turn does steps until
//! some time has passed, and does not trust the clock alone: it may have been set back.

use super::Clock;
use crate::quantity::Millis;
use crate::request::steps::STEP_WORK;
use std::collections::{HashSet, VecDeque};

/// How long a turn works, and perhaps a step longer.
const TURN: Millis = Millis::new(2);

/// The most work of a turn, whatever the clock says, and perhaps that of a step more.
const MOST: u64 = 8 * STEP_WORK;

/// What one turn has done.
#[derive(Debug)]
pub(super) struct Pace {
    since: Millis,
    work: u64,
    /// The turns in a row in which somebody has done nothing: there is no memory to work with until others are done.
    idle: usize,
    /// Whether nobody can do anything.
    is_over: bool,
}

impl Pace {
    /// A turn that begins now.
    pub(super) const fn new(now: Millis) -> Self {
        Self { since: now, work: 0, idle: 0, is_over: false }
    }

    /// Whether there is time for another step.
    pub(super) fn may_go_on(&self, clock: &Clock<'_>) -> bool {
        !self.is_over && self.work < MOST && clock() - self.since < TURN
    }

    /// Notes the work of a step; so many requests have work.
    pub(super) fn worked(&mut self, work: u64, requests: usize) {
        self.work = self.work.saturating_add(work);
        self.idle = if work == 0 { self.idle.saturating_add(1) } else { 0 };
        self.is_over = self.idle > 0 && self.idle >= requests;
    }
}

/// Requests that have work to do, by stream: whoever has had a turn goes to the end of the queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps {
    queue: VecDeque<u32>,
    /// Those of the queue.
    known: HashSet<u32>,
}

impl Steps {
    /// Notes whether `stream` has work.
    pub(super) fn set(&mut self, stream: u32, has_work: bool) {
        if !has_work {
            if !self.known.is_empty() && self.known.remove(&stream) {
                self.queue.retain(|queued| *queued != stream);
            }
        } else if self.known.insert(stream) {
            self.queue.push_back(stream);
        }
    }

    /// The next stream, which goes to the end of the queue.
    pub(super) fn next(&mut self) -> Option<u32> {
        let stream = self.queue.pop_front()?;
        self.queue.push_back(stream);
        Some(stream)
    }

    /// Whether `stream` has work.
    pub(super) fn has(&self, stream: u32) -> bool {
        !self.known.is_empty() && self.known.contains(&stream)
    }

    /// How many have work.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_over_when_its_time_its_work_or_its_memory_is() {
        let now = Millis::new(1_000);
        let mut pace = Pace::new(now);
        assert!(pace.may_go_on(&|| now) && !pace.may_go_on(&|| now + TURN));
        // The clock has been set back.
        assert!(pace.may_go_on(&|| Millis::ZERO));
        pace.worked(MOST, 1);
        assert!(!pace.may_go_on(&|| now));
        let mut pace = Pace::new(now);
        pace.worked(0, 2);
        assert!(pace.may_go_on(&|| now));
        pace.worked(0, 2);
        assert!(!pace.may_go_on(&|| now));
    }

    #[test]
    fn whoever_has_work_has_a_turn_after_all_others() {
        let mut steps = Steps::default();
        for stream in [1, 2, 3, 2] {
            steps.set(stream, true);
        }
        let next = |steps: &mut Steps| steps.next().unwrap();
        assert_eq!([next(&mut steps), next(&mut steps)], [1, 2]);
        steps.set(3, false);
        steps.set(4, true);
        assert_eq!([next(&mut steps), next(&mut steps), next(&mut steps)], [1, 2, 4]);
        assert_eq!((steps.len(), steps.known.len()), (3, 3));
    }
}
