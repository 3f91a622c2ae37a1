//! The local store: counters of this Envoy process, shared by all its workers, exact under concurrency.
//!
//! Envoy's shared data is one map per process. Its compare-and-swap is atomic only on a key that already exists, and
//! keys are never freed. So the store is a fixed number of shards, created when the filter is configured (which Envoy
//! does on the main thread before any worker), and a scope always lives in the one shard that its name hashes to.

use super::shard::{Digest16, Shard, digest};
use crate::store::wire::{Charge, WindowState};
use crate::window::ChargedParts;
use std::num::NonZeroU32;
use thiserror::Error;

/// Compare-and-swaps that may fail in a row before a call gives up. Each failure means that another worker got
/// through, so this is never reached by load alone.
const MAX_TRIES: u32 = 10_000;

/// Scopes per shard that the number of shards is chosen for; half of what a shard holds.
const EXPECTED_SCOPES_PER_SHARD: u32 = 8;

/// Envoy's shared data, as much as the store needs of it.
pub trait SharedData {
    /// The value of `key` and its version.
    fn get(&self, key: &str) -> Option<(Vec<u8>, NonZeroU32)>;
    /// Writes `value` if the version is still `version`; false if it is not.
    fn replace(&self, key: &str, value: &[u8], version: NonZeroU32) -> bool;
    /// Creates `key`. Only safe while nobody else may.
    fn create(&self, key: &str, value: &[u8]);
}

/// Why the local store could not answer. None of these happens in an Envoy that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LocalError {
    /// The store was not prepared.
    #[error("the local store's shard {0} does not exist")]
    Missing(u32),
    /// Other workers were quicker too many times.
    #[error("the local store's shard {0} changed {MAX_TRIES} times while it was being written")]
    Contended(u32),
}

/// What a reservation took from the local store; needed to extend and to settle it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// One per charge, in order.
    parts: Vec<ChargedParts>,
}

/// The answer to a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What was charged, if it was.
    pub hold: Option<Receipt>,
    /// Per charge, in order: the counter after the decision.
    pub states: Vec<WindowState>,
}

/// The counters of this Envoy.
#[derive(Clone, Debug)]
pub struct LocalStore<S> {
    data: S,
    shards: NonZeroU32,
}

impl<S: SharedData> LocalStore<S> {
    /// A store for `max_identities` at a time, on `data`.
    pub fn new(data: S, max_identities: NonZeroU32) -> Self {
        let shards = max_identities.get().div_ceil(EXPECTED_SCOPES_PER_SHARD);
        Self { data, shards: NonZeroU32::new(shards).unwrap_or(NonZeroU32::MIN) }
    }

    /// Creates the shards that do not exist yet. To be called when the filter is configured; counters that are
    /// there, from before a reload, stay.
    pub fn prepare(&self) {
        let empty = Shard::default().encode();
        for shard in 0..self.shards.get() {
            let key = self.key(shard);
            if self.data.get(&key).is_none() {
                self.data.create(&key, &empty);
            }
        }
    }

    /// Charges all of `charges` or none. Charges of one scope stand next to each other and are one atomic step;
    /// of several scopes, each is charged in turn and all are given back if a later one does not fit.
    ///
    /// # Errors
    /// [`LocalError`]; nothing stays charged then.
    pub fn reserve(&self, charges: &[Charge], now_ms: u64) -> Result<Decision, LocalError> {
        let mut decision =
            Decision { hold: Some(Receipt::default()), states: Vec::with_capacity(charges.len()) };
        let mut charged: Vec<(&[Charge], Vec<ChargedParts>)> = Vec::new();
        for scope in by_scope(charges) {
            if decision.hold.is_none() {
                decision.states.extend(self.change(scope, |shard| shard.peek(scope, now_ms))?);
                continue;
            }
            match self.change(scope, |shard| shard.reserve(scope, now_ms)) {
                Ok(attempt) => {
                    decision.states.extend(attempt.states);
                    match attempt.parts {
                        Some(parts) => charged.push((scope, parts)),
                        None => decision.hold = None,
                    }
                }
                Err(error) => {
                    self.give_back(&charged, now_ms)?;
                    return Err(error);
                }
            }
        }
        match &mut decision.hold {
            Some(hold) => hold.parts = charged.into_iter().flat_map(|(_, parts)| parts).collect(),
            None => self.give_back(&charged, now_ms)?,
        }
        Ok(decision)
    }

