//! The scripts of `lua/` against their twin in Rust: both answer random histories of reservations, settlements and
//! passing time alike to the last number, on windows of every kind, alone and together.

use llm_rate_limit::quantity::{MAX_EXACT, Millis, NonZeroMillis, Units};
use llm_rate_limit::store::twin::Twin;
use llm_rate_limit::store::wire::{Charge, IfAbsent, Settle};
use llm_rate_limit::window::calendar::{Calendar, CalendarName, Edges};
use llm_rate_limit::window::grants::Grant;
use llm_rate_limit::window::period::Period;
use llm_rate_limit::window::{Algorithm, Counter, Fit, Window, WindowState};
use llm_rate_limit_cli::store::call::{self, Call, Group};
use llm_rate_limit_cli::store::grants::Action;
use llm_rate_limit_tests::charges::team_charge;
use llm_rate_limit_tests::scripts::{BEGIN_MS, Scripts, key, settlement, team};
use proptest::prelude::*;
use std::num::NonZeroU32;

/// One step of a history. Costs are in hundredths of the limits; some exceed the limit.
#[derive(Clone, Debug)]
enum Step {
    Reserve {
        id: u8,
        costs: [u64; 3],
        enforced: [bool; 3],
    },
    Settle {
        id: u8,
        costs: [u64; 3],
        if_absent: Option<IfAbsent>,
        extend: bool,
    },
    /// The request is over, and its cost is still to come.
    Detach {
        id: u8,
        costs: [u64; 3],
    },
    Peek {
        costs: [u64; 3],
    },
    Pass {
        ms: i64,
    },
    /// An operator changes one of the limits by hand. A grant ends so many milliseconds later.
    Change {
        at: usize,
        action: Action,
        units: u64,
        lasts_ms: u64,
    },
    /// From now on limits are this many hundredths of the first limits.
    Limit {
        hundredths: u64,
    },
}

/// Steps of requests `0..ids`; between two steps, more than `unit_ms` passes rarely.
fn a_step(ids: u8, unit_ms: i64) -> impl Strategy<Value = Step> {
    let cost = || prop_oneof![3 => Just(0_u64), 10 => 1..30_u64, 3 => 30..=100_u64, 1 => 101..130_u64];
    let costs = || [cost(), cost(), cost()];
    let enforced = || prop::bool::weighted(0.95);
    let if_absent = prop_oneof![Just(None), Just(Some(IfAbsent::Charge)), Just(Some(IfAbsent::Mark))];
    let ms = prop_oneof![
        6 => 0..unit_ms,
        3 => unit_ms..20 * unit_ms,
        1 => 20 * unit_ms..200 * unit_ms,
        2 => -unit_ms..0_i64,
        1 => -200 * unit_ms..-unit_ms,
    ];
    prop_oneof![
        16 => (0..ids, costs(), [enforced(), enforced(), enforced()])
            .prop_map(|(id, costs, enforced)| Step::Reserve { id, costs, enforced }),
        10 => (0..ids, costs(), if_absent, prop::bool::weighted(0.4))
            .prop_map(|(id, costs, if_absent, extend)| Step::Settle { id, costs, if_absent, extend }),
        2 => (0..ids, costs()).prop_map(|(id, costs)| Step::Detach { id, costs }),
        2 => costs().prop_map(|costs| Step::Peek { costs }),
        10 => ms.prop_map(|ms| Step::Pass { ms }),
        3 => a_change(unit_ms),
        1 => (0..200_u64).prop_map(|hundredths| Step::Limit { hundredths }),
    ]
}

/// A change by hand to one of three limits. Most grants end while the history lasts.
fn a_change(unit_ms: i64) -> impl Strategy<Value = Step> {
    let action = prop_oneof![4 => Just(Action::Grant), 2 => Just(Action::Refund), 1 => Just(Action::Revoke)];
    (0..3_usize, action, 1..400_u64, 1..60 * unit_ms.cast_unsigned()).prop_map(
        |(at, action, units, lasts_ms)| Step::Change {
            at,
            action,
            units,
            lasts_ms: lasts_ms.div_ceil(500) * 500,
        },
    )
}

