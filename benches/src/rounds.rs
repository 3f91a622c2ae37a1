//! Turns and rounds. A round gives every gateway of every table one turn; a turn measures a load and then a connection
//! that is alone.

use crate::cases::{Case, Table};
use crate::load::Load;
use crate::processes::{cpu_micros, memory, own_cpu_micros};
use crate::stacks::{Stack, Stacks};
use crate::statistics::{self, Spread};
use llm_rate_limit_tests::redis::Redis;
use std::time::Duration;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds; odd, so that there is a median.
    pub rounds: usize,
    /// How long the load of a turn is measured.
    pub turn: Duration,
}

/// What a turn has found.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Requests a second.
    pub rate: f64,
    /// The median duration of a request under load, in microseconds.
    pub median: f64,
    /// The duration that 99 of 100 requests under load stay within, in microseconds.
    pub p99: f64,
    /// The median duration of a request that is alone, in microseconds.
    pub lone: f64,
    /// The processor time of a request in each process, in microseconds: Envoy, sidecar, Redis.
    pub cpu: [f64; 3],
    /// The processor time of clients and upstream for a request, in microseconds.
    pub driver: f64,
    /// Redis's time for a script, in microseconds, and its scripts for a request.
    pub scripts: [f64; 2],
    /// The memory of each process after the turn, in bytes.
    pub memory: [f64; 3],
}

/// A table's turns.
#[derive(Debug)]
pub struct Results {
    /// The table.
    pub table: Table,
    /// The turns of each case, in the table's order.
    pub turns: Vec<Vec<Turn>>,
}

impl Effort {
    /// The usual effort, or about a quarter of it.
    pub fn new(is_quick: bool) -> Self {
        let (rounds, millis) = if is_quick { (3, 700) } else { (7, 1_200) };
        Self { rounds, turn: Duration::from_millis(millis) }
    }
}

impl Turn {
    /// The processor time of a request in all processes, in microseconds.
    pub fn whole_cpu(&self) -> f64 {
        self.cpu.iter().sum()
    }
}

impl Results {
    /// The turns of a case; `None` if the table has no such case.
    pub fn of(&self, case: &Case) -> Option<&[Turn]> {
        let at = self.table.cases.iter().position(|known| known == case)?;
        Some(&self.turns[at])
    }

    /// A figure of each turn of a case, over that of its baseline in the same round.
    pub fn ratio(&self, at: usize, figure: fn(&Turn) -> f64) -> Spread {
        self.ratio_to(0, at, figure)
    }

    /// A figure of each turn of a case, over that of another case in the same round.
    pub fn ratio_to(&self, baseline: usize, at: usize, figure: fn(&Turn) -> f64) -> Spread {
        let pairs = self.turns[at].iter().zip(&self.turns[baseline]);
        Spread::of(pairs.map(|(turn, base)| figure(turn) / figure(base)))
    }

    /// A figure of each turn of a case, less that of its baseline in the same round.
    pub fn difference(&self, at: usize, figure: fn(&Turn) -> f64) -> Spread {
        let pairs = self.turns[at].iter().zip(&self.turns[0]);
        Spread::of(pairs.map(|(turn, base)| figure(turn) - figure(base)))
    }

    /// A figure of a case.
    pub fn figure(&self, at: usize, figure: fn(&Turn) -> f64) -> Spread {
        Spread::of(self.turns[at].iter().map(figure))
    }
}

/// Measures all `tables`, round after round.
pub fn measure(stacks: &mut Stacks, tables: Vec<Table>, effort: Effort) -> Vec<Results> {
    let mut results: Vec<Results> = tables
        .into_iter()
        .map(|table| Results { turns: vec![Vec::new(); table.cases.len()], table })
        .collect();
    let rounds = if results.is_empty() { 0 } else { effort.rounds };
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for Results { table, turns } in &mut results {
            for (case, turns) in table.cases.iter().zip(turns) {
                let stack = stacks.get(case.kind, case.workers, case.logs);
                turns.push(turn(stack, &table.load(case), effort.turn));
            }
        }
    }
    results
}

/// One turn of a gateway: `load` for `duration`, then the same from one connection for a quarter of that.
pub fn turn(stack: &Stack, load: &Load, duration: Duration) -> Turn {
    let (processes, redis) = (&stack.processes, stack.redis());
    let snapshot = || {
        let cpu: Vec<f64> = processes.iter().map(|id| cpu_micros(*id)).collect();
        (cpu, own_cpu_micros(), redis.map_or([0.0; 2], scripts))
    };
    let address = stack.envoy.address();
    let under_load = load.run(address, duration / 6, duration, snapshot);
    let lone = Load { connections: 1, ..load.clone() };
    let alone = lone.run(address, duration / 30, duration / 4, || ());
    let requests = under_load.micros.len() as f64;
    let [(cpu_before, own_before, scripts_before), (cpu_after, own_after, scripts_after)] =
        &under_load.snapshots;
    let (mut cpu, mut resident) = ([0.0; 3], [0.0; 3]);
    for (at, id) in processes.iter().enumerate() {
        cpu[at] = (cpu_after[at] - cpu_before[at]) / requests;
        resident[at] = memory(*id);
    }
    let [calls, micros] = [0, 1].map(|at| scripts_after[at] - scripts_before[at]);
    Turn {
        rate: requests / under_load.seconds,
        median: statistics::at(&under_load.micros, 0.5),
        p99: statistics::at(&under_load.micros, 0.99),
        lone: statistics::at(&alone.micros, 0.5),
        cpu,
        driver: (own_after - own_before) / requests,
        scripts: [if calls > 0.0 { micros / calls } else { 0.0 }, calls / requests],
        memory: resident,
    }
}

/// The median of a figure of some turns.
pub fn median(turns: &[Turn], figure: impl Fn(&Turn) -> f64) -> f64 {
    Spread::of(turns.iter().map(figure)).median
}

/// How many scripts Redis has run, and the microseconds that it has taken for them.
pub fn scripts(redis: &Redis) -> [f64; 2] {
    let info: String = redis.ask(&["INFO", "commandstats"]);
    let mut sums = [0.0; 2];
    for line in info.lines() {
        // cmdstat_evalsha:calls=12,usec=345,usec_per_call=28.75,…
        let Some((name, figures)) = line.split_once(':') else { continue };
        if !["cmdstat_eval", "cmdstat_evalsha", "cmdstat_fcall"].contains(&name) {
            continue;
        }
        for (sum, figure) in sums.iter_mut().zip(figures.split(',')) {
            *sum += figure.split_once('=').and_then(|(_, number)| number.parse().ok()).unwrap_or(0.0);
        }
    }
    sums
}
