//! The scripts of `lua/` on a real Redis: their promises about repeated calls, keys and numbers. The file
//! `histories.rs` compares their arithmetic with Rust's. Tests pass their own time unless they are about Redis's clock.

use llm_rate_limit::quantity::{MAX_EXACT, Millis, NonZeroMillis, Units};
use llm_rate_limit::store::wire::{Charge, IfAbsent, ScopeCharges, Settle};
use llm_rate_limit::window::{Algorithm, Fit, Window};
use llm_rate_limit_cli::store::call::{self, Call, IfNew};
use llm_rate_limit_cli::store::grants::Action;
use llm_rate_limit_tests::charges::team_charge;
use llm_rate_limit_tests::scripts::{BEGIN_MS, Scripts, key, settlement, team};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

const DAY_MS: u64 = Millis::DAY.get();

/// The same as Redis reports a time to live.
const DAY_MS_LEFT: i64 = DAY_MS.cast_signed();

fn window(length_ms: u64, segments: u32) -> Window {
    let algorithm = Algorithm::SlidingWindow { segments: NonZeroU32::new(segments).unwrap() };
    Window { length: NonZeroMillis::new(length_ms).unwrap(), algorithm }
}

fn minute(limit: u64, cost: u64) -> Charge {
    team_charge("requests", window(60_000, 60), limit, cost)
}

#[test]
fn a_limit_that_is_not_enforced_is_charged_and_reported() {
    let scripts = Scripts::start();
    let counted = Charge { enforced: false, ..team_charge("input_tokens", window(60_000, 60), 5, 3) };
    let charges = [minute(3, 1), counted];
    let answers = ["a", "b", "c"].map(|id| scripts.reserve(id, &charges, BEGIN_MS));
    let admitted = answers.each_ref().map(|(admitted, _)| *admitted);
    let would_fit = answers.each_ref().map(|(_, states)| states[1].fit == Fit::Now);
    assert_eq!((admitted, would_fit), ([true; 3], [true, false, false]));
    assert_eq!(answers[2].1[1].used, 9);
    let (admitted, states) = scripts.reserve("d", &charges, BEGIN_MS);
    assert_eq!(
        (admitted, states[1].used),
        (false, Units::new(9)),
        "a request that another limit refuses is charged nothing"
    );
}

#[test]
fn the_largest_numbers_are_counted_without_gaps() {
    let scripts = Scripts::start();
    let (admitted, states) = scripts.reserve("a", &[minute(MAX_EXACT, MAX_EXACT)], BEGIN_MS);
    assert!(admitted);
    assert_eq!(states[0].used, MAX_EXACT);
    assert!(scripts.settle("a", &[minute(MAX_EXACT, MAX_EXACT - 1)], None, BEGIN_MS));
    let (admitted, states) = scripts.reserve("b", &[minute(MAX_EXACT, 2)], BEGIN_MS);
    assert!(!admitted);
    assert_eq!(states[0].used, MAX_EXACT - 1);
    assert!(scripts.reserve("c", &[minute(MAX_EXACT, 1)], BEGIN_MS).0);
}

#[test]
fn a_sum_that_is_too_large_to_count_refuses_until_its_charges_leave() {
    let scripts = Scripts::start();
    let minute = NonZeroMillis::MINUTE;
    for (window, over) in [
        (Window::sliding(minute), 62_000),
        (Window::fixed(minute), 62_000),
        (Window::calendar_month(), 40 * DAY_MS),
    ] {
        let charge = |cost| team_charge(&window.label(), window, 10, cost);
        let reserved = Charge { enforced: false, ..charge(MAX_EXACT) };
        let id = |n: u32| format!("{}-{n}", window.label());
        assert!(scripts.reserve(&id(0), &[reserved], BEGIN_MS).0);
        for n in 1..4 {
            assert!(scripts.settle(&id(n), &[charge(MAX_EXACT)], Some(IfAbsent::Charge), BEGIN_MS + 1_000));
            assert!(!scripts.reserve(&id(10 + n), &[charge(1)], BEGIN_MS + 1_000).0, "{window:?}");
        }
        // Nobody knows what is left of it.
        assert!(scripts.settle(&id(0), &[charge(0)], None, BEGIN_MS + 1_500));
        assert!(!scripts.reserve(&id(20), &[charge(1)], BEGIN_MS + 1_500).0, "{window:?}");
        let (admitted, states) = scripts.reserve(&id(21), &[charge(1)], BEGIN_MS + over);
        assert_eq!((admitted, states[0].used), (true, Units::new(1)), "{window:?}");
    }
    let bucket = |cost| team_charge("bucket", Window::token_bucket(minute, Units::new(10)), 10, cost);
    for n in 0..3 {
        assert!(scripts.settle(&n.to_string(), &[bucket(MAX_EXACT)], Some(IfAbsent::Charge), BEGIN_MS));
        assert!(!scripts.reserve("more", &[bucket(1)], BEGIN_MS + 62_000).0);
    }
}

