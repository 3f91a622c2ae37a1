//! The busiest owners of counters, and those closest to a limit, among what this sidecar has decided lately.
//!
//! A sketch of bounded size, whatever identities come. It counts requests by owner in a table; when that is full, half
//! of it goes: every count loses the median, and owners without a count leave, unless they are among those closest to
//! a limit (frequent items by Misra and Gries, in the form of Anderson et al., "A High-Performance Algorithm for
//! Identifying Frequent Items in Data Streams", 2017). So whoever sends more than a share of all requests is in it, and
//! the requests that a count may lack are known. It begins anew every ten minutes and keeps the ten before.
//!
//! It has the ids and names that counters have, and no keys. What filters refuse from memory comes as a number, with
//! the next request that asks; what they decide locally never comes here.

use crate::status::history::tokens;
use crate::store::Ended;
use llm_rate_limit::quantity::{Millis, Units};
use llm_rate_limit::store::wire::{Charge, Reserve, Reserved, Settle};
use llm_rate_limit::window::{Window, WindowState};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most owners of a generation: a megabyte with their names.
const MAX_OWNERS: usize = 4096;

/// How many of those closest to a limit stay when the table is full.
const KEPT_NEAREST: usize = MAX_OWNERS / 4;

/// How long a generation counts.
const GENERATION: Duration = Duration::from_secs(600);

/// The sketch.
#[derive(Debug)]
pub struct Top {
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: Generation,
    previous: Generation,
}

/// The counts of ten minutes, or less.
#[derive(Debug)]
struct Generation {
    began: Instant,
    /// By the hash of namespace, scope and identity.
    owners: HashMap<u64, Entry>,
    /// The most that a count may lack.
    missing: u64,
}

/// What is known of an owner.
#[derive(Clone, Debug)]
struct Entry {
    owner: Owner,
    requests: u64,
    refused: u64,
    /// The tokens of those that were settled, if anybody has measured them.
    tokens: Option<u64>,
    nearest: Option<Used>,
}

/// A window, as it was when it was last changed here.
#[derive(Clone, Debug)]
struct Used {
    limit: Arc<str>,
    window: Window,
    used: Units,
    capacity: Units,
    /// When it is empty if nobody spends.
    empty_at: Instant,
}

/// The owner of counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The namespace of its counters.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub namespace: Arc<str>,
    /// The scope of its counters.
    pub scope: Arc<str>,
    /// Its identity.
    pub identity: Arc<str>,
}

/// The answer to `GET /v1/top`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranking {
    /// How long it has counted, in milliseconds: up to twenty minutes.
    pub over_ms: Millis,
    /// The requests that each count may lack.
    pub missing: u64,
    /// The owners with the most requests, most first.
    pub busiest: Vec<Busy>,
    /// The owners that have used the largest part of one of their limits, largest first.
    pub nearest: Vec<Near>,
}

/// An owner, and its requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// The owner.
    #[serde(flatten)]
    pub owner: Owner,
    /// Its requests, admitted or not.
    pub requests: u64,
    /// Of them, those that a limit refused, this owner's or another.
    pub refused: u64,
    /// The tokens of those that have ended here, if anybody has measured them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

/// An owner, and the limit that it is closest to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Near {
    /// The owner.
    #[serde(flatten)]
    pub owner: Owner,
    /// The limit's name.
    pub name: String,
    /// The window's label, such as `1m`.
    pub window: String,
    /// The units in it after the last request or settlement.
    pub used: Units,
    /// The units that it holds.
    pub limit: Units,
    /// Milliseconds until it is empty if no request spends.
    pub reset_ms: Millis,
}

impl Top {
    /// An empty sketch at `now`.
    pub fn new(now: Instant) -> Self {
        let state = State { current: Generation::new(now), previous: Generation::new(now) };
        Self { hasher: RandomState::new(), state: Mutex::new(state) }
    }

