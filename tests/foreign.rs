//! Keys that somebody else has written into: a counter that is not ours is a new one, and nothing makes a script work
//! longer than its own values would.

use llm_rate_limit::quantity::{Millis, NonZeroMillis, Units};
use llm_rate_limit::store::wire::Charge;
use llm_rate_limit::window::Window;
use llm_rate_limit_tests::charges::team_charge;
use llm_rate_limit_tests::scripts::{BEGIN_MS, Scripts, key};
use std::time::{Duration, Instant};

/// A charge of `cost` to a limit of ten, in a window of every algorithm.
fn all(cost: u64) -> [Charge; 5] {
    let minute = NonZeroMillis::MINUTE;
    let windows = [
        ("sliding", Window::sliding(minute)),
        ("fixed", Window::fixed(minute)),
        ("month", Window::calendar_month()),
        ("bucket", Window::token_bucket(minute, Units::new(10))),
        ("leases", Window::concurrency(minute)),
    ];
    windows.map(|(name, window)| team_charge(name, window, 10, cost))
}

fn used(scripts: &Scripts, charge: &Charge, now_ms: u64) -> u64 {
    let nothing = Charge { cost: Units::ZERO, ..charge.clone() };
    scripts.used(&[nothing], now_ms)[0].get()
}

/// Far less than a walk through all segments since the epoch takes, and far more than anything else.
const SOON: Duration = Duration::from_secs(2);

const VALUES: [&str; 20] = [
    "0",
    "1",
    "-1",
    "1.5",
    "1e300",
    "inf",
    "nan",
    "0x7f",
    "",
    "9007199254740991",
    "1700000000000",
    "1 2 3",
    "0 0 0 0",
    "7 0 28333333 0",
    "3 28333334 28333333 9007199254740991",
    "9007199254740991 28333333 28333333 0",
    "9007199254740993 0 28333333 0",
    "1 1 99999999999 1",
    "-1 0 28333333 0",
    "\u{1}\u{93}junk",
];

#[test]
fn a_field_that_is_not_ours_stops_nobody() {
    let scripts = Scripts::start();
    let fields = ["s", "i", "o", "u", "d", "a", "r", "x", "28333333", "28333300", "other"];
    for (at, charge) in all(1).iter().enumerate() {
        for (n, field) in fields.iter().enumerate() {
            for (v, value) in VALUES.iter().enumerate() {
                // A level is a number like any other, and a high one takes long to drain.
                if *charge.name == *"bucket" && *field == "u" && value.len() > 5 {
                    continue;
                }
                for is_there in [false, true] {
                    let () = scripts.redis.ask(&["FLUSHALL"]);
                    let one = std::slice::from_ref(charge);
                    let id = format!("{at}-{n}-{v}-{is_there}");
                    if is_there {
                        assert!(scripts.reserve(&id, one, BEGIN_MS).0);
                    }
                    let () = scripts.redis.ask(&["HSET", &key(charge), field, value]);
                    let begun = Instant::now();
                    for more in 0..20 {
                        scripts.reserve(&format!("{id}-{more}"), one, BEGIN_MS + 100 * more);
                    }
                    scripts.settle(&format!("{id}-0"), one, None, BEGIN_MS + 2_000);
                    assert!(begun.elapsed() < SOON, "{field}={value:?} in {}", charge.name);
                    // A month from now, or at the end of one, whatever was there is gone.
                    let later = BEGIN_MS + 40 * Millis::DAY.get();
                    assert!(
                        scripts.reserve(&format!("{id}-later"), one, later).0,
                        "{field}={value:?} in {}",
                        charge.name
                    );
                    assert!(
                        scripts.redis.ask::<i64>(&["PTTL", &key(charge)]) > 0,
                        "{field}={value:?} in {}",
                        charge.name
                    );
                }
            }
        }
    }
}

#[test]
fn a_number_below_zero_gives_nothing_away() {
    let scripts = Scripts::start();
    let now_s = BEGIN_MS / 1_000;
    let segments = [now_s, now_s - 1, BEGIN_MS / 60_000].map(|segment| segment.to_string());
    for charge in &all(1) {
        let () = scripts.redis.ask(&["FLUSHALL"]);
        assert!(scripts.reserve("first", std::slice::from_ref(charge), BEGIN_MS).0);
        let written: Vec<String> = scripts.redis.ask(&["HKEYS", &key(charge)]);
        for field in written.iter().chain(&segments) {
            let () = scripts.redis.ask(&["FLUSHALL"]);
            assert!(scripts.reserve("first", std::slice::from_ref(charge), BEGIN_MS).0);
            let () = scripts.redis.ask(&["HSET", &key(charge), field, "-5"]);
            let admits =
                |id: &u64| scripts.reserve(&id.to_string(), std::slice::from_ref(charge), BEGIN_MS).0;
            let admitted = (0..20).filter(admits).count();
            assert!(admitted <= 10, "{field} in {}: {admitted}", charge.name);
        }
    }
}

