//! How cost grows: with identities, windows, keys and workers.

use crate::cases::{CONNECTIONS, Shape};
use crate::footprint::{self, Parts};
use crate::load::Load;
use crate::processes::memory;
use crate::rounds::{self, Effort, Turn};
use crate::stacks::{Kind, Stack, Stacks};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const SMALL: Shape = Shape::json(100);

/// A limit that no benchmark reaches.
const PLENTY: u64 = 1_000_000_000_000;

/// The time that Envoy gets to write down what a load has left.
const SETTLES_WITHIN: Duration = Duration::from_millis(1_500);

/// The tables of growth, in Markdown.
pub fn measure(stacks: &Stacks, effort: Effort) -> String {
    let effort = Effort { rounds: effort.rounds.min(3), ..effort };
    eprintln!("growth: identities and windows");
    let identities = identities(stacks, effort);
    let windows = windows(stacks, effort);
    eprintln!("growth: keys");
    let (keys, key) = keys(stacks, effort);
    eprintln!("growth: workers");
    let (workers, [base, worker]) = workers(stacks, effort);
    eprintln!("growth: identities of default, and streams");
    let (strangers, identity) = footprint::strangers(stacks);
    let (streams, stream) = footprint::streams(stacks);
    let parts = Parts { base, worker, key, identity, stream };
    let tables = [identities, windows, keys, workers, strangers, streams];
    format!("{}\n{}", footprint::formula(&parts), tables.join("\n"))
}

/// Limits on requests, input, output and all tokens.
pub(crate) fn all() -> Value {
    json!({"rpm": PLENTY, "tpm": PLENTY, "input_tpm": PLENTY, "output_tpm": PLENTY})
}

/// A load from so many identities of the configuration.
pub(crate) fn load(identities: usize) -> Load {
    let requests: Vec<_> =
        (0..identities).map(|identity| SMALL.request(&format!("key-{identity}"))).collect();
    Load { connections: CONNECTIONS, requests: requests.into(), status: 200 }
}

/// A configuration of so many keys, each with these limits.
pub(crate) fn keys_of(number: usize, limits: &Value) -> Value {
    let keys = (0..number).map(|key| {
        let mut entry = limits.clone();
        entry["key"] = json!(format!("key-{key}"));
        entry
    });
    json!({"keys": keys.collect::<Vec<_>>(), "default": "unlimited"})
}

/// Measures some gateways in turns, each with its load.
fn measured(gateways: &[(&Stack, Load)], effort: Effort) -> Vec<Vec<Turn>> {
    let mut turns: Vec<Vec<Turn>> = vec![Vec::new(); gateways.len()];
    for _ in 0..effort.rounds {
        for ((stack, load), turns) in gateways.iter().zip(&mut turns) {
            turns.push(rounds::turn(stack, load, effort.turn));
        }
    }
    turns
}

/// The heading and first lines of a table.
fn heading(title: &str, about: &str, first: &str) -> String {
    format!(
        "### {title}\n\n{about}\n\n| {first} | store | requests/s | lone p50, µs | Envoy, processor µs | \
         sidecar | Redis | Redis, µs a script |\n|---|---|---|---|---|---|---|---|\n"
    )
}

fn row(text: &mut String, first: &str, store: &str, turns: &[Turn]) {
    let optional = |micros: f64| if micros == 0.0 { String::new() } else { format!("{micros:.1}") };
    let [envoy, sidecar, redis] = [0, 1, 2].map(|at| optional(rounds::median(turns, |turn| turn.cpu[at])));
    let _ = writeln!(
        text,
        "| {first} | {store} | {:.0} | {:.0} | {envoy} | {sidecar} | {redis} | {} |",
        rounds::median(turns, |turn| turn.rate),
        rounds::median(turns, |turn| turn.lone),
        optional(rounds::median(turns, |turn| turn.scripts[0]))
    );
}