    /// Charges what a running request costs by now beyond what `hold` has taken, and renews its leases. Each charge's
    /// `cost` is all that it cost so far, so that calling this again changes nothing. Nothing is given back. Returns
    /// whether a limit is passed now.
    ///
    /// # Errors
    /// [`LocalError`]; scopes from the one that failed on are as before.
    pub fn extend(&self, charges: &[Charge], hold: &mut Receipt, now_ms: u64) -> Result<bool, LocalError> {
        let (mut begin, mut is_over) = (0_usize, false);
        for scope in by_scope(charges) {
            let end = begin.saturating_add(scope.len());
            let Some(parts) = hold.parts.get_mut(begin..end) else { break };
            let (extended, past) = self.change(scope, |shard| shard.extend(scope, parts, now_ms))?;
            parts.clone_from_slice(&extended);
            is_over |= past;
            begin = end;
        }
        Ok(is_over)
    }

    /// Replaces what was reserved by the real `cost` of each charge. `hold` is consumed: there is no settling twice.
    ///
    /// # Errors
    /// [`LocalError`]; scopes after the one that failed keep what was reserved.
    #[expect(clippy::needless_pass_by_value, reason = "a hold is settled once")]
    pub fn settle(&self, charges: &[Charge], hold: Receipt, now_ms: u64) -> Result<(), LocalError> {
        let mut parts = hold.parts.as_slice();
        for scope in by_scope(charges) {
            let (now, later) = parts.split_at_checked(scope.len()).unwrap_or((parts, &[]));
            self.change(scope, |shard| shard.settle(scope, now, now_ms))?;
            parts = later;
        }
        Ok(())
    }

    fn give_back(&self, charged: &[(&[Charge], Vec<ChargedParts>)], now_ms: u64) -> Result<(), LocalError> {
        for (scope, parts) in charged {
            let nothing: Vec<Charge> = scope.iter().map(|c| Charge { cost: 0, ..c.clone() }).collect();
            self.change(scope, |shard| shard.settle(&nothing, parts, now_ms))?;
        }
        Ok(())
    }

    /// Reads the shard of `scope`, lets `change` work on it, and writes it back, again and again until nobody else
    /// has written in between.
    fn change<T>(&self, scope: &[Charge], change: impl Fn(&mut Shard) -> T) -> Result<T, LocalError> {
        let shard = scope.first().map_or(0, |charge| self.shard_of(digest(&[&charge.scope])));
        let key = self.key(shard);
        for _ in 0..MAX_TRIES {
            let (bytes, version) = self.data.get(&key).ok_or(LocalError::Missing(shard))?;
            let mut counters = Shard::decode(&bytes);
            let answer = change(&mut counters);
            let changed = counters.encode();
            if changed == bytes || self.data.replace(&key, &changed, version) {
                return Ok(answer);
            }
        }
        Err(LocalError::Contended(shard))
    }

    fn shard_of(&self, name: Digest16) -> u32 {
        let [a, b, c, d, ..] = name;
        u32::from_be_bytes([a, b, c, d]) % self.shards
    }

    /// The number of shards is part of the name: another number spreads the scopes in another way. So is the version
    /// of what the bytes mean.
    fn key(&self, shard: u32) -> String {
        format!("llmrl/2/{}/{shard}", self.shards)
    }
}