#[test]
fn every_key_lives_as_long_as_its_content_matters_and_then_expires() {
    let scripts = Scripts::start();
    // 6001 ms in 6000 segments of 2 ms: a charge stays for twice the window's length. Redis's clock, because expiry
    // follows it.
    let uneven = team_charge("uneven", window(6_001, 6_000), 10, 1);
    let (_, states) = scripts.reserve("a", &[minute(10, 1), uneven.clone()], 0);
    let left = |key: &str| scripts.redis.ask::<i64>(&["PTTL", key]);
    // The state was read first, so the rest of its time can only have shrunk since.
    assert!(states[1].reset.get() > 11_000, "{states:?}");
    assert!(
        left(&key(&uneven)) > i64::try_from(states[1].reset.get()).unwrap() - 500,
        "{}",
        left(&key(&uneven))
    );
    assert!((60_000..=62_000).contains(&left(&key(&minute(10, 1)))));
    assert!((60_000..=62_000).contains(&left("llmrl:3::{team}:key")));
    assert!((599_000..=600_000).contains(&left("llmrl:3::{team}:reservation:a")));
    let day = team_charge("day", window(DAY_MS, 60), 10, 1);
    assert!(scripts.reserve("b", &[day], 0).0);
    assert!((DAY_MS_LEFT - 1000..=DAY_MS_LEFT).contains(&left("llmrl:3::{team}:reservation:b")));
    assert!(scripts.settle("c", &[minute(10, 1)], Some(IfAbsent::Charge), 0));
    assert!((599_000..=600_000).contains(&left("llmrl:3::{team}:reservation:c")));
    assert!(left("llmrl:3::{team}:key") > DAY_MS_LEFT, "the index is kept as long as its longest window");
    let charges = team(&[minute(10, 1)]);
    let groups = call::groups("", "d", &charges).unwrap();
    assert_eq!(scripts.run(&[groups[0].reserve_if("d", IfNew::Reserve, true, 0)])[0].as_ref().unwrap()[0], 1);
    assert!(
        (59_000..=60_000).contains(&left("llmrl:3::{team}:reservation:d")),
        "what is final is not settled"
    );
    assert!(scripts.keys().iter().all(|key| left(key) > 0));
}

#[test]
fn a_counter_lives_as_long_as_its_grants_and_no_longer() {
    let scripts = Scripts::start();
    let now_ms = scripts.redis.ask::<(u64, u64)>(&["TIME"]).0 * 1_000;
    let fixed =
        team_charge("fixed", Window { algorithm: Algorithm::FixedWindow, ..window(60_000, 60) }, 10, 1);
    let bucket = Window { algorithm: Algorithm::TokenBucket { burst: Units::new(10) }, ..window(60_000, 60) };
    for charge in [minute(10, 1), fixed, team_charge("bucket", bucket, 10, 1)] {
        let left = || scripts.redis.ask::<i64>(&["PTTL", &key(&charge)]);
        assert!(scripts.reserve(&charge.name, std::slice::from_ref(&charge), now_ms).0);
        let until_ms = now_ms + 3_000 * DAY_MS;
        scripts.change(Action::Grant, &charge, 5, until_ms, now_ms).unwrap();
        assert!(left() > 2_999 * DAY_MS_LEFT, "{charge:?}");
        scripts.change(Action::Revoke, &charge, 0, 0, now_ms).unwrap();
        assert!((1..DAY_MS_LEFT).contains(&left()), "{charge:?}: {}", left());
    }
}

