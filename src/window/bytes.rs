//! The bytes of a counter in the local store, which has many: numbers of variable length, and segments as their
//! distances and counts.
//!
//! A segment that is next to the one after it takes the bytes of its count alone, and a gap of any length takes two or
//! more. So a window of 60 segments with thousands of tokens in each takes about 133 bytes.

use super::bucket::{Level, Low, Rate};
use super::calendar::Edges;
use super::clock::Lead;
use super::period::Period;
use super::sliding::{MAX_HALVINGS, Segment, Shape};
use super::{Counter, bucket, fixed, sliding};
use crate::codec::varint::{push, take};
use crate::quantity::{Millis, NonZeroMillis, Units};
use std::collections::VecDeque;

/// The kinds of counters. The first byte of a counter is its kind, and eight times its shape's halvings.
const SLIDING: u8 = 0;
const LEASES: u8 = 1;
const FIXED: u8 = 2;
const MONTH: u8 = 3;
const BUCKET: u8 = 4;
const CALENDAR: u8 = 5;
const KINDS: u8 = 8;

impl Counter {
    /// Appends the counter to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sliding(shape, counter) => push_sliding(out, SLIDING, *shape, counter),
            Self::Leases(shape, counter) => push_sliding(out, LEASES, *shape, counter),
            Self::Fixed(Period::Length(length), counter) => {
                out.push(FIXED);
                push(out, length.get().get());
                push_fixed(out, counter);
            }
            Self::Fixed(Period::Month, counter) => {
                out.push(MONTH);
                push_fixed(out, counter);
            }
            Self::Fixed(Period::Calendar(edges, length), counter) => {
                out.push(CALENDAR);
                push_edges(out, *edges);
                push(out, length.get().get());
                push_fixed(out, counter);
            }
            Self::Bucket(rate, counter) => {
                out.push(BUCKET);
                push_bucket(out, *rate, counter);
            }
        }
    }

    /// Takes a counter from the beginning of `bytes`. None if they do not begin with one.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let (kind, halvings) = (*first % KINDS, *first / KINDS);
        match kind {
            SLIDING => take_sliding(bytes, halvings).map(|(shape, counter)| Self::Sliding(shape, counter)),
            LEASES => take_sliding(bytes, halvings).map(|(shape, counter)| Self::Leases(shape, counter)),
            FIXED => Some(Self::Fixed(Period::Length(NonZeroMillis::new(take(bytes)?)?), take_fixed(bytes)?)),
            MONTH => Some(Self::Fixed(Period::Month, take_fixed(bytes)?)),
            CALENDAR => {
                let (edges, length) = (take_edges(bytes)?, NonZeroMillis::new(take(bytes)?)?);
                Some(Self::Fixed(Period::Calendar(edges, length), take_fixed(bytes)?))
            }
            BUCKET => take_bucket(bytes).map(|(rate, counter)| Self::Bucket(rate, counter)),
            _ => None,
        }
    }
}

/// From the newest segment to the oldest: a count for each, and before it, if it is not next to the newer one, a zero
/// and the number of segments between them. A segment whose charges have been refunded counts for nothing, unless it
/// is the newest: then it is the counter's time.
fn push_sliding(out: &mut Vec<u8>, kind: u8, shape: Shape, counter: &sliding::Counter) {
    let sliding::Counter { lead, segments, .. } = counter;
    out.push(kind + KINDS * shape.halvings.min(MAX_HALVINGS));
    push(out, shape.segment.get().get());
    push(out, shape.segments);
    push(out, lead.0.get());
    let mut newest_first = segments.iter().rev();
    let Some(newest) = newest_first.next() else { return push(out, 0) };
    let older = newest_first.filter(|segment| !segment.count.is_zero());
    push(out, 1 + u64::try_from(older.clone().count()).unwrap_or(u64::MAX));
    push(out, newest.index);
    push(out, newest.count.get());
    let mut next = newest.index;
    for segment in older {
        let between = next.saturating_sub(segment.index).saturating_sub(1);
        if between > 0 {
            out.push(0);
            push(out, between);
        }
        push(out, segment.count.get());
        next = segment.index;
    }
}

