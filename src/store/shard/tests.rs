use super::*;
use crate::quantity::NonZeroMillis;
use crate::store::charge::tests::charge;
use crate::window::Window;
use proptest::prelude::*;

fn scope(scope: &str, charges: impl IntoIterator<Item = Charge>) -> ScopeCharges {
    ScopeCharges { scope: scope.into(), charges: charges.into_iter().collect() }
}

/// A charge in the scope of its identity.
fn one(identity: &str, limit: u64, cost: u64) -> ScopeCharges {
    scope(identity, [charge(identity, limit, cost)])
}

fn at(now: u64) -> Millis {
    Millis::new(now)
}

#[test]
fn bytes_round_trip_and_damaged_bytes_are_an_empty_shard() {
    let mut shard = Shard::default();
    shard.reserve(&one("a", 5, 3), at(1_000));
    let bytes = shard.encode();
    assert_eq!(Shard::decode(&bytes).peek(&one("a", 5, 0), at(1_000))[0].used, 3);
    assert_eq!(Shard::decode(&bytes).encode(), bytes);
    assert_eq!(Shard::decode(&[255; 40]), Shard::default());
    assert!(!Shard::default().encode().is_empty(), "an empty value would read as no value");
}

/// Counters outlive the filter that wrote them. If the bytes must change, so must the version in their key.
#[test]
fn bytes_stay_as_they_are() {
    let minute = NonZeroMillis::MINUTE;
    let windows = [
        Window::sliding(minute),
        Window::fixed(minute),
        Window::calendar_month(),
        Window::token_bucket(minute, Units::new(50)),
        Window::concurrency(minute),
    ];
    let charges = |cost| scope("a", windows.map(|window| Charge { window, ..charge("a", 100, cost) }));
    let mut shard = Shard::default();
    let parts = shard.reserve(&charges(7), at(1_700_000_000_000)).held.unwrap();
    shard.reserve(&charges(9), at(1_700_000_003_000)).held.unwrap();
    shard.extend(&charges(8), &parts, at(1_700_000_004_000));
    let hex: String = shard.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, BYTES);
}

const BYTES: &str = "\
    80d095ffbc31af63dc4c8601ec8c80a0b395c2317a980a72093a73897d00e8073c000384e2cfaa060109000207549fd4\
    dbc426f86d02e0d40395aac10d1100f7f853c0b06de52b038605110048b45f40b2f529ac04e0d40364320bc0b802a0ef\
    95ffbc31000380d095ffbc310200b81708c0b802e80701c0b802e736184e2da8cab901e8073c000284e2cfaa060101";