#[test]
fn a_counter_holds_a_field_for_each_segment_whatever_the_rate() {
    let scripts = Scripts::start();
    let one = minute(1_000_000, 1);
    for at in 0..2_000_u64 {
        assert!(scripts.reserve(&at.to_string(), std::slice::from_ref(&one), BEGIN_MS + at * 73).0);
    }
    let fields: u64 = scripts.redis.ask(&["HLEN", &key(&one)]);
    assert!((60..=62).contains(&fields), "{fields}");
}

#[test]
fn settling_twice_settles_once() {
    let scripts = Scripts::start();
    assert!(scripts.reserve("a", &[minute(10, 8)], BEGIN_MS).0);
    assert!(scripts.settle("a", &[minute(10, 3)], None, BEGIN_MS));
    assert!(!scripts.settle("a", &[minute(10, 1)], None, BEGIN_MS));
    assert_eq!(scripts.peek(&[minute(10, 0)], BEGIN_MS)[0].used, 3);
}

#[test]
fn a_reservation_that_comes_after_its_settlement_charges_nothing() {
    let scripts = Scripts::start();
    assert!(scripts.settle("a", &[minute(10, 4)], Some(IfAbsent::Charge), BEGIN_MS));
    assert!(!scripts.settle("a", &[minute(10, 4)], Some(IfAbsent::Charge), BEGIN_MS));
    let (admitted, states) = scripts.reserve("a", &[minute(10, 9)], BEGIN_MS);
    assert!(admitted);
    assert_eq!(states[0].used, 4);
}

#[test]
fn an_uncounted_request_is_charged_what_it_has_cost_if_its_reservation_came_before_and_nothing_if_after() {
    let scripts = Scripts::start();
    let used = || scripts.peek(&[minute(10, 0)], BEGIN_MS)[0].used;
    assert!(scripts.reserve("a", &[minute(10, 4)], BEGIN_MS).0);
    assert!(scripts.settle("a", &[minute(10, 3)], Some(IfAbsent::Mark), BEGIN_MS));
    assert_eq!(used(), 3);
    assert!(!scripts.settle("b", &[minute(10, 3)], Some(IfAbsent::Mark), BEGIN_MS));
    for id in ["a", "b"] {
        assert!(scripts.reserve(id, &[minute(10, 4)], BEGIN_MS).0);
        assert_eq!(used(), 3, "{id}");
    }
}

#[test]
fn a_settlement_repeated_after_its_answer_was_lost_charges_once() {
    let scripts = Scripts::start();
    assert!(scripts.reserve("a", &[minute(10, 4)], BEGIN_MS).0);
    assert!(scripts.settle("a", &[minute(10, 6)], Some(IfAbsent::Charge), BEGIN_MS));
    assert!(!scripts.settle("a", &[minute(10, 6)], Some(IfAbsent::Charge), BEGIN_MS));
    assert_eq!(scripts.peek(&[minute(10, 0)], BEGIN_MS)[0].used, 6);
}

/// The renewal of a lease may be under way when the request ends.
#[test]
fn a_detached_reservation_keeps_its_charges_and_takes_no_slot_again() {
    let scripts = Scripts::start();
    let slot = |cost| Charge {
        window: Window::concurrency(NonZeroMillis::new(60_000).unwrap()),
        ..team_charge("concurrency", window(60_000, 60), 2, cost)
    };
    let charges = |cost| [slot(1), minute(100, cost)];
    let used = || scripts.used(&charges(0), BEGIN_MS).iter().map(|used| used.get()).collect::<Vec<_>>();
    assert!(scripts.reserve("a", &charges(40), BEGIN_MS).0);
    assert_eq!(used(), [1, 40]);
    for _ in 0..2 {
        assert!(scripts.detach("a", &charges(42), BEGIN_MS));
        assert_eq!(used(), [0, 42]);
    }
    assert_eq!(scripts.extend("a", &charges(0), None, BEGIN_MS), Some(false));
    assert_eq!(used(), [0, 42]);
    assert!(scripts.settle("a", &charges(7), None, BEGIN_MS));
    assert_eq!(used(), [0, 7]);
    assert!(!scripts.settle("a", &charges(9), None, BEGIN_MS) && !scripts.detach("a", &charges(9), BEGIN_MS));
    assert_eq!(used(), [0, 7]);
}

