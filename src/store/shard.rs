//! One shard of the local store: the counters of the few scopes that hash to it, as bytes.
//!
//! The local store reads and writes a shard whole, so a change to any number of its counters is one atomic step. Each
//! change drops the scopes whose windows have passed, which keeps the shard small.
//!
//! **A shard that does not grow takes [`MAX_BYTES`] at most**, whatever its scopes are charged. Each scope has room
//! for [`SCOPE_BYTES`], and so have the counters that scopes without a place share. Whoever needs more takes what the
//! others leave. A scope gets a place as long as there is room for it; a scope that outgrows its room where nothing is
//! left gets coarser counters, which refuse for longer and never admit more. Only what is as coarse as it can be may
//! pass its room: a counter takes [`COARSE_BYTES`] then, so four of them do not.

use super::scope::{Name, SHARED, Scope, Slot, counter_name, scope_name};
use crate::codec::varint::{push, take};
use crate::quantity::{Millis, Units};
use crate::store::charge::{Charge, ScopeCharges};
use crate::window::{ChargedParts, Counter, Fit, WindowState};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The most scopes with counters of their own in a shard that does not grow. All further scopes share one counter per
/// limit: they may be refused early, but no limit admits too much, and memory stays bounded whatever identities arrive.
pub const SCOPES_PER_SHARD: usize = 16;

/// The most bytes of a shard that does not grow. An allocator takes 7 KiB for them.
pub const MAX_BYTES: usize = 7_100;

/// The bytes that each scope has room for, and the shared counters.
pub const SCOPE_BYTES: usize = (MAX_BYTES - SEEN_BYTES) / (SCOPES_PER_SHARD + 1);

/// The most bytes of a counter, with its name, that is as coarse as it can be.
pub const COARSE_BYTES: usize = 90;

/// The most bytes of the time before the scopes.
const SEEN_BYTES: usize = 10;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shard<'b> {
    /// A time that the shard has been changed at: the last one, or one at most a minute before.
    seen: Millis,
    scopes: Vec<Scope<'b>>,
    /// The time of the last change since it was read.
    now: Millis,
    /// Whether every scope gets counters of its own, because the configuration names them all.
    grows: bool,
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

/// A step of a reservation that another store has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The request runs, and has cost so much until now.
    Runs,
    /// The request is over, and its cost is still to come.
    Leaves,
    /// The request is over, and this is its cost.
    Ends,
}

impl Held {
    /// The parts of each charge in the counters at `place`. What was charged to others is not given back: it leaves its
    /// window there.
    fn parts_at(&self, place: Place) -> impl Iterator<Item = ChargedParts> {
        let is_elsewhere = self.place != place;
        self.parts.iter().map(move |parts| if is_elsewhere { parts.elsewhere() } else { parts.clone() })
    }
}

impl<'b> Shard<'b> {
    /// The shard in `bytes`. Damaged bytes are an empty shard.
    pub fn decode(bytes: &'b [u8]) -> Self {
        Self::read(bytes).unwrap_or_default()
    }

    fn read(mut bytes: &'b [u8]) -> Option<Self> {
        let seen = Millis::new(take(&mut bytes)?);
        let mut scopes = Vec::with_capacity(SCOPES_PER_SHARD + 1);
        while !bytes.is_empty() {
            scopes.push(Scope::decode(&mut bytes)?);
        }
        Some(Self { seen, scopes, ..Self::default() })
    }

    /// The shard, in which every scope gets counters of its own if it `grows`.
    #[must_use]
    pub fn growing(self, grows: bool) -> Self {
        Self { grows, ..self }
    }

