//! Requests in flight: each takes a slot until it is over, or until its lease ends, so that the slots of an Envoy that
//! died come free by themselves.
//!
//! A lease is one unit in a sliding window of the lease's length, refunded when the request is over. Hence any number
//! of slots takes the memory of [`SEGMENTS`] numbers, and a lease that is not renewed ends late by at most one segment.
//! `lua/window/leases.lua` does the same arithmetic.

use super::Fit;
use super::parts::ChargedParts;
use super::sliding::{Reading, Shape};
use crate::quantity::{NonZeroMillis, Units};
use std::num::NonZeroU32;

/// The number of segments in the window of a lease.
pub const SEGMENTS: NonZeroU32 = NonZeroU32::new(60).unwrap();

/// The slot of one request.
const SLOT: Units = Units::new(1);

/// The shape of the window of leases of this `length`.
pub const fn shape(length: NonZeroMillis) -> Shape {
    Shape::new(length, SEGMENTS)
}

/// Starts the lease at `parts` anew. If that has ended or never existed, takes a new one if a slot of `limit` is free,
/// because the request still runs.
pub fn renew(leases: &mut Reading<'_>, limit: Units, parts: &mut ChargedParts) {
    let live = parts.iter().next_back().filter(|part| !leases.count(part.place).is_zero());
    if let Some(part) = live {
        leases.refund(part.place, SLOT);
    } else if leases.fit(limit, SLOT) != Fit::Now {
        return;
    }
    *parts = ChargedParts::default();
    parts.add(leases.place(), SLOT);
    leases.charge(SLOT);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::Millis;
    use crate::window::sliding::Counter;
    use proptest::prelude::*;

    const LEASE: u64 = 6_000;

    fn at(counter: &mut Counter, now: u64) -> Reading<'_> {
        counter.read(shape(NonZeroMillis::new(LEASE).unwrap()), Millis::new(now))
    }

    fn take(leases: &mut Reading<'_>) -> ChargedParts {
        let mut parts = ChargedParts::default();
        parts.add(leases.place(), SLOT);
        leases.charge(SLOT);
        parts
    }

    #[test]
    fn a_renewed_lease_outlives_its_length_and_takes_one_slot() {
        let mut counter = Counter::default();
        let mut parts = take(&mut at(&mut counter, 0));
        for now in (0..100_000).step_by(4_000) {
            let mut leases = at(&mut counter, now);
            renew(&mut leases, SLOT, &mut parts);
            assert_eq!(leases.used(), 1);
        }
        assert_eq!(at(&mut counter, 96_000 + LEASE + 100).used(), 0);
    }

    #[test]
    fn a_lease_that_has_ended_is_taken_again_only_if_a_slot_is_free() {
        let mut counter = Counter::default();
        let mut ended = take(&mut at(&mut counter, 0));
        let mut leases = at(&mut counter, 7_000);
        let other = take(&mut leases);
        renew(&mut leases, SLOT, &mut ended);
        assert_eq!(leases.used(), 1);
        renew(&mut leases, Units::new(2), &mut ended);
        assert_eq!((leases.used(), &ended), (Units::new(2), &other));
    }

    proptest! {
        /// The promise: with any history of slots taken, freed, renewed or forgotten, no more leases live than there
        /// are slots.
        #[test]
        fn never_more_leases_than_slots(
            limit in 1u64..6, steps in prop::collection::vec((0u64..900, 0usize..8, 0u8..4), 1..150),
        ) {
            let (mut counter, mut now) = (Counter::default(), 0);
            // When each lease began or was last renewed, and its place.
            let mut leases: Vec<(u64, ChargedParts)> = Vec::new();
            for (step, which, action) in steps {
                now += step;
                let mut reading = at(&mut counter, now);
                let fit = reading.fit(Units::new(limit), SLOT);
                match action {
                    0 if !leases.is_empty() => {
                        let (_, parts) = leases.swap_remove(which % leases.len());
                        for part in parts.iter() {
                            reading.refund(part.place, part.amount);
                        }
                    }
                    1 if !leases.is_empty() => {
                        let at = which % leases.len();
                        let (since, parts) = &mut leases[at];
                        let live = parts.iter().any(|part| reading.count(part.place) > Units::ZERO);
                        renew(&mut reading, Units::new(limit), parts);
                        if live || fit == Fit::Now {
                            *since = now;
                        }
                    }
                    _ => {
                        let living = |at: u64, slack| {
                            leases.iter().filter(|(since, _)| since + LEASE + slack > at).count() as u64
                        };
                        match fit {
                            Fit::Now => leases.push((now, take(&mut reading))),
                            Fit::After(wait) => {
                                prop_assert!(living(now, LEASE / 60) >= limit, "refused with a slot free");
                                prop_assert!(living(now + wait.get().get(), 0) < limit);
                            }
                            Fit::Never => prop_assert!(false, "a slot fits some time"),
                        }
                    }
                }
                let living = leases.iter().filter(|(since, _)| since + LEASE > now).count() as u64;
                prop_assert!(living <= limit, "{living} of {limit} at {now}");
                prop_assert!(reading.used().get() >= living);
            }
        }
    }
}
