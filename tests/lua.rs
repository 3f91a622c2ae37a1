//! The scripts of `lua/` on a real Redis: the same answers as the arithmetic in Rust, and keys that keep to what
//! is promised of them. The time is the tests' own unless a test is about Redis's clock.

use llm_rate_limit::window::sliding::{Counter, Shape};
use llm_rate_limit::window::{Algorithm, Fit, Window};
use llm_rate_limit::wire::{Charge, IfAbsent, WindowState};
use llm_rate_limit_sidecar::call::{self, Call, MOST_UNITS};
use llm_rate_limit_sidecar::link::{Link, Times};
use llm_rate_limit_sidecar::metrics::Metrics;
use llm_rate_limit_sidecar::store::Store;
use llm_rate_limit_sidecar::topology::Topology;
use llm_rate_limit_tests::redis::Redis;
use proptest::prelude::*;
use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// When histories begin, in milliseconds since the epoch.
const BEGIN_MS: u64 = 1_700_000_000_000;

/// A Redis and the sidecar's own way to call scripts on it.
struct Scripts {
    redis: Redis,
    store: Store,
    runtime: Runtime,
}

impl Scripts {
    fn start() -> Self {
        let redis = Redis::start();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let store = runtime.block_on(async {
            let times = Times { answer: Duration::from_secs(10), connect: Duration::from_secs(10) };
            let metrics = Arc::new(Metrics::new());
            let topology = Topology::parse(&redis.url(), times.answer, times.connect).unwrap();
            let link = Link::start(topology, times, 64, Arc::clone(&metrics));
            let deadline = Instant::now() + Duration::from_secs(10);
            while link.ping().await.is_err() {
                assert!(Instant::now() < deadline, "no connection to Redis");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Store::new(link, metrics)
        });
        Self { redis, store, runtime }
    }

    fn run(&self, call: Call) -> Result<Vec<i64>, String> {
        self.runtime.block_on(self.store.run(&[call])).unwrap().remove(0)
    }

    fn reserve(&self, id: &str, charges: &[Charge], now_ms: u64) -> (bool, Vec<WindowState>) {
        let reply = self.run(call::groups(id, charges).unwrap()[0].reserve(id, now_ms)).unwrap();
        (reply[0] == 1, call::window_states(&reply[1..]).unwrap())
    }

    fn settle(&self, id: &str, charges: &[Charge], if_absent: Option<IfAbsent>, now_ms: u64) -> bool {
        self.run(call::groups(id, charges).unwrap()[0].settle(id, if_absent, now_ms)).unwrap() == [1]
    }

    fn peek(&self, charges: &[Charge], now_ms: u64) -> Vec<WindowState> {
        let reply = self.run(call::groups("peek", charges).unwrap()[0].peek(now_ms)).unwrap();
        call::window_states(&reply).unwrap()
    }

    fn keys(&self) -> Vec<String> {
        self.redis.ask(&["KEYS", "*"])
    }
}

fn window(length_ms: u64, segments: u32) -> Window {
    let algorithm = Algorithm::SlidingWindow { segments: NonZeroU32::new(segments).unwrap() };
    Window { length_ms: NonZeroU64::new(length_ms).unwrap(), algorithm }
}

/// A charge to a counter of one identity, all under one scope.
fn charge(name: &str, window: Window, limit: u64, cost: u64) -> Charge {
    Charge {
        scope: "team".to_owned(),
        identity: "key".to_owned(),
        name: name.to_owned(),
        window,
        limit,
        cost,
        enforced: true,
    }
}

fn minute(limit: u64, cost: u64) -> Charge {
    charge("requests", window(60_000, 60), limit, cost)
}

/// What the scripts must answer: the counters of `src/window/`, and what is remembered of each reservation.
struct Model {
    windows: Vec<(Shape, u64, Counter)>,
    records: HashMap<u8, Record>,
}

enum Record {
    /// For each window what was charged: segment and amount.
    Open(Vec<Vec<(u64, u64)>>),
    Settled,
}

impl Model {
    fn new(limits: &[(Window, u64)]) -> Self {
        let windows = limits.iter().map(|(window, limit)| {
            let Algorithm::SlidingWindow { segments } = window.algorithm else { panic!("{window:?}") };
            (Shape::new(window.length_ms, segments), *limit, Counter::default())
        });
        Self { windows: windows.collect(), records: HashMap::new() }
    }