#[test]
fn the_limit_holds_beside_a_foreign_first_segment() {
    let scripts = Scripts::start();
    for charge in [&all(1)[0], &all(1)[4]] {
        let one = std::slice::from_ref(charge);
        let admitted = |ids: std::ops::Range<u64>| {
            ids.filter(|id| {
                let numbers: Option<String> = scripts.redis.ask(&["HGET", &key(charge), "s"]);
                let numbers = numbers.unwrap_or_default();
                if let [total, _, last, lead] = numbers.split(' ').collect::<Vec<_>>()[..] {
                    let numbers = format!("{total} 0 {last} {lead}");
                    let () = scripts.redis.ask(&["HSET", &key(charge), "s", &numbers]);
                }
                scripts.reserve(&format!("{}-{id}", charge.name), one, BEGIN_MS + id * 10).0
            })
            .count()
        };
        assert_eq!(admitted(0..30), 10, "{}", charge.name);
    }
}

#[test]
fn a_key_of_another_type_is_a_new_counter() {
    let scripts = Scripts::start();
    let charges = all(3);
    for foreign in [&["SET"][..], &["RPUSH"], &["SADD"]] {
        let () = scripts.redis.ask(&["FLUSHALL"]);
        for key in charges.iter().map(key).chain(["llmrl:3::{team}:key".to_owned()]) {
            let _: redis::Value = scripts.redis.ask(&[foreign, &[&key, "x"]].concat());
        }
        assert_eq!(scripts.used(&all(0), BEGIN_MS), [0; 5]);
        assert!(scripts.reserve("a", &charges, BEGIN_MS).0);
        assert_eq!(charges.each_ref().map(|charge| used(&scripts, charge, BEGIN_MS)), [3, 3, 3, 3, 1]);
        assert!(scripts.settle("a", &all(1), None, BEGIN_MS));
        assert!(scripts.keys().iter().all(|key| scripts.redis.ask::<i64>(&["PTTL", key]) > 0));
    }
}

#[test]
fn lows_that_are_not_ours_give_nothing_back() {
    let scripts = Scripts::start();
    let bucket = &all(5)[3];
    for lows in ["", "junk", "\u{1}", "\u{91}\u{1}"] {
        let () = scripts.redis.ask(&["FLUSHALL"]);
        assert!(scripts.reserve("a", std::slice::from_ref(bucket), BEGIN_MS).0);
        let () = scripts.redis.ask(&["HSET", &key(bucket), "l", lows]);
        assert!(scripts.settle("a", &[all(0)[3].clone()], None, BEGIN_MS));
        assert_eq!(used(&scripts, bucket, BEGIN_MS), 5);
    }
}

#[test]
fn a_clock_that_steps_back_an_hour_refuses_for_a_window_and_a_segment() {
    let scripts = Scripts::start();
    let (hour, begin) = (Millis::HOUR.get(), BEGIN_MS / 60_000 * 60_000);
    for (charge, longest) in all(10).iter().zip([61_000, 60_000, 31 * Millis::DAY.get(), 60_000, 61_000]) {
        let one = std::slice::from_ref(charge);
        let times = if charge.name.as_ref() == "leases" { 10 } else { 1 };
        for n in 0..times {
            assert!(scripts.reserve(&format!("{}-{n}", charge.name), one, begin + hour).0);
        }
        let (admitted, states) = scripts.reserve(&format!("{}-b", charge.name), one, begin);
        assert!(!admitted, "{}", charge.name);
        assert!(states[0].reset.get() <= longest, "{}: {:?}", charge.name, states);
        let over = begin + states[0].reset.get();
        assert!(!scripts.reserve(&format!("{}-c", charge.name), one, over - 1).0, "{}", charge.name);
        assert!(scripts.reserve(&format!("{}-d", charge.name), one, over).0, "{}", charge.name);
    }
}
