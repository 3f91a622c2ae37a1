//! The local store: counters of this Envoy process, which all its workers share, exact under concurrency.
//!
//! Envoy's shared data is one map per process (docs/envoy.md#shared-data). Its compare-and-swap works only on keys that
//! exist, and nothing frees a key. So the store is a fixed number of shards, which the main thread creates before any
//! worker runs (docs/envoy.md#contexts). The hash of a scope's name picks the shard of its counters, with a seed that
//! each process chooses, so that nobody can aim at a shard.
//!
//! What the configuration names (keys, groups, models, `global`) is in shards of its own, which hold as many scopes as
//! come. Anybody may invent identities, so theirs are in shards that are bounded, also in bytes
//! ([`MAX_BYTES`](super::shard::MAX_BYTES)). The number of neither depends on how many keys there are.

use super::Decision;
use super::charge::ScopeCharges;
use super::keys;
use super::shard::{Held, Shard, Step};
use crate::policy;
use crate::quantity::Millis;
use crate::window::WindowState;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use thiserror::Error;

/// The number of failed compare-and-swaps after which a call gives up. Each failure is another worker's success, so
/// load alone never reaches it.
const MAX_TRIES: u32 = 10_000;

/// The average number of scopes per shard when the store is full: half of those that a shard has room for.
const EXPECTED_SCOPES_PER_SHARD: u32 = 8;

/// The number of shards for what the configuration names.
const CONFIGURED_SHARDS: NonZeroU32 = NonZeroU32::new(1_024).unwrap();

/// The part of Envoy's shared data that the store needs. A clone is the same data.
pub trait SharedData: Clone {
    /// The value of `key` and its version.
    fn get(&self, key: &str) -> Option<(Vec<u8>, NonZeroU32)>;
    /// Writes `value` if the version is still `version`. Returns whether it was.
    fn replace(&self, key: &str, value: &[u8], version: NonZeroU32) -> bool;
    /// Creates `key`. Loses a write if another worker creates it at the same time.
    fn create(&self, key: &str, value: &[u8]);
}

/// A failure of the local store. Neither occurs in an Envoy that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LocalError {
    /// Nothing has created the shard.
    #[error("the local store's shard {0} does not exist")]
    Missing(u32),
    /// Other workers changed the shard first, too many times.
    #[error("the local store's shard {0} changed during each of {MAX_TRIES} attempts to write it")]
    Contended(u32),
}

/// Why a value was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unchanged {
    /// Nothing has created it.
    Missing,
    /// Other workers changed it first, too many times.
    Contended,
}

/// Reads the value of `key`, and writes what `change` makes of it in its place. Tries again if another worker has
/// written it in between.
pub(super) fn change_value<S: SharedData, T>(
    data: &S,
    key: &str,
    change: impl Fn(&[u8]) -> (T, Vec<u8>),
) -> Result<T, Unchanged> {
    for _ in 0..MAX_TRIES {
        let (bytes, version) = data.get(key).ok_or(Unchanged::Missing)?;
        let (answer, changed) = change(&bytes);
        if changed == bytes || data.replace(key, &changed, version) {
            return Ok(answer);
        }
    }
    Err(Unchanged::Contended)
}

/// The charges of a reservation in the local store, which extend and settle it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Per scope, in order.
    scopes: Vec<Held>,
}

/// The counters of this Envoy.
#[derive(Clone, Debug)]
pub struct LocalStore<S> {
    data: S,
    namespace: Arc<str>,
    shards: NonZeroU32,
    /// The ids of the keys that the configuration names.
    configured: Arc<BTreeSet<Arc<str>>>,
    /// The key of the hash that places scopes in shards: nobody can aim at a shard.
    seed: u64,
}

