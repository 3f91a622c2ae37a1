//! What Redis takes for a reservation and a settlement: batches through the sidecar's own calls, without Envoy.

use crate::processes::cpu_micros;
use crate::rounds::{Effort, scripts};
use crate::stacks::Fleet;
use crate::statistics::Spread;
use llm_rate_limit::quantity::{Millis, Units};
use llm_rate_limit::store::wire::{Charge, Reserve, Reserved, ScopeCharges, Settle, Settled};
use llm_rate_limit::window::Window;
use std::cell::Cell;
use std::fmt::Write as _;
use std::time::Instant;

/// Calls under way at a time: enough that Redis never waits.
const AT_A_TIME: usize = 4;

/// How many elements a call has, and for how many identities.
const CALLS: [(usize, usize); 3] = [(100, 1), (100, 64), (1, 64)];

/// The cost of each window when it is reserved, and in the end.
const WINDOWS: [(&str, u64, u64); 3] =
    [("requests", 1, 1), ("input_tokens", 120, 100), ("output_tokens", 512, 200)];

/// What one phase has taken for each of its elements.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Elements a second.
    pub rate: f64,
    /// Redis's processor time, in microseconds.
    pub redis: f64,
    /// The time of its scripts, in microseconds.
    pub scripts: f64,
    /// The sidecar's processor time, in microseconds.
    pub sidecar: f64,
}

/// The costs of reservations and settlements in such calls, in rounds.
#[derive(Debug)]
pub struct Costs {
    /// Elements of a call.
    pub batch: usize,
    /// How many identities.
    pub identities: usize,
    /// Of each round, reservations and settlements.
    pub rounds: Vec<[Cost; 2]>,
}

/// Measures all calls in turns.
pub fn measure(fleet: &Fleet, effort: Effort) -> Vec<Costs> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let elements = 4_000 * effort.turn.as_millis() as usize / 1_000;
    let next = Cell::new(0);
    let mut all = CALLS.map(|(batch, identities)| Costs { batch, identities, rounds: Vec::new() });
    for _ in 0..effort.rounds {
        for Costs { batch, identities, rounds } in &mut all {
            // Calls of one element take longer.
            let calls = elements / (*batch).max(10);
            rounds.push(runtime.block_on(round(fleet, (*batch, *identities), calls, &next)));
        }
    }
    all.into()
}

/// The median cost of reservations (0) or settlements (1).
pub fn median(costs: &Costs, phase: usize, figure: fn(&Cost) -> f64) -> f64 {
    Spread::of(costs.rounds.iter().map(|round| figure(&round[phase]))).median
}

/// Reserves in so many calls on each of some connections, then settles all.
async fn round(
    fleet: &Fleet,
    (batch, identities): (usize, usize),
    calls: usize,
    next: &Cell<usize>,
) -> [Cost; 2] {
    let numbers = || {
        let first = next.replace(next.get() + batch);
        (first..first + batch).collect::<Vec<usize>>()
    };
    let batches: Vec<Vec<Vec<usize>>> =
        (0..AT_A_TIME).map(|_| (0..calls).map(|_| numbers()).collect()).collect();
    let reserved = phase(fleet, &batches, async |numbers| {
        let elements: Vec<Reserve> = numbers.iter().map(|number| reservation(*number, identities)).collect();
        let answers = fleet.sidecar().reserve(&elements).await;
        assert!(answers.iter().all(|answer| matches!(answer, Reserved::Decided { admitted: true, .. })));
    })
    .await;
    let settled = phase(fleet, &batches, async |numbers| {
        let elements: Vec<Settle> = numbers.iter().map(|number| settlement(*number, identities)).collect();
        let answers = fleet.sidecar().settle(&elements).await;
        assert!(answers.iter().all(|answer| matches!(answer, Settled::Done { settled: true, .. })));
    })
    .await;
    [reserved, settled]
}

async fn phase(fleet: &Fleet, batches: &[Vec<Vec<usize>>], send: impl AsyncFn(&[usize])) -> Cost {
    let cpu = || [cpu_micros(fleet.redis.id()), cpu_micros(fleet.sidecar_id()), scripts(&fleet.redis)[1]];
    let (before, begin) = (cpu(), Instant::now());
    let connection = async |batches: &Vec<Vec<usize>>| {
        for batch in batches {
            send(batch).await;
        }
    };
    let [a, b, c, d] = batches else { panic!("{AT_A_TIME} connections") };
    tokio::join!(connection(a), connection(b), connection(c), connection(d));
    let seconds = begin.elapsed().as_secs_f64();
    let after = cpu();
    let elements = batches.iter().flatten().flatten().count() as f64;
    let [redis, sidecar, scripts] = [0, 1, 2].map(|at| (after[at] - before[at]) / elements);
    Cost { rate: elements / seconds, redis, scripts, sidecar }
}

fn reservation(number: usize, identities: usize) -> Reserve {
    Reserve {
        id: format!("alone-{number}"),
        charges: charges(number, identities, |(_, cost, _)| cost),
        ..Reserve::default()
    }
}

fn settlement(number: usize, identities: usize) -> Settle {
    Settle {
        id: format!("alone-{number}"),
        charges: charges(number, identities, |(_, _, cost)| cost),
        ..Settle::default()
    }
}

fn charges(number: usize, identities: usize, cost: fn((&str, u64, u64)) -> u64) -> Vec<ScopeCharges> {
    let identity: std::sync::Arc<str> = format!("{:064x}", number % identities).into();
    let charge = |window: &(&'static str, u64, u64)| Charge {
        identity: std::sync::Arc::clone(&identity),
        name: window.0.into(),
        window: Window::sliding(Millis::MINUTE.at_least_one()),
        limit: Units::new(1 << 50),
        cost: Units::new(cost(*window)),
        enforced: true,
        warn_at: None,
    };
    vec![ScopeCharges {
        scope: std::sync::Arc::clone(&identity),
        charges: WINDOWS.iter().map(charge).collect(),
    }]
}

/// Redis's processor time for each reservation and settlement where each call has one, in microseconds.
///
/// # Panics
/// If that was not measured.
pub fn alone(all: &[Costs]) -> [f64; 2] {
    let costs = all.iter().find(|costs| costs.batch == 1).unwrap();
    [0, 1].map(|phase| median(costs, phase, |cost| cost.redis))
}

/// The table of these costs.
pub fn report(all: &[Costs]) -> String {
    let mut text = format!(
        "## Redis\n\nReservations and settlements of three sliding windows through the sidecar's calls, {AT_A_TIME} at \
         a time, without Envoy. What one processor of Redis bears follows from its processor time.\n\n\
         | | elements of a call | identities | measured/s | Redis, processor µs | its scripts, by the clock, µs | \
         sidecar, processor µs | one processor of Redis bears, a second |\n|---|---|---|---|---|---|---|---|\n"
    );
    for costs in all {
        for (phase, name) in ["reservations", "settlements"].into_iter().enumerate() {
            let median = |figure| median(costs, phase, figure);
            let redis = median(|cost| cost.redis);
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {:.0} | {redis:.1} | {:.1} | {:.1} | {:.0} |",
                costs.batch,
                costs.identities,
                median(|cost| cost.rate),
                median(|cost| cost.scripts),
                median(|cost| cost.sidecar),
                1e6 / redis,
            );
        }
    }
    text
}