/// `charges` cut where the scope changes.
fn by_scope(charges: &[Charge]) -> impl Iterator<Item = &[Charge]> {
    charges.chunk_by(|a, b| a.scope == b.scope)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::window::Window;
    use std::collections::HashMap;
    use std::num::NonZeroU64;
    use std::sync::Mutex;

    /// Envoy's shared data: a version per value, and a swap that fails if the version has moved.
    #[derive(Default)]
    pub(crate) struct Memory(Mutex<HashMap<String, (Vec<u8>, u32)>>);

    impl SharedData for &Memory {
        fn get(&self, key: &str) -> Option<(Vec<u8>, NonZeroU32)> {
            let (value, version) = self.0.lock().unwrap().get(key)?.clone();
            Some((value, NonZeroU32::new(version)?))
        }

        fn replace(&self, key: &str, value: &[u8], version: NonZeroU32) -> bool {
            let mut map = self.0.lock().unwrap();
            let entry = map.get_mut(key).unwrap();
            let current = entry.1 == version.get();
            if current {
                *entry = (value.to_vec(), version.get() + 1);
            }
            current
        }

        fn create(&self, key: &str, value: &[u8]) {
            self.0.lock().unwrap().insert(key.into(), (value.to_vec(), 1));
        }
    }

    fn charge(scope: &str, limit: u64, cost: u64) -> Charge {
        Charge {
            scope: scope.into(),
            identity: scope.into(),
            name: "requests".into(),
            window: Window::sliding(NonZeroU64::new(60_000).unwrap()),
            limit,
            cost,
            enforced: true,
        }
    }

    fn store(memory: &Memory) -> LocalStore<&Memory> {
        let store = LocalStore::new(memory, NonZeroU32::new(64).unwrap());
        store.prepare();
        store
    }

    #[test]
    fn an_unprepared_store_says_so() {
        let memory = Memory::default();
        let store = LocalStore::new(&memory, NonZeroU32::MIN);
        assert_eq!(store.reserve(&[charge("a", 1, 1)], 0), Err(LocalError::Missing(0)));
    }

    #[test]
    fn workers_together_admit_exactly_the_limit() {
        let memory = Memory::default();
        let store = store(&memory);
        let admitted: usize = std::thread::scope(|s| {
            let worker = || {
                (0..300).filter(|_| store.reserve(&[charge("a", 100, 1)], 7).unwrap().hold.is_some()).count()
            };
            let workers: Vec<_> = (0..4).map(|_| s.spawn(worker)).collect();
            workers.into_iter().map(|w| w.join().unwrap()).sum()
        });
        assert_eq!(admitted, 100);
    }

    #[test]
    fn a_refusal_by_a_later_scope_gives_back_what_earlier_ones_charged() {
        let memory = Memory::default();
        let store = store(&memory);
        let used = |scope| store.reserve(&[charge(scope, 9, 0)], 0).unwrap().states[0].used;
        assert!(store.reserve(&[charge("team", 1, 1)], 0).unwrap().hold.is_some());
        let refused =
            store.reserve(&[charge("key", 5, 1), charge("team", 1, 1), charge("all", 5, 1)], 0).unwrap();
        assert_eq!(refused.hold, None);
        assert_eq!(refused.states.len(), 3);
        assert_eq!([used("key"), used("team"), used("all")], [0, 1, 0]);
        let hold = store.reserve(&[charge("key", 5, 2), charge("all", 5, 2)], 0).unwrap().hold.unwrap();
        store.settle(&[charge("key", 5, 1), charge("all", 5, 0)], hold, 0).unwrap();
        assert_eq!([used("key"), used("all")], [1, 0]);
    }

    #[test]
    fn a_running_request_takes_more_and_keeps_its_slot() {
        let memory = Memory::default();
        let store = store(&memory);
        let slot = |cost| Charge {
            name: "concurrency".into(),
            window: Window::concurrency(NonZeroU64::new(6_000).unwrap()),
            ..charge("key", 1, cost)
        };
        let costs = |tokens| [charge("key", 100, tokens), slot(1), charge("all", 100, tokens)];
        let used = |now_ms| -> Vec<u64> {
            let decision = store.reserve(&costs(0).map(|c| Charge { cost: 0, ..c }), now_ms).unwrap();
            decision.states.iter().map(|state| state.used).collect()
        };
        let mut hold = store.reserve(&costs(10), 0).unwrap().hold.unwrap();
        for (now_ms, tokens, charged) in [(4_000, 5, 10), (8_000, 25, 25), (8_000, 25, 25), (12_000, 40, 40)]
        {
            store.extend(&costs(tokens), &mut hold, now_ms).unwrap();
            assert_eq!(used(now_ms), [charged, 1, charged]);
        }
        store.settle(&costs(12), hold, 12_000).unwrap();
        assert_eq!(used(12_000), [12, 0, 12]);
    }

    #[test]
    fn counters_outlive_a_reload() {
        let memory = Memory::default();
        store(&memory).reserve(&[charge("a", 1, 1)], 0).unwrap();
        assert_eq!(store(&memory).reserve(&[charge("a", 1, 1)], 0).unwrap().hold, None);
    }
}
