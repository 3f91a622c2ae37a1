//! What the scripts of `lua/` answer, from the counters of [`crate::window`] and a record of each reservation.
//!
//! Nothing in the filter calls it. `tests/histories.rs` holds it to the scripts on random histories, so that the model
//! of the protocol (`src/worker/tests/protocol/`) can take it for Redis. It leaves out what no history shows: keys, the
//! index, and the expiry of records.

use super::charge::Charge;
use super::wire::IfAbsent;
use crate::quantity::{Millis, Units};
use crate::window::{Algorithm, ChargedParts, Counter, Fit, WindowState};
use std::collections::BTreeMap;

/// The counters of some windows, and the reservations in them.
#[derive(Clone, Debug)]
pub struct Twin {
    counters: Vec<Counter>,
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
        Self { counters, records: BTreeMap::new() }
    }

    /// The reservations that are open or have left a mark, by id.
    pub const fn records(&self) -> &BTreeMap<String, Record> {
        &self.records
    }

    /// Lets time pass. As in stores, an empty counter is forgotten and begins anew under the limit of `charges`.
    fn forget_empty(&mut self, charges: &[Charge], now: Millis) {
        for (counter, charge) in self.counters.iter_mut().zip(charges) {
            if counter.is_over(now) {
                *counter = Counter::new(&charge.window, charge.limit);
            }
            counter.keep_up(&charge.window);
        }
    }

    fn fits(&mut self, charges: &[Charge], now: Millis) -> Vec<Fit> {
        let fit = |(counter, charge): (&mut Counter, &Charge)| {
            let mut counter = counter.at(now);
            counter.set_limit(&charge.window, charge.limit);
            counter.fit(charge.limit, charge.cost)
        };
        self.counters.iter_mut().zip(charges).map(fit).collect()
    }

    fn states(&mut self, fits: &[Fit], now: Millis) -> Vec<WindowState> {
        self.counters.iter_mut().zip(fits).map(|(counter, fit)| counter.at(now).state(*fit)).collect()
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
        (admitted, self.states(&fits, now))
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
        for ((counter, charge), parts) in self.counters.iter_mut().zip(charges).zip(&mut charged) {
            let mut counter = counter.at(now);
            if extend && detached && charge.window.algorithm == Algorithm::Concurrency {
                continue;
            }
            if extend {
                counter.extend(parts, charge.limit, charge.cost);
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
        twin.states(&fits, now)
    }

    /// The units in each window.
    pub fn used(&self, now: Millis) -> Vec<Units> {
        self.counters.clone().iter_mut().map(|counter| counter.at(now).used()).collect()
    }
}