/// A window of this length and any algorithm. Lengths are at least half a minute, because no key may expire by Redis's
/// own clock during a history.
fn a_window(length_ms: impl Strategy<Value = u64>, max_burst: u64) -> impl Strategy<Value = Window> {
    let segments = prop_oneof![Just(1), Just(2), Just(7), Just(60), Just(250)];
    (length_ms, segments, 0..max_burst, 0..7_u8).prop_map(|(length_ms, segments, burst, which)| {
        let algorithm = match which {
            0 | 1 => Algorithm::SlidingWindow { segments: NonZeroU32::new(segments).unwrap() },
            2 => Algorithm::FixedWindow,
            3 => Algorithm::CalendarMonth,
            4 => Algorithm::TokenBucket { burst: Units::new(burst) },
            5 => Algorithm::CalendarWindow(calendar(length_ms, BEGIN_MS)),
            _ => Algorithm::Concurrency,
        };
        Window { length: NonZeroMillis::new(length_ms).unwrap(), algorithm }
    })
}

/// A calendar whose periods differ in length, by up to a fifth of `length_ms`, as the filter knows it at `now_ms`.
fn calendar(length_ms: u64, now_ms: u64) -> Calendar {
    let edge = |period: u64| period * length_ms + period % 4 * (length_ms / 15);
    let period =
        (0..).map(|before| now_ms / length_ms - before).find(|period| edge(*period) <= now_ms).unwrap();
    let edges = Edges::new([period - 1, period, period + 1, period + 2].map(edge).map(Millis::new));
    Calendar { name: CalendarName::new("1d-Europe/Paris").unwrap(), edges }
}

/// The same window, as the filter sends it at `now_ms`.
fn sent_at(window: Window, now_ms: u64) -> Window {
    match window.algorithm {
        Algorithm::CalendarWindow(_) => {
            Window::calendar(window.length, calendar(window.length.get().get(), now_ms))
        }
        _ => window,
    }
}

/// Runs a history on the scripts and on the twin and compares every answer.
fn compare(scripts: &Scripts, limits: &[(Window, u64)], steps: &[Step]) -> Result<(), TestCaseError> {
    compare_skewed(scripts, limits, steps, 0)
}