#[test]
fn a_reservation_that_is_repeated_is_admitted_and_charged_once() {
    let scripts = Scripts::start();
    for _ in 0..2 {
        let (admitted, states) = scripts.reserve("a", &[minute(10, 9)], BEGIN_MS);
        assert!(admitted);
        assert_eq!((states[0].used, states[0].fit), (Units::new(9), Fit::Now));
    }
}

#[test]
fn a_settlement_of_other_windows_is_an_error_and_changes_nothing() {
    let scripts = Scripts::start();
    let two = [minute(10, 4), team_charge("tokens", window(60_000, 60), 100, 50)];
    assert!(scripts.reserve("a", &two, BEGIN_MS).0);
    let why = scripts.try_settle(&settlement("a", &two[..1], None, false), BEGIN_MS).unwrap_err();
    assert!(why.contains("the reservation has 2 windows, the settlement 1"), "{why}");
    assert_eq!(scripts.used(&two, BEGIN_MS), [4, 50]);
}

#[test]
fn one_window_that_refuses_keeps_all_from_being_charged() {
    let scripts = Scripts::start();
    let full = team_charge("tokens", window(60_000, 60), 100, 101);
    let (admitted, states) = scripts.reserve("a", &[minute(10, 1), full], BEGIN_MS);
    assert!(!admitted);
    assert_eq!(
        states.iter().map(|state| (state.used, state.fit)).collect::<Vec<_>>(),
        [(Units::ZERO, Fit::Now), (Units::ZERO, Fit::Never)]
    );
    assert!(scripts.keys().is_empty(), "a refusal leaves no trace: {:?}", scripts.keys());
}

