//! One shard of the local store: the counters of the few scopes that hash to it, as bytes.
//!
//! The local store reads and writes a shard whole, so a change to any number of its counters is one atomic step. Each
//! change drops the scopes whose windows have passed, which keeps the shard small.
//!
//! **A shard that does not grow takes [`MAX_BYTES`] at most**, whatever its scopes are charged. Each scope has room
//! for [`SCOPE_BYTES`], and so have the counters that scopes without a place share. A scope that needs more takes what
//! the others leave. A scope gets a place as long as there is room for it; a scope that outgrows its room where nothing
//! is left gets coarser counters, which refuse for longer and never admit more. Only what is as coarse as it can be may
//! pass its room: a counter takes [`COARSE_BYTES`] then, so four of them do not.

use super::scope::{Name, SHARED, Scope, Slot, counter_name, owner, scope_name};
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
                Held::default()
            }
            (Step::Runs, Some(held)) => self.extend(scope, held, now).0,
            (Step::Leaves, Some(held)) => self.detach(scope, held, now),
            (_, None) => {
                let mut counters = self.counters(scope, now);
                // The limits by which the other store has admitted it.
                counters.fits();
                let place = counters.place;
                // Another worker may still have to give back the slot that this request has: it counts all the same.
                let parts = counters.each(|counter, charge| counter.at(now).reserve(charge.cost));
                let held = Held { place, parts };
                // Of a request that is over, all that it has held is its cost, and its slot is free.
                if step == Step::Runs { held } else { self.detach(scope, &held, now) }
            }
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
        // Mostly all have the same owner.
        let mut last = (None, owner(""));
        let places = charges
            .iter()
            .map(|charge| {
                if !shared && last.0 != Some(&charge.identity) {
                    last = (Some(&charge.identity), owner(&charge.identity));
                }
                let name = counter_name(last.1, &charge.name, &charge.window);
                let slot = || Slot { name, counter: Counter::new(&charge.window, charge.limit) };
                let place = index_or_push(slots, |slot| slot.name == name, slot);
                if let Some(slot) = slots.get_mut(place) {
                    slot.counter.keep_up(&charge.window);
                }
                place
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
mod tests;
