//! One shard of the local store: the counters of the few scopes that hash to it, as bytes.
//!
//! A shard is read, changed and written back whole, so a change to any number of its counters is one atomic step.
//! Counters that have emptied are let go of whenever the shard is written, which is what keeps it small.

use crate::store::wire::{Charge, WindowState};
use crate::window::{ChargedParts, Counter, Fit};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Scopes that one shard tells apart. What comes on top shares a counter per limit: such identities may be refused
/// early, but no limit is ever exceeded and memory stays bounded whatever identities arrive.
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

/// What came of trying to charge some counters of one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Per charge, in order: the counter after the decision.
    pub states: Vec<WindowState>,
    /// Per charge, what was charged; nothing was if any of them did not fit.
    pub parts: Option<Vec<ChargedParts>>,
}

impl Shard {
    /// The shard that `bytes` hold. Bytes of another version or damaged ones are an empty shard: there is nobody
    /// to ask for what they meant.
    pub fn decode(bytes: &[u8]) -> Self {
        postcard::from_bytes(bytes).unwrap_or_default()
    }

    /// The shard as bytes, never empty (shared data cannot tell an empty value from none).
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_else(|_| vec![0])
    }

    /// Charges all of `charges`, which share one scope, or none.
    pub fn reserve(&mut self, charges: &[Charge], now_ms: u64) -> Attempt {
        let mut counters = self.counters(charges, now_ms);
        let fits = counters.fits(charges, now_ms);
        let admitted = charges.iter().zip(&fits).all(|(charge, fit)| !charge.enforced || *fit == Fit::Now);
        let parts = admitted
            .then(|| counters.each(charges, |slot, charge| slot.counter.reserve(charge.cost, now_ms)));
        Attempt { states: counters.states(charges, fits, now_ms), parts }
    }

    /// Charges what running requests cost by now beyond their `parts`, and renews leases. Returns the parts with what
    /// was added, and whether that takes a counter past a limit that is enforced.
    pub fn extend(
        &mut self,
        charges: &[Charge],
        parts: &[ChargedParts],
        now_ms: u64,
    ) -> (Vec<ChargedParts>, bool) {
        let (mut parts, mut is_over) = (parts.iter().cloned(), false);
        let parts = self.counters(charges, now_ms).each(charges, |slot, charge| {
            let mut parts = parts.next().unwrap_or_default();
            slot.counter.extend(&mut parts, charge.limit, charge.cost, now_ms);
            is_over |= charge.enforced && slot.counter.used() > charge.window.capacity(charge.limit);
            parts
        });
        (parts, is_over)
    }

    /// Replaces what `charges` took, as `parts` tells, by what they really cost.
    pub fn settle(&mut self, charges: &[Charge], parts: &[ChargedParts], now_ms: u64) {
        let mut parts = parts.iter();
        self.counters(charges, now_ms).each(charges, |slot, charge| {
            if let Some(parts) = parts.next() {
                slot.counter.settle(parts, charge.cost, now_ms);
            }
        });
    }

    /// The counters of `charges` as they are.
    pub fn peek(&mut self, charges: &[Charge], now_ms: u64) -> Vec<WindowState> {
        let mut counters = self.counters(charges, now_ms);
        let fits = counters.fits(charges, now_ms);
        counters.states(charges, fits, now_ms)
    }

    /// The counters of `charges`, made where there are none, as of `now_ms`.
    fn counters(&mut self, charges: &[Charge], now_ms: u64) -> Counters<'_> {
        self.forget_empty(now_ms);
        let scope = charges.first().map_or("", |charge| &charge.scope);
        let own = digest(&[scope]);
        let shared = self.scopes.len() >= SCOPES_PER_SHARD && !self.scopes.iter().any(|s| s.name == own);
        let name = if shared { digest(&[]) } else { own };
        let scope = at_or_push(&mut self.scopes, |s| s.name == name, || Scope { name, counters: Vec::new() });
        let Some(Scope { counters, .. }) = self.scopes.get_mut(scope) else {
            return Counters { slots: &mut [], at: Vec::new() };
        };
        let at = charges
            .iter()
            .map(|charge| {
                let identity = if shared { "" } else { &charge.identity };
                let name = digest(&[identity, &charge.name, &charge.window.label()]);
                let slot = || {
                    let mut counter = Counter::new(&charge.window, charge.limit);
                    counter.advance(now_ms);
                    Slot { name, counter }
                };
                at_or_push(counters, |slot| slot.name == name, slot)
            })
            .collect();
        Counters { slots: counters, at }
    }

    /// Lets go of what has left its window.
    fn forget_empty(&mut self, now_ms: u64) {
        self.scopes.retain_mut(|scope| {
            scope.counters.retain_mut(|slot| {
                slot.counter.advance(now_ms);
                !slot.counter.is_empty()
            });
            !scope.counters.is_empty()
        });
    }
}