    /// Counts the answers to a batch of reservations, one for each.
    pub fn reserved(&self, batch: &[Reserve], answers: &[Reserved], now: Instant) {
        let mut state = self.state();
        state.turn(now);
        for (one, answer) in batch.iter().zip(answers) {
            let Reserved::Decided { admitted, windows } = answer else { continue };
            let (mut rest, mut unasked) = (windows.as_slice(), one.refused_unasked.as_slice());
            for scope in &one.charges {
                for charges in scope.charges.chunk_by(|a, b| a.identity == b.identity) {
                    let of_owner = unasked.split_off(..charges.len().min(unasked.len())).unwrap_or_default();
                    let unasked = u64::from(of_owner.iter().copied().max().unwrap_or_default());
                    let Some((first, (states, others))) =
                        charges.first().zip(rest.split_at_checked(charges.len()))
                    else {
                        break;
                    };
                    rest = others;
                    let owner = (&*one.namespace, &*scope.scope, &*first.identity);
                    let entry =
                        state.current.owners.entry(self.hasher.hash_one(owner)).or_insert_with(|| {
                            Entry::new(Owner {
                                namespace: Arc::clone(&one.namespace),
                                scope: Arc::clone(&scope.scope),
                                identity: Arc::clone(&first.identity),
                            })
                        });
                    entry.requests += 1 + unasked;
                    entry.refused += u64::from(!admitted) + unasked;
                    entry.see(charges, states, now);
                }
            }
            if state.current.owners.len() >= MAX_OWNERS {
                state.current.purge(now);
            }
        }
    }

    /// Sees the windows after a batch of settlements, and counts the tokens of the requests that have ended.
    pub fn settled(&self, batch: &[Settle], ended: &[Ended], now: Instant) {
        let mut state = self.state();
        state.turn(now);
        for (one, ended) in batch.iter().zip(ended) {
            let (is_final, mut rest) = (ended.is_final(one), ended.windows.as_slice());
            if !is_final && rest.is_empty() {
                continue;
            }
            let tokens = tokens(one).filter(|_| is_final);
            for scope in &one.charges {
                for charges in scope.charges.chunk_by(|a, b| a.identity == b.identity) {
                    let Some(first) = charges.first() else { continue };
                    let states = rest.split_off(..charges.len()).unwrap_or_default();
                    let owner = self.hasher.hash_one((&*one.namespace, &*scope.scope, &*first.identity));
                    let State { current, previous } = &mut *state;
                    // It has come before, perhaps in the ten minutes before these.
                    let entry = current.owners.get_mut(&owner).or_else(|| previous.owners.get_mut(&owner));
                    if let Some(entry) = entry {
                        entry.tokens = sum(entry.tokens, tokens);
                        entry.see(charges, states, now);
                    }
                }
            }
        }
    }

    /// The first `most` of each ranking at `now`, of all owners or of those with this `identity`.
    pub fn ranking(&self, most: usize, identity: Option<&str>, now: Instant) -> Ranking {
        let mut state = self.state();
        state.turn(now);
        let mut owners = state.previous.owners.clone();
        for (hash, entry) in &state.current.owners {
            owners.entry(*hash).and_modify(|earlier| earlier.add(entry)).or_insert_with(|| entry.clone());
        }
        let over = now.saturating_duration_since(state.previous.began);
        let missing = state.previous.missing + state.current.missing;
        drop(state);
        let mut entries: Vec<Entry> =
            owners.into_values().filter(|it| identity.is_none_or(|of| *it.owner.identity == *of)).collect();
        entries.sort_by_key(|entry| Reverse(entry.requests));
        let busiest = entries.iter().filter(|entry| entry.requests > 0).take(most).map(Entry::busy).collect();
        entries.sort_by_key(|entry| Reverse(entry.share(now)));
        let nearest = entries.iter().filter_map(|entry| entry.near(now)).take(most).collect();
        Ranking { over_ms: millis(over), missing, busiest, nearest }
    }

    /// The state. A panic cannot leave it half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.current.began);
        if age >= GENERATION {
            let ended = std::mem::replace(&mut self.current, Generation::new(now));
            // Nothing has come for a while: what was before that is old.
            self.previous = if age < GENERATION * 2 { ended } else { Generation::new(now) };
        }
    }
}

impl Generation {
    fn new(began: Instant) -> Self {
        Self { began, owners: HashMap::new(), missing: 0 }
    }

    /// Halves the table.
    fn purge(&mut self, now: Instant) {
        let mut counts: Vec<u64> = self.owners.values().map(|entry| entry.requests).collect();
        let middle = counts.len() / 2;
        let median = *counts.select_nth_unstable(middle).1;
        let mut shares: Vec<_> =
            self.owners.iter().map(|(hash, entry)| Reverse((entry.share(now), *hash))).collect();
        let place = KEPT_NEAREST.min(shares.len().saturating_sub(1));
        let Reverse(last) = *shares.select_nth_unstable(place).1;
        self.missing += median;
        self.owners.retain(|hash, entry| {
            entry.requests = entry.requests.saturating_sub(median);
            entry.refused = entry.refused.min(entry.requests);
            entry.requests > 0 || (entry.share(now), *hash) > last
        });
    }
}

