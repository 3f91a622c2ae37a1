//! One shard of the local store: the counters of the few scopes that hash to it, as bytes.
//!
//! The local store reads and writes a shard whole, so a change to any number of its counters is one atomic step. Each
//! change drops the counters that have emptied, which keeps the shard small.

use crate::quantity::{Millis, Units};
use crate::store::charge::{Charge, ScopeCharges};
use crate::window::{ChargedParts, Counter, Fit, WindowState};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The most scopes with counters of their own in a shard that does not grow. All further scopes share one counter per
/// limit: they may be refused early, but no limit admits too much, and memory stays bounded whatever identities arrive.
pub const SCOPES_PER_SHARD: usize = 16;

/// A name in 16 bytes: the first half of its SHA-256.
pub type Digest16 = [u8; 16];

/// SHA-256 of `parts`, each ended by a zero byte, cut to 16 bytes.
pub fn digest(parts: &[&str]) -> Digest16 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    short
}

/// The counters of the scopes in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    scopes: Vec<Scope>,
    /// Whether every scope gets counters of its own, because the configuration names them all.
    #[serde(skip)]
    grows: bool,
}

/// The counters that are charged together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Scope {
    name: Digest16,
    counters: Vec<Slot>,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Slot {
    name: Digest16,
    counter: Counter,
}

/// The outcome of an attempt to charge the counters of one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The state of each charge's counter after the decision, in order.
    pub states: Vec<WindowState>,
    /// What has been charged; none if any of the charges did not fit.
    pub held: Option<Held>,
}

/// The counters that a scope charges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    /// Its own, in a shard that grows.
    #[default]
    Configured,
    /// Its own, in a shard that is bounded.
    Own,
    /// Those that scopes without counters of their own share.
    Shared,
}

/// What the charges of one scope have charged, and to which counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    place: Place,
    /// The parts of each charge, in order.
    parts: Vec<ChargedParts>,
}

impl Held {
    /// The parts of each charge in the counters at `place`. What was charged to others is not given back: it leaves its
    /// window there.
    fn parts_at(&self, place: Place) -> impl Iterator<Item = ChargedParts> {
        let is_elsewhere = self.place != place;
        self.parts.iter().map(move |parts| if is_elsewhere { parts.elsewhere() } else { parts.clone() })
    }
}

impl Shard {
    /// The shard in `bytes`. Damaged bytes are an empty shard.
    pub fn decode(bytes: &[u8]) -> Self {
        postcard::from_bytes(bytes).unwrap_or_default()
    }

    /// The shard, in which every scope gets counters of its own if it `grows`.
    #[must_use]
    pub fn growing(self, grows: bool) -> Self {
        Self { grows, ..self }
    }