    fn advance(&mut self, now_ms: u64) {
        for (shape, _, counter) in &mut self.windows {
            counter.advance(*shape, now_ms);
        }
    }

    fn fits(&self, costs: &[u64], now_ms: u64) -> Vec<Fit> {
        self.windows
            .iter()
            .zip(costs)
            .map(|((shape, limit, counter), cost)| counter.fit(*shape, *limit, *cost, now_ms))
            .collect()
    }

    fn states(&self, fits: &[Fit], now_ms: u64) -> Vec<WindowState> {
        let state = |((shape, _, counter), fit): (&(Shape, u64, Counter), &Fit)| WindowState {
            used: counter.used(),
            reset_ms: counter.reset_ms(*shape, now_ms),
            retry_after_ms: WindowState::retry_after(*fit),
        };
        self.windows.iter().zip(fits).map(state).collect()
    }

    fn reserve(&mut self, id: u8, costs: &[u64], now_ms: u64) -> (bool, Vec<WindowState>) {
        self.advance(now_ms);
        let mut fits = self.fits(costs, now_ms);
        let known = self.records.contains_key(&id);
        let admitted = known || fits.iter().all(|fit| *fit == Fit::Now);
        if admitted {
            fits.fill(Fit::Now);
        }
        if admitted && !known {
            let charged = self.windows.iter_mut().zip(costs).map(|((shape, _, counter), cost)| {
                let segment = counter.charge(*shape, *cost, now_ms);
                if *cost > 0 { vec![(segment, *cost)] } else { vec![] }
            });
            self.records.insert(id, Record::Open(charged.collect()));
        }
        (admitted, self.states(&fits, now_ms))
    }

    fn settle(&mut self, id: u8, costs: &[u64], if_absent: Option<IfAbsent>, now_ms: u64) -> bool {
        let charged = match (self.records.remove(&id), if_absent) {
            (Some(Record::Open(charged)), _) => charged,
            (None, Some(IfAbsent::Charge)) => vec![vec![]; costs.len()],
            (None, None) => return false,
            (Some(Record::Settled), _) => {
                self.records.insert(id, Record::Settled);
                return false;
            }
        };
        self.advance(now_ms);
        for (((shape, _, counter), cost), parts) in self.windows.iter_mut().zip(costs).zip(charged) {
            let total: u64 = parts.iter().map(|(_, amount)| amount).sum();
            counter.charge(*shape, cost.saturating_sub(total), now_ms);
            let mut excess = total.saturating_sub(*cost);
            for (segment, amount) in parts.into_iter().rev() {
                counter.refund(segment, amount.min(excess));
                excess -= amount.min(excess);
            }
        }
        if if_absent.is_some() {
            self.records.insert(id, Record::Settled);
        }
        true
    }

