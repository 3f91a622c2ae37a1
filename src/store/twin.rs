//! What the scripts of `lua/` answer, from the counters of [`crate::window`] and a record of each reservation.
//!
//! Nothing in the filter calls it. `tests/histories.rs` holds it to the scripts on random histories, so that the model
//! of the protocol (`src/worker/tests/protocol/`) can take it for Redis. It leaves out what no history shows: keys, the
//! index, and the expiry of records.

use super::charge::Charge;
use super::wire::IfAbsent;
use crate::quantity::{Millis, Units};
use crate::window::grants::{Grant, Grants};
use crate::window::{Algorithm, ChargedParts, Counter, CounterAt, Fit, WindowState};
use std::collections::BTreeMap;

/// The counters of some windows, and the reservations in them.
#[derive(Clone, Debug)]
pub struct Twin {
    counters: Vec<Counter>,
    grants: Vec<Grants>,
    records: BTreeMap<String, Record>,
}

/// The record of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The charges to each window, and whether its leases have ended before it.
    Open(Vec<ChargedParts>, bool),
    /// The mark of a settlement.
    Settled,
}

impl Twin {
    /// Empty counters of the windows of `charges`, which all calls must have in this order.
    pub fn new(charges: &[Charge]) -> Self {
        let counters = charges.iter().map(|charge| Counter::new(&charge.window, charge.limit)).collect();
        let grants = vec![Grants::default(); charges.len()];
        Self { counters, grants, records: BTreeMap::new() }
    }

    /// The reservations that are open or have left a mark, by id.
    pub const fn records(&self) -> &BTreeMap<String, Record> {
        &self.records
    }

    /// Lets time pass. Grants end, and, as in stores, an empty counter is forgotten and begins anew under the limit of
    /// `charges`.
    fn forget_empty(&mut self, charges: &[Charge], now: Millis) {
        self.grants.iter_mut().for_each(|grants| grants.keep_up(now));
        for (counter, charge) in self.counters.iter_mut().zip(charges) {
            forget_if_over(counter, charge, now);
        }
    }

    fn fits(&mut self, charges: &[Charge], now: Millis) -> Vec<Fit> {
        let fit = |((counter, charge), grants): ((&mut Counter, &Charge), &Grants)| {
            let mut counter = counter.at(now);
            let fit = grants.fit(charge.window, charge.limit, now, |window, limit| {
                counter.set_limit(window, limit);
                counter.fit(limit, charge.cost)
            });
            counter.set_limit(&charge.window, charge.limit);
            fit
        };
        self.counters.iter_mut().zip(charges).zip(&self.grants).map(fit).collect()
    }

    fn states(&mut self, charges: &[Charge], fits: &[Fit], now: Millis) -> Vec<WindowState> {
        let granted = self.granted(charges);
        let state = |((counter, fit), granted): ((&mut Counter, &Fit), Units)| WindowState {
            granted,
            ..counter.at(now).state(*fit)
        };
        self.counters.iter_mut().zip(fits).zip(granted).map(state).collect()
    }

    /// The units that are granted in each window.
    fn granted(&self, charges: &[Charge]) -> Vec<Units> {
        let of = |(grants, charge): (&Grants, &Charge)| grants.units(&charge.window, charge.limit);
        self.grants.iter().zip(charges).map(of).collect()
    }

    /// `grant.lua`: raises the limit of a window, unless it has too many grants. Returns whether it did.
    pub fn grant(&mut self, at: usize, grant: Grant, charges: &[Charge], now: Millis) -> bool {
        let Some(mut grants) = self.grants.get(at).cloned() else { return false };
        grants.keep_up(now);
        let is_granted = grant.until > now && grants.add(grant);
        if is_granted {
            self.touch(at, charges, now, |_| ());
            self.grants.get_mut(at).into_iter().for_each(|all| all.clone_from(&grants));
        }
        is_granted
    }

    /// The same, which ends the grants of a window.
    pub fn revoke(&mut self, at: usize, charges: &[Charge], now: Millis) {
        self.touch(at, charges, now, |_| ());
        self.grants.get_mut(at).into_iter().for_each(Grants::revoke);
    }