/// The same, where the clock of the filter, by which it knows the calendar, is ahead of Redis's by so much, or behind
/// it.
fn compare_skewed(
    scripts: &Scripts,
    limits: &[(Window, u64)],
    steps: &[Step],
    skew_ms: i64,
) -> Result<(), TestCaseError> {
    let () = scripts.redis.ask(&["FLUSHALL"]);
    let (mut now_ms, mut hundredths) = (BEGIN_MS, 100);
    let part = |of: u64, hundredths: u64| {
        u64::try_from((u128::from(of) * u128::from(hundredths)).div_ceil(100)).unwrap()
    };
    let charges = |costs: &[u64; 3], enforced: &[bool; 3], limit_hundredths, now_ms: u64| -> Vec<Charge> {
        let named =
            limits.iter().zip(costs.iter().zip(enforced)).zip(["requests", "input_tokens", "cost_usd"]);
        named
            .map(|(((window, limit), (cost, enforced)), name)| Charge {
                enforced: *enforced,
                ..team_charge(
                    name,
                    sent_at(*window, now_ms),
                    part(*limit, limit_hundredths),
                    part(*limit, *cost),
                )
            })
            .collect()
    };
    let all = [true; 3];
    let mut twin = Twin::new(&charges(&[0; 3], &all, hundredths, now_ms.saturating_add_signed(skew_ms)));
    for step in steps {
        match step {
            Step::Reserve { id, costs, enforced } => {
                let charges = charges(costs, enforced, hundredths, now_ms.saturating_add_signed(skew_ms));
                let answer = scripts.reserve(&id.to_string(), &charges, now_ms);
                let expected = twin.reserve(&id.to_string(), &charges, now_ms.into());
                prop_assert_eq!(answer, expected, "{:?} at {}", step, now_ms);
            }
            Step::Settle { id, costs, if_absent, extend } => {
                let charges = charges(costs, &all, hundredths, now_ms.saturating_add_signed(skew_ms));
                let name = id.to_string();
                let expected = twin.settle(&name, &charges, *if_absent, *extend, now_ms.into());
                if *extend {
                    let states = twin.peek(&charges, now_ms.into());
                    let is_over = states.iter().zip(&charges).any(|(state, charge)| {
                        state.used > charge.window.capacity(charge.limit) + state.granted
                    });
                    let answer = scripts.extend(&name, &charges, *if_absent, now_ms);
                    prop_assert_eq!(answer, expected.then_some(is_over), "{:?} at {}", step, now_ms);
                } else {
                    let answer = scripts.settle(&name, &charges, *if_absent, now_ms);
                    prop_assert_eq!(answer, expected, "{:?} at {}", step, now_ms);
                }
            }
            Step::Detach { id, costs } => {
                let charges = charges(costs, &all, hundredths, now_ms.saturating_add_signed(skew_ms));
                let answer = scripts.detach(&id.to_string(), &charges, now_ms);
                let expected = twin.detach(&id.to_string(), &charges, now_ms.into());
                prop_assert_eq!(answer, expected, "{:?} at {}", step, now_ms);
            }
            Step::Peek { costs } => {
                let charges = charges(costs, &all, hundredths, now_ms.saturating_add_signed(skew_ms));
                let answer = scripts.peek(&charges, now_ms);
                prop_assert_eq!(answer, twin.peek(&charges, now_ms.into()), "{:?} at {}", step, now_ms);
            }
            Step::Change { at, action, units, lasts_ms } => {
                let charges = charges(&[0; 3], &all, hundredths, now_ms.saturating_add_signed(skew_ms));
                let Some(charge) = charges.get(*at) else { continue };
                let until_ms = now_ms + lasts_ms;
                let answer = scripts.change(*action, charge, *units, until_ms, now_ms);
                let before = twin.peek(&charges, now_ms.into());
                let units = Units::new(*units);
                let done = match action {
                    Action::Grant => {
                        let grant = Grant { units, until: until_ms.into() };
                        twin.grant(*at, grant, &charges, now_ms.into()).then_some(units)
                    }
                    Action::Refund => Some(twin.refund(*at, units, &charges, now_ms.into())),
                    Action::Revoke => {
                        twin.revoke(*at, &charges, now_ms.into());
                        Some(before[*at].granted)
                    }
                };
                let after = twin.peek(&charges, now_ms.into());
                let expected = done.map(|units| (units, after[*at].granted, after[*at].used));
                let answer = answer.ok().map(|it| (it.units, it.granted, it.used));
                prop_assert_eq!(answer, expected, "{:?} at {}", step, now_ms);
            }
            Step::Pass { ms } => now_ms = now_ms.saturating_add_signed(*ms),
            Step::Limit { hundredths: new } => hundredths = *new,
        }
    }
    let nothing = charges(&[0; 3], &all, hundredths, now_ms.saturating_add_signed(skew_ms));
    prop_assert_eq!(scripts.peek(&nothing, now_ms), twin.peek(&nothing, now_ms.into()), "at the end");
    for key in scripts.keys() {
        prop_assert!(key.starts_with("llmrl:3::{team}:"), "{} has another tag", key);
        prop_assert!(scripts.redis.ask::<i64>(&["PTTL", &key]) > 0, "{} does not expire", key);
    }
    for charge in nothing {
        let max_fields = match charge.window.algorithm {
            // The segments of the window, the one that is leaving, a field for all of them, and the grants.
            Algorithm::SlidingWindow { segments } => u64::from(segments.get()) + 3,
            Algorithm::Concurrency => 63,
            Algorithm::FixedWindow | Algorithm::CalendarMonth | Algorithm::CalendarWindow(_) => 4,
            Algorithm::TokenBucket { .. } => 8,
        };
        let fields: u64 = scripts.redis.ask(&["HLEN", &key(&charge)]);
        prop_assert!(fields <= max_fields, "{} has {} fields", key(&charge), fields);
    }
    Ok(())
}