    fn peek(&self, costs: &[u64], now_ms: u64) -> Vec<WindowState> {
        let mut now = Self { windows: self.windows.clone(), records: HashMap::new() };
        now.advance(now_ms);
        now.states(&now.fits(costs, now_ms), now_ms)
    }
}

/// One step of a history. Costs are in hundredths of the limits; some are larger.
#[derive(Clone, Debug)]
enum Step {
    Reserve { id: u8, costs: [u64; 3] },
    Settle { id: u8, costs: [u64; 3], if_absent: bool },
    Peek { costs: [u64; 3] },
    Pass { ms: i64 },
}

fn a_step() -> impl Strategy<Value = Step> {
    let cost = || prop_oneof![3 => Just(0_u64), 10 => 1..30_u64, 3 => 30..=100_u64, 1 => 101..130_u64];
    let costs = || [cost(), cost(), cost()];
    let ms = prop_oneof![
        6 => 0..3_000_i64,
        3 => 3_000..40_000_i64,
        1 => 40_000..400_000_i64,
        2 => -4_000..0_i64,
    ];
    prop_oneof![
        8 => (0..12_u8, costs()).prop_map(|(id, costs)| Step::Reserve { id, costs }),
        5 => (0..12_u8, costs(), any::<bool>())
            .prop_map(|(id, costs, if_absent)| Step::Settle { id, costs, if_absent }),
        1 => costs().prop_map(|costs| Step::Peek { costs }),
        5 => ms.prop_map(|ms| Step::Pass { ms }),
    ]
}

/// Windows of at least half a minute: in Redis's own time no key may expire during a history.
fn a_limit() -> impl Strategy<Value = (Window, u64)> {
    let segments = prop_oneof![Just(1), Just(2), Just(7), Just(60), Just(250)];
    (30_000..120_000_u64, segments, 0..1_000_u64)
        .prop_map(|(length, segments, limit)| (window(length, segments), limit))
}

/// Runs a history on the scripts and on the model and compares every answer.
fn compare(scripts: &Scripts, limits: &[(Window, u64)], steps: &[Step]) -> Result<(), TestCaseError> {
    let () = scripts.redis.ask(&["FLUSHALL"]);
    let mut model = Model::new(limits);
    let mut now_ms = BEGIN_MS;
    let costs_of = |hundredths: &[u64; 3]| -> Vec<u64> {
        limits.iter().zip(hundredths).map(|((_, limit), cost)| (limit * cost).div_ceil(100)).collect()
    };
    let charges_of = |costs: &[u64]| -> Vec<Charge> {
        let named = limits.iter().zip(costs).zip(["requests", "input_tokens", "output_tokens"]);
        named.map(|(((window, limit), cost), name)| charge(name, *window, *limit, *cost)).collect()
    };
    for step in steps {
        match step {
            Step::Reserve { id, costs } => {
                let costs = costs_of(costs);
                let answer = scripts.reserve(&id.to_string(), &charges_of(&costs), now_ms);
                prop_assert_eq!(answer, model.reserve(*id, &costs, now_ms), "{:?} at {}", step, now_ms);
            }
            Step::Settle { id, costs, if_absent } => {
                let costs = costs_of(costs);
                let if_absent = if_absent.then_some(IfAbsent::Charge);
                let answer = scripts.settle(&id.to_string(), &charges_of(&costs), if_absent, now_ms);
                prop_assert_eq!(
                    answer,
                    model.settle(*id, &costs, if_absent, now_ms),
                    "{:?} at {}",
                    step,
                    now_ms
                );
            }
            Step::Peek { costs } => {
                let costs = costs_of(costs);
                let answer = scripts.peek(&charges_of(&costs), now_ms);
                prop_assert_eq!(answer, model.peek(&costs, now_ms), "{:?} at {}", step, now_ms);
            }
            Step::Pass { ms } => now_ms = now_ms.saturating_add_signed(*ms),
        }
    }
    let nothing = vec![0; limits.len()];
    prop_assert_eq!(scripts.peek(&charges_of(&nothing), now_ms), model.peek(&nothing, now_ms), "at the end");
    for key in scripts.keys() {
        prop_assert!(key.starts_with("llmrl:{team}:"), "{} has another tag", key);
        prop_assert!(scripts.redis.ask::<i64>(&["PTTL", &key]) > 0, "{} does not expire", key);
    }
    for charge in charges_of(&nothing) {
        let Algorithm::SlidingWindow { segments } = charge.window.algorithm else { panic!("{charge:?}") };
        // The segments of the window, the one that is leaving, and the three fields of the whole.
        let most = u64::from(segments.get()) + 4;
        let fields: u64 = scripts.redis.ask(&["HLEN", &charge.key()]);
        prop_assert!(fields <= most, "{} has {} fields", charge.key(), fields);
    }
    Ok(())
}

#[test]
fn scripts_and_model_agree_on_every_history() {
    let scripts = Scripts::start();
    let limits = prop::collection::vec(a_limit(), 1..=3);
    let steps = prop::collection::vec(a_step(), 1..80);
    let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(limits in limits, steps in steps)| compare(&scripts, &limits, &steps)?);
}

