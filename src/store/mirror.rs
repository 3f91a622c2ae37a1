//! What Redis has admitted for this Envoy, on its way into the local store: so that where Redis stops to answer and
//! this Envoy counts alone (`on_error: local`), it goes on from what it has admitted already, not from zero.
//!
//! The changes gather here, the last of each reservation replaces those before it, and a tick writes them together:
//! each scope in one read and one write, so that no request waits for that. What a reservation has charged there is
//! kept until its request is over, which gives back what it has not used.
//!
//! Only this Envoy's charges are here, since its share of a limit is what it may admit alone. All its workers write to
//! one local store; what another worker has not written yet is at most [`PERIOD`] old. A charge counts from when it is
//! written, so it leaves its window later than in Redis, never earlier.
//!
//! Memory is bounded: beyond [`MAX_HELD`] charges, those of further requests that run stay as they were written until
//! they leave their windows.

use super::charge::ScopeCharges;
use super::local::{LocalStore, SharedData};
use super::shard::{Held, Step};
use crate::quantity::Millis;
use std::collections::HashMap;
use std::sync::Arc;

/// The longest that changes gather.
const PERIOD: Millis = Millis::new(50);

/// How long changes gather at least, unless there are too many.
const SHORTEST: Millis = Millis::new(25);

/// The most charges whose changes gather.
const MAX_GATHERED: usize = 16_384;

/// The most charges of running requests that are kept, to give back what they do not use.
const MAX_HELD: usize = 65_536;

/// What Redis has admitted, on its way into the local store.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    /// The changes that have not been written, by reservation.
    gathered: HashMap<String, Change>,
    /// How many charges they have.
    charges: usize,
    /// When the first of them came.
    since: Millis,
    /// What running requests have charged in the local store, by reservation.
    receipts: HashMap<String, Receipt>,
    /// How many charges they have.
    held: usize,
}

/// The last step of a reservation.
#[derive(Debug)]
struct Change {
    step: Step,
    charges: Vec<ScopeCharges>,
    /// What it has charged in the local store; none if nothing of it has been written.
    receipt: Option<Receipt>,
}

/// What a reservation has charged in the local store.
#[derive(Debug, Default)]
struct Receipt {
    /// By scope, in order.
    scopes: Vec<Held>,
    /// How many charges it has.
    charges: usize,
}

impl Mirror {
    /// Redis has made the reservation `id`.
    pub(super) fn admitted(&mut self, id: String, charges: Vec<ScopeCharges>, now: Millis) {
        if !self.receipts.contains_key(&id) && !self.gathered.contains_key(&id) {
            self.gather(id, Change { step: Step::Runs, charges, receipt: None }, now);
        }
    }

    /// The reservation `id` has taken a step, with the costs so far, unless this is not one of Redis's.
    pub(super) fn follow(&mut self, id: &str, step: Step, charges: &[ScopeCharges], now: Millis) {
        if let Some(change) = self.gathered.get_mut(id) {
            change.step = step;
            change.charges = charges.to_vec();
        } else if let Some(receipt) = self.take_receipt(id) {
            let change = Change { step, charges: charges.to_vec(), receipt: Some(receipt) };
            self.gather(id.to_owned(), change, now);
        }
    }

    /// The reservation `id` has ended with the costs that it has been charged.
    pub(super) fn ended_unchanged(&mut self, id: &str) {
        if let Some(change) = self.gathered.get_mut(id) {
            change.step = Step::Ends;
        } else {
            self.take_receipt(id);
        }
    }

    fn gather(&mut self, id: String, change: Change, now: Millis) {
        if self.gathered.is_empty() {
            self.since = now;
        }
        self.charges = self.charges.saturating_add(count(&change.charges));
        self.gathered.insert(id, change);
    }

    fn take_receipt(&mut self, id: &str) -> Option<Receipt> {
        let receipt = self.receipts.remove(id)?;
        self.held = self.held.saturating_sub(receipt.charges);
        Some(receipt)
    }