impl Entry {
    fn new(owner: Owner) -> Self {
        Self { owner, requests: 0, refused: 0, tokens: None, nearest: None }
    }

    /// Sees the windows of a request, after a decision or its end.
    fn see(&mut self, charges: &[Charge], states: &[WindowState], now: Instant) {
        let nearest = charges
            .iter()
            .zip(states)
            .max_by_key(|(charge, state)| share(state.used, capacity(charge, state)));
        let Some((charge, state)) = nearest else { return };
        // What is known of a window that the request is charged to as well is out of date.
        let is_known = |used: &Used| charges.iter().any(|charge| used.is_of(charge));
        let earlier = self.nearest.as_ref().filter(|used| !is_known(used) && used.empty_at > now);
        let (used, capacity) = (state.used, capacity(charge, state));
        if earlier.is_some_and(|earlier| share(earlier.used, earlier.capacity) > share(used, capacity)) {
            return;
        }
        let empty_at = now + Duration::from_millis(state.reset.get());
        match &mut self.nearest {
            Some(nearest) if nearest.is_of(charge) => {
                (nearest.used, nearest.capacity, nearest.empty_at) = (used, capacity, empty_at);
            }
            nearest => *nearest = Some(Used::new(charge, state, now)),
        }
    }

    /// Adds what came later of the same owner.
    fn add(&mut self, later: &Self) {
        self.requests += later.requests;
        self.refused += later.refused;
        self.tokens = sum(self.tokens, later.tokens);
        self.nearest = later.nearest.clone().or_else(|| self.nearest.take());
    }

    /// Its nearest limit, if it has used anything of one.
    fn nearest(&self, now: Instant) -> Option<&Used> {
        self.nearest.as_ref().filter(|used| used.empty_at > now && !used.used.is_zero())
    }

    /// The used part of that, in millionths.
    fn share(&self, now: Instant) -> u64 {
        self.nearest(now).map_or(0, Used::share)
    }

    fn busy(&self) -> Busy {
        let Self { requests, refused, tokens, .. } = *self;
        Busy { owner: self.owner.clone(), requests, refused, tokens }
    }

    fn near(&self, now: Instant) -> Option<Near> {
        let nearest = self.nearest(now)?;
        Some(Near {
            owner: self.owner.clone(),
            name: nearest.limit.to_string(),
            window: nearest.window.label(),
            used: nearest.used,
            limit: nearest.capacity,
            reset_ms: millis(nearest.empty_at.saturating_duration_since(now)),
        })
    }
}

/// The most that fits at once, with what is granted.
fn capacity(charge: &Charge, state: &WindowState) -> Units {
    charge.window.capacity(charge.limit) + state.granted
}

impl Used {
    fn new(charge: &Charge, state: &WindowState, now: Instant) -> Self {
        Self {
            limit: Arc::clone(&charge.name),
            window: charge.window,
            used: state.used,
            capacity: capacity(charge, state),
            empty_at: now + Duration::from_millis(state.reset.get()),
        }
    }

    fn share(&self) -> u64 {
        share(self.used, self.capacity)
    }

    fn is_of(&self, charge: &Charge) -> bool {
        self.limit == charge.name && self.window.counted() == charge.window.counted()
    }
}

/// `used` of `capacity` in millionths; all of it if there is no capacity.
fn share(used: Units, capacity: Units) -> u64 {
    if capacity.is_zero() {
        return 1_000_000;
    }
    // Units are below 2^53, so that doubles have them, and a cast keeps within its bounds.
    (used.get() as f64 / capacity.get() as f64 * 1e6) as u64
}

/// The sum of what is known.
fn sum(some: Option<u64>, more: Option<u64>) -> Option<u64> {
    [some, more].into_iter().flatten().reduce(u64::saturating_add)
}

