//! The lines of requests that wait for a limit instead of being refused.
//!
//! First come, first served per identity: a request that arrives while others of its identity wait goes behind them,
//! and only the first asks the store again. The room is bounded, and a stream that ends leaves its place. Each worker
//! has a room of its own. When a request asks again, and for how long it waits, is the request's own business
//! ([`super::admission`]).

use std::collections::{BTreeMap, VecDeque};

/// The requests that wait, by their streams.
#[derive(Clone, Debug)]
pub struct WaitingRoom {
    places: u64,
    taken: u64,
    lines: BTreeMap<String, VecDeque<u32>>,
}

impl WaitingRoom {
    /// A room for `places` requests.
    pub const fn new(places: u64) -> Self {
        Self { places, taken: 0, lines: BTreeMap::new() }
    }

    /// Whether requests of `identity` wait.
    pub fn has(&self, identity: &str) -> bool {
        self.lines.contains_key(identity)
    }

    /// Whether `stream` is the first of its line.
    pub fn is_first(&self, identity: &str, stream: u32) -> bool {
        self.lines.get(identity).and_then(VecDeque::front) == Some(&stream)
    }

    /// Takes the last place of the line; false if the room is full.
    pub fn enter(&mut self, identity: &str, stream: u32) -> bool {
        if self.taken >= self.places {
            return false;
        }
        self.taken = self.taken.saturating_add(1);
        self.lines.entry(identity.to_owned()).or_default().push_back(stream);
        true
    }

    /// `stream` leaves, whether it was admitted, refused or ended. Returns the stream that is first from now on, if
    /// that is another one than before.
    pub fn leave(&mut self, identity: &str, stream: u32) -> Option<u32> {
        let line = self.lines.get_mut(identity)?;
        let at = line.iter().position(|waiting| *waiting == stream)?;
        line.remove(at);
        self.taken = self.taken.saturating_sub(1);
        let first = line.front().copied();
        if first.is_none() {
            self.lines.remove(identity);
        }
        first.filter(|_| at == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served_per_identity() {
        let mut room = WaitingRoom::new(10);
        assert!(room.enter("a", 1) && room.enter("a", 2) && room.enter("a", 4) && room.enter("b", 3));
        assert!(room.is_first("a", 1) && !room.is_first("a", 2) && room.has("b") && !room.has("c"));
        assert_eq!(room.leave("a", 2), None, "the first is the same as before");
        assert_eq!(room.leave("a", 1), Some(4));
        assert!(room.is_first("a", 4));
        assert_eq!(room.leave("b", 3), None, "the line is empty");
        assert!(!room.has("b") && room.has("a"));
    }

    #[test]
    fn the_room_is_bounded_and_a_place_is_free_again() {
        let mut room = WaitingRoom::new(2);
        assert!(room.enter("a", 1) && room.enter("b", 2) && !room.enter("c", 3));
        room.leave("b", 2);
        room.leave("b", 2);
        assert!(room.enter("c", 3) && !room.enter("d", 4));
    }
}
