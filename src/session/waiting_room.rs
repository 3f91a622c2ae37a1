//! The queues of requests that wait until they fit instead of being refused, one queue per identity.
//!
//! Requests are served in the order in which they arrive: a new request queues behind those of its identity that wait,
//! and only the first of a queue reserves again. The number of places is bounded, and so is the size of the bodies,
//! which Envoy keeps meanwhile. Each worker has a waiting room of its own. `admission` decides when a request reserves
//! again and how long it waits.

use std::collections::{BTreeMap, VecDeque};

/// The requests that wait.
#[derive(Clone, Debug)]
pub struct WaitingRoom {
    /// Places, and bytes of bodies, that are free.
    places: u64,
    bytes: u64,
    /// How many wait.
    len: u32,
    queues: BTreeMap<String, VecDeque<Place>>,
}

/// A request that waits.
#[derive(Clone, Copy, Debug)]
struct Place {
    stream: u32,
    /// The size of its body.
    bytes: u64,
}

impl WaitingRoom {
    /// A room for `places` requests with bodies of `bytes` together.
    pub const fn new(places: u64, bytes: u64) -> Self {
        Self { places, bytes, len: 0, queues: BTreeMap::new() }
    }

    /// How many requests wait.
    pub const fn occupied(&self) -> u32 {
        self.len
    }

    /// Whether requests of `identity` wait.
    pub fn has(&self, identity: &str) -> bool {
        self.queues.contains_key(identity)
    }

    /// Whether `stream` is the first in the queue of `identity`.
    pub fn is_first(&self, identity: &str, stream: u32) -> bool {
        self.queues.get(identity).and_then(VecDeque::front).is_some_and(|first| first.stream == stream)
    }

    /// Adds `stream`, which has a body of `bytes`, at the end of the queue of `identity`. Returns false if there is no
    /// room for it.
    pub fn enter(&mut self, identity: &str, stream: u32, bytes: u64) -> bool {
        let (Some(places), Some(left)) = (self.places.checked_sub(1), self.bytes.checked_sub(bytes)) else {
            return false;
        };
        self.places = places;
        self.bytes = left;
        self.len = self.len.saturating_add(1);
        self.queues.entry(identity.to_owned()).or_default().push_back(Place { stream, bytes });
        true
    }

    /// Removes `stream`, which was admitted or refused, or has ended. Returns the stream that becomes the first in the
    /// queue.
    pub fn leave(&mut self, identity: &str, stream: u32) -> Option<u32> {
        let queue = self.queues.get_mut(identity)?;
        let at = queue.iter().position(|waiting| waiting.stream == stream)?;
        let left = queue.remove(at)?;
        self.places = self.places.saturating_add(1);
        self.bytes = self.bytes.saturating_add(left.bytes);
        self.len = self.len.saturating_sub(1);
        let first = queue.front().map(|place| place.stream);
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
        let mut room = WaitingRoom::new(10, 0);
        assert!(
            room.enter("a", 1, 0) && room.enter("a", 2, 0) && room.enter("a", 4, 0) && room.enter("b", 3, 0)
        );
        assert!(room.is_first("a", 1) && !room.is_first("a", 2) && room.has("b") && !room.has("c"));
        assert_eq!(room.leave("a", 2), None, "the queue has the same first stream as before");
        assert_eq!(room.leave("a", 1), Some(4));
        assert!(room.is_first("a", 4));
        assert_eq!(room.leave("b", 3), None, "the queue is empty");
        assert!(!room.has("b") && room.has("a"));
    }

    #[test]
    fn the_room_is_bounded_and_its_places_come_free() {
        let mut room = WaitingRoom::new(2, 0);
        assert!(room.enter("a", 1, 0) && room.enter("b", 2, 0) && !room.enter("c", 3, 0));
        room.leave("b", 2);
        room.leave("b", 2);
        assert!(room.enter("c", 3, 0) && !room.enter("d", 4, 0));
    }

    #[test]
    fn bodies_of_those_who_wait_are_bounded_together() {
        let mut room = WaitingRoom::new(10, 100);
        assert!(room.enter("a", 1, 60) && !room.enter("b", 2, 41) && room.enter("b", 3, 40));
        assert!(!room.enter("b", 4, 1) && room.enter("b", 5, 0));
        room.leave("a", 1);
        assert!(room.enter("a", 6, 60) && !room.enter("a", 7, 1));
    }
}