#[test]
fn scripts_that_redis_has_forgotten_are_sent_again() {
    let scripts = Scripts::start();
    assert!(scripts.reserve("a", &[minute(10, 1)], BEGIN_MS).0);
    let () = scripts.redis.ask(&["SCRIPT", "FLUSH"]);
    let charges = team(&[minute(10, 1)]);
    let calls: Vec<Call<'_>> =
        ["b", "c"].map(|id| call::groups("", id, &charges).unwrap()[0].reserve(id, BEGIN_MS)).into();
    let answers = scripts.run(&calls);
    assert_eq!(answers.iter().map(|answer| answer.as_ref().unwrap()[1]).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn the_index_lists_every_charged_window_with_its_limit() {
    let scripts = Scripts::start();
    let charges = [minute(10, 1), team_charge("gpt-4*/requests", window(90_000, 30), 7, 2)];
    assert!(scripts.reserve("a", &charges, BEGIN_MS).0);
    // A settlement may not know the limit, so it must not replace the one in the index.
    let unknown = [minute(0, 3), team_charge("gpt-4*/requests", window(90_000, 30), 0, 2)];
    assert!(scripts.settle("a", &unknown, None, BEGIN_MS + 5_000));
    let index: HashMap<String, String> = scripts.redis.ask(&["HGETALL", "llmrl:3::{team}:key"]);
    let expected = [
        ("requests:1m", "sliding_window 60000 60 10"),
        ("gpt-4*/requests:90s-30", "sliding_window 90000 30 7"),
    ];
    assert_eq!(index, expected.map(|(field, entry)| (field.to_owned(), entry.to_owned())).into());
}

#[test]
fn a_charge_that_has_left_its_window_is_not_given_back() {
    let scripts = Scripts::start();
    assert!(scripts.reserve("a", &[minute(10, 5)], BEGIN_MS).0);
    assert!(scripts.reserve("b", &[minute(10, 2)], BEGIN_MS + 30_000).0);
    // No call before the settlement has noticed that the first charge has left.
    assert!(scripts.settle("a", &[minute(10, 0)], None, BEGIN_MS + 70_000));
    assert_eq!(scripts.peek(&[minute(10, 0)], BEGIN_MS + 70_000)[0].used, 2);
}

#[test]
fn settling_after_a_reset_gives_back_at_most_the_units_that_are_there() {
    let scripts = Scripts::start();
    assert!(scripts.reserve("a", &[minute(10, 8)], BEGIN_MS).0);
    let () = scripts.redis.ask(&["DEL", &key(&minute(10, 8))]);
    assert!(scripts.reserve("b", &[minute(10, 3)], BEGIN_MS).0);
    assert!(scripts.settle("a", &[minute(10, 0)], None, BEGIN_MS));
    assert_eq!(scripts.peek(&[minute(10, 0)], BEGIN_MS)[0].used, 0);
}

/// The bytes that Redis takes for the keys of an identity after `times` requests, `apart_ms` apart, by their parts: the
/// counters, and the index.
fn bytes(scripts: &Scripts, windows: &[(&str, Window)], times: u64, apart_ms: u64) -> (u64, u64) {
    scripts.redis.ask::<String>(&["FLUSHALL"]);
    let identity: Arc<str> = "0123456789abcdef".repeat(4).into();
    let charge = |(name, window): &(&str, Window)| Charge {
        identity: Arc::clone(&identity),
        ..team_charge(name, *window, 1_000_000_000, 12_345)
    };
    let charges =
        [ScopeCharges { scope: Arc::clone(&identity), charges: windows.iter().map(charge).collect() }];
    let groups = call::groups("", "id", &charges).unwrap();
    for n in 0..times {
        let id = format!("0123456789abcdef-{n}");
        let reply = scripts.run(&[groups[0].reserve(&id, BEGIN_MS + n * apart_ms)]).remove(0).unwrap();
        assert_eq!(reply[0], 1);
    }
    let of = |key: &String| scripts.redis.ask::<u64>(&["MEMORY", "USAGE", key]);
    let keys = scripts.keys();
    let (index, counters): (Vec<_>, Vec<_>) =
        keys.iter().filter(|key| !key.contains(":reservation:")).partition(|key| key.ends_with(&*identity));
    (counters.into_iter().map(of).sum(), index.into_iter().map(of).sum())
}

/// The figures of `docs/operations.md`, which are of Redis 7. Newer ones take up to two fifths less, and the allocator
/// of the C library up to four fifths more.
#[test]
fn an_identity_takes_as_much_of_redis_as_the_docs_say() {
    let scripts = Scripts::start();
    let server: String = scripts.redis.ask(&["INFO"]);
    let is_of_the_docs = server.contains("redis_version:7.0.") && server.contains("mem_allocator:jemalloc");
    let tenths = match (is_of_the_docs, server.contains("mem_allocator:libc")) {
        (true, false) => 9..=11,
        (_, true) => 6..=18,
        (false, false) => 6..=11,
    };
    let fixed = Window::fixed(NonZeroMillis::new(DAY_MS).unwrap());
    let bucket = Window::token_bucket(NonZeroMillis::MINUTE, Units::new(1_000_000));
    let sliding = window(60_000, 60);
    for (name, windows, times, apart_ms, counters, index) in [
        ("a sliding window, one request", &[("requests", sliding)][..], 1, 0, 248, 264),
        ("a sliding window, a request in each segment", &[("requests", sliding)], 61, 1_000, 968, 264),
        (
            "a sliding window of 600 segments, a request in each",
            &[("requests", window(60_000, 600))],
            601,
            100,
            37440,
            264,
        ),
        ("a fixed window", &[("requests", fixed)], 5, 1_000, 264, 264),
        ("a token bucket", &[("requests", bucket)], 5, 1_000, 312, 280),
        (
            "rpm, input_tpm, output_tpm",
            &[("requests", sliding), ("input_tokens", sliding), ("output_tokens", sliding)],
            61,
            1_000,
            2_936,
            392,
        ),
    ] {
        let seen = bytes(&scripts, windows, times, apart_ms);
        let is_as_said =
            |bytes: u64, said: u64| (said * tenths.start() / 10..=said * tenths.end() / 10).contains(&bytes);
        assert!(is_as_said(seen.0, counters) && is_as_said(seen.1, index), "{name}: {seen:?}");
    }
}

#[test]
fn a_reservation_tells_whether_its_identity_is_new_and_may_leave_it() {
    let scripts = Scripts::start();
    let charges = team(&[minute(10, 4)]);
    let group = &call::groups("", "id", &charges).unwrap()[0];
    let reserve =
        |id: &str, if_new| scripts.run(&[group.reserve_if(id, if_new, false, BEGIN_MS)]).remove(0).unwrap();
    assert_eq!(reserve("a", IfNew::Leave), [2], "it is new");
    assert_eq!(scripts.keys(), [""; 0], "and leaves nothing");
    assert_eq!(reserve("a", IfNew::Tell)[..2], [3, 4]);
    assert_eq!(reserve("b", IfNew::Tell)[..2], [1, 8]);
    assert_eq!(reserve("c", IfNew::Leave)[..2], [0, 8], "it is known and over its limit");
    assert_eq!(reserve("a", IfNew::Leave)[..2], [1, 8], "a repeated one charges nothing");
    // A refusal of a new identity, which leaves it new.
    let charges = [ScopeCharges { scope: "other".into(), charges: vec![minute(1, 4)] }];
    let other = &call::groups("", "id", &charges).unwrap()[0];
    let reply = scripts.run(&[other.reserve_if("d", IfNew::Tell, false, BEGIN_MS)]).remove(0).unwrap();
    assert_eq!(reply, [2, 0, 0, -1, 0]);
    // A cancellation that came first: its reservation is known, whatever its identity is.
    let none = team(&[Charge { identity: "late".into(), ..minute(10, 0) }]);
    let cancel = Settle {
        id: "e".to_owned(),
        if_absent: Some(IfAbsent::Charge),
        charges: none.to_vec(),
        ..Settle::default()
    };
    let group = &call::groups("", "e", &none).unwrap()[0];
    scripts.run(&[group.settle(&cancel, BEGIN_MS)]).remove(0).unwrap();
    let reply = scripts.run(&[group.reserve_if("e", IfNew::Leave, false, BEGIN_MS)]).remove(0).unwrap();
    assert_eq!(reply[..2], [1, 0]);
}

/// The calls of Redis's commands that `run` makes, by name.
fn commands(scripts: &Scripts, run: impl FnOnce()) -> HashMap<String, u64> {
    let count = || -> HashMap<String, u64> {
        let stats: String = scripts.redis.ask(&["INFO", "commandstats"]);
        let count = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split_once(',')?.0.parse().ok()?))
        };
        stats.lines().filter_map(count).collect()
    };
    let before = count();
    run();
    // What the test's own connections say is not the scripts': newer servers count how a client introduces itself.
    let is_own = |name: &str| name == "info" || name.starts_with("client");
    let after = count().into_iter().filter(|(name, _)| !is_own(name));
    let made = after.map(|(name, calls)| {
        let before = before.get(&name).copied().unwrap_or(0);
        (name, calls - before)
    });
    made.filter(|(_, calls)| *calls > 0).collect()
}