/// A call of a step, and what the twin answers to it, as [`wire::fit`] reads it.
struct Asked {
    step: Step,
    settle: Settle,
    expected: (i64, Vec<WindowState>),
}

impl Asked {
    fn call<'a>(&'a self, group: &Group<'a>, now_ms: u64) -> Call<'a> {
        match self.step {
            Step::Settle { .. } => group.settle(&self.settle, now_ms),
            _ => group.reserve(&self.settle.id, now_ms),
        }
    }
}

/// Runs a history, in which the calls of each round go to Redis together, and compares every answer with that of the
/// twin, which takes one after the other.
fn compare_together(
    scripts: &Scripts,
    limits: &[(Window, u64)],
    rounds: &[(Vec<Step>, i64)],
) -> Result<(), TestCaseError> {
    let () = scripts.redis.ask(&["FLUSHALL"]);
    let mut now_ms = BEGIN_MS;
    let charges = |costs: &[u64; 3], enforced: &[bool; 3], now_ms: u64| -> Vec<Charge> {
        let names = ["requests", "input_tokens", "cost_usd"];
        let of = |(n, (window, limit)): (usize, &(Window, u64))| Charge {
            enforced: enforced[n],
            ..team_charge(names[n], sent_at(*window, now_ms), *limit, limit * costs[n] / 100)
        };
        limits.iter().enumerate().map(of).collect()
    };
    let all = [true; 3];
    let mut twin = Twin::new(&charges(&[0; 3], &all, now_ms));
    for (steps, ms) in rounds {
        let asked: Vec<Asked> = steps
            .iter()
            .map(|step| {
                let (settle, expected) = match step {
                    Step::Reserve { id, costs, enforced } => {
                        let charges = charges(costs, enforced, now_ms);
                        let (admitted, states) = twin.reserve(&id.to_string(), &charges, now_ms.into());
                        (settlement(&id.to_string(), &charges, None, false), (i64::from(admitted), states))
                    }
                    Step::Settle { id, costs, if_absent, extend } => {
                        let charges = charges(costs, &all, now_ms);
                        let name = id.to_string();
                        let done = twin.settle(&name, &charges, *if_absent, *extend, now_ms.into());
                        let states = twin.peek(&charges, now_ms.into());
                        let is_over = |(state, charge): (&WindowState, &Charge)| {
                            state.used > charge.window.capacity(charge.limit)
                        };
                        let is_over = *extend && states.iter().zip(&charges).any(is_over);
                        let expected = i64::from(done) * if is_over { 2 } else { 1 };
                        let states: Vec<_> =
                            states.into_iter().map(|state| WindowState { fit: Fit::Now, ..state }).collect();
                        let states = if done { states } else { Vec::new() };
                        (settlement(&name, &charges, *if_absent, *extend), (expected, states))
                    }
                    other => panic!("{other:?}"),
                };
                Asked { step: step.clone(), settle, expected }
            })
            .collect();
        let groups: Vec<_> = asked
            .iter()
            .map(|one| call::groups("", &one.settle.id, &one.settle.charges).unwrap().remove(0))
            .collect();
        let calls: Vec<Call<'_>> =
            asked.iter().zip(&groups).map(|(one, group)| one.call(group, now_ms)).collect();
        for (one, reply) in asked.iter().zip(scripts.run(&calls)) {
            let reply = reply.unwrap();
            let answer = (reply[0], call::window_states(&reply[1..]).unwrap());
            prop_assert_eq!(&answer, &one.expected, "{:?} at {}", one.step, now_ms);
        }
        now_ms = now_ms.saturating_add_signed(*ms);
    }
    let nothing = charges(&[0; 3], &all, now_ms);
    prop_assert_eq!(scripts.peek(&nothing, now_ms), twin.peek(&nothing, now_ms.into()), "at the end");
    Ok(())
}