fn take_sliding(bytes: &mut &[u8], halvings: u8) -> Option<(Shape, sliding::Counter)> {
    let segment = NonZeroMillis::new(take(bytes)?)?;
    let segments = take(bytes)?;
    if segments == 0 || u32::try_from(segments).is_err() {
        return None;
    }
    let shape = Shape { segment, segments, halvings };
    let mut counter = sliding::Counter { lead: Lead(Millis::new(take(bytes)?)), ..Default::default() };
    let present = take(bytes)?;
    // A segment takes a byte, so damaged bytes reserve no more memory than they have.
    counter.segments = VecDeque::with_capacity(usize::try_from(present).ok()?.min(bytes.len()) + 1);
    let mut index = 0;
    for which in 0..present {
        let mut number = take(bytes)?;
        if which == 0 {
            index = number;
            number = take(bytes)?;
        } else {
            index = index.checked_sub(1)?;
            if number == 0 {
                index = index.checked_sub(take(bytes)?)?;
                number = take(bytes)?;
            }
        }
        let count = Units::new(number);
        counter.total += count;
        counter.segments.push_front(Segment { index, count });
    }
    Some((shape, counter))
}

fn push_fixed(out: &mut Vec<u8>, counter: &fixed::Counter) {
    push(out, counter.index);
    push(out, counter.used.get());
    push(out, counter.lead);
}

fn take_fixed(bytes: &mut &[u8]) -> Option<fixed::Counter> {
    Some(fixed::Counter { index: take(bytes)?, used: Units::new(take(bytes)?), lead: take(bytes)? })
}

/// The first of them, and the length of each period.
fn push_edges(out: &mut Vec<u8>, edges: Edges) {
    let mut before = Millis::ZERO;
    for edge in edges.get() {
        push(out, (edge - before).get());
        before = edge;
    }
}

fn take_edges(bytes: &mut &[u8]) -> Option<Edges> {
    let (mut edges, mut before) = (Edges::UNKNOWN.get(), Millis::ZERO);
    for edge in &mut edges {
        before += Millis::new(take(bytes)?);
        *edge = before;
    }
    Some(Edges::new(edges))
}

/// The times and units of lows grow from one to the next, so the differences are small; those of damaged bytes wrap
/// around.
fn push_bucket(out: &mut Vec<u8>, rate: Rate, counter: &bucket::Counter) {
    let bucket::Counter { level, at, lead, lows } = counter;
    for number in [rate.window.get().get(), rate.limit.get(), rate.burst.get()] {
        push(out, number);
    }
    for number in [level.units.get(), level.drained, at.get(), lead.0.get()] {
        push(out, number);
    }
    push(out, u64::try_from(lows.len()).unwrap_or(u64::MAX));
    let (mut since, mut units) = (0, 0);
    for low in lows {
        push(out, low.since.get().wrapping_sub(since));
        push(out, low.level.units.get().wrapping_sub(units));
        push(out, low.level.drained);
        (since, units) = (low.since.get(), low.level.units.get());
    }
}

