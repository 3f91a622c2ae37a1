//! What the figures should be, beside what they are.

use crate::beginnings::{self, Beginning};
use crate::cases::{self, Case};
use crate::rounds::{Results, Turn};
use crate::stacks::{Key, Kind};
use std::path::Path;

/// A goal, and whether it is met.
#[derive(Debug)]
pub struct Goal {
    /// The figure.
    pub what: String,
    /// The bound.
    pub wanted: String,
    /// What was measured.
    pub found: String,
    /// Whether that is within the bound.
    pub is_met: bool,
}

/// A case of the main table, the least share of bare Envoy's throughput, and the most processor time of the whole
/// stack, in bare Envoy's.
const MAIN: [(Kind, Key, f64, f64); 5] = [
    (Kind::Local, Key::Unlimited, 0.78, 1.25),
    (Kind::Local, Key::Requests, 0.60, 1.7),
    (Kind::Local, Key::All, 0.55, 1.9),
    (Kind::Redis, Key::Requests, 0.50, 2.3),
    (Kind::Redis, Key::All, 0.42, 3.0),
];

/// The least share of the floor's throughput.
const OF_FLOOR: [(Kind, f64); 2] = [(Kind::Local, 0.85), (Kind::Redis, 0.65)];

/// What a request that is alone may take beyond bare Envoy, in microseconds.
const LONE: [(Kind, f64); 2] = [(Kind::Local, 60.0), (Kind::Redis, 250.0)];

/// The most that the slowest of a hundred requests may take under load, in bare Envoy's.
const SLOWEST: f64 = 2.0;

/// The least throughput over the limit, as a share of that of a filter that only refuses.
const OVER: f64 = 0.95;

/// The most time of a worker for a prompt of 1 MB, in milliseconds.
const LARGE_PROMPT: f64 = 25.0;

/// The goals that these results have figures for.
pub fn of(results: &[Results], beginnings: &[Beginning], wasm: &Path) -> Vec<Goal> {
    let mut goals = Vec::new();
    if let Some(main) = table(results, cases::MAIN) {
        for (kind, key, rate, cpu) in MAIN {
            let Some(at) = place(main, kind, key) else { continue };
            let name = main.table.cases[at].name();
            goals.push(at_least(
                format!("{name}: throughput, of bare Envoy's"),
                rate,
                main.ratio(at, rate_of).median,
            ));
            let found = main.ratio(at, Turn::whole_cpu).median;
            goals.push(at_most(format!("{name}: processor time, of bare Envoy's"), cpu, found, ""));
        }
        if let Some(floor) = place(main, Kind::Floor, Key::All) {
            for (kind, wanted) in OF_FLOOR {
                let Some(at) = place(main, kind, Key::All) else { continue };
                let what = format!("{}: throughput, of the floor's", main.table.cases[at].name());
                goals.push(at_least(what, wanted, main.ratio_to(floor, at, rate_of).median));
            }
        }
        for (kind, wanted) in LONE {
            let Some(at) = place(main, kind, Key::All) else { continue };
            let name = main.table.cases[at].name();
            let found = main.difference(at, |turn| turn.lone).median;
            goals.push(at_most(format!("{name}: a lone request, beyond bare Envoy"), wanted, found, " µs"));
            let found = main.ratio(at, |turn| turn.p99).median;
            goals.push(at_most(format!("{name}: p99 under load, of bare Envoy's"), SLOWEST, found, ""));
        }
    }
    if let Some(over) = table(results, cases::OVER) {
        for at in 1..over.table.cases.len() {
            let what = format!("{}: throughput, of a filter that refuses", over.table.cases[at].name());
            goals.push(at_least(what, OVER, over.ratio(at, rate_of).median));
        }
    }
    let large = table(results, cases::LARGE);
    if let Some((large, at)) = large.and_then(|large| Some((large, place(large, Kind::Local, Key::All)?))) {
        let found = large.difference(at, |turn| turn.cpu[0]).median / 1e3;
        goals.push(at_most("a prompt of 1 MB, of a worker's time".to_owned(), LARGE_PROMPT, found, " ms"));
    }
    let memory = |kind, workers| beginnings::find(beginnings, kind, workers).map(|it| it.memory.median / 1e6);
    if let Some(start) = beginnings::find(beginnings, Kind::Local, 1) {
        goals.push(at_most("until it listens, one worker".to_owned(), 1.0, start.seconds.median, " s"));
    }
    if let (Some(bare), Some(one)) = (memory(Kind::Bare, 1), memory(Kind::Local, 1)) {
        goals.push(at_most("memory beyond bare Envoy, one worker".to_owned(), 90.0, one - bare, " MB"));
        if let (Some(bare_four), Some(four)) = (memory(Kind::Bare, 4), memory(Kind::Local, 4)) {
            let each = ((four - bare_four) - (one - bare)) / 3.0;
            goals.push(at_most("the same for each further worker".to_owned(), 15.0, each, " MB"));
        }
    }
    let size = std::fs::metadata(wasm).map_or(f64::NAN, |file| file.len() as f64) / 1e6;
    goals.push(at_most("the filter's file".to_owned(), 11.0, size, " MB"));
    goals
}

fn rate_of(turn: &Turn) -> f64 {
    turn.rate
}

/// The results of the table with this title.
pub fn table<'a>(results: &'a [Results], title: &str) -> Option<&'a Results> {
    results.iter().find(|results| results.table.title == title)
}

/// The place of a case with this filter and key in a table.
fn place(results: &Results, kind: Kind, key: Key) -> Option<usize> {
    results.table.cases.iter().position(|case: &Case| case.kind == kind && case.key == key)
}

fn at_least(what: String, wanted: f64, found: f64) -> Goal {
    Goal {
        what,
        wanted: format!("at least {wanted:.2}"),
        found: format!("{found:.2}"),
        is_met: found >= wanted,
    }
}

fn at_most(what: String, wanted: f64, found: f64, unit: &str) -> Goal {
    let digits = if unit.is_empty() || unit == " s" { 2 } else { 0 };
    Goal {
        what,
        wanted: format!("at most {wanted:.digits$}{unit}"),
        found: format!("{found:.digits$}{unit}"),
        is_met: found <= wanted,
    }
}
