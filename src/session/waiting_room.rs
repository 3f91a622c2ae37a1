//! The queues of requests that wait until they fit instead of being refused, one queue per identity.
//!
//! Requests are served in the order in which they arrive: a new request queues behind those of its identity that wait,
//! and only the first of a queue reserves again. The number of places is bounded. Each worker has a waiting room of its
//! own. `admission` decides when a request reserves again and how long it waits.

use std::collections::{BTreeMap, VecDeque};

/// The requests that wait, as streams.
#[derive(Clone, Debug)]
pub struct WaitingRoom {
    places: u64,
    taken: u64,
    queues: BTreeMap<String, VecDeque<u32>>,
}

impl WaitingRoom {
    /// A room for `places` requests.
    pub const fn new(places: u64) -> Self {
        Self { places, taken: 0, queues: BTreeMap::new() }
    }

    /// Whether requests of `identity` wait.
    pub fn has(&self, identity: &str) -> bool {
        self.queues.contains_key(identity)
    }

    /// Whether `stream` is the first in the queue of `identity`.
    pub fn is_first(&self, identity: &str, stream: u32) -> bool {
        self.queues.get(identity).and_then(VecDeque::front) == Some(&stream)
    }

    /// Adds `stream` at the end of the queue of `identity`. Returns false if the room is full.
    pub fn enter(&mut self, identity: &str, stream: u32) -> bool {
        if self.taken >= self.places {
            return false;
        }
        self.taken = self.taken.saturating_add(1);
        self.queues.entry(identity.to_owned()).or_default().push_back(stream);
        true
    }

    /// Removes `stream`, which was admitted or refused, or has ended. Returns the stream that becomes the first in the
    /// queue.
    pub fn leave(&mut self, identity: &str, stream: u32) -> Option<u32> {
        let queue = self.queues.get_mut(identity)?;
        let at = queue.iter().position(|waiting| *waiting == stream)?;
        queue.remove(at);
        self.taken = self.taken.saturating_sub(1);
        let first = queue.front().copied();
        if first.is_none() {
            self.queues.remove(identity);
        }
        first.filter(|_| at == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_identity_is_served_in_the_order_of_arrival() {
        let mut room = WaitingRoom::new(10);
        assert!(room.enter("a", 1) && room.enter("a", 2) && room.enter("a", 4) && room.enter("b", 3));
        assert!(room.is_first("a", 1) && !room.is_first("a", 2) && room.has("b") && !room.has("c"));
        assert_eq!(room.leave("a", 2), None, "the queue has the same first stream as before");
        assert_eq!(room.leave("a", 1), Some(4));
        assert!(room.is_first("a", 4));
        assert_eq!(room.leave("b", 3), None, "the queue is empty");
        assert!(!room.has("b") && room.has("a"));
    }

    #[test]
    fn the_room_is_bounded_and_its_places_come_free() {
        let mut room = WaitingRoom::new(2);
        assert!(room.enter("a", 1) && room.enter("b", 2) && !room.enter("c", 3));
        room.leave("b", 2);
        room.leave("b", 2);
        assert!(room.enter("c", 3) && !room.enter("d", 4));
    }
}