fn take_bucket(bytes: &mut &[u8]) -> Option<(Rate, bucket::Counter)> {
    let window = NonZeroMillis::new(take(bytes)?)?;
    let rate = Rate::new(window, Units::new(take(bytes)?), Units::new(take(bytes)?));
    let level = Level { units: Units::new(take(bytes)?), drained: take(bytes)? };
    let (at, lead) = (Millis::new(take(bytes)?), Lead(Millis::new(take(bytes)?)));
    let (mut since, mut units, mut lows) = (0_u64, 0_u64, Vec::new());
    for _ in 0..take(bytes)? {
        since = since.wrapping_add(take(bytes)?);
        units = units.wrapping_add(take(bytes)?);
        let level = Level { units: Units::new(units), drained: take(bytes)? };
        lows.push(Low { since: Millis::new(since), level });
    }
    Some((rate, bucket::Counter { level, at, lead, lows }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::shard::COARSE_BYTES;
    use crate::window::tests::uneven;
    use crate::window::{Algorithm, ChargedParts, Window};
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    const NOW: u64 = 1_700_000_000_000;

    fn a_window() -> impl Strategy<Value = Window> {
        let length = prop_oneof![1u64..100, 1_000u64..5_000, Just(60_000), Just(86_400_000)];
        let segments = prop_oneof![1u32..12, Just(60), Just(1_000)];
        (length, segments, 0u64..400, 0u8..6).prop_map(|(length, segments, burst, which)| {
            let length = NonZeroMillis::new(length).unwrap();
            let algorithm = match which {
                0 => Algorithm::SlidingWindow { segments: NonZeroU32::new(segments).unwrap() },
                1 => Algorithm::FixedWindow,
                2 => Algorithm::CalendarMonth,
                3 => Algorithm::TokenBucket { burst: Units::new(burst) },
                4 => return uneven(length, Millis::new(NOW) - length.get()),
                _ => Algorithm::Concurrency,
            };
            Window { length, algorithm }
        })
    }

    /// Mostly small steps, beside a segment, a window, and some steps back.
    fn a_step(length: u64) -> impl Strategy<Value = i64> {
        let length = i64::try_from(length).unwrap();
        prop_oneof![8 => 0..=length / 30 + 1, 2 => 0..=length, 1 => -2 * length..0, 1 => Just(-3_600_000)]
    }

    /// A window, and steps: the time that passes, the cost, and what of an earlier charge is given back.
    fn a_history() -> impl Strategy<Value = (Window, Vec<(i64, u64, u64, usize)>)> {
        a_window().prop_flat_map(|window| {
            let step = a_step(window.length.get().get());
            let cost = prop_oneof![4 => 0u64..9, 4 => 100u64..90_000, 1 => any::<u64>()];
            let less = prop_oneof![2 => 0u64..9, 1 => any::<u64>()];
            (Just(window), prop::collection::vec((step, cost, less, 0usize..6), 1..80))
        })
    }

    fn encoded(counter: &Counter) -> Vec<u8> {
        let mut bytes = Vec::new();
        counter.encode(&mut bytes);
        bytes
    }

    fn decoded(bytes: &[u8]) -> Counter {
        let mut left = bytes;
        let counter = Counter::decode(&mut left).unwrap();
        assert!(left.is_empty());
        counter
    }

    proptest! {
        /// A counter that is written and read at each step cannot be told from one that is not.
        #[test]
        fn a_counter_counts_on_from_its_bytes((window, steps) in a_history()) {
            let limit = Units::new(100_000);
            let (mut kept, mut now) = (Counter::new(&window, limit), NOW);
            let mut written = kept.clone();
            let mut parts: Vec<ChargedParts> = Vec::new();
            let mut charged = Units::ZERO;
            for (step, cost, less, which) in steps {
                now = now.saturating_add_signed(step);
                let cost = Units::new(cost);
                let all = charged + cost;
                // A sum that does not fit 64 bits is counted on as well as it can be.
                prop_assume!(all < Units::new(u64::MAX));
                charged = all;
                written = decoded(&encoded(&written));
                let (mut kept, mut written) = (kept.at(now.into()), written.at(now.into()));
                prop_assert_eq!(kept.fit(limit, cost), written.fit(limit, cost));
                prop_assert_eq!((kept.used(), kept.reset()), (written.used(), written.reset()));
                prop_assert_eq!((kept.lasts(), kept.is_empty()), (written.lasts(), written.is_empty()));
                let held = kept.reserve(cost);
                prop_assert_eq!(&written.reserve(cost), &held);
                parts.push(held);
                if let Some(parts) = parts.iter().rev().nth(which) {
                    let cost = parts.total() - Units::new(less);
                    kept.settle(parts, cost);
                    written.settle(parts, cost);
                }
                prop_assert_eq!((kept.used(), kept.reset()), (written.used(), written.reset()));
            }
            let bytes = encoded(&written);
            prop_assert_eq!(encoded(&decoded(&bytes)), bytes);
        }

        /// It is empty when it says, and not a millisecond before.
        #[test]
        fn a_counter_lasts_as_long_as_it_says((window, steps) in a_history()) {
            let (mut counter, mut now) = (Counter::new(&window, Units::new(50)), NOW);
            for (step, cost, less, _) in steps {
                now = now.saturating_add_signed(step);
                let mut at = counter.at(now.into());
                let parts = at.reserve(Units::new(cost % 1_000));
                at.settle(&parts, parts.total() - Units::new(less));
                let lasts = at.lasts();
                prop_assert_eq!(lasts.is_zero(), at.is_empty());
                prop_assert!(counter.clone().at(Millis::new(now) + lasts).is_empty());
                if !lasts.is_zero() {
                    prop_assert!(!counter.clone().at(Millis::new(now) + lasts - Millis::new(1)).is_empty());
                }
            }
        }

        /// A counter that is made coarser now and then has never less in it than one that is not. A window of one
        /// segment, which is then as long as all were, and less than twice as long as the window, lasts for two.
        #[test]
        fn a_coarser_counter_admits_no_more(
            (window, steps) in a_history(), coarsens in prop::collection::vec(prop::bool::weighted(0.1), 80),
        ) {
            let limit = Units::new(100_000);
            let (mut fine, mut now) = (Counter::new(&window, limit), NOW);
            let mut coarse = fine.clone();
            let mut open: Vec<Option<[ChargedParts; 2]>> = Vec::new();
            for ((step, cost, less, which), coarsens) in steps.into_iter().zip(coarsens) {
                // The clock goes on: after a step back, the two need not have the same time.
                now += step.unsigned_abs();
                if coarsens {
                    coarse.coarsen();
                    coarse = decoded(&encoded(&coarse));
                }
                let (mut fine, mut coarse) = (fine.at(now.into()), coarse.at(now.into()));
                prop_assert!(coarse.used() >= fine.used(), "{:?} {:?}", coarse, fine);
                let cost = Units::new(cost % 100_000);
                open.push(Some([fine.reserve(cost), coarse.reserve(cost)]));
                if let Some([of_fine, of_coarse]) = open.iter_mut().rev().nth(which).and_then(Option::take) {
                    let cost = of_fine.total() - Units::new(less);
                    fine.settle(&of_fine, cost);
                    coarse.settle(&of_coarse, cost);
                }
                prop_assert!(coarse.used() >= fine.used(), "{:?} {:?}", coarse, fine);
                let segments = match window.algorithm {
                    Algorithm::SlidingWindow { segments } => segments.get(),
                    Algorithm::Concurrency => 60,
                    _ => continue,
                };
                let segment = window.length.get().get().div_ceil(segments.into());
                let longest = segment * u64::from(segments.next_power_of_two());
                prop_assert!(coarse.lasts() <= Millis::new(longest * 2));
            }
        }

        #[test]
        fn damaged_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..80), now in any::<u64>()) {
            if let Some(mut counter) = Counter::decode(&mut &*bytes) {
                let mut at = counter.at(now.into());
                let parts = at.reserve(Units::new(7));
                at.settle(&parts, Units::new(3));
                let bytes = encoded(&counter);
                prop_assert_eq!(encoded(&decoded(&bytes)), bytes);
            }
        }
    }

    /// A counter of `window` with so much charged in each of as many segments as it has.
    fn filled(window: &Window, cost: u64) -> Counter {
        let mut counter = Counter::new(window, Units::new(10_000_000));
        let segment = window.length.get().get() / 60;
        for now in (0..=60).map(|n| NOW + n * segment) {
            counter.at(now.into()).reserve(Units::new(cost));
        }
        counter
    }

    #[test]
    fn a_full_window_takes_two_bytes_a_segment_for_thousands_and_one_for_less_than_128() {
        let bytes = |length: u64, cost| {
            encoded(&filled(&Window::sliding(NonZeroMillis::new(length).unwrap()), cost)).len()
        };
        assert_eq!([bytes(60_000, 9_999), bytes(60_000, 127)], [133, 72]);
        assert_eq!([bytes(86_400_000, 9_999), bytes(86_400_000, 127)], [132, 71]);
    }

    #[test]
    fn every_counter_can_be_made_small() {
        let minute = NonZeroMillis::MINUTE;
        let (many, burst) = (NonZeroU32::new(1_000).unwrap(), Units::new(1 << 53));
        for window in [
            Window::sliding(NonZeroMillis::DAY),
            Window { length: minute, algorithm: Algorithm::SlidingWindow { segments: many } },
            Window::calendar_month(),
            Window::token_bucket(minute, burst),
            Window::concurrency(minute),
        ] {
            let mut counter = filled(&window, 1 << 53);
            let used = counter.at((NOW + 1_000).into()).used();
            while counter.coarsen() {}
            assert!(counter.at((NOW + 1_000).into()).used() >= used);
            let now = NOW + window.length.get().get();
            counter.at(now.into()).reserve(Units::new(1 << 53));
            let size = encoded(&counter).len();
            assert!(size + 8 <= COARSE_BYTES, "{size} bytes of {window:?}");
        }
    }
}