fn identities(stacks: &Stacks, effort: Effort) -> String {
    let mut text = heading(
        "Identities",
        "All token limits; 32 connections send for so many identities in turn.",
        "identities",
    );
    let configuration = keys_of(64, &all());
    for kind in [Kind::Local, Kind::Redis] {
        let stack = stacks.limiter(kind, 1, configuration.clone());
        let numbers = [1, 4, 16, 64];
        let gateways: Vec<_> = numbers.iter().map(|number| (&stack, load(*number))).collect();
        for (number, turns) in numbers.iter().zip(measured(&gateways, effort)) {
            row(&mut text, &number.to_string(), kind.name(), &turns);
        }
    }
    text
}

fn windows(stacks: &Stacks, effort: Effort) -> String {
    let mut text = heading(
        "Windows",
        "A key with so many windows, on requests, input, output and all tokens in turn, each of another length from a \
         minute on.",
        "windows",
    );
    let metrics = ["requests", "input_tokens", "output_tokens", "total_tokens"];
    for kind in [Kind::Local, Kind::Redis] {
        for number in [1, 4, 16, 64, 200] {
            let window = |at: usize| {
                let length = format!("{}s", 60 + at / 4);
                json!({"metric": metrics[at % 4], "limit": PLENTY, "window": length})
            };
            let windows: Vec<Value> = (0..number).map(window).collect();
            let stack = stacks.limiter(kind, 1, keys_of(1, &json!({"windows": windows})));
            let turns = &measured(&[(&stack, load(1))], effort)[0];
            row(&mut text, &number.to_string(), kind.name(), turns);
        }
    }
    text
}

/// The table of keys, and the bytes of a key whatever the number of workers, and in each worker.
fn keys(stacks: &Stacks, effort: Effort) -> (String, [f64; 2]) {
    let mut text = String::from(
        "### Keys\n\nA configuration with so many keys, each with all token limits.\n\n\
         | keys | workers | ready after, s | memory, MB | requests/s |\n|---|---|---|---|---|\n",
    );
    let mut taken = Vec::new();
    for workers in [1, 2] {
        let numbers: &[usize] =
            if workers == 1 { &[10, 100, 1_000, 10_000, 100_000] } else { &[10, 100_000] };
        for number in numbers {
            let begin = Instant::now();
            let stack = stacks.limiter(Kind::Local, workers, keys_of(*number, &all()));
            let seconds = begin.elapsed().as_secs_f64();
            std::thread::sleep(SETTLES_WITHIN);
            let bytes = memory(stack.envoy.id());
            let turns = &measured(&[(&stack, load((*number).min(64)))], effort)[0];
            let rate = rounds::median(turns, |turn| turn.rate);
            let _ =
                writeln!(text, "| {number} | {workers} | {seconds:.2} | {:.0} | {rate:.0} |", bytes / 1e6);
            taken.push((*number as f64, bytes));
        }
    }
    let slope = |few: (f64, f64), many: (f64, f64)| (many.1 - few.1) / (many.0 - few.0);
    let [one, two] = [slope(taken[0], taken[4]), slope(taken[5], taken[6])];
    (text, [one - (two - one), two - one])
}

/// The table of workers, and the bytes of Envoy without any, and of each.
fn workers(stacks: &Stacks, effort: Effort) -> (String, [f64; 2]) {
    let mut text = heading(
        "Workers",
        "All token limits; with more workers than processors, they wait for each other.",
        "workers",
    );
    let configuration = keys_of(64, &all());
    let mut taken = Vec::new();
    for kind in [Kind::Local, Kind::Redis] {
        for workers in 1..=4 {
            let stack = stacks.limiter(kind, workers, configuration.clone());
            let turns = &measured(&[(&stack, load(64))], effort)[0];
            row(&mut text, &workers.to_string(), kind.name(), turns);
            taken.push(rounds::median(turns, |turn| turn.memory[0]));
        }
    }
    let list: Vec<String> = taken.iter().map(|bytes| format!("{:.0}", bytes / 1e6)).collect();
    let _ = writeln!(text, "\nEnvoy's memory after that, in MB, in the same order: {}.", list.join(", "));
    let worker = (taken[3] - taken[0]) / 3.0;
    (text, [taken[0] - worker, worker])
}