    /// Whether nothing has gathered.
    pub(super) fn is_empty(&self) -> bool {
        self.gathered.is_empty()
    }

    /// When the changes must be written; none if nothing has gathered.
    pub(super) fn next_due(&self) -> Option<Millis> {
        (!self.is_empty()).then(|| self.since + PERIOD)
    }

    /// Whether a tick at `now` writes the changes. The clock may have stepped back.
    pub(super) fn may_write(&self, now: Millis) -> bool {
        !self.is_empty() && (now >= self.since + SHORTEST || now < self.since)
    }

    /// Whether there are too many changes to gather more.
    pub(super) const fn is_full(&self) -> bool {
        self.charges >= MAX_GATHERED
    }

    /// Writes the changes.
    pub(super) fn write<S: SharedData>(&mut self, local: &LocalStore<S>, now: Millis) {
        self.charges = 0;
        // What began and ended without a cost needs no writing.
        let leaves_a_trace = |change: &Change| change.receipt.is_some() || !change.is_void();
        let changes = self.gathered.drain().filter(|(_, change)| leaves_a_trace(change));
        let mut changes: Vec<(String, Change)> = changes.collect();
        // Slots come free before others are taken.
        changes.sort_by_key(|(_, change)| change.step == Step::Runs);
        let mut held: Vec<Receipt> = changes.iter().map(|(_, change)| change.unwritten()).collect();
        for (scope, places) in places_by_scope(&changes) {
            let step = |(nth, at): &(usize, usize)| changes.get(*nth)?.1.in_scope(*at);
            let steps: Vec<_> = places.iter().filter_map(step).collect();
            let written = local.follow(&scope, &steps, now).unwrap_or_else(|error| {
                log::error!("what Redis has admitted cannot be counted here: {error}");
                Vec::new()
            });
            for ((nth, at), written) in places.iter().zip(written) {
                if let Some(held) = held.get_mut(*nth).and_then(|held| held.scopes.get_mut(*at)) {
                    *held = written;
                }
            }
        }
        for ((id, change), receipt) in changes.into_iter().zip(held) {
            let all = self.held.saturating_add(receipt.charges);
            if change.step == Step::Runs && all <= MAX_HELD {
                self.held = all;
                self.receipts.insert(id, receipt);
            }
        }
    }
}

impl Change {
    /// Whether it costs nothing.
    fn is_void(&self) -> bool {
        self.step != Step::Runs && ScopeCharges::flat(&self.charges).all(|charge| charge.cost.is_zero())
    }

    /// What it has charged before it is written.
    fn unwritten(&self) -> Receipt {
        let held = self.receipt.as_ref().map(|receipt| receipt.scopes.clone()).unwrap_or_default();
        let rest = self.charges.len().saturating_sub(held.len());
        let scopes = held.into_iter().chain(std::iter::repeat_n(Held::default(), rest)).collect();
        Receipt { scopes, charges: count(&self.charges) }
    }

    /// What to do in its scope `at`.
    fn in_scope(&self, at: usize) -> Option<(Step, &ScopeCharges, Option<&Held>)> {
        let held = self.receipt.as_ref().and_then(|receipt| receipt.scopes.get(at));
        Some((self.step, self.charges.get(at)?, held))
    }
}

/// For each scope, the changes that are in it, and where it is among the scopes of each.
fn places_by_scope(changes: &[(String, Change)]) -> HashMap<Arc<str>, Vec<(usize, usize)>> {
    let mut places: HashMap<Arc<str>, Vec<(usize, usize)>> = HashMap::new();
    for (nth, (_, change)) in changes.iter().enumerate() {
        for (at, scope) in change.charges.iter().enumerate() {
            places.entry(Arc::clone(&scope.scope)).or_default().push((nth, at));
        }
    }
    places
}

fn count(charges: &[ScopeCharges]) -> usize {
    ScopeCharges::flat(charges).count()
}