    /// The shard as bytes, never empty: shared data reads an empty value as none.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_else(|_| vec![0])
    }

    /// Charges all of `scope` or nothing.
    pub fn reserve(&mut self, scope: &ScopeCharges, now: Millis) -> Attempt {
        let mut counters = self.counters(scope, now);
        let fits = counters.fits();
        let admitted =
            scope.charges.iter().zip(&fits).all(|(charge, fit)| !charge.enforced || *fit == Fit::Now);
        let held = admitted.then(|| Held {
            place: counters.place,
            parts: counters.each(|counter, charge| counter.at(now).reserve(charge.cost)),
        });
        Attempt { states: counters.states(fits), held }
    }

    /// Charges what a running request has cost beyond what it has `held`, and renews its leases. Returns what it holds
    /// now, and whether a counter is past a limit that is enforced.
    pub fn extend(&mut self, scope: &ScopeCharges, held: &Held, now: Millis) -> (Held, bool) {
        let mut counters = self.counters(scope, now);
        let place = counters.place;
        let (mut parts, mut is_over) = (held.parts_at(place), false);
        let parts = counters.each(|counter, charge| {
            let mut parts = parts.next().unwrap_or_default();
            let mut counter = counter.at(now);
            counter.extend(&mut parts, charge.limit, charge.cost);
            is_over |= charge.enforced && counter.used() > charge.window.capacity(charge.limit);
            parts
        });
        (Held { place, parts }, is_over)
    }

    /// Keeps the charges in `held` of a request that is over, with what it has cost beyond them, and ends its leases.
    /// Returns what it holds now.
    pub fn detach(&mut self, scope: &ScopeCharges, held: &Held, now: Millis) -> Held {
        let mut counters = self.counters(scope, now);
        let place = counters.place;
        let mut parts = held.parts_at(place);
        let parts = counters.each(|counter, charge| {
            let mut parts = parts.next().unwrap_or_default();
            counter.at(now).detach(&mut parts, charge.cost);
            parts
        });
        Held { place, parts }
    }

    /// Replaces the charges in `held` by the real costs in `scope`.
    pub fn settle(&mut self, scope: &ScopeCharges, held: &Held, now: Millis) {
        self.end(scope, held, now, |charge| charge.cost);
    }

    /// Refunds the charges in `held`.
    pub fn release(&mut self, scope: &ScopeCharges, held: &Held, now: Millis) {
        self.end(scope, held, now, |_| Units::ZERO);
    }

    fn end(&mut self, scope: &ScopeCharges, held: &Held, now: Millis, cost: impl Fn(&Charge) -> Units) {
        let mut counters = self.counters(scope, now);
        let mut parts = held.parts_at(counters.place);
        counters.each(|counter, charge| {
            if let Some(parts) = parts.next() {
                counter.at(now).settle(&parts, cost(charge));
            }
        });
    }

    /// The states of the counters of `scope`, without a charge.
    pub fn peek(&mut self, scope: &ScopeCharges, now: Millis) -> Vec<WindowState> {
        let mut counters = self.counters(scope, now);
        let fits = counters.fits();
        counters.states(fits)
    }

    /// The counters of `scope`. Creates those that are missing.
    ///
    /// A scope without counters of its own may have charges in the shared ones. As long as these hold anything, it gets
    /// none of its own, in which those charges would not count.
    fn counters<'a>(&'a mut self, scope: &'a ScopeCharges, now: Millis) -> Counters<'a> {
        self.forget_empty(now);
        let own = digest(&[&scope.scope]);
        let common = digest(&[]);
        let has = |name: Digest16| self.scopes.iter().any(|scope| scope.name == name);
        let counters_at = if self.grows {
            Place::Configured
        } else if !has(own) && (has(common) || self.scopes.len() >= SCOPES_PER_SHARD) {
            Place::Shared
        } else {
            Place::Own
        };
        let shared = counters_at == Place::Shared;
        let name = if shared { common } else { own };
        let place =
            index_or_push(&mut self.scopes, |s| s.name == name, || Scope { name, counters: Vec::new() });
        let charges = &scope.charges;
        let Some(Scope { counters: slots, .. }) = self.scopes.get_mut(place) else {
            return Counters { slots: &mut [], places: Vec::new(), charges, now, place: counters_at };
        };
        let places = charges
            .iter()
            .map(|charge| {
                let identity = if shared { "" } else { &charge.identity };
                let name = digest(&[identity, &charge.name, &charge.window.label()]);
                let slot = || Slot { name, counter: Counter::new(&charge.window, charge.limit) };
                index_or_push(slots, |slot| slot.name == name, slot)
            })
            .collect();
        Counters { slots, places, charges, now, place: counters_at }
    }

    /// Drops the counters that are empty at `now`.
    fn forget_empty(&mut self, now: Millis) {
        self.scopes.retain_mut(|scope| {
            scope.counters.retain_mut(|slot| !slot.counter.at(now).is_empty());
            !scope.counters.is_empty()
        });
    }
}

/// The counters of some charges.
struct Counters<'a> {
    slots: &'a mut [Slot],
    /// The index in `slots` of each charge's counter.
    places: Vec<usize>,
    charges: &'a [Charge],
    now: Millis,
    /// Where they are.
    place: Place,
}