fn counts<const N: usize>(counts: [(&str, u64); N]) -> HashMap<String, u64> {
    counts.map(|(name, calls)| (name.to_owned(), calls)).into()
}

#[test]
fn a_crowd_at_one_limit_costs_one_read_and_one_write_of_it() {
    let scripts = Scripts::start();
    let charges = [7, 3].map(|cost| {
        let names = ["requests", "input_tokens", "output_tokens"];
        team(&names.map(|name| team_charge(name, window(60_000, 60), 10_000, cost)))
    });
    let ids: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let [reserved, settled] =
        charges.each_ref().map(|charges| call::groups("", "x", charges).unwrap().remove(0));
    let reserve = || {
        let calls: Vec<Call<'_>> = ids.iter().map(|id| reserved.reserve(id, BEGIN_MS)).collect();
        assert!(scripts.run(&calls).into_iter().all(|reply| reply.unwrap()[0] == 1));
    };
    let settles: Vec<Settle> = ids.iter().map(|id| Settle { id: id.clone(), ..Settle::default() }).collect();
    let settle = || {
        let calls: Vec<Call<'_>> = settles.iter().map(|one| settled.settle(one, BEGIN_MS)).collect();
        assert!(scripts.run(&calls).into_iter().all(|reply| reply.unwrap()[0] == 1));
    };
    reserve();
    settle();
    assert_eq!(scripts.used(&charges[0][0].charges, BEGIN_MS), [300; 3]);
    let reserving = commands(&scripts, reserve);
    assert_eq!(reserving, counts([("evalsha", 1), ("hmget", 3), ("set", 100), ("hset", 3)]));
    let settling = commands(&scripts, settle);
    assert_eq!(settling, counts([("evalsha", 1), ("get", 100), ("hmget", 3), ("del", 100), ("hset", 3)]));
}