fn millis(duration: Duration) -> Millis {
    Millis::new(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{charge, in_scope};
    use llm_rate_limit::quantity::NonZeroMillis;
    use llm_rate_limit::store::wire::Settled;
    use llm_rate_limit::window::Fit;

    /// A reservation of `identity` under limits of `name`, and its answer: what is used of 100.
    fn decided(identity: &str, name: &str, used: u64, admitted: bool) -> (Reserve, Reserved) {
        let charge = Charge { identity: identity.into(), ..charge(name) };
        let charges = vec![in_scope(identity, &[charge])];
        let state = WindowState {
            used: Units::new(used),
            reset: Millis::MINUTE,
            fit: Fit::Now,
            granted: Units::ZERO,
        };
        (Reserve { charges, ..Reserve::default() }, Reserved::Decided { admitted, windows: vec![state] })
    }

    fn count(top: &Top, (one, answer): (Reserve, Reserved), now: Instant) {
        top.reserved(&[one], &[answer], now);
    }

    /// Identities with their requests and refusals, and identities with their nearest limit and what is used of it.
    type Names<'a> = (Vec<(&'a str, u64, u64)>, Vec<(&'a str, &'a str, u64)>);

    fn names(ranking: &Ranking) -> Names<'_> {
        let busiest = ranking.busiest.iter().map(|it| (&*it.owner.identity, it.requests, it.refused));
        let nearest = ranking.nearest.iter().map(|it| (&*it.owner.identity, &*it.name, it.used.get()));
        (busiest.collect(), nearest.collect())
    }

    #[test]
    fn owners_are_ranked_by_requests_and_by_what_is_left() {
        let now = Instant::now();
        let top = Top::new(now);
        for used in 1..=3 {
            count(&top, decided("busy", "requests", used, true), now);
        }
        count(&top, decided("near", "requests", 5, true), now);
        count(&top, decided("near", "total_tokens", 95, false), now);
        let (busiest, nearest) = (top.ranking(9, None, now), top.ranking(1, Some("busy"), now));
        let (by_requests, by_share) = names(&busiest);
        assert_eq!(by_requests, [("busy", 3, 0), ("near", 2, 1)]);
        assert_eq!(by_share, [("near", "total_tokens", 95), ("busy", "requests", 3)]);
        assert_eq!(names(&nearest), (vec![("busy", 3, 0)], vec![("busy", "requests", 3)]));
        assert_eq!(busiest.missing, 0);
    }

    #[test]
    fn a_window_is_known_as_it_was_after_the_last_request_until_it_is_empty() {
        let now = Instant::now();
        let top = Top::new(now);
        count(&top, decided("a", "requests", 90, true), now);
        count(&top, decided("a", "requests", 20, true), now);
        assert_eq!(names(&top.ranking(9, None, now)).1, [("a", "requests", 20)]);
        count(&top, decided("a", "total_tokens", 10, true), now);
        assert_eq!(names(&top.ranking(9, None, now)).1, [("a", "requests", 20)], "it is still closer");
        let later = now + Duration::from_secs(61);
        assert_eq!(names(&top.ranking(9, None, later)).1, []);
    }

    #[test]
    fn what_a_request_has_used_replaces_what_it_had_reserved_when_it_ends() {
        let now = Instant::now();
        let top = Top::new(now);
        let slot = Charge {
            window: Window::concurrency(NonZeroMillis::MINUTE),
            limit: Units::new(2),
            ..charge("concurrency")
        };
        let charges = vec![in_scope("key", &[charge("total_tokens"), slot])];
        let states = |used: [u64; 2]| {
            let state = |used| WindowState {
                used: Units::new(used),
                reset: Millis::MINUTE,
                fit: Fit::Now,
                granted: Units::ZERO,
            };
            used.map(state).to_vec()
        };
        let reserve = |used| {
            let one = Reserve { charges: charges.clone(), ..Reserve::default() };
            top.reserved(&[one], &[Reserved::Decided { admitted: true, windows: states(used) }], now);
        };
        reserve([30, 1]);
        reserve([60, 2]);
        assert_eq!(names(&top.ranking(9, None, now)).1, [("key", "concurrency", 2)]);
        let end = |extend| Settle { extend, tokens: Some(50), charges: charges.clone(), ..Settle::default() };
        let done = |settled, windows| Ended { answer: Settled::Done { settled, over: false }, windows };
        for (one, ended, expected) in [
            (end(true), done(true, states([60, 2])), ("key", "concurrency", 2)),
            (end(false), done(false, Vec::new()), ("key", "concurrency", 2)),
            (end(false), done(true, states([34, 1])), ("key", "concurrency", 1)),
            (end(false), done(true, states([7, 0])), ("key", "total_tokens", 7)),
        ] {
            top.settled(&[one], &[ended], now);
            assert_eq!(names(&top.ranking(9, None, now)).1, [expected]);
        }
        assert_eq!(top.ranking(9, None, now).busiest[0].tokens, Some(100));
        // It ends in the next ten minutes, and one of its scopes says nothing.
        reserve([9, 0]);
        let later = now + GENERATION;
        top.settled(&[end(false)], &[done(true, Vec::new())], later);
        assert_eq!(names(&top.ranking(9, None, now)).1, [("key", "total_tokens", 9)]);
        assert_eq!(top.ranking(9, None, later).busiest[0].tokens, Some(150));
    }

    #[test]
    fn requests_that_were_refused_from_memory_count_for_the_owner_whose_counter_refused() {
        let now = Instant::now();
        let top = Top::new(now);
        let ((one, answer), (group, of_group)) =
            (decided("key", "requests", 1, false), decided("group-a", "requests", 100, false));
        let (Reserved::Decided { windows: a, .. }, Reserved::Decided { windows: b, .. }) = (answer, of_group)
        else {
            panic!("both are decided");
        };
        for (refused_unasked, key, group_a) in [(vec![4, 9], 5, 10), (vec![0, 2], 6, 13), (vec![], 7, 14)] {
            let charges = [one.charges.clone(), group.charges.clone()].concat();
            let both = Reserve { charges, refused_unasked, ..Reserve::default() };
            let windows = [a.clone(), b.clone()].concat();
            top.reserved(&[both], &[Reserved::Decided { admitted: false, windows }], now);
            let busiest = [("group-a", group_a, group_a), ("key", key, key)];
            assert_eq!(names(&top.ranking(9, None, now)).0, busiest);
        }
    }

    #[test]
    fn every_owner_of_a_request_counts_and_a_failed_one_does_not() {
        let now = Instant::now();
        let top = Top::new(now);
        let (one, answer) = decided("key", "requests", 1, true);
        let (group, of_group) = decided("group-a", "requests", 50, true);
        let charges = [one.charges, group.charges].concat();
        let (Reserved::Decided { windows: a, .. }, Reserved::Decided { windows: b, .. }) = (answer, of_group)
        else {
            panic!("both are decided");
        };
        let both = Reserve { charges, ..Reserve::default() };
        let decided = Reserved::Decided { admitted: true, windows: [a, b].concat() };
        let failed = Reserved::Failed { error: "no".to_owned(), unavailable: true };
        top.reserved(&[both.clone(), both], &[decided, failed], now);
        let ranking = top.ranking(9, None, now);
        assert_eq!(names(&ranking).1, [("group-a", "requests", 50), ("key", "requests", 1)]);
        assert_eq!(ranking.busiest.iter().map(|it| it.requests).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn a_crowd_is_bounded_and_hides_neither_who_is_busy_nor_who_is_near() {
        let now = Instant::now();
        let top = Top::new(now);
        count(&top, decided("near", "requests", 99, true), now);
        for n in 0..40_000 {
            count(&top, decided(&format!("crowd-{n}"), "requests", 1, true), now);
            if n % 20 == 0 {
                count(&top, decided("busy", "requests", 2, true), now);
            }
        }
        let ranking = top.ranking(2, None, now);
        let (busiest, nearest) = names(&ranking);
        assert_eq!(busiest[0].0, "busy");
        assert!(busiest[0].1 <= 2_000 && busiest[0].1 + ranking.missing >= 2_000, "{ranking:?}");
        assert_eq!(nearest, [("near", "requests", 99), ("busy", "requests", 2)]);
        assert!(top.state().current.owners.len() <= MAX_OWNERS);
    }

    #[test]
    fn counts_last_ten_minutes_and_the_ten_before() {
        let start = Instant::now();
        let top = Top::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        count(&top, decided("a", "requests", 1, true), at(0));
        count(&top, decided("a", "requests", 1, true), at(700));
        assert_eq!(names(&top.ranking(9, None, at(700))).0, [("a", 2, 0)]);
        assert_eq!(names(&top.ranking(9, None, at(1_400))).0, [("a", 1, 0)]);
        assert_eq!(names(&top.ranking(9, None, at(9_000))).0, []);
    }
}