#[test]
fn calls_that_come_together_are_answered_as_one_after_the_other() {
    let scripts = Scripts::start();
    let cost = || prop_oneof![3 => Just(0_u64), 10 => 1..20_u64, 3 => 20..=110_u64];
    let enforced = || prop::bool::weighted(0.98);
    let reserve = (0..40_u8, [cost(), cost(), cost()], [enforced(), enforced(), enforced()])
        .prop_map(|(id, costs, enforced)| Step::Reserve { id, costs, enforced });
    let if_absent =
        prop_oneof![3 => Just(None), 1 => Just(Some(IfAbsent::Charge)), 1 => Just(Some(IfAbsent::Mark))];
    let settle = (0..40_u8, [cost(), cost(), cost()], if_absent, prop::bool::weighted(0.2))
        .prop_map(|(id, costs, if_absent, extend)| Step::Settle { id, costs, if_absent, extend });
    let ms = prop_oneof![4 => 0..3_000_i64, 2 => 3_000..90_000_i64, 1 => -3_000..0_i64, 1 => -600_000..0_i64];
    let round = prop_oneof![
        3 => prop::collection::vec(reserve, 1..25),
        2 => prop::collection::vec(settle, 1..25),
    ];
    let rounds = prop::collection::vec((round, ms), 1..16);
    let limits = prop::collection::vec(
        (a_window(30_000..120_000_u64, 1_500), prop_oneof![0..6_u64, 0..1_000_u64]),
        1..=3,
    );
    proptest!(config(256), |(limits in limits, rounds in rounds)| {
        compare_together(&scripts, &limits, &rounds)?;
    });
}