    /// The shard as bytes, never empty: shared data reads an empty value as none. Makes counters coarser that have
    /// grown larger than there is room for.
    pub fn encode(&mut self) -> Vec<u8> {
        let now = self.now;
        self.scopes.retain_mut(|scope| scope.lasts(now));
        let mut encoded: Vec<_> = self.scopes.iter_mut().map(|scope| scope.encode(now)).collect();
        let has_shared = self.scopes.iter().any(|scope| scope.name == SHARED);
        let rooms: usize = encoded.iter().map(|bytes| room(bytes.len())).sum();
        let mut used = SEEN_BYTES + rooms + if has_shared { 0 } else { SCOPE_BYTES };
        for (scope, bytes) in self.scopes.iter_mut().zip(&mut encoded) {
            while !self.grows && used > MAX_BYTES && bytes.len() > SCOPE_BYTES && scope.coarsen() {
                used -= room(bytes.len());
                *bytes = scope.encode(now);
                used += room(bytes.len());
            }
        }
        let mut out = Vec::with_capacity(encoded.iter().map(|bytes| bytes.len()).sum::<usize>() + SEEN_BYTES);
        push(&mut out, self.seen.get());
        encoded.iter().for_each(|bytes| out.extend_from_slice(bytes));
        out
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

    /// Takes a step of a reservation that another store has made, and that has `held` so much here; none if this is its
    /// first step. Charges whether or not it fits. Returns what it holds now.
    pub fn follow(&mut self, step: Step, scope: &ScopeCharges, held: Option<&Held>, now: Millis) -> Held {
        match (step, held) {
            (Step::Ends, Some(held)) => {
                self.settle(scope, held, now);
                return Held::default();
            }
            // The limits by which the other store has admitted it.
            (_, None) => drop(self.counters(scope, now).fits()),
            (Step::Runs | Step::Leaves, Some(_)) => {}
        }
        let nothing = Held::default();
        let held = held.unwrap_or(&nothing);
        match step {
            Step::Runs => self.extend(scope, held, now).0,
            // All that the request has held is its cost, and its slot is free.
            Step::Leaves | Step::Ends => self.detach(scope, held, now),
        }
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
        let own = scope_name(&scope.scope);
        let has = |name: Name| self.scopes.iter().any(|scope| scope.name == name);
        let counters_at = if self.grows {
            Place::Configured
        } else if has(own) || !has(SHARED) && self.has_room() {
            Place::Own
        } else {
            Place::Shared
        };
        let shared = counters_at == Place::Shared;
        let place_name = if shared { SHARED } else { own };
        let place = index_or_push(&mut self.scopes, |s| s.name == place_name, || Scope::new(place_name));
        let charges = &scope.charges;
        let Some(slots) = self.scopes.get_mut(place).map(|scope| scope.counters(now)) else {
            return Counters { slots: &mut [], places: Vec::new(), charges, now, place: counters_at };
        };
        let places = charges
            .iter()
            .map(|charge| {
                let identity = if shared { "" } else { &charge.identity };
                let name = counter_name([identity, &charge.name, &charge.window.label()]);
                let slot = || Slot { name, counter: Counter::new(&charge.window, charge.limit) };
                index_or_push(slots, |slot| slot.name == name, slot)
            })
            .collect();
        Counters { slots, places, charges, now, place: counters_at }
    }

    /// Whether one more scope may have counters of its own, beside those that all others share.
    fn has_room(&mut self) -> bool {
        let now = self.now;
        let used: usize = self.scopes.iter_mut().map(|scope| room(scope.encode(now).len())).sum();
        self.scopes.len() < SCOPES_PER_SHARD && SEEN_BYTES + used + 2 * SCOPE_BYTES <= MAX_BYTES
    }

    /// Drops the scopes whose counters are all empty at `now`. If the clock has stepped back, all counters have to see
    /// that, because they last no longer than a window from there.
    fn forget_empty(&mut self, now: Millis) {
        let has_stepped_back = now + Millis::MINUTE < self.seen;
        if has_stepped_back {
            for scope in &mut self.scopes {
                scope.counters(now);
            }
        }
        if has_stepped_back || now >= self.seen + Millis::MINUTE {
            self.seen = now;
        }
        self.now = now;
        self.scopes.retain_mut(|scope| scope.lasts(now));
    }
}

/// The bytes that are taken for a scope of `bytes`.
fn room(bytes: usize) -> usize {
    bytes.max(SCOPE_BYTES)
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
        let bytes = shard.encode();
        assert_eq!(Shard::decode(&bytes).peek(&one("a", 5, 0), at(1_000))[0].used, 3);
        assert_eq!(Shard::decode(&bytes).encode(), bytes);
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
        80d095ffbc31ffe9aaeaa2a2d50480a0b395c2317add723bf53fcbf35000e8073c000384e2cfaa060109000207ad189f\
        b65ed46a0902e0d40395aac10d110013fbebbb66a490f7038605110050f4ae2ea3bb7a5f04e0d40364320bc0b802a0ef\
        95ffbc31000380d095ffbc310200b81708c0b802e80701c0b80267882a4277dad40801e8073c000284e2cfaa060101";

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

    /// A day, an hour and a minute of requests by each of `names`, such that every segment of their windows is charged.
    fn charge_all_segments(
        shard: Shard<'_>,
        names: &[String],
        cost: impl Fn(u64) -> u64,
        enforced: bool,
    ) -> Vec<u8> {
        let windows = [60_000, 60_000, 3_600_000, 86_400_000]
            .map(|ms| Window::sliding(NonZeroMillis::new(ms).unwrap()));
        let mut bytes = shard.growing(false).encode();
        let (mut now, mut step) = (1_700_000_000_000, 0);
        for pause in [1_440_000, 60_000, 1_000] {
            for _ in 0..61 {
                (now, step) = (now + pause, step + 1);
                for name in names {
                    let charges = windows.iter().enumerate().map(|(n, window)| {
                        let cost = if n == 0 { 1 } else { cost(step) };
                        Charge {
                            name: n.to_string().into(),
                            window: *window,
                            enforced,
                            ..charge(name, 1 << 40, cost)
                        }
                    });
                    let mut shard = Shard::decode(&bytes);
                    assert!(shard.reserve(&scope(name, charges), at(now)).held.is_some());
                    bytes = shard.encode();
                    assert!(bytes.len() <= MAX_BYTES, "{} bytes", bytes.len());
                }
            }
        }
        bytes
    }

    fn names(number: usize) -> Vec<String> {
        (0..number).map(|n| format!("k{n}")).collect()
    }

    #[test]
    fn a_busy_scope_takes_half_a_kilobyte() {
        let bytes = charge_all_segments(Shard::default(), &names(1), |step| 3_000 + step * 50, true);
        assert!(bytes.len() <= 530, "{} bytes", bytes.len());
    }

    #[test]
    fn whatever_is_charged_a_shard_stays_below_its_bytes_and_loses_nothing() {
        let bytes = charge_all_segments(Shard::default(), &names(40), |step| 1 << (30 + step % 23), false);
        let (mut own, mut shard) = (0, Shard::decode(&bytes));
        for name in names(40) {
            let minute = Charge { name: "0".into(), enforced: false, ..charge(&name, 99, 0) };
            let attempt = shard.reserve(&scope(&name, [minute]), at(1_700_000_000_000 + 61 * 1_501_000));
            let is_own = attempt.held.unwrap().place == Place::Own;
            own += usize::from(is_own);
            assert!(attempt.states[0].used >= Units::new(61), "all that was charged counts");
            // As coarse as it can be, it leaves with a segment that is as long as the window.
            assert!(attempt.states[0].reset <= at(120_000));
        }
        assert_eq!(own, SCOPES_PER_SHARD);
    }

    /// The bound that docs/operations.md states for more than four counters.
    #[test]
    fn many_counters_pass_the_bound_by_no_more_than_they_take_when_they_are_coarse() {
        let windows: Vec<_> = (0..12_u64)
            .map(|n| match n % 3 {
                0 => Window::sliding(NonZeroMillis::new(60_000 << n).unwrap()),
                1 => Window::token_bucket(NonZeroMillis::new(1_000_000 + n).unwrap(), Units::new(1 << 52)),
                _ => Window::concurrency(NonZeroMillis::new(600_000 << n).unwrap()),
            })
            .collect();
        let (mut bytes, mut most) = (Shard::default().encode(), 0);
        for now in (0..61).map(|n| 1_700_000_000_000 + n * 61_001) {
            for name in names(20) {
                let charge = |window: &Window| Charge {
                    window: *window,
                    enforced: false,
                    ..charge(&name, 1 << 52, 1 << 52)
                };
                let mut shard = Shard::decode(&bytes);
                shard.reserve(&scope(&name, windows.iter().map(charge)), at(now));
                bytes = shard.encode();
                most = most.max(bytes.len());
            }
        }
        let coarse = 18 + windows.len() * COARSE_BYTES - SCOPE_BYTES;
        assert!(most > MAX_BYTES && most <= MAX_BYTES + (SCOPES_PER_SHARD + 1) * coarse, "{most} bytes");
    }

    #[test]
    fn a_scope_gets_a_place_only_where_there_is_room_for_it() {
        let late = |cost| {
            let mut bytes = charge_all_segments(Shard::default(), &names(12), |_| cost, true);
            let mut place = |name| {
                let mut shard = Shard::decode(&bytes);
                let held =
                    shard.reserve(&one(name, 9, 1), at(1_700_000_000_000 + 61 * 1_501_000)).held.unwrap();
                bytes = shard.encode();
                held.place
            };
            [place("x"), place("y"), place("k0")]
        };
        assert_eq!(late(9), [Place::Own, Place::Own, Place::Own]);
        assert_eq!(late(3_000), [Place::Shared, Place::Shared, Place::Own]);
    }

    #[test]
    fn a_scope_that_nothing_touches_is_forgotten_when_its_windows_have_passed_also_by_a_clock_that_was_set_back()
     {
        const HOUR: u64 = 3_600_000;
        let mut shard = Shard::default();
        shard.reserve(&one("a", 9, 1), at(2 * HOUR));
        shard.reserve(&one("b", 9, 1), at(2 * HOUR + 30_000));
        let scopes = |bytes: &[u8], now| {
            let mut shard = Shard::decode(bytes);
            shard.peek(&one("c", 9, 0), at(now));
            Shard::decode(&shard.encode()).scopes.len()
        };
        let bytes = shard.encode();
        assert_eq!(
            [2 * HOUR + 60_999, 2 * HOUR + 61_000, 2 * HOUR + 91_000].map(|now| scopes(&bytes, now)),
            [2, 1, 0]
        );
        // Both count from the beginning of their last segment.
        let mut shard = Shard::decode(&bytes);
        shard.peek(&one("c", 9, 0), at(HOUR));
        let bytes = shard.encode();
        assert_eq!([HOUR + 60_999, HOUR + 61_000].map(|now| scopes(&bytes, now)), [2, 0]);
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
            let (mut bytes, mut now) = (Shard::default().encode(), 0);
            let mut admitted: Vec<(usize, u64, u64, Option<Held>)> = Vec::new();
            for (step, who, cost, settles) in steps {
                now += step;
                let mut shard = Shard::decode(&bytes);
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
                let encoded = shard.encode();
                bytes = encoded;
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