#[test]
fn the_largest_numbers_are_counted_without_gaps() {
    let scripts = Scripts::start();
    let (admitted, states) = scripts.reserve("a", &[minute(MOST_UNITS, MOST_UNITS)], BEGIN_MS);
    assert!(admitted);
    assert_eq!(states[0].used, MOST_UNITS);
    assert!(scripts.settle("a", &[minute(MOST_UNITS, MOST_UNITS - 1)], None, BEGIN_MS));
    let (admitted, states) = scripts.reserve("b", &[minute(MOST_UNITS, 2)], BEGIN_MS);
    assert!(!admitted);
    assert_eq!(states[0].used, MOST_UNITS - 1);
    assert!(scripts.reserve("c", &[minute(MOST_UNITS, 1)], BEGIN_MS).0);
}

#[test]
fn every_key_lives_as_long_as_what_it_holds_and_then_expires() {
    let scripts = Scripts::start();
    // 6001 ms in 6000 segments of 2 ms: what is charged stays for twice the window's length. Redis's clock, because
    // expiry follows it.
    let uneven = charge("uneven", window(6_001, 6_000), 10, 1);
    let (_, states) = scripts.reserve("a", &[minute(10, 1), uneven.clone()], 0);
    let left = |key: &str| scripts.redis.ask::<i64>(&["PTTL", key]);
    // The state was read first, so it may only have shrunk since.
    assert!(states[1].reset_ms > 11_000, "{states:?}");
    assert!(
        left(&uneven.key()) > i64::try_from(states[1].reset_ms).unwrap() - 500,
        "{}",
        left(&uneven.key())
    );
    assert!((60_000..=62_000).contains(&left(&minute(10, 1).key())));
    assert!((60_000..=62_000).contains(&left("llmrl:{team}:key")));
    assert!((599_000..=600_000).contains(&left("llmrl:{team}:reservation:a")));
    let day = charge("day", window(86_400_000, 60), 10, 1);
    assert!(scripts.reserve("b", &[day], 0).0);
    assert!((86_399_000..=86_400_000).contains(&left("llmrl:{team}:reservation:b")));
    assert!(scripts.settle("c", &[minute(10, 1)], Some(IfAbsent::Charge), 0));
    assert!((599_000..=600_000).contains(&left("llmrl:{team}:reservation:c")));
    assert!(left("llmrl:{team}:key") > 86_400_000, "the index is kept as long as its longest window");
    assert!(scripts.keys().iter().all(|key| left(key) > 0));
}

