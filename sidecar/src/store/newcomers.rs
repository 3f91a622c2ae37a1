//! New identities: in each second, some get counters of their own, and the others share.
//!
//! Only Redis knows which identity is new, and asking first would cost a round trip, for those that are known too. So
//! each sidecar remembers whom it has met lately. For anybody else it takes a place of the second in advance, and gives
//! it back if Redis knows the identity. Where no place is left, one round trip reserves with both, the identity's own
//! counters if there are any and the shared ones; what was charged too much is given back.
//!
//! The memory is bounded. What it forgets costs a place for a moment, and no more.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most identities that one of the two generations remembers: 1.6 MB of hash table.
const MAX_KNOWN: usize = 32_768;

/// The most namespaces with a second of their own. A fleet has a few.
const MAX_NAMESPACES: usize = 1_024;

/// A namespace and a scope in it.
pub(super) type Owner<'a> = (&'a str, &'a str);

/// Who is new, and how many more may come in this second.
#[derive(Debug)]
pub(super) struct Newcomers {
    began: Instant,
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seconds: HashMap<u64, Second>,
    /// Until when each identity is known, in two generations: the older one is forgotten as a whole.
    known: [HashMap<u64, Instant>; 2],
}

/// The places that are taken in a second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    taken: u32,
}

/// How to reserve for an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has counters of its own.
    Known,
    /// It has a place, and may get counters of its own.
    Placed,
    /// There is no place: if it has no counters, it shares.
    Without,
}

impl Newcomers {
    /// Nobody is known. The first second begins `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, hasher: RandomState::new(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whatever has panicked, the numbers are whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn second(&self, now: Instant) -> u64 {
        now.duration_since(self.began).as_secs()
    }

    /// How to reserve for `owner`, where at most `max` new identities of its namespace get a place in a second. One
    /// that gets a place is known from then on, for `lasts`.
    pub(super) fn admit(&self, owner: Owner<'_>, max: NonZeroU32, lasts: Duration, now: Instant) -> Standing {
        let id = self.hasher.hash_one(owner);
        let mut state = self.state();
        if state.knows(id, now) {
            state.remember(id, now + lasts);
            return Standing::Known;
        }
        let number = self.second(now);
        let second = state.second(self.hasher.hash_one(owner.0), number);
        if second.taken >= max.get() {
            return Standing::Without;
        }
        second.taken += 1;
        state.remember(id, now + lasts);
        Standing::Placed
    }

    /// Redis knows `owner`, which took no place or took one at `placed`.
    pub(super) fn met(&self, owner: Owner<'_>, placed: Option<Instant>, lasts: Duration, now: Instant) {
        let mut state = self.state();
        state.remember(self.hasher.hash_one(owner), now + lasts);
        if let Some(placed) = placed {
            let second = state.second(self.hasher.hash_one(owner.0), self.second(now));
            if self.second(placed) == second.number {
                second.taken = second.taken.saturating_sub(1);
            }
        }
    }
}

impl State {
    fn knows(&self, id: u64, now: Instant) -> bool {
        self.known.iter().any(|known| known.get(&id).is_some_and(|until| *until > now))
    }

    fn remember(&mut self, id: u64, until: Instant) {
        let [young, old] = &mut self.known;
        if young.len() >= MAX_KNOWN && !young.contains_key(&id) {
            *old = std::mem::take(young);
        }
        young.insert(id, until);
    }

    fn second(&mut self, namespace: u64, number: u64) -> &mut Second {
        if self.seconds.len() >= MAX_NAMESPACES && !self.seconds.contains_key(&namespace) {
            self.seconds.clear();
        }
        let second = self.seconds.entry(namespace).or_default();
        if second.number != number {
            *second = Second { number, taken: 0 };
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Known, Placed, Without};

    const MINUTE: Duration = Duration::from_secs(60);

    fn two() -> NonZeroU32 {
        NonZeroU32::new(2).unwrap()
    }

    #[test]
    fn a_second_has_so_many_places_and_who_has_one_is_known() {
        let now = Instant::now();
        let newcomers = Newcomers::new(now);
        let admit = |scope, after: u64| {
            newcomers.admit(("", scope), two(), MINUTE, now + Duration::from_millis(after))
        };
        assert_eq!(["a", "b", "c", "a"].map(|scope| admit(scope, 0)), [Placed, Placed, Without, Known]);
        assert_eq!(newcomers.admit(("staging", "c"), two(), MINUTE, now), Placed, "another namespace");
        assert_eq!(["c", "a"].map(|scope| admit(scope, 999)), [Without, Known]);
        assert_eq!(["c", "d", "e"].map(|scope| admit(scope, 1_000)), [Placed, Placed, Without]);
        assert_eq!(["a", "c"].map(|scope| admit(scope, 60_998)), [Known, Known], "each request renews it");
        assert_eq!(admit("b", 60_998), Placed, "its counters have expired");
    }

    #[test]
    fn who_turns_out_to_be_known_gives_its_place_back_within_the_second() {
        let now = Instant::now();
        let newcomers = Newcomers::new(now);
        let admit = |scope, at| newcomers.admit(("", scope), two(), MINUTE, at);
        assert_eq!(["a", "b", "c"].map(|scope| admit(scope, now)), [Placed, Placed, Without]);
        newcomers.met(("", "a"), Some(now), MINUTE, now);
        newcomers.met(("", "c"), None, MINUTE, now);
        assert_eq!(["c", "d", "e"].map(|scope| admit(scope, now)), [Known, Placed, Without]);
        let next = now + Duration::from_secs(1);
        newcomers.met(("", "b"), Some(now), MINUTE, next);
        assert_eq!(["f", "g", "h"].map(|scope| admit(scope, next)), [Placed, Placed, Without]);
    }

    #[test]
    fn memory_is_bounded_and_what_is_in_use_stays() {
        let now = Instant::now();
        let newcomers = Newcomers::new(now);
        let many = NonZeroU32::MAX;
        for number in 0..5 * MAX_KNOWN {
            let scope = number.to_string();
            newcomers.admit(("", &scope), many, MINUTE, now);
            newcomers.admit((&scope, "a"), many, MINUTE, now);
            assert_eq!(newcomers.admit(("", "0"), many, MINUTE, now), Known, "{number}");
        }
        let state = newcomers.state();
        assert!(state.known.iter().all(|known| known.len() <= MAX_KNOWN));
        assert!(state.seconds.len() <= MAX_NAMESPACES);
    }
}
