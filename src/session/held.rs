//! The memory that requests of one worker hold because of what their clients send.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// The bytes that the bodies of a worker hold, at most: 128 MiB for those that are on their way, and as much for those
/// that are being read.
pub(super) const MAX_HELD: u64 = 128 << 20;

/// Bytes that the bodies of a worker hold, and the line of those that wait for some.
#[derive(Clone, Debug, Default)]
pub struct Held {
    bytes: Rc<Cell<u64>>,
    line: Rc<RefCell<Line>>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<u64>,
    /// The number of the next place.
    next: u64,
}

/// A place in the line, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Place {
    line: Rc<RefCell<Line>>,
    number: u64,
}

/// The part of [`Held`] that one body holds, for as long as it does.
#[derive(Debug)]
pub(super) struct Share {
    held: Held,
    bytes: u64,
}

impl Held {
    /// A share of nothing so far.
    pub(super) fn share(&self) -> Share {
        Share { held: self.clone(), bytes: 0 }
    }

    /// A share of `bytes`, if nobody has waited longer than whoever has `place`, and there is room, or nothing is held:
    /// even the largest body has its turn, and no smaller one passes it. Gives a `place` to whoever has to wait.
    pub(super) fn claim(&self, bytes: u64, place: &mut Option<Place>) -> Option<Share> {
        let number = place.as_ref().map(|place| place.number);
        let first = self.line.borrow().waiting.front().copied();
        let is_first = first.is_none() || first == number;
        let has_room = self.all() == 0 || self.all().saturating_add(bytes) <= MAX_HELD;
        if is_first && has_room {
            *place = None;
            let mut share = self.share();
            share.set(bytes);
            return Some(share);
        }
        place.get_or_insert_with(|| self.enter());
        None
    }

    /// The last place in the line.
    fn enter(&self) -> Place {
        let mut line = self.line.borrow_mut();
        let number = line.next;
        line.next = number.wrapping_add(1);
        line.waiting.push_back(number);
        Place { line: Rc::clone(&self.line), number }
    }

    /// The bytes that all hold together.
    pub(super) fn all(&self) -> u64 {
        self.bytes.get()
    }
}

impl Share {
    /// Holds so many bytes from now on.
    pub(super) fn set(&mut self, bytes: u64) {
        let others = self.held.all().saturating_sub(self.bytes);
        self.held.bytes.set(others.saturating_add(bytes));
        self.bytes = bytes;
    }

    /// The bytes that all hold together.
    pub(super) fn of_all(&self) -> u64 {
        self.held.all()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.borrow_mut().waiting.retain(|number| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_whoever_has_waited_longer() {
        let held = Held::default();
        let [mut all, mut small, mut other] = [None, None, None];
        let first = held.claim(MAX_HELD / 2, &mut None).unwrap();
        assert!(held.claim(MAX_HELD, &mut all).is_none());
        assert!(
            held.claim(1, &mut small).is_none() && held.claim(1, &mut other).is_none(),
            "they wait behind it"
        );
        drop(first);
        assert!(held.claim(1, &mut small).is_none());
        let share = held.claim(MAX_HELD, &mut all).unwrap();
        assert!(all.is_none() && held.claim(1, &mut small).is_none());
        drop(share);
        assert!(held.claim(1, &mut other).is_none());
        // Whoever leaves makes way.
        drop(small);
        assert!(held.claim(1, &mut other).is_some());
        assert_eq!(held.all(), 0);
        assert!(held.line.borrow().waiting.is_empty());
    }
}