    /// The same, which gives back so many units of a window. Returns how many there were.
    pub fn refund(&mut self, at: usize, units: Units, charges: &[Charge], now: Millis) -> Units {
        let refund = |counter: &mut CounterAt<'_>| {
            let before = counter.used();
            counter.give_back(units);
            before - counter.used()
        };
        self.touch(at, charges, now, refund).unwrap_or_default()
    }

    /// Lets time pass for one window only, as `grant.lua` does, and then does `what` with its counter.
    fn touch<T>(
        &mut self,
        at: usize,
        charges: &[Charge],
        now: Millis,
        what: impl FnOnce(&mut CounterAt<'_>) -> T,
    ) -> Option<T> {
        let (counter, charge) = self.counters.get_mut(at).zip(charges.get(at))?;
        self.grants.get_mut(at)?.keep_up(now);
        forget_if_over(counter, charge, now);
        let mut counter = counter.at(now);
        counter.set_limit(&charge.window, charge.limit);
        Some(what(&mut counter))
    }

    /// `reserve.lua`: whether the reservation is admitted, and the state of its windows.
    pub fn reserve(&mut self, id: &str, charges: &[Charge], now: Millis) -> (bool, Vec<WindowState>) {
        self.forget_empty(charges, now);
        let mut fits = self.fits(charges, now);
        let known = self.records.contains_key(id);
        if known {
            fits.fill(Fit::Now);
        }
        let admitted = charges.iter().zip(&fits).all(|(charge, fit)| !charge.enforced || *fit == Fit::Now);
        if admitted && !known {
            let charged = self.counters.iter_mut().zip(charges);
            let charged = charged.map(|(counter, charge)| counter.at(now).reserve(charge.cost)).collect();
            self.records.insert(id.to_owned(), Record::Open(charged, false));
        }
        (admitted, self.states(charges, &fits, now))
    }

    /// `settle.lua` for a request that is over or, if `extend`, still runs: whether there was anything to settle.
    pub fn settle(
        &mut self,
        id: &str,
        charges: &[Charge],
        if_absent: Option<IfAbsent>,
        extend: bool,
        now: Millis,
    ) -> bool {
        let (mut charged, detached) = match (self.records.remove(id), if_absent) {
            (Some(Record::Open(charged, detached)), _) => (charged, detached),
            (None, Some(IfAbsent::Charge)) => (vec![ChargedParts::default(); charges.len()], false),
            (None, None) => return false,
            (None, Some(IfAbsent::Mark)) => {
                self.records.insert(id.to_owned(), Record::Settled);
                return false;
            }
            (Some(Record::Settled), _) => {
                self.records.insert(id.to_owned(), Record::Settled);
                return false;
            }
        };
        self.forget_empty(charges, now);
        let windows = self.counters.iter_mut().zip(&self.grants).zip(charges);
        for (((counter, grants), charge), parts) in windows.zip(&mut charged) {
            let mut counter = counter.at(now);
            if extend && detached && charge.window.algorithm == Algorithm::Concurrency {
                continue;
            }
            if extend {
                counter.extend(parts, grants.raise(charge.window, charge.limit).1, charge.cost);
            } else {
                counter.settle(parts, charge.cost);
            }
        }
        if extend {
            self.records.insert(id.to_owned(), Record::Open(charged, detached));
        } else if if_absent.is_some() {
            self.records.insert(id.to_owned(), Record::Settled);
        }
        true
    }

    /// `settle.lua` for a request that is over and whose cost is still to come: whether there is one.
    pub fn detach(&mut self, id: &str, charges: &[Charge], now: Millis) -> bool {
        let Some(Record::Open(mut charged, _)) = self.records.get(id).cloned() else { return false };
        self.forget_empty(charges, now);
        for ((counter, charge), parts) in self.counters.iter_mut().zip(charges).zip(&mut charged) {
            counter.at(now).detach(parts, charge.cost);
        }
        self.records.insert(id.to_owned(), Record::Open(charged, true));
        true
    }

    /// `peek.lua`: the state of the windows.
    pub fn peek(&self, charges: &[Charge], now: Millis) -> Vec<WindowState> {
        let mut twin = self.clone();
        twin.forget_empty(charges, now);
        let fits = twin.fits(charges, now);
        twin.states(charges, &fits, now)
    }

    /// The units in each window.
    pub fn used(&self, now: Millis) -> Vec<Units> {
        self.counters.clone().iter_mut().map(|counter| counter.at(now).used()).collect()
    }
}

/// Makes a counter that is over a new one under the limit of `charge`.
fn forget_if_over(counter: &mut Counter, charge: &Charge, now: Millis) {
    if counter.is_over(now) {
        *counter = Counter::new(&charge.window, charge.limit);
    }
    counter.keep_up(&charge.window);
}