impl<S: SharedData> LocalStore<S> {
    /// A store for `max_identities` at a time beside the `configured` ones, on `data`, whose counters are those of
    /// `namespace`.
    pub fn new(
        data: S,
        namespace: Arc<str>,
        max_identities: NonZeroU32,
        configured: Arc<BTreeSet<Arc<str>>>,
    ) -> Self {
        let shards = max_identities.get().div_ceil(EXPECTED_SCOPES_PER_SHARD);
        let shards = NonZeroU32::new(shards).unwrap_or(NonZeroU32::MIN);
        Self { data, namespace, shards, configured, seed: 0 }
    }

    /// Creates the shards that do not exist, and a seed. Counters from before a reload stay, and so does the seed.
    pub fn prepare(&mut self) {
        let empty = Shard::default().encode();
        let own = (0..CONFIGURED_SHARDS.get()).map(|shard| keys::configured_shard(&self.namespace, shard));
        let others = (0..self.shards.get()).map(|it| keys::shard(&self.namespace, self.shards.get(), it));
        for key in own.chain(others) {
            if self.data.get(&key).is_none() {
                self.data.create(&key, &empty);
            }
        }
        let key = keys::seed(&self.namespace);
        if self.data.get(&key).is_none() {
            self.data.create(&key, RandomState::new().hash_one(0).to_string().as_bytes());
        }
        let seed = self.data.get(&key).map(|(bytes, _)| bytes).unwrap_or_default();
        self.seed = String::from_utf8_lossy(&seed).parse().unwrap_or_default();
    }

    /// Charges all of `scopes` or nothing. Each scope is one atomic step: this charges one after the other, and refunds
    /// them if a later one does not fit.
    ///
    /// # Errors
    /// [`LocalError`]; then nothing stays charged.
    pub fn reserve(&self, scopes: &[ScopeCharges], now: Millis) -> Result<Decision<Receipt>, LocalError> {
        let (mut states, mut charged, mut is_refused) = (Vec::new(), Vec::new(), false);
        let outcome = scopes.iter().try_for_each(|scope| {
            if is_refused {
                states.extend(self.change(&scope.scope, |shard| shard.peek(scope, now))?);
                return Ok(());
            }
            let attempt = self.change(&scope.scope, |shard| shard.reserve(scope, now))?;
            states.extend(attempt.states);
            match attempt.held {
                Some(held) => charged.push(held),
                None => is_refused = true,
            }
            Ok(())
        });
        if is_refused || outcome.is_err() {
            for (scope, held) in scopes.iter().zip(&charged) {
                self.change(&scope.scope, |shard| shard.release(scope, held, now))?;
            }
        }
        outcome?;
        let held = (!is_refused).then_some(Receipt { scopes: charged });
        Ok(Decision { held, states })
    }

    /// The windows of one `scope`, which stay as they are; none if nothing has created its shard.
    pub fn peek(&self, scope: &ScopeCharges, now: Millis) -> Option<Vec<WindowState>> {
        let (key, grows) = self.place_of(&scope.scope);
        let (bytes, _) = self.data.get(&key)?;
        Some(Shard::decode(&bytes).growing(grows).peek(scope, now))
    }

    /// Charges what a running request has cost beyond `receipt`, and renews its leases. The `cost` of each charge is
    /// the whole cost so far, so that a second call changes nothing. Refunds nothing. Returns whether a counter is past
    /// its limit now.
    ///
    /// # Errors
    /// [`LocalError`]; the scope that failed and all after it are unchanged.
    pub fn extend(
        &self,
        scopes: &[ScopeCharges],
        receipt: &mut Receipt,
        now: Millis,
    ) -> Result<bool, LocalError> {
        let mut is_over = false;
        for (scope, held) in scopes.iter().zip(&mut receipt.scopes) {
            let (extended, is_past) = self.change(&scope.scope, |shard| shard.extend(scope, held, now))?;
            *held = extended;
            is_over |= is_past;
        }
        Ok(is_over)
    }