/// The counters of some charges, in their order.
struct Counters<'a> {
    slots: &'a mut [Slot],
    at: Vec<usize>,
}

impl Counters<'_> {
    fn each<T>(&mut self, charges: &[Charge], mut f: impl FnMut(&mut Slot, &Charge) -> T) -> Vec<T> {
        let slots = &mut *self.slots;
        self.at
            .iter()
            .zip(charges)
            .filter_map(|(at, charge)| slots.get_mut(*at).map(|s| f(s, charge)))
            .collect()
    }

    /// Whether each charge fits. Its limit is in force from now on.
    fn fits(&mut self, charges: &[Charge], now_ms: u64) -> Vec<Fit> {
        self.each(charges, |slot, charge| {
            slot.counter.set_limit(&charge.window, charge.limit);
            slot.counter.fit(charge.limit, charge.cost, now_ms)
        })
    }

    /// How the counters stand, with what was found of each charge before it was made.
    fn states(&mut self, charges: &[Charge], fits: Vec<Fit>, now_ms: u64) -> Vec<WindowState> {
        let mut fits = fits.into_iter();
        self.each(charges, |slot, _| WindowState {
            used: slot.counter.used(),
            reset_ms: slot.counter.reset_ms(now_ms),
            retry_after_ms: WindowState::retry_after(fits.next().unwrap_or(Fit::Now)),
        })
    }
}

