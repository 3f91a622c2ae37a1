//! The sidecar and Redis: each element of a batch is a call of the scripts' twin.

use super::Mutant;
use crate::quantity::{Millis, Units};
use crate::store::sidecar::Kind;
use crate::store::twin::{Record, Twin};
use crate::store::wire::{Charge, IfAbsent, Reserve, Reserved, ScopeCharges, Settle, Settled};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};

/// Redis's clock. Nothing leaves its window before the end.
const NOW: Millis = Millis::new(super::super::NOW);

#[derive(Clone, Debug)]
pub(super) struct Redis {
    twin: Twin,
    /// What each reservation has changed the counter by, whatever its record says.
    charged: BTreeMap<String, i64>,
    /// The reservations that were made when they arrived.
    made: BTreeSet<String>,
    /// Stands for everything above.
    pub(super) print: u64,
}

impl Redis {
    pub(super) fn new(charge: &Charge) -> Self {
        let twin = Twin::new(std::slice::from_ref(charge));
        Self { twin, charged: BTreeMap::new(), made: BTreeSet::new(), print: 0 }
    }

    /// The units that the reservation `id` holds of the counter.
    pub(super) fn charged(&self, id: &str) -> i64 {
        self.charged.get(id).copied().unwrap_or(0)
    }

    /// Whether the reservation `id` was made, by a reservation that arrived.
    pub(super) fn has_made(&self, id: &str) -> bool {
        self.made.contains(id)
    }

    /// The reservations that are open.
    pub(super) fn open(&self) -> impl Iterator<Item = &str> {
        let open = self.twin.records().iter().filter(|(_, record)| matches!(record, Record::Open(..)));
        open.map(|(id, _)| id.as_str())
    }

    /// The units in the counter after this time.
    pub(super) fn used_after(&self, time: Millis) -> Units {
        self.twin.used(NOW + time).into_iter().sum()
    }

    /// Takes a batch, and returns the answer.
    pub(super) fn take(&mut self, kind: Kind, batch: &[u8], mutant: Mutant) -> Vec<u8> {
        let answer = match kind {
            Kind::Reserve(_) => {
                let calls: Vec<Reserve> = serde_json::from_slice(batch).unwrap();
                let answers: Vec<Reserved> = calls.iter().map(|call| self.reserve(call, mutant)).collect();
                serde_json::to_vec(&answers)
            }
            Kind::Settle => {
                let calls: Vec<Settle> = serde_json::from_slice(batch).unwrap();
                let answers: Vec<Settled> = calls.iter().map(|call| self.settle(call, mutant)).collect();
                serde_json::to_vec(&answers)
            }
            Kind::Background | Kind::Probe => panic!("no request asks for that"),
        };
        self.print = print_of(&format!("{:?} {:?} {:?}", self.twin, self.charged, self.made));
        answer.unwrap()
    }

    fn reserve(&mut self, call: &Reserve, mutant: Mutant) -> Reserved {
        let charges = flat(&call.charges);
        let is_known = self.twin.records().contains_key(&call.id);
        let name = other_name(&call.id, is_known && mutant == Mutant::ReservesAgain);
        let (admitted, windows) = self.charge(&call.id, |twin| twin.reserve(&name, &charges, NOW));
        if (admitted || mutant == Mutant::AdmitsAll) && !is_known {
            self.made.insert(call.id.clone());
        }
        Reserved::Decided { admitted: admitted || mutant == Mutant::AdmitsAll, windows }
    }

    fn settle(&mut self, call: &Settle, mutant: Mutant) -> Settled {
        let charges = flat(&call.charges);
        let Settle { id, if_absent, extend, .. } = call;
        let done = Settled::Done { settled: true, over: false };
        let is_cancellation = if_absent.is_some() && charges.iter().all(|charge| charge.cost.is_zero());
        if is_cancellation && mutant == Mutant::CancelsNothing {
            return done;
        }
        let is_known = self.twin.records().contains_key(id);
        if *extend && !is_known && mutant == Mutant::ExtendsWhatIsThere {
            return done;
        }
        let charges_again = match mutant {
            Mutant::ChargesWhatIsThere => is_known && if_absent.is_some(),
            Mutant::SettlesAgain => !is_known && !extend && self.has_made(id),
            Mutant::AddsExtensions => is_known && *extend,
            _ => false,
        };
        let if_absent = if charges_again { Some(IfAbsent::Charge) } else { *if_absent };
        let name = other_name(id, charges_again);
        let now = if mutant == Mutant::SettlesInTheFuture { NOW + Millis::DAY } else { NOW };
        let settled = self.charge(id, |twin| twin.settle(&name, &charges, if_absent, *extend, now));
        let is_over = charges.iter().any(|charge| self.used_after(Millis::ZERO) > charge.limit);
        Settled::Done { settled, over: settled && *extend && is_over }
    }

    /// Makes a call for the reservation `id`, and notes what that changes.
    fn charge<T>(&mut self, id: &str, call: impl FnOnce(&mut Twin) -> T) -> T {
        let used = |twin: &Twin| i64::try_from(twin.used(NOW).into_iter().sum::<Units>().get()).unwrap();
        let before = used(&self.twin);
        let answer = call(&mut self.twin);
        *self.charged.entry(id.to_owned()).or_default() += used(&self.twin) - before;
        answer
    }
}

/// The name of a reservation of which the twin knows nothing, or `id`.
fn other_name(id: &str, other: bool) -> String {
    if other { format!("another {id}") } else { id.to_owned() }
}

fn flat(charges: &[ScopeCharges]) -> Vec<Charge> {
    ScopeCharges::flat(charges).cloned().collect()
}

/// A number that stands for `text`.
pub(super) fn print_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}