    /// Keeps the charges of a request that is over and whose cost is still to come, and ends its leases. The `cost` of
    /// each charge is the cost so far.
    ///
    /// # Errors
    /// [`LocalError`]; the scope that failed and all after it are unchanged.
    pub fn detach(
        &self,
        scopes: &[ScopeCharges],
        receipt: &mut Receipt,
        now: Millis,
    ) -> Result<(), LocalError> {
        for (scope, held) in scopes.iter().zip(&mut receipt.scopes) {
            *held = self.change(&scope.scope, |shard| shard.detach(scope, held, now))?;
        }
        Ok(())
    }

    /// Replaces the charges in `receipt` by the real `cost` of each charge. Consumes the receipt, so that nothing is
    /// settled twice.
    ///
    /// # Errors
    /// [`LocalError`]; the scope that failed and all after it keep their charges.
    #[expect(clippy::needless_pass_by_value, reason = "a receipt is settled once")]
    pub fn settle(&self, scopes: &[ScopeCharges], receipt: Receipt, now: Millis) -> Result<(), LocalError> {
        for (scope, held) in scopes.iter().zip(&receipt.scopes) {
            self.change(&scope.scope, |shard| shard.settle(scope, held, now))?;
        }
        Ok(())
    }

    /// Takes steps of reservations that Redis has made, all in one `scope`, in one atomic step. Returns what each
    /// holds after it.
    ///
    /// # Errors
    /// [`LocalError`]; then nothing has changed.
    pub(super) fn follow(
        &self,
        scope: &str,
        steps: &[(Step, &ScopeCharges, Option<&Held>)],
        now: Millis,
    ) -> Result<Vec<Held>, LocalError> {
        self.change(scope, |shard| {
            steps.iter().map(|(step, scope, held)| shard.follow(*step, scope, *held, now)).collect()
        })
    }

    /// Reads the shard of `scope`, applies `change` and writes the shard back. Tries again if another worker has
    /// written the shard in between.
    fn change<T>(&self, scope: &str, change: impl Fn(&mut Shard) -> T) -> Result<T, LocalError> {
        let (key, grows) = self.place_of(scope);
        let changed = change_value(&self.data, &key, |bytes| {
            let mut counters = Shard::decode(bytes).growing(grows);
            let answer = change(&mut counters);
            (answer, counters.encode())
        });
        changed.map_err(|fault| match fault {
            Unchanged::Missing => LocalError::Missing(self.shard_of(scope)),
            Unchanged::Contended => LocalError::Contended(self.shard_of(scope)),
        })
    }

    /// The key of the shard of `scope`, and whether the shard grows.
    fn place_of(&self, scope: &str) -> (String, bool) {
        let (shard, grows) = (self.shard_of(scope), self.is_configured(scope));
        let key = if grows {
            keys::configured_shard(&self.namespace, shard)
        } else {
            keys::shard(&self.namespace, self.shards.get(), shard)
        };
        (key, grows)
    }

    /// The data that the counters are on.
    pub(super) const fn data(&self) -> &S {
        &self.data
    }

    /// The namespace of the counters.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether the configuration names `scope`, which is that of a key, a group, models or `global`.
    fn is_configured(&self, scope: &str) -> bool {
        policy::is_shared(scope) || self.configured.contains(scope)
    }