impl Counters<'_> {
    /// Applies `f` to the counter of each charge, in their order.
    fn each<T>(&mut self, mut f: impl FnMut(&mut Counter, &Charge) -> T) -> Vec<T> {
        let slots = &mut *self.slots;
        let charges = self.places.iter().zip(self.charges);
        charges
            .filter_map(|(place, charge)| slots.get_mut(*place).map(|slot| f(&mut slot.counter, charge)))
            .collect()
    }

    /// Whether each charge fits. Its limit is in force from now on.
    fn fits(&mut self) -> Vec<Fit> {
        let now = self.now;
        self.each(|counter, charge| {
            let mut counter = counter.at(now);
            counter.set_limit(&charge.window, charge.limit);
            counter.fit(charge.limit, charge.cost)
        })
    }

    /// The states of the counters. `fits` is whether the charges fitted before they were made.
    fn states(&mut self, fits: Vec<Fit>) -> Vec<WindowState> {
        let (now, mut fits) = (self.now, fits.into_iter());
        self.each(|counter, _| counter.at(now).state(fits.next().unwrap_or(Fit::Now)))
    }
}

/// The index of the element that `is` picks. If there is none, adds one from `make`.
fn index_or_push<T>(list: &mut Vec<T>, is: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> usize {
    list.iter().position(is).unwrap_or_else(|| {
        list.push(make());
        list.len().saturating_sub(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::NonZeroMillis;
    use crate::store::charge::tests::charge;
    use crate::window::Window;
    use proptest::prelude::*;

    fn scope(scope: &str, charges: impl IntoIterator<Item = Charge>) -> ScopeCharges {
        ScopeCharges { scope: scope.into(), charges: charges.into_iter().collect() }
    }

    /// A charge in the scope of its identity.
    fn one(identity: &str, limit: u64, cost: u64) -> ScopeCharges {
        scope(identity, [charge(identity, limit, cost)])
    }

    fn at(now: u64) -> Millis {
        Millis::new(now)
    }

    #[test]
    fn bytes_round_trip_and_damaged_bytes_are_an_empty_shard() {
        let mut shard = Shard::default();
        shard.reserve(&one("a", 5, 3), at(1_000));
        assert_eq!(Shard::decode(&shard.encode()), shard);
        assert_eq!(Shard::decode(&[255; 40]), Shard::default());
        assert!(!Shard::default().encode().is_empty(), "an empty value would read as no value");
    }

    /// Counters outlive the filter that wrote them. If the bytes must change, so must the version in their key.
    #[test]
    fn bytes_stay_as_they_are() {
        let minute = NonZeroMillis::MINUTE;
        let windows = [
            Window::sliding(minute),
            Window::fixed(minute),
            Window::calendar_month(),
            Window::token_bucket(minute, Units::new(50)),
            Window::concurrency(minute),
        ];
        let charges = |cost| scope("a", windows.map(|window| Charge { window, ..charge("a", 100, cost) }));
        let mut shard = Shard::default();
        let parts = shard.reserve(&charges(7), at(1_700_000_000_000)).held.unwrap();
        shard.reserve(&charges(9), at(1_700_000_003_000)).held.unwrap();
        shard.extend(&charges(8), &parts, at(1_700_000_004_000));
        let hex: String = shard.encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, BYTES);
    }

    const BYTES: &str = "\
        01ffe9aaeaa2a2d5048174df0b80599ef005e2f76e4a9f45ab28eac759021ca19d2e00e8073c00110380e2cfaa060783\
        e2cfaa060984e2cfaa0601c3ad2929a9978f7c15cbcc1421d8e4b80100e0d40395aac10d1100f84642c2b8b428617a0e\
        babd720ecb8b01018605110001a13a41b00d20ba0191fc03ecc570bb02e0d40364320bc0b802a0ef95ffbc31000380d0\
        95ffbc310200b8e795ffbc310ac0b802a0ef95ffbc310bc0b8023b71cde03b86588730cf9c9031a2dcab03e8073c0002\
        0380e2cfaa060083e2cfaa060184e2cfaa0601";

    #[test]
    fn nothing_is_charged_unless_all_fits() {
        let mut shard = Shard::default();
        let tokens = Charge { name: "total_tokens".into(), ..charge("a", 10, 11) };
        let attempt = shard.reserve(&scope("a", [charge("a", 5, 1), tokens]), at(0));
        assert_eq!(attempt.held, None);
        assert_eq!(attempt.states.iter().map(|s| s.used).collect::<Vec<_>>(), [0, 0]);
        assert_eq!(attempt.states.iter().map(|s| s.fit).collect::<Vec<_>>(), [Fit::Now, Fit::Never]);
    }

    #[test]
    fn a_limit_that_is_not_enforced_is_charged_and_reported() {
        let mut shard = Shard::default();
        let charge = scope("a", [Charge { enforced: false, ..charge("a", 1, 1) }]);
        let fits: Vec<_> = (0..3).map(|_| shard.reserve(&charge, at(0)).states[0].fit == Fit::Now).collect();
        assert_eq!(fits, [true, false, false]);
        assert_eq!(shard.peek(&charge, at(0))[0].used, 3);
    }

    #[test]
    fn a_full_shard_shares_a_counter_and_never_admits_more_than_a_limit() {
        let mut shard = Shard::default();
        for n in 0..SCOPES_PER_SHARD {
            assert!(shard.reserve(&one(&format!("k{n}"), 2, 1), at(0)).held.is_some());
        }
        let late = |shard: &mut Shard, name| shard.reserve(&one(name, 2, 1), at(0)).held.is_some();
        assert_eq!(
            [late(&mut shard, "x"), late(&mut shard, "y"), late(&mut shard, "z")],
            [true, true, false]
        );
        assert_eq!(shard.scopes.len(), SCOPES_PER_SHARD + 1);
        assert!(late(&mut shard, "k0"), "a scope that has a place keeps it");
        assert!(shard.reserve(&one("z", 2, 1), at(200_000)).held.is_some());
        assert_eq!(shard.scopes.len(), 1, "counters whose windows have passed make room");
    }

    #[test]
    fn a_shard_that_grows_has_a_counter_for_every_scope() {
        let mut shard = Shard::default().growing(true);
        for n in 0..10 * SCOPES_PER_SHARD {
            assert!(shard.reserve(&one(&format!("k{n}"), 1, 1), at(0)).held.is_some());
        }
        shard.peek(&one("k0", 1, 0), at(200_000));
        assert_eq!(shard.scopes.len(), 1, "keys that are used no more leave nothing behind");
    }

    #[test]
    fn moving_between_the_shared_and_the_own_counter_gives_nothing_back() {
        let mut shard = Shard::default();
        for n in 0..SCOPES_PER_SHARD {
            shard.reserve(&one(&format!("k{n}"), 2, 1), at(if n == 0 { 0 } else { 30_000 })).held.unwrap();
        }
        let late = shard.reserve(&one("x", 3, 3), at(50_000)).held.unwrap();
        assert_eq!(late.place, Place::Shared);
        // The places of all but one are free again, but the shared counter still holds what `x` has used.
        assert_eq!(shard.reserve(&one("x", 3, 1), at(91_000)).held, None, "3 of 3 are used");
        let own = shard.reserve(&one("x", 3, 3), at(112_000)).held.unwrap();
        assert_eq!(own.place, Place::Own);
        shard.settle(&one("x", 3, 0), &late, at(112_000));
        assert_eq!(
            shard.peek(&one("x", 3, 0), at(112_000))[0].used,
            3,
            "the late one has left with its counter"
        );
        let (extended, is_over) = shard.extend(&one("x", 3, 5), &late, at(112_000));
        assert_eq!((extended.place, is_over), (Place::Own, true), "its growth counts where it is now");
        assert_eq!(shard.peek(&one("x", 3, 0), at(112_000))[0].used, 5);
    }

    proptest! {
        /// Whatever crowd comes and goes: no scope is admitted more than its limit in any trailing window, be it in a
        /// counter of its own or in the shared one.
        #[test]
        fn a_crowd_gets_nobody_more_than_the_limit(
            steps in prop::collection::vec((0u64..4_000, 0usize..40, 1u64..4, any::<bool>()), 1..300),
        ) {
            const LIMIT: u64 = 4;
            let (mut shard, mut now) = (Shard::default(), 0);
            let mut admitted: Vec<(usize, u64, u64, Option<Held>)> = Vec::new();
            for (step, who, cost, settles) in steps {
                now += step;
                let name = format!("k{who}");
                if let Some(held) = shard.reserve(&one(&name, LIMIT, cost), at(now)).held {
                    admitted.push((who, now, cost, Some(held)));
                }
                if settles && let Some((who, _, cost, held)) = admitted.iter_mut().find(|(.., held)| held.is_some()) {
                    shard.settle(&one(&format!("k{who}"), LIMIT, *cost - 1), &held.take().unwrap(), at(now));
                    *cost -= 1;
                }
                let of = |it: &&(usize, u64, u64, Option<Held>)| it.0 == who && it.1 + 60_000 > now;
                let sum: u64 = admitted.iter().filter(of).map(|(_, _, cost, _)| cost).sum();
                prop_assert!(sum <= LIMIT, "{sum} of {LIMIT} for {who} at {now}");
            }
        }
    }

    #[test]
    fn settling_refunds_or_charges_the_difference() {
        let mut shard = Shard::default();
        let parts = shard.reserve(&one("a", 100, 40), at(0)).held.unwrap();
        shard.settle(&one("a", 100, 10), &parts, at(5_000));
        assert_eq!(shard.peek(&one("a", 100, 0), at(5_000))[0].used, 10);
        let parts = shard.reserve(&one("a", 100, 40), at(5_000)).held.unwrap();
        shard.settle(&one("a", 100, 150), &parts, at(9_000));
        let state = shard.peek(&one("a", 100, 1), at(9_000))[0];
        assert_eq!(state.used, 160, "an excess is spent already and may pass the limit");
        assert!(matches!(state.fit, Fit::After(_)));
    }

    #[test]
    fn a_changed_burst_or_limit_keeps_a_buckets_level_and_applies_at_once() {
        let second = Millis::SECOND.non_zero().unwrap();
        let of = |limit, burst, cost| {
            let window = Window::token_bucket(second, Units::new(burst));
            scope("a", [Charge { window, ..charge("a", limit, cost) }])
        };
        let mut shard = Shard::default();
        assert!(shard.reserve(&of(10, 20, 20), at(0)).held.is_some());
        // Ten a second until now, then a hundred a second and no more than twelve at once.
        let state = shard.peek(&of(100, 12, 5), at(1_000))[0];
        assert_eq!((state.used, state.fit), (Units::new(10), Fit::After(NonZeroMillis::new(30).unwrap())));
        assert!(shard.reserve(&of(100, 12, 5), at(1_029)).held.is_none());
        assert!(shard.reserve(&of(100, 12, 5), at(1_030)).held.is_some());
    }

    #[test]
    fn many_slots_take_little_room_and_come_free_by_themselves() {
        let ten_minutes = Window::concurrency(NonZeroMillis::new(600_000).unwrap());
        let slot = scope("a", [Charge { window: ten_minutes, ..charge("a", 100_000, 1) }]);
        let mut shard = Shard::default();
        for n in 0..5_000 {
            assert!(shard.reserve(&slot, at(n * 100)).held.is_some());
        }
        assert_eq!(shard.peek(&slot, at(500_000))[0].used, 5_000);
        assert!(shard.encode().len() < 500, "{} bytes", shard.encode().len());
        assert_eq!(shard.peek(&slot, at(1_110_000))[0].used, 0);
    }
}
