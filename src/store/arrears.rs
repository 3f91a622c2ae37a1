//! What this Envoy has admitted alone (`on_error: local`) for requests that still run: Redis learns of it as soon as it
//! answers again, not only when the requests are over, so that the fleet's limits count them meanwhile.
//!
//! Redis charges when it learns. By then, what was spent may have left its window: so each request remembers since when
//! all of its cost has counted, and what has passed by then is not charged (see [`Window::has_passed`]).
//!
//! Memory is bounded: of the requests beyond [`MAX_CHARGES`] charges, Redis learns when they are over, and charges them
//! in full then.
//!
//! [`Window::has_passed`]: crate::window::Window::has_passed

use super::charge::ScopeCharges;
use crate::quantity::Millis;
use std::collections::BTreeMap;

/// The most charges of running requests that are remembered.
const MAX_CHARGES: usize = 65_536;

/// Running requests that this Envoy has admitted alone.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrears {
    running: BTreeMap<String, Owed>,
    /// How many charges they have.
    charges: usize,
    /// Whether Redis may not have learned of some of them.
    are_untold: bool,
}

/// What Redis is to charge for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) charges: Vec<ScopeCharges>,
    /// Since when all of it has counted.
    pub(super) since: Millis,
    is_told: bool,
}

impl Arrears {
    /// This Envoy has admitted the reservation `id` alone.
    pub(super) fn admitted(&mut self, id: &str, charges: Vec<ScopeCharges>, now: Millis) {
        let all = self.charges.saturating_add(ScopeCharges::count(&charges));
        if all <= MAX_CHARGES {
            self.charges = all;
            self.running.insert(id.to_owned(), Owed { charges, since: now, is_told: false });
            self.are_untold = true;
        }
    }

    /// The request of `id` has cost so much until now. Returns what Redis is to charge, if it has been told of the
    /// request before, or if `anyway`.
    pub(super) fn grown(
        &mut self,
        id: &str,
        charges: &[ScopeCharges],
        anyway: bool,
        now: Millis,
    ) -> Option<Owed> {
        let owed = self.running.get_mut(id)?;
        owed.grow(charges, now);
        owed.is_told |= anyway;
        owed.is_told.then(|| owed.clone())
    }

    /// The request of `id` is over, and has cost so much. Returns since when all of that has counted, if this knows the
    /// request.
    pub(super) fn ended(&mut self, id: &str, charges: &[ScopeCharges], now: Millis) -> Option<Millis> {
        let mut owed = self.running.remove(id)?;
        self.charges = self.charges.saturating_sub(ScopeCharges::count(&owed.charges));
        owed.grow(charges, now);
        Some(owed.since)
    }

    /// Redis answers: what it has not been told, by reservation.
    pub(super) fn take_untold(&mut self) -> Vec<(String, Owed)> {
        if !std::mem::take(&mut self.are_untold) {
            return Vec::new();
        }
        let untold = self.running.iter_mut().filter(|(_, owed)| !owed.is_told);
        untold
            .map(|(id, owed)| {
                owed.is_told = true;
                (id.clone(), owed.clone())
            })
            .collect()
    }

    /// Whether Redis has not been told of a request.
    #[cfg(test)]
    pub(super) fn has_untold(&self) -> bool {
        self.are_untold && self.running.values().any(|owed| !owed.is_told)
    }

    /// Forgets since when the costs have counted.
    #[cfg(test)]
    pub(super) fn forget_times(&mut self) {
        self.running.values_mut().for_each(|owed| owed.since = Millis::ZERO);
    }
}

impl Owed {
    /// The cost is this now. If it has grown, the whole counts since now.
    fn grow(&mut self, charges: &[ScopeCharges], now: Millis) {
        let costs = ScopeCharges::flat(&self.charges).zip(ScopeCharges::flat(charges));
        if { costs }.any(|(before, after)| after.cost > before.cost) {
            self.since = now;
            self.charges = charges.to_vec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::charge::tests::charge;

    fn at(now: u64) -> Millis {
        Millis::new(now)
    }

    fn cost(units: u64) -> Vec<ScopeCharges> {
        ScopeCharges::group([("me", charge("me", 100, units))])
    }

    #[test]
    fn redis_is_told_once_of_what_still_runs() {
        let mut arrears = Arrears::default();
        for id in ["a", "b", "c"] {
            arrears.admitted(id, cost(5), at(7));
        }
        assert_eq!(arrears.ended("b", &cost(3), at(9)), Some(at(7)));
        assert_eq!(arrears.grown("a", &cost(4), false, at(9)), None, "nobody listens yet");
        assert_eq!(arrears.grown("c", &cost(6), true, at(9)).map(|owed| owed.since), Some(at(9)));
        let told = arrears.take_untold();
        assert_eq!(
            told.iter().map(|(id, owed)| (id.as_str(), owed.since)).collect::<Vec<_>>(),
            [("a", at(7))]
        );
        assert_eq!(arrears.take_untold(), []);
        let owed = arrears.grown("a", &cost(8), false, at(10)).unwrap();
        assert_eq!((owed.charges, owed.since), (cost(8), at(10)), "Redis counts it by now");
        assert_eq!(arrears.ended("a", &cost(9), at(11)), Some(at(11)));
        assert_eq!(arrears.ended("a", &cost(9), at(11)), None);
        arrears.ended("c", &cost(1), at(11));
        assert_eq!((arrears.charges, arrears.running.len()), (0, 0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut arrears = Arrears::default();
        for n in 0..MAX_CHARGES + 3 {
            arrears.admitted(&n.to_string(), cost(1), at(0));
        }
        assert_eq!((arrears.running.len(), arrears.charges), (MAX_CHARGES, MAX_CHARGES));
        assert_eq!(arrears.ended(&MAX_CHARGES.to_string(), &cost(1), at(0)), None);
    }
}