    fn shard_of(&self, scope: &str) -> u32 {
        let shards = if self.is_configured(scope) { CONFIGURED_SHARDS } else { self.shards };
        let mut hash = SipHasher13::new_with_keys(self.seed, 0);
        hash.write(scope.as_bytes());
        // The remainder is smaller than `shards`.
        u32::try_from(hash.finish() % u64::from(shards.get())).unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::quantity::{NonZeroMillis, Units};
    use crate::store::charge::Charge;
    use crate::store::charge::tests::charge;
    use crate::window::Window;
    use std::collections::HashMap;
    use std::sync::Mutex;

    /// Envoy's shared data: a version per value, and a swap that fails if the version has changed.
    #[derive(Default)]
    pub(crate) struct Memory(Mutex<HashMap<String, (Vec<u8>, u32)>>, Mutex<(usize, usize)>);

    impl Memory {
        /// The reads and writes since the last call.
        pub(crate) fn take_calls(&self) -> (usize, usize) {
            std::mem::take(&mut self.1.lock().unwrap())
        }
    }

    impl SharedData for &Memory {
        fn get(&self, key: &str) -> Option<(Vec<u8>, NonZeroU32)> {
            self.1.lock().unwrap().0 += 1;
            let (value, version) = self.0.lock().unwrap().get(key)?.clone();
            Some((value, NonZeroU32::new(version)?))
        }

        fn replace(&self, key: &str, value: &[u8], version: NonZeroU32) -> bool {
            self.1.lock().unwrap().1 += 1;
            let mut map = self.0.lock().unwrap();
            let entry = map.get_mut(key).unwrap();
            let current = entry.1 == version.get();
            if current {
                *entry = (value.to_vec(), version.get() + 1);
            }
            current
        }

        fn create(&self, key: &str, value: &[u8]) {
            self.1.lock().unwrap().1 += 1;
            self.0.lock().unwrap().insert(key.into(), (value.to_vec(), 1));
        }
    }

    /// A charge in the scope of its identity, which no configuration names.
    fn one(identity: &str, limit: u64, cost: u64) -> ScopeCharges {
        let identity = &*Identity::of_key(identity).id().clone();
        ScopeCharges { scope: identity.into(), charges: vec![charge(identity, limit, cost)] }
    }

    fn store(memory: &Memory) -> LocalStore<&Memory> {
        let mut store = LocalStore::new(memory, "".into(), NonZeroU32::new(64).unwrap(), Arc::default());
        store.prepare();
        store
    }

    fn at(now: u64) -> Millis {
        Millis::new(now)
    }

    #[test]
    fn an_unprepared_store_is_an_error() {
        let memory = Memory::default();
        let store = LocalStore::new(&memory, "".into(), NonZeroU32::MIN, Arc::default());
        assert_eq!(store.reserve(&[one("a", 1, 1)], at(0)), Err(LocalError::Missing(0)));
    }

    #[test]
    fn workers_together_admit_exactly_the_limit() {
        let memory = Memory::default();
        let store = store(&memory);
        let is_admitted = || store.reserve(&[one("a", 100, 1)], at(7)).unwrap().held.is_some();
        let admitted: usize = std::thread::scope(|s| {
            let worker = || (0..300).filter(|_| is_admitted()).count();
            let workers: Vec<_> = (0..4).map(|_| s.spawn(worker)).collect();
            workers.into_iter().map(|w| w.join().unwrap()).sum()
        });
        assert_eq!(admitted, 100);
    }

    #[test]
    fn a_refusal_by_a_later_scope_refunds_the_earlier_ones() {
        let memory = Memory::default();
        let store = store(&memory);
        let reserve = |scopes: &[ScopeCharges]| store.reserve(scopes, at(0)).unwrap();
        let used = |scope| reserve(&[one(scope, 9, 0)]).states[0].used;
        assert!(reserve(&[one("team", 1, 1)]).held.is_some());
        let refused = reserve(&[one("key", 5, 1), one("team", 1, 1), one("all", 5, 1)]);
        assert_eq!(refused.held, None);
        assert_eq!(refused.states.len(), 3);
        assert_eq!([used("key"), used("team"), used("all")], [0, 1, 0]);
        let receipt = reserve(&[one("key", 5, 2), one("all", 5, 2)]).held.unwrap();
        store.settle(&[one("key", 5, 1), one("all", 5, 0)], receipt, at(0)).unwrap();
        assert_eq!([used("key"), used("all")], [1, 0]);
    }

    #[test]
    fn an_error_in_a_later_scope_refunds_the_earlier_ones() {
        let memory = Memory::default();
        let store = store(&memory);
        let shard = |key: &str| store.shard_of(Identity::of_key(key).id());
        let lost = (0..).map(|n| format!("k{n}")).find(|name| shard(name) != shard("a")).unwrap();
        memory.0.lock().unwrap().remove(&keys::shard("", store.shards.get(), shard(&lost)));
        let failed = store.reserve(&[one("a", 1, 1), one(&lost, 1, 1)], at(0));
        assert_eq!(failed, Err(LocalError::Missing(shard(&lost))));
        assert_eq!(store.reserve(&[one("a", 1, 0)], at(0)).unwrap().states[0].used, 0);
    }

    #[test]
    fn an_extension_charges_the_growth_and_renews_the_lease() {
        let memory = Memory::default();
        let store = store(&memory);
        let slot = |cost| Charge {
            name: "concurrency".into(),
            window: Window::concurrency(NonZeroMillis::new(6_000).unwrap()),
            ..charge("key", 1, cost)
        };
        let costs = |tokens| {
            let key =
                ScopeCharges { scope: "key".into(), charges: vec![charge("key", 100, tokens), slot(1)] };
            [key, one("all", 100, tokens)]
        };
        let used = |now| -> Vec<Units> {
            let nothing = ScopeCharges::changed(&costs(0), |charge| charge.cost = Units::ZERO);
            store.reserve(&nothing, at(now)).unwrap().states.iter().map(|state| state.used).collect()
        };
        let mut receipt = store.reserve(&costs(10), at(0)).unwrap().held.unwrap();
        for (now, tokens, charged) in [(4_000, 5, 10), (8_000, 25, 25), (8_000, 25, 25), (12_000, 40, 40)] {
            store.extend(&costs(tokens), &mut receipt, at(now)).unwrap();
            assert_eq!(used(now), [charged, 1, charged]);
        }
        store.settle(&costs(12), receipt, at(12_000)).unwrap();
        assert_eq!(used(12_000), [12, 0, 12]);
    }

    #[test]
    fn a_peek_shows_windows_and_writes_nothing() {
        let memory = Memory::default();
        let store = store(&memory);
        let scope = one("a", 5, 2);
        let used = |now| store.peek(&scope, at(now)).unwrap()[0].used.get();
        assert_eq!(used(0), 0);
        store.reserve(std::slice::from_ref(&scope), at(0)).unwrap();
        memory.take_calls();
        assert_eq!((used(1), memory.take_calls()), (2, (1, 0)));
        assert_eq!((used(120_000), used(1)), (0, 2), "what it forgets stays");
    }

    #[test]
    fn counters_outlive_a_reload() {
        let memory = Memory::default();
        store(&memory).reserve(&[one("a", 1, 1)], at(0)).unwrap();
        assert_eq!(store(&memory).reserve(&[one("a", 1, 1)], at(0)).unwrap().held, None);
    }

    /// The invented identities fill every place; the named ones do not notice, and a reload that names more keeps what
    /// they have used.
    #[test]
    fn a_crowd_takes_no_place_from_what_the_configuration_names() {
        let memory = Memory::default();
        let configured = |keys: std::ops::Range<u32>| -> Arc<BTreeSet<Arc<str>>> {
            Arc::new(keys.map(|n| Arc::clone(Identity::of_key(&format!("named-{n}")).id())).collect())
        };
        let reloaded = |keys| {
            let mut store =
                LocalStore::new(&memory, "".into(), NonZeroU32::new(64).unwrap(), configured(keys));
            store.prepare();
            store
        };
        let store = reloaded(0..200);
        let admits = |store: &LocalStore<_>, name: &str, limit| {
            store.reserve(&[one(name, limit, 1)], at(0)).unwrap().held.is_some()
        };
        for n in 0..1_000 {
            admits(&store, &format!("invented-{n}"), 2);
        }
        assert!(!admits(&store, "invented-x", 2), "the store is full");
        let keys = || memory.0.lock().unwrap().len();
        let before = keys();
        assert!((0..200).all(|n| admits(&store, &format!("named-{n}"), 1)));
        let store = reloaded(0..300);
        assert!((0..200).all(|n| !admits(&store, &format!("named-{n}"), 1)), "a reload keeps all counters");
        assert!((200..300).all(|n| admits(&store, &format!("named-{n}"), 1)));
        let group = ScopeCharges { scope: "group-a".into(), charges: vec![charge("group-a", 1, 1)] };
        assert!(store.reserve(&[group], at(0)).unwrap().held.is_some());
        assert_eq!(keys(), before, "no key in shared data is new");
    }

    /// What an allocator and a hash table take for each key and value, beside their bytes.
    const ENTRY_BYTES: usize = 256;

    /// The charges of `name` to four windows: a request, and `tokens` in a minute, an hour and a day.
    fn four_windows(name: &str, tokens: u64, enforced: bool) -> ScopeCharges {
        let windows = [60_000, 60_000, 3_600_000, 86_400_000].map(|ms| NonZeroMillis::new(ms).unwrap());
        let charges = windows.into_iter().enumerate().map(|(n, length)| Charge {
            name: if n == 0 { "requests" } else { "total_tokens" }.into(),
            window: Window::sliding(length),
            enforced,
            ..charge(name, 1_000_000_000, if n == 0 { 1 } else { tokens })
        });
        ScopeCharges { scope: Identity::of_key(name).id().clone(), charges: charges.collect() }
    }

    /// The bytes that the shards of a store for `places` identities take, per 65,536 places, once each of `identities`
    /// has been charged in every segment of its four windows. Few shards stand for many.
    fn full_store_bytes(
        places: u32,
        identities: usize,
        tokens: impl Fn(u64) -> u64,
        enforced: bool,
    ) -> usize {
        let memory = Memory::default();
        let mut store = LocalStore::new(&memory, "".into(), NonZeroU32::new(places).unwrap(), Arc::default());
        store.prepare();
        let (mut now, mut step) = (1_700_000_000_000, 0);
        for pause in [1_440_000, 60_000, 1_000] {
            for _ in 0..61 {
                (now, step) = (now + pause, step + 1);
                for n in 0..identities {
                    let charges = four_windows(&format!("busy-{n}"), tokens(step), enforced);
                    store.reserve(&[charges], at(now)).unwrap();
                }
            }
        }
        let one = keys::shard("", store.shards.get(), 0);
        let shards = |key: &String| key.starts_with(one.trim_end_matches('0'));
        let map = memory.0.lock().unwrap();
        let bytes = map.iter().filter(|(key, _)| shards(key));
        let bytes: usize = bytes.map(|(key, (value, _))| key.len() + value.capacity() + ENTRY_BYTES).sum();
        bytes * 65_536 / usize::try_from(places).unwrap()
    }

    #[test]
    fn as_many_busy_identities_as_the_store_is_for_take_less_than_64_mb() {
        let busy = full_store_bytes(128, 128, |step| 3_000 + 40 * step, true);
        assert!((30_000_000..45_000_000).contains(&busy), "{busy} bytes");
    }

    #[test]
    fn a_crowd_that_spends_all_it_can_takes_no_more_than_64_mb() {
        let most = full_store_bytes(16, 64, |step| 1 << (30 + step % 23), false);
        assert!((50_000_000..=64_000_000).contains(&most), "{most} bytes");
    }

    #[test]
    fn each_process_places_scopes_in_its_own_way() {
        let memories = [Memory::default(), Memory::default()];
        let places = memories.each_ref().map(|memory| {
            let store = store(memory);
            (0..64).map(|n| store.shard_of(Identity::of_key(&n.to_string()).id())).collect::<Vec<_>>()
        });
        assert_ne!(places[0], places[1]);
        let again = store(&memories[0]);
        assert!(
            (0..)
                .zip(&places[0])
                .all(|(n, place)| { again.shard_of(Identity::of_key(&i32::to_string(&n)).id()) == *place })
        );
    }
}
