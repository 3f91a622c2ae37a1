//! Requests in flight: each takes a slot until it is over, and at the latest until its lease ends, so that the slots of
//! an Envoy that died come free by themselves.
//!
//! A lease is one unit in a sliding window of the lease's length, given back when the request is over. Hence any number
//! of slots takes the memory of [`SEGMENTS`] numbers, and a lease that is not renewed lives for its length and at most
//! one segment more. `lua/window/leases.lua` does the same arithmetic.

use super::Fit;
use super::parts::ChargedParts;
use super::sliding::{Counter, Shape};
use std::num::{NonZeroU32, NonZeroU64};

/// How finely leases are told apart: one that is not renewed ends late by at most this part of its length.
pub const SEGMENTS: NonZeroU32 = NonZeroU32::new(60).unwrap();

/// The shape of leases that live for `lease_ms`.
pub const fn shape(lease_ms: NonZeroU64) -> Shape {
    Shape::new(lease_ms, SEGMENTS)
}

/// Lets the lease at `parts` begin anew. One that has ended, or never was, is taken if a slot of `limit` is free: its
/// request still runs. Call [`Counter::advance`] first.
pub fn renew(counter: &mut Counter, shape: Shape, limit: u64, parts: &mut ChargedParts, now_ms: u64) {
    let held = parts.iter().next_back().filter(|part| counter.holds(part.place));
    if let Some(part) = held {
        counter.refund(part.place, 1);
    } else if counter.fit(shape, limit, 1, now_ms) != Fit::Now {
        return;
    }
    *parts = ChargedParts::default();
    parts.add(counter.charge(shape, 1, now_ms), 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEASE_MS: u64 = 6_000;

    fn lease() -> Shape {
        shape(NonZeroU64::new(LEASE_MS).unwrap())
    }

    fn take(counter: &mut Counter, now_ms: u64) -> ChargedParts {
        let mut parts = ChargedParts::default();
        parts.add(counter.charge(lease(), 1, now_ms), 1);
        parts
    }

    #[test]
    fn a_renewed_lease_outlives_its_length_and_is_one_slot() {
        let mut counter = Counter::default();
        let mut parts = take(&mut counter, 0);
        for now_ms in (0..100_000).step_by(4_000) {
            counter.advance(lease(), now_ms);
            renew(&mut counter, lease(), 1, &mut parts, now_ms);
            assert_eq!(counter.used(), 1);
        }
        counter.advance(lease(), 96_000 + LEASE_MS + 100);
        assert_eq!(counter.used(), 0);
    }

    #[test]
    fn a_lease_that_has_ended_is_taken_again_only_if_a_slot_is_free() {
        let mut counter = Counter::default();
        let mut ended = take(&mut counter, 0);
        counter.advance(lease(), 7_000);
        let other = take(&mut counter, 7_000);
        renew(&mut counter, lease(), 1, &mut ended, 7_000);
        assert_eq!(counter.used(), 1);
        renew(&mut counter, lease(), 2, &mut ended, 7_000);
        assert_eq!((counter.used(), &ended), (2, &other));
    }

    proptest! {
        /// The promise: whatever is taken, freed, renewed or forgotten, no more leases live than there are slots.
        #[test]
        fn never_more_leases_than_slots(
            limit in 1u64..6, steps in prop::collection::vec((0u64..900, 0usize..8, 0u8..4), 1..150),
        ) {
            let (mut counter, mut now) = (Counter::default(), 0);
            // When each began or was renewed last, and where it is.
            let mut leases: Vec<(u64, ChargedParts)> = Vec::new();
            for (step, which, action) in steps {
                now += step;
                counter.advance(lease(), now);
                match action {
                    0 if !leases.is_empty() => {
                        let (_, parts) = leases.swap_remove(which % leases.len());
                        for part in parts.iter() {
                            counter.refund(part.place, part.amount);
                        }
                    }
                    1 if !leases.is_empty() => {
                        let at = which % leases.len();
                        let (since, parts) = &mut leases[at];
                        let held = parts.iter().any(|part| counter.holds(part.place));
                        let free = counter.fit(lease(), limit, 1, now) == Fit::Now;
                        renew(&mut counter, lease(), limit, parts, now);
                        if held || free {
                            *since = now;
                        }
                    }
                    _ => {
                        let living = |at: u64, slack| {
                            leases.iter().filter(|(since, _)| since + LEASE_MS + slack > at).count() as u64
                        };
                        match counter.fit(lease(), limit, 1, now) {
                            Fit::Now => leases.push((now, take(&mut counter, now))),
                            Fit::After(wait) => {
                                prop_assert!(living(now, LEASE_MS / 60) >= limit, "refused with a slot free");
                                prop_assert!(living(now + wait.get(), 0) < limit);
                            }
                            Fit::Never => prop_assert!(false, "a slot fits some time"),
                        }
                    }
                }
                let living = leases.iter().filter(|(since, _)| since + LEASE_MS > now).count() as u64;
                prop_assert!(living <= limit, "{living} of {limit} at {now}");
                prop_assert!(counter.used() >= living);
            }
        }
    }
}