/// The same after the clock has stepped back: a counter that is empty goes by the clock again, whatever comes next in
/// the same script.
#[test]
fn calls_that_come_together_empty_a_counter_as_one_after_the_other() {
    let scripts = Scripts::start();
    let minute = NonZeroMillis::MINUTE;
    let windows = [
        Window::fixed(minute),
        Window::calendar(minute, calendar(60_000, BEGIN_MS)),
        Window::token_bucket(minute, Units::new(100)),
        Window::sliding(minute),
        Window::concurrency(minute),
    ];
    let settle = |id, cost, if_absent| Step::Settle { id, costs: [cost; 3], if_absent, extend: false };
    let reserve = |id, cost| Step::Reserve { id, costs: [cost; 3], enforced: [true; 3] };
    for window in windows {
        for back in [-500, -20_000, -600_000] {
            for later in [0, 1_000, 59_000, 61_000, 400_000] {
                let rounds = [
                    // A minute begins then.
                    (vec![], 60_000 - (BEGIN_MS % 60_000).cast_signed()),
                    (vec![reserve(0, 30)], back),
                    (vec![settle(0, 0, None), settle(1, 5, Some(IfAbsent::Charge))], later),
                    (vec![reserve(2, 20), reserve(3, 90)], 0),
                ];
                if let Err(why) = compare_together(&scripts, &[(window, 100)], &rounds) {
                    panic!("{window:?}, {back} and {later} ms: {why}");
                }
            }
        }
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn scripts_and_twin_agree_on_every_history() {
    let scripts = Scripts::start();
    // Some limits are so low that requests take all slots.
    let limit = prop_oneof![0..6_u64, 0..1_000_u64];
    let limits = prop::collection::vec((a_window(30_000..120_000_u64, 1_500), limit), 1..=3);
    let steps = prop::collection::vec(a_step(12, 3_000), 1..80);
    proptest!(config(192), |(limits in limits, steps in steps)| compare(&scripts, &limits, &steps)?);
}

/// The filter's clock is ahead of Redis's or behind it, by less than the shortest period.
#[test]
fn scripts_and_twin_agree_on_a_calendar_that_another_clock_knows() {
    let scripts = Scripts::start();
    let windows = (30_000..120_000_u64).prop_map(|length_ms| {
        Window::calendar(NonZeroMillis::new(length_ms).unwrap(), calendar(length_ms, BEGIN_MS))
    });
    let limits = prop::collection::vec((windows, 0..100_u64), 1..=3);
    let steps = prop::collection::vec(a_step(12, 3_000), 1..80);
    let skew_ms = prop_oneof![-1_000..1_000_i64, -24_000..24_000_i64];
    proptest!(config(96), |(limits in limits, steps in steps, skew_ms in skew_ms)| {
        compare_skewed(&scripts, &limits, &steps, skew_ms)?;
    });
}

/// Histories of months and years, with numbers so large that a Lua number cannot hold their products.
#[test]
fn scripts_and_twin_agree_on_long_windows_and_large_limits() {
    const DAY_MS: u64 = Millis::DAY.get();
    // No sum of a history may pass 2^53.
    const LARGE: u64 = 1 << 45;
    let scripts = Scripts::start();
    let limit = prop_oneof![0..1_000_u64, LARGE / 2..LARGE];
    let lengths = prop_oneof![DAY_MS..60 * DAY_MS, 60 * DAY_MS..3_660 * DAY_MS];
    let limits = prop::collection::vec((a_window(lengths, LARGE), limit), 1..=3);
    let steps = prop::collection::vec(a_step(12, 5 * DAY_MS.cast_signed()), 1..60);
    proptest!(config(96), |(limits in limits, steps in steps)| compare(&scripts, &limits, &steps)?);
}

/// A bucket that was last empty more charges ago than it keeps lows, with refunds in any order.
#[test]
fn scripts_and_twin_agree_on_a_rush_to_a_bucket() {
    let scripts = Scripts::start();
    let window = (30_000..90_000_u64).prop_map(|length_ms| {
        Window::token_bucket(NonZeroMillis::new(length_ms).unwrap(), Units::new(1_000_000))
    });
    let charge = (1..40_u64, 0..20_i64);
    let rush = prop::collection::vec(charge, 90..120).prop_map(|charges| {
        let steps = (0..).zip(charges).flat_map(|(id, (cost, ms))| {
            [Step::Pass { ms }, Step::Reserve { id, costs: [cost; 3], enforced: [true; 3] }]
        });
        steps.collect::<Vec<_>>()
    });
    let settle =
        (0..120_u8, prop_oneof![3 => Just(0), 1 => 0..40_u64], 0..20_i64).prop_map(|(id, cost, ms)| {
            [Step::Settle { id, costs: [cost; 3], if_absent: None, extend: false }, Step::Pass { ms }]
        });
    let settles = prop::collection::vec(settle, 120..200);
    proptest!(config(24), |(window in window, limit in 100..20_000_u64, rush in rush, settles in settles)| {
        let steps = [rush, settles.concat()].concat();
        compare(&scripts, &[(window, limit)], &steps)?;
    });
}

/// Streams that outgrow their reservations so many times that some of their parts become one.
#[test]
fn scripts_and_twin_agree_on_long_streams() {
    let scripts = Scripts::start();
    let limits = prop::collection::vec((a_window(30_000..120_000_u64, 1_500), 100..1_000_u64), 1..=3);
    let grow = (0..2_u8, 0..4_u64, 0..4_000_i64);
    let grown = prop::collection::vec(grow, 30..80).prop_map(|grown| {
        let mut costs = [1, 1];
        let steps = grown.into_iter().flat_map(|(id, more, ms)| {
            costs[usize::from(id)] += more;
            let costs = [costs[usize::from(id)]; 3];
            [Step::Settle { id, costs, if_absent: Some(IfAbsent::Charge), extend: true }, Step::Pass { ms }]
        });
        steps.collect::<Vec<_>>()
    });
    let ends = [0..40_u64, 0..40_u64];
    proptest!(config(32), |(limits in limits, grown in grown, ends in ends)| {
        let end = |(id, cost): (u8, &u64)| {
            Step::Settle { id, costs: [*cost; 3], if_absent: Some(IfAbsent::Charge), extend: false }
        };
        let ends: Vec<Step> = (0..).zip(&ends).map(end).collect();
        compare(&scripts, &limits, &[grown, ends].concat())?;
    });
}

/// Requests that were admitted without Redis, which learns of them while they run, or when they are over, or that their
/// costs have left their windows; and whose reservations may have been made all the same, earlier or later.
#[test]
fn scripts_and_twin_agree_on_what_redis_learns_late() {
    let scripts = Scripts::start();
    let limits = prop::collection::vec((a_window(30_000..120_000_u64, 1_500), 0..1_000_u64), 1..=3);
    let cost = || prop_oneof![1 => Just(0_u64), 3 => 1..60_u64];
    let learn =
        (0..3_u8, [cost(), cost(), cost()], prop::bool::weighted(0.7)).prop_map(|(id, costs, extend)| {
            Step::Settle { id, costs, if_absent: Some(IfAbsent::Charge), extend }
        });
    let reserve = (0..3_u8, [cost(), cost(), cost()]).prop_map(|(id, costs)| Step::Reserve {
        id,
        costs,
        enforced: [true; 3],
    });
    let step = prop_oneof![4 => learn, 2 => reserve, 1 => (0..20_000_i64).prop_map(|ms| Step::Pass { ms })];
    let steps = prop::collection::vec(step, 1..12);
    proptest!(config(192), |(limits in limits, steps in steps)| compare(&scripts, &limits, &steps)?);
}

#[test]
fn months_begin_on_redis_as_in_the_calendar() {
    let scripts = Scripts::start();
    let month = team_charge("cost_usd", Window::calendar_month(), 10, 1);
    // Enough years for the calendar to repeat. They begin at 1, because a time of 0 would mean Redis's own clock.
    let mut at_ms = 1;
    let mut begins_and_ends = Vec::new();
    for index in 0..400 * 12 {
        let ends_at = Period::Month.ends_at(index).get();
        begins_and_ends.extend([(at_ms, 1, ends_at - at_ms), (ends_at - 1, 2, 1)]);
        at_ms = ends_at;
    }
    let one = team(&[month]);
    let ids: Vec<String> = begins_and_ends.iter().map(|(now_ms, ..)| now_ms.to_string()).collect();
    let group = &call::groups("", "x", &one).unwrap()[0];
    let calls: Vec<Call<'_>> =
        begins_and_ends.iter().zip(&ids).map(|((now_ms, ..), id)| group.reserve(id, *now_ms)).collect();
    // Redis does not know the script yet, so every call of the first batch is sent again with its source.
    let answers = calls.chunks(100).flat_map(|batch| scripts.run(batch));
    for (answer, (now_ms, used, reset_ms)) in answers.zip(begins_and_ends) {
        let expected = [1, used, i64::try_from(reset_ms).unwrap(), 0, 0];
        assert_eq!(answer.unwrap(), expected, "at {now_ms}");
    }
}

/// Products of a limit and a time that a Lua number cannot hold, one more or one less than a multiple of their divisor.
#[test]
fn a_bucket_on_redis_is_exact_where_numbers_are_large() {
    const DAY_MS: u64 = Millis::DAY.get();
    // A prime, so that it has an inverse modulo a day, from which come times whose products leave such rests.
    const LIMIT: u64 = 1_000_000_007;
    let scripts = Scripts::start();
    let window = Window::token_bucket(NonZeroMillis::DAY, Units::new(MAX_EXACT));
    let inverse = (1..DAY_MS).find(|x| LIMIT % DAY_MS * x % DAY_MS == 1).unwrap();
    let charge = |cost| [team_charge("tokens", window, LIMIT, cost)];
    for (at, elapsed) in (0..).zip([inverse, DAY_MS - inverse, DAY_MS, DAY_MS - 1, 3 * DAY_MS - inverse]) {
        let () = scripts.redis.ask(&["FLUSHALL"]);
        let mut model = Counter::new(&window, Units::new(LIMIT));
        let _ = model.at(Millis::new(BEGIN_MS)).reserve(Units::new(MAX_EXACT));
        assert!(scripts.reserve("x", &charge(MAX_EXACT), BEGIN_MS).0);
        let now_ms = BEGIN_MS + elapsed;
        let model = model.at(Millis::new(now_ms));
        for cost in [0, 1, LIMIT, LIMIT * 7 - 1, LIMIT * 1_000_000 + at, MAX_EXACT] {
            let state = scripts.peek(&charge(cost), now_ms)[0];
            assert_eq!(state.used, model.used(), "after {elapsed}");
            assert_eq!(state.reset, model.reset(), "after {elapsed}");
            let fit = model.fit(Units::new(LIMIT), Units::new(cost));
            assert_eq!(state.fit, fit, "{cost} after {elapsed}");
        }
    }
}
