//! The places in a counter that a reservation has charged, to which a refund must go.
//!
//! Most reservations have one part in each counter. A response that outgrows its reservation is charged again while it
//! runs. Each such charge is a part of its own, because it leaves the window at another time.

use crate::quantity::Units;
use serde::{Deserialize, Serialize};

/// The most parts of one reservation in one counter. Beyond that, the two oldest become one at the place of the older.
/// Its refund may give back less than theirs, never more.
pub const MAX_PARTS: usize = 16;

/// A charge at one place of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The place of the charge: the number of a segment or of a period, or a time.
    pub place: u64,
    /// The units.
    pub amount: Units,
}

/// The charges of one reservation to one counter, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargedParts(Vec<Part>);

impl ChargedParts {
    /// The parts, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Part> + '_ {
        self.0.iter().copied()
    }

    /// The units of all parts.
    pub fn total(&self) -> Units {
        self.0.iter().map(|part| part.amount).sum()
    }

    /// The same units at a place that no counter has, so that settling them refunds nothing.
    #[must_use]
    pub fn elsewhere(&self) -> Self {
        let mut parts = Self::default();
        parts.add(u64::MAX, self.total());
        parts
    }

    /// Adds a charge of `amount` at `place`. A charge of zero adds no part.
    pub fn add(&mut self, place: u64, amount: Units) {
        if amount.is_zero() {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.place == place => last.amount += amount,
            _ => self.0.push(Part { place, amount }),
        }
        if self.0.len() > MAX_PARTS {
            let oldest = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                *next = Part { place: oldest.place, amount: oldest.amount + next.amount };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_at_one_place_are_one_part_and_a_charge_of_zero_is_none() {
        let mut parts = ChargedParts::default();
        parts.add(1, Units::new(5));
        parts.add(1, Units::new(2));
        parts.add(2, Units::ZERO);
        assert_eq!(parts.iter().collect::<Vec<_>>(), [Part { place: 1, amount: Units::new(7) }]);
    }

    #[test]
    fn many_parts_merge_and_keep_their_total() {
        let mut parts = ChargedParts::default();
        for place in 0..100 {
            parts.add(place, Units::new(2));
        }
        assert_eq!((parts.iter().count(), parts.total()), (MAX_PARTS, Units::new(200)));
        assert_eq!(parts.iter().next(), Some(Part { place: 0, amount: Units::new(170) }));
    }
}