/// Where the element stands that `is` it; a new one is put at the end if there is none.
fn at_or_push<T>(list: &mut Vec<T>, is: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> usize {
    list.iter().position(is).unwrap_or_else(|| {
        list.push(make());
        list.len().saturating_sub(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::Window;
    use std::num::NonZeroU64;

    fn charge(identity: &str, limit: u64, cost: u64) -> Charge {
        Charge {
            scope: identity.into(),
            identity: identity.into(),
            name: "requests".into(),
            window: Window::sliding(NonZeroU64::new(60_000).unwrap()),
            limit,
            cost,
            enforced: true,
        }
    }

    #[test]
    fn bytes_round_trip_and_damaged_ones_are_empty() {
        let mut shard = Shard::default();
        shard.reserve(&[charge("a", 5, 3)], 1_000);
        assert_eq!(Shard::decode(&shard.encode()), shard);
        assert_eq!(Shard::decode(&[255; 40]), Shard::default());
        assert!(!Shard::default().encode().is_empty(), "an empty value would read as no value");
    }

    #[test]
    fn nothing_is_charged_unless_all_fits() {
        let mut shard = Shard::default();
        let tokens = Charge { name: "total_tokens".into(), ..charge("a", 10, 11) };
        let attempt = shard.reserve(&[charge("a", 5, 1), tokens], 0);
        assert_eq!(attempt.parts, None);
        assert_eq!(attempt.states.iter().map(|s| s.used).collect::<Vec<_>>(), [0, 0]);
        assert_eq!(attempt.states.iter().map(WindowState::fit).collect::<Vec<_>>(), [Fit::Now, Fit::Never]);
    }

    #[test]
    fn what_is_not_enforced_is_charged_and_told() {
        let mut shard = Shard::default();
        let charge = Charge { enforced: false, ..charge("a", 1, 1) };
        let fits: Vec<_> = (0..3)
            .map(|_| shard.reserve(std::slice::from_ref(&charge), 0).states[0].fit() == Fit::Now)
            .collect();
        assert_eq!(fits, [true, false, false]);
        assert_eq!(shard.peek(&[charge], 0)[0].used, 3);
    }

    #[test]
    fn a_full_bucket_shares_a_counter_and_never_admits_more_than_a_limit() {
        let mut shard = Shard::default();
        for n in 0..SCOPES_PER_SHARD {
            assert!(shard.reserve(&[charge(&format!("k{n}"), 2, 1)], 0).parts.is_some());
        }
        let late = |shard: &mut Shard, name| shard.reserve(&[charge(name, 2, 1)], 0).parts.is_some();
        assert_eq!(
            [late(&mut shard, "x"), late(&mut shard, "y"), late(&mut shard, "z")],
            [true, true, false]
        );
        assert_eq!(shard.scopes.len(), SCOPES_PER_SHARD + 1);
        assert!(late(&mut shard, "k0"), "who has a place keeps it");
        assert!(shard.reserve(&[charge("z", 2, 1)], 200_000).parts.is_some());
        assert_eq!(shard.scopes.len(), 1, "what has left its window makes room");
    }

    #[test]
    fn settling_refunds_or_charges_the_difference() {
        let mut shard = Shard::default();
        let parts = shard.reserve(&[charge("a", 100, 40)], 0).parts.unwrap();
        shard.settle(&[charge("a", 100, 10)], &parts, 5_000);
        assert_eq!(shard.peek(&[charge("a", 100, 0)], 5_000)[0].used, 10);
        let parts = shard.reserve(&[charge("a", 100, 40)], 5_000).parts.unwrap();
        shard.settle(&[charge("a", 100, 150)], &parts, 9_000);
        let state = shard.peek(&[charge("a", 100, 1)], 9_000)[0];
        assert_eq!(state.used, 160, "an excess is spent already and may pass the limit");
        assert!(matches!(state.fit(), Fit::After(_)));
    }

    #[test]
    fn a_changed_burst_or_limit_keeps_a_buckets_level_and_is_in_force_at_once() {
        let second = NonZeroU64::new(1_000).unwrap();
        let of = |limit, burst, cost| {
            [Charge { window: Window::token_bucket(second, burst), ..charge("a", limit, cost) }]
        };
        let mut shard = Shard::default();
        assert!(shard.reserve(&of(10, 20, 20), 0).parts.is_some());
        // Ten a second until now, then a hundred a second and no more than twelve at once.
        let state = shard.peek(&of(100, 12, 5), 1_000)[0];
        assert_eq!((state.used, state.retry_after_ms), (10, 30));
        assert!(shard.reserve(&of(100, 12, 5), 1_029).parts.is_none());
        assert!(shard.reserve(&of(100, 12, 5), 1_030).parts.is_some());
    }

    #[test]
    fn many_slots_take_little_room_and_come_free_by_themselves() {
        let ten_minutes = Window::concurrency(NonZeroU64::new(600_000).unwrap());
        let slot = [Charge { window: ten_minutes, ..charge("a", 100_000, 1) }];
        let mut shard = Shard::default();
        for at in 0..5_000 {
            assert!(shard.reserve(&slot, at * 100).parts.is_some());
        }
        assert_eq!(shard.peek(&slot, 500_000)[0].used, 5_000);
        assert!(shard.encode().len() < 500, "{} bytes", shard.encode().len());
        assert_eq!(shard.peek(&slot, 1_110_000)[0].used, 0);
    }
}
