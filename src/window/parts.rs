//! Where a reservation's units are: what a counter needs to be told when they are to be given back.
//!
//! Most reservations have one part in each counter. A response that outgrows its reservation is charged again while it
//! runs, and each such charge is a part of its own, because it leaves its window at another time.

/// The most parts that are told apart. Beyond it the two oldest become one, at the place of the older: giving that back
/// may do less, never more.
pub const MOST_PARTS: usize = 16;

/// Units charged at one place of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What the counter returned when it was charged: a segment's or a window's number, or a time.
    pub place: u64,
    /// Units.
    pub amount: u64,
}

/// All that one reservation has charged to one counter, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChargedParts(Vec<Part>);

impl ChargedParts {
    /// The parts, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Part> + '_ {
        self.0.iter().copied()
    }

    /// Units in all parts.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, part| sum.saturating_add(part.amount))
    }

    /// Adds `amount` charged at `place`. Nothing charged is no part.
    pub fn add(&mut self, place: u64, amount: u64) {
        if amount == 0 {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.place == place => last.amount = last.amount.saturating_add(amount),
            _ => self.0.push(Part { place, amount }),
        }
        if self.0.len() > MOST_PARTS {
            let oldest = self.0.remove(0);
            if let Some(next) = self.0.first_mut() {
                *next = Part { place: oldest.place, amount: oldest.amount.saturating_add(next.amount) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_at_one_place_are_one_part_and_nothing_is_none() {
        let mut parts = ChargedParts::default();
        parts.add(1, 5);
        parts.add(1, 2);
        parts.add(2, 0);
        assert_eq!(parts.iter().collect::<Vec<_>>(), [Part { place: 1, amount: 7 }]);
    }

    #[test]
    fn parts_stay_few_and_lose_nothing() {
        let mut parts = ChargedParts::default();
        for place in 0..100 {
            parts.add(place, 2);
        }
        assert_eq!((parts.iter().count(), parts.total()), (MOST_PARTS, 200));
        assert_eq!(parts.iter().next(), Some(Part { place: 0, amount: 170 }));
    }
}