#[test]
fn nothing_is_charged_unless_all_fits() {
    let mut shard = Shard::default();
    let tokens = Charge { name: "total_tokens".into(), ..charge("a", 10, 11) };
    let attempt = shard.reserve(&scope("a", [charge("a", 5, 1), tokens]), at(0));
    assert_eq!(attempt.held, None);
    assert_eq!(attempt.states.iter().map(|s| s.used).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(attempt.states.iter().map(|s| s.fit).collect::<Vec<_>>(), [Fit::Now, Fit::Never]);
}

#[test]
fn a_limit_that_is_not_enforced_is_charged_and_reported() {
    let mut shard = Shard::default();
    let charge = scope("a", [Charge { enforced: false, ..charge("a", 1, 1) }]);
    let fits: Vec<_> = (0..3).map(|_| shard.reserve(&charge, at(0)).states[0].fit == Fit::Now).collect();
    assert_eq!(fits, [true, false, false]);
    assert_eq!(shard.peek(&charge, at(0))[0].used, 3);
}

#[test]
fn a_scope_that_is_configured_meanwhile_gets_nothing_back_that_others_have_charged() {
    let (mut before, mut after) = (Shard::default(), Shard::default().growing(true));
    let held = before.reserve(&one("a", 10, 5), at(1_000)).held.unwrap();
    after.reserve(&one("a", 10, 3), at(1_000)).held.unwrap();
    after.settle(&one("a", 10, 1), &held, at(1_000));
    assert_eq!(after.peek(&one("a", 10, 0), at(1_000))[0].used, 3);
}

/// Redis gives a slot to another worker before this Envoy's store has learned that it came free.
#[test]
fn a_slot_that_another_store_has_given_counts_even_where_none_is_free() {
    let slot = |cost| {
        let window = Window::concurrency(NonZeroMillis::MINUTE);
        scope("a", [Charge { window, ..charge("a", 1, cost) }])
    };
    let mut shard = Shard::default();
    let first = shard.follow(Step::Runs, &slot(1), None, at(0));
    let second = shard.follow(Step::Runs, &slot(1), None, at(10));
    assert_eq!(shard.peek(&slot(0), at(20))[0].used, 2);
    shard.follow(Step::Ends, &slot(0), Some(&first), at(20));
    assert_eq!(shard.reserve(&slot(1), at(30)).held, None, "the second still runs");
    shard.follow(Step::Ends, &slot(0), Some(&second), at(40));
    assert!(shard.reserve(&slot(1), at(50)).held.is_some());
}

#[test]
fn a_full_shard_shares_a_counter_and_never_admits_more_than_a_limit() {
    let mut shard = Shard::default();
    for n in 0..SCOPES_PER_SHARD {
        assert!(shard.reserve(&one(&format!("k{n}"), 2, 1), at(0)).held.is_some());
    }
    let late = |shard: &mut Shard, name| shard.reserve(&one(name, 2, 1), at(0)).held.is_some();
    assert_eq!([late(&mut shard, "x"), late(&mut shard, "y"), late(&mut shard, "z")], [true, true, false]);
    assert_eq!(shard.scopes.len(), SCOPES_PER_SHARD + 1);
    assert!(late(&mut shard, "k0"), "a scope that has a place keeps it");
    assert!(shard.reserve(&one("z", 2, 1), at(200_000)).held.is_some());
    assert_eq!(shard.scopes.len(), 1, "counters whose windows have passed make room");
}

/// A day, an hour and a minute of requests by each of `names`, such that every segment of their windows is charged.
fn charge_all_segments(
    shard: Shard<'_>,
    names: &[String],
    cost: impl Fn(u64) -> u64,
    enforced: bool,
) -> Vec<u8> {
    let windows =
        [60_000, 60_000, 3_600_000, 86_400_000].map(|ms| Window::sliding(NonZeroMillis::new(ms).unwrap()));
    let mut bytes = shard.growing(false).encode();
    let (mut now, mut step) = (1_700_000_000_000, 0);
    for pause in [1_440_000, 60_000, 1_000] {
        for _ in 0..61 {
            (now, step) = (now + pause, step + 1);
            for name in names {
                let charges = windows.iter().enumerate().map(|(n, window)| {
                    let cost = if n == 0 { 1 } else { cost(step) };
                    Charge {
                        name: n.to_string().into(),
                        window: *window,
                        enforced,
                        ..charge(name, 1 << 40, cost)
                    }
                });
                let mut shard = Shard::decode(&bytes);
                assert!(shard.reserve(&scope(name, charges), at(now)).held.is_some());
                bytes = shard.encode();
                assert!(bytes.len() <= MAX_BYTES, "{} bytes", bytes.len());
            }
        }
    }
    bytes
}

fn names(number: usize) -> Vec<String> {
    (0..number).map(|n| format!("k{n}")).collect()
}

#[test]
fn a_busy_scope_takes_half_a_kilobyte() {
    let bytes = charge_all_segments(Shard::default(), &names(1), |step| 3_000 + step * 50, true);
    assert!(bytes.len() <= 530, "{} bytes", bytes.len());
}

#[test]
fn whatever_is_charged_a_shard_stays_below_its_bytes_and_loses_nothing() {
    let bytes = charge_all_segments(Shard::default(), &names(40), |step| 1 << (30 + step % 23), false);
    let (mut own, mut shard) = (0, Shard::decode(&bytes));
    for name in names(40) {
        let minute = Charge { name: "0".into(), enforced: false, ..charge(&name, 99, 0) };
        let attempt = shard.reserve(&scope(&name, [minute]), at(1_700_000_000_000 + 61 * 1_501_000));
        let is_own = attempt.held.unwrap().place == Place::Own;
        own += usize::from(is_own);
        assert!(attempt.states[0].used >= Units::new(61), "all that was charged counts");
        // As coarse as it can be, it leaves with a segment that is as long as the window.
        assert!(attempt.states[0].reset <= at(120_000));
    }
    assert_eq!(own, SCOPES_PER_SHARD);
}

/// The bound that docs/operations.md states for more than four counters.
#[test]
fn many_counters_pass_the_bound_by_no_more_than_they_take_when_they_are_coarse() {
    let windows: Vec<_> = (0..12_u64)
        .map(|n| match n % 3 {
            0 => Window::sliding(NonZeroMillis::new(60_000 << n).unwrap()),
            1 => Window::token_bucket(NonZeroMillis::new(1_000_000 + n).unwrap(), Units::new(1 << 52)),
            _ => Window::concurrency(NonZeroMillis::new(600_000 << n).unwrap()),
        })
        .collect();
    let (mut bytes, mut most) = (Shard::default().encode(), 0);
    for now in (0..61).map(|n| 1_700_000_000_000 + n * 61_001) {
        for name in names(20) {
            let charge = |window: &Window| Charge {
                window: *window,
                enforced: false,
                ..charge(&name, 1 << 52, 1 << 52)
            };
            let mut shard = Shard::decode(&bytes);
            shard.reserve(&scope(&name, windows.iter().map(charge)), at(now));
            bytes = shard.encode();
            most = most.max(bytes.len());
        }
    }
    let coarse = 18 + windows.len() * COARSE_BYTES - SCOPE_BYTES;
    assert!(most > MAX_BYTES && most <= MAX_BYTES + (SCOPES_PER_SHARD + 1) * coarse, "{most} bytes");
}

#[test]
fn a_scope_gets_a_place_only_where_there_is_room_for_it() {
    let late = |cost| {
        let mut bytes = charge_all_segments(Shard::default(), &names(12), |_| cost, true);
        let mut place = |name| {
            let mut shard = Shard::decode(&bytes);
            let held = shard.reserve(&one(name, 9, 1), at(1_700_000_000_000 + 61 * 1_501_000)).held.unwrap();
            bytes = shard.encode();
            held.place
        };
        [place("x"), place("y"), place("k0")]
    };
    assert_eq!(late(9), [Place::Own, Place::Own, Place::Own]);
    assert_eq!(late(3_000), [Place::Shared, Place::Shared, Place::Own]);
}

#[test]
fn a_scope_that_nothing_touches_is_forgotten_when_its_windows_have_passed_also_by_a_clock_that_was_set_back()
{
    const HOUR: u64 = 3_600_000;
    let mut shard = Shard::default();
    shard.reserve(&one("a", 9, 1), at(2 * HOUR));
    shard.reserve(&one("b", 9, 1), at(2 * HOUR + 30_000));
    let scopes = |bytes: &[u8], now| {
        let mut shard = Shard::decode(bytes);
        shard.peek(&one("c", 9, 0), at(now));
        Shard::decode(&shard.encode()).scopes.len()
    };
    let bytes = shard.encode();
    assert_eq!(
        [2 * HOUR + 60_999, 2 * HOUR + 61_000, 2 * HOUR + 91_000].map(|now| scopes(&bytes, now)),
        [2, 1, 0]
    );
    // Both count from the beginning of their last segment.
    let mut shard = Shard::decode(&bytes);
    shard.peek(&one("c", 9, 0), at(HOUR));
    let bytes = shard.encode();
    assert_eq!([HOUR + 60_999, HOUR + 61_000].map(|now| scopes(&bytes, now)), [2, 0]);
}

#[test]
fn a_shard_that_grows_has_a_counter_for_every_scope() {
    let mut shard = Shard::default().growing(true);
    for n in 0..10 * SCOPES_PER_SHARD {
        assert!(shard.reserve(&one(&format!("k{n}"), 1, 1), at(0)).held.is_some());
    }
    shard.peek(&one("k0", 1, 0), at(200_000));
    assert_eq!(shard.scopes.len(), 1, "keys that are used no more leave nothing behind");
}

#[test]
fn moving_between_the_shared_and_the_own_counter_gives_nothing_back() {
    let mut shard = Shard::default();
    for n in 0..SCOPES_PER_SHARD {
        shard.reserve(&one(&format!("k{n}"), 2, 1), at(if n == 0 { 0 } else { 30_000 })).held.unwrap();
    }
    let late = shard.reserve(&one("x", 3, 3), at(50_000)).held.unwrap();
    assert_eq!(late.place, Place::Shared);
    // The places of all but one are free again, but the shared counter still holds what `x` has used.
    assert_eq!(shard.reserve(&one("x", 3, 1), at(91_000)).held, None, "3 of 3 are used");
    let own = shard.reserve(&one("x", 3, 3), at(112_000)).held.unwrap();
    assert_eq!(own.place, Place::Own);
    shard.settle(&one("x", 3, 0), &late, at(112_000));
    assert_eq!(shard.peek(&one("x", 3, 0), at(112_000))[0].used, 3, "the late one has left with its counter");
    let (extended, is_over) = shard.extend(&one("x", 3, 5), &late, at(112_000));
    assert_eq!((extended.place, is_over), (Place::Own, true), "its growth counts where it is now");
    assert_eq!(shard.peek(&one("x", 3, 0), at(112_000))[0].used, 5);
}

proptest! {
    /// Whatever crowd comes and goes: no scope is admitted more than its limit in any trailing window, be it in a
    /// counter of its own or in the shared one.
    #[test]
    fn a_crowd_gets_nobody_more_than_the_limit(
        steps in prop::collection::vec((0u64..4_000, 0usize..40, 1u64..4, any::<bool>()), 1..300),
    ) {
        const LIMIT: u64 = 4;
        let (mut bytes, mut now) = (Shard::default().encode(), 0);
        let mut admitted: Vec<(usize, u64, u64, Option<Held>)> = Vec::new();
        for (step, who, cost, settles) in steps {
            now += step;
            let mut shard = Shard::decode(&bytes);
            let name = format!("k{who}");
            if let Some(held) = shard.reserve(&one(&name, LIMIT, cost), at(now)).held {
                admitted.push((who, now, cost, Some(held)));
            }
            if settles && let Some((who, _, cost, held)) = admitted.iter_mut().find(|(.., held)| held.is_some()) {
                shard.settle(&one(&format!("k{who}"), LIMIT, *cost - 1), &held.take().unwrap(), at(now));
                *cost -= 1;
            }
            let of = |it: &&(usize, u64, u64, Option<Held>)| it.0 == who && it.1 + 60_000 > now;
            let sum: u64 = admitted.iter().filter(of).map(|(_, _, cost, _)| cost).sum();
            prop_assert!(sum <= LIMIT, "{sum} of {LIMIT} for {who} at {now}");
            let encoded = shard.encode();
            bytes = encoded;
        }
    }
}

#[test]
fn settling_refunds_or_charges_the_difference() {
    let mut shard = Shard::default();
    let parts = shard.reserve(&one("a", 100, 40), at(0)).held.unwrap();
    shard.settle(&one("a", 100, 10), &parts, at(5_000));
    assert_eq!(shard.peek(&one("a", 100, 0), at(5_000))[0].used, 10);
    let parts = shard.reserve(&one("a", 100, 40), at(5_000)).held.unwrap();
    shard.settle(&one("a", 100, 150), &parts, at(9_000));
    let state = shard.peek(&one("a", 100, 1), at(9_000))[0];
    assert_eq!(state.used, 160, "an excess is spent already and may pass the limit");
    assert!(matches!(state.fit, Fit::After(_)));
}

#[test]
fn a_changed_burst_or_limit_keeps_a_buckets_level_and_applies_at_once() {
    let second = Millis::SECOND.non_zero().unwrap();
    let of = |limit, burst, cost| {
        let window = Window::token_bucket(second, Units::new(burst));
        scope("a", [Charge { window, ..charge("a", limit, cost) }])
    };
    let mut shard = Shard::default();
    assert!(shard.reserve(&of(10, 20, 20), at(0)).held.is_some());
    // Ten a second until now, then a hundred a second and no more than twelve at once.
    let state = shard.peek(&of(100, 12, 5), at(1_000))[0];
    assert_eq!((state.used, state.fit), (Units::new(10), Fit::After(NonZeroMillis::new(30).unwrap())));
    assert!(shard.reserve(&of(100, 12, 5), at(1_029)).held.is_none());
    assert!(shard.reserve(&of(100, 12, 5), at(1_030)).held.is_some());
}

#[test]
fn many_slots_take_little_room_and_come_free_by_themselves() {
    let ten_minutes = Window::concurrency(NonZeroMillis::new(600_000).unwrap());
    let slot = scope("a", [Charge { window: ten_minutes, ..charge("a", 100_000, 1) }]);
    let mut shard = Shard::default();
    for n in 0..5_000 {
        assert!(shard.reserve(&slot, at(n * 100)).held.is_some());
    }
    assert_eq!(shard.peek(&slot, at(500_000))[0].used, 5_000);
    assert!(shard.encode().len() < 500, "{} bytes", shard.encode().len());
    assert_eq!(shard.peek(&slot, at(1_110_000))[0].used, 0);
}
