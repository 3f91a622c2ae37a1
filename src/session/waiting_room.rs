//! Requests that wait for a limit instead of being refused: who waits behind whom, and when the first is asked again.
//!
//! First come, first served per identity: a request that comes while others of its identity wait goes behind them,
//! and only the first is asked again. The room is bounded, each wait is bounded, and a stream that ends leaves its
//! place. Each worker has a room of its own. What happens to a stream that is called is [`crate::worker`]'s business.

use std::collections::{BTreeMap, VecDeque};

/// Who waits.
#[derive(Clone, Debug)]
pub struct WaitingRoom {
    places: u64,
    taken: u64,
    queues: BTreeMap<String, Queue>,
}

/// Those of one identity that wait.
#[derive(Clone, Debug, Default)]
struct Queue {
    places: VecDeque<Place>,
    /// When to ask again for the first. Nobody is asked for while the answer for the first is awaited.
    next: Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    stream: u32,
    /// When its patience ends.
    until_ms: u64,
    /// Whether it was asked for because its patience had ended, and the answer is awaited.
    is_leaving: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Next {
    /// The answer for the first is awaited.
    RequestFacts,
    /// At this time.
    At(u64),
    /// As soon as possible.
    #[default]
    Now,
}

impl WaitingRoom {
    /// A room for `places` requests.
    pub const fn new(places: u64) -> Self {
        Self { places, taken: 0, queues: BTreeMap::new() }
    }

    /// Whether others of `identity` wait.
    pub fn has(&self, identity: &str) -> bool {
        self.queues.contains_key(identity)
    }

    /// Whether `stream` is the first of those that wait.
    pub fn is_first(&self, identity: &str, stream: u32) -> bool {
        self.queues.get(identity).and_then(|queue| queue.places.front()).is_some_and(|p| p.stream == stream)
    }

    /// Takes a place at the end until `until_ms` at the latest; false if there is none.
    pub fn enter(&mut self, identity: &str, stream: u32, until_ms: u64) -> bool {
        if self.taken >= self.places {
            return false;
        }
        self.taken = self.taken.saturating_add(1);
        let place = Place { stream, until_ms, is_leaving: false };
        self.queues.entry(identity.to_owned()).or_default().places.push_back(place);
        true
    }

    /// The first of `identity` does not fit yet: it is asked for again at `at_ms`.
    pub fn ask_again(&mut self, identity: &str, at_ms: u64) {
        if let Some(queue) = self.queues.get_mut(identity) {
            queue.next = Next::At(at_ms);
        }
    }

    /// `stream` leaves, whether it was admitted, refused or ended. Who comes first then is asked for at once.
    pub fn leave(&mut self, identity: &str, stream: u32) {
        let Some(queue) = self.queues.get_mut(identity) else { return };
        let Some(at) = queue.places.iter().position(|place| place.stream == stream) else { return };
        queue.places.remove(at);
        self.taken = self.taken.saturating_sub(1);
        if at == 0 {
            queue.next = Next::Now;
        }
        if queue.places.is_empty() {
            self.queues.remove(identity);
        }
    }

    /// The streams to ask for now: the first of each identity when its time has come, and those whose patience ends.
    /// The second value says whether a stream may go on waiting if it does not fit.
    pub fn due(&mut self, now_ms: u64) -> Vec<(u32, bool)> {
        let mut due = Vec::new();
        for queue in self.queues.values_mut() {
            let mut places = queue.places.iter_mut();
            if let Some(first) = places.next() {
                let is_due = match queue.next {
                    Next::RequestFacts => false,
                    Next::At(at_ms) => at_ms <= now_ms || first.until_ms <= now_ms,
                    Next::Now => true,
                };
                if is_due {
                    queue.next = Next::RequestFacts;
                    due.push((first.stream, first.until_ms > now_ms));
                }
            }
            for place in places.filter(|place| place.until_ms <= now_ms && !place.is_leaving) {
                place.is_leaving = true;
                due.push((place.stream, false));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served_per_identity() {
        let mut room = WaitingRoom::new(10);
        assert!(room.enter("a", 1, 100) && room.enter("a", 2, 100) && room.enter("b", 3, 100));
        room.ask_again("a", 50);
        assert!(room.is_first("a", 1) && !room.is_first("a", 2) && room.has("b") && !room.has("c"));
        assert_eq!(room.due(10), [(3, true)], "the first of b has not been asked for");
        assert_eq!(room.due(49), []);
        assert_eq!(room.due(50), [(1, true)]);
        assert_eq!(room.due(60), [], "its answer is awaited");
        room.leave("a", 1);
        assert_eq!(room.due(60), [(2, true)]);
        room.ask_again("a", 90);
        room.leave("b", 3);
        assert_eq!((room.has("b"), room.due(89), room.due(90)), (false, vec![], vec![(2, true)]));
    }

    #[test]
    fn patience_ends_for_everybody_in_the_queue() {
        let mut room = WaitingRoom::new(10);
        assert!(room.enter("a", 1, 500) && room.enter("a", 2, 100));
        room.ask_again("a", 400);
        assert_eq!(room.due(100), [(2, false)]);
        assert_eq!(room.due(100), [], "its answer is awaited");
        room.leave("a", 2);
        assert_eq!((room.due(399), room.due(400)), (vec![], vec![(1, true)]));
        room.ask_again("a", 600);
        assert_eq!(room.due(500), [(1, false)]);
    }

    #[test]
    fn the_room_is_bounded_and_a_place_is_free_again() {
        let mut room = WaitingRoom::new(2);
        assert!(room.enter("a", 1, 9) && room.enter("b", 2, 9) && !room.enter("c", 3, 9));
        room.leave("b", 2);
        room.leave("b", 2);
        assert!(room.enter("c", 3, 9) && !room.enter("d", 4, 9));
    }
}