#[test]
fn a_counter_holds_a_field_for_each_segment_whatever_the_rate() {
    let scripts = Scripts::start();
    let one = minute(1_000_000, 1);
    for at in 0..2_000_u64 {
        assert!(scripts.reserve(&at.to_string(), std::slice::from_ref(&one), BEGIN_MS + at * 73).0);
    }
    let fields: u64 = scripts.redis.ask(&["HLEN", &one.key()]);
    assert!((60..=64).contains(&fields), "{fields}");
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
fn a_settlement_that_is_repeated_because_its_answer_was_lost_charges_once() {
    let scripts = Scripts::start();
    assert!(scripts.reserve("a", &[minute(10, 4)], BEGIN_MS).0);
    assert!(scripts.settle("a", &[minute(10, 6)], Some(IfAbsent::Charge), BEGIN_MS));
    assert!(!scripts.settle("a", &[minute(10, 6)], Some(IfAbsent::Charge), BEGIN_MS));
    assert_eq!(scripts.peek(&[minute(10, 0)], BEGIN_MS)[0].used, 6);
}

#[test]
fn a_reservation_that_is_repeated_is_admitted_and_charged_once() {
    let scripts = Scripts::start();
    for _ in 0..2 {
        let (admitted, states) = scripts.reserve("a", &[minute(10, 9)], BEGIN_MS);
        assert!(admitted);
        assert_eq!((states[0].used, states[0].retry_after_ms), (9, 0));
    }
}

#[test]
fn a_settlement_of_other_windows_is_an_error_and_changes_nothing() {
    let scripts = Scripts::start();
    let two = [minute(10, 4), charge("tokens", window(60_000, 60), 100, 50)];
    assert!(scripts.reserve("a", &two, BEGIN_MS).0);
    let one = call::groups("a", &two[..1]).unwrap()[0].settle("a", None, BEGIN_MS);
    let why = scripts.run(one).unwrap_err();
    assert!(why.contains("the reservation has 2 windows, the settlement 1"), "{why}");
    assert_eq!(scripts.peek(&two, BEGIN_MS).iter().map(|state| state.used).collect::<Vec<_>>(), [4, 50]);
}

#[test]
fn one_window_that_refuses_keeps_all_from_being_charged() {
    let scripts = Scripts::start();
    let full = charge("tokens", window(60_000, 60), 100, 101);
    let (admitted, states) = scripts.reserve("a", &[minute(10, 1), full], BEGIN_MS);
    assert!(!admitted);
    assert_eq!(
        states.iter().map(|state| (state.used, state.retry_after_ms)).collect::<Vec<_>>(),
        [(0, 0), (0, -1)]
    );
    assert!(scripts.keys().is_empty(), "a refusal leaves no trace: {:?}", scripts.keys());
}

#[test]
fn scripts_that_redis_has_forgotten_are_sent_again() {
    let scripts = Scripts::start();
    assert!(scripts.reserve("a", &[minute(10, 1)], BEGIN_MS).0);
    let () = scripts.redis.ask(&["SCRIPT", "FLUSH"]);
    let charges = [minute(10, 1)];
    let calls: Vec<Call> =
        ["b", "c"].map(|id| call::groups(id, &charges).unwrap()[0].reserve(id, BEGIN_MS)).into();
    let answers = scripts.runtime.block_on(scripts.store.run(&calls)).unwrap();
    assert_eq!(answers.iter().map(|answer| answer.as_ref().unwrap()[1]).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn the_index_lists_what_was_charged_and_where() {
    let scripts = Scripts::start();
    let charges = [minute(10, 1), charge("gpt-4*/requests", window(90_000, 30), 7, 2)];
    assert!(scripts.reserve("a", &charges, BEGIN_MS).0);
    // A settlement does not know the limit and must not replace it; what it enters itself is all there is.
    let unknown = [minute(0, 3), charge("gpt-4*/requests", window(90_000, 30), 0, 2)];
    assert!(scripts.settle("a", &unknown, None, BEGIN_MS + 5_000));
    let index: HashMap<String, String> = scripts.redis.ask(&["HGETALL", "llmrl:{team}:key"]);
    let expected = [
        ("requests:1m", "sliding_window 60000 60 10"),
        ("gpt-4*/requests:90s-30", "sliding_window 90000 30 7"),
    ];
    assert_eq!(index, expected.map(|(field, entry)| (field.to_owned(), entry.to_owned())).into());
}

#[test]
fn what_has_left_the_window_is_not_given_back() {
    let scripts = Scripts::start();
    assert!(scripts.reserve("a", &[minute(10, 5)], BEGIN_MS).0);
    assert!(scripts.reserve("b", &[minute(10, 2)], BEGIN_MS + 30_000).0);
    // The settlement itself is what finds that the first charge has left.
    assert!(scripts.settle("a", &[minute(10, 0)], None, BEGIN_MS + 70_000));
    assert_eq!(scripts.peek(&[minute(10, 0)], BEGIN_MS + 70_000)[0].used, 2);
}

#[test]
fn settling_after_a_reset_gives_back_at_most_what_is_there() {
    let scripts = Scripts::start();
    assert!(scripts.reserve("a", &[minute(10, 8)], BEGIN_MS).0);
    let () = scripts.redis.ask(&["DEL", &minute(10, 8).key()]);
    assert!(scripts.reserve("b", &[minute(10, 3)], BEGIN_MS).0);
    assert!(scripts.settle("a", &[minute(10, 0)], None, BEGIN_MS));
    assert_eq!(scripts.peek(&[minute(10, 0)], BEGIN_MS)[0].used, 0);
}
