//! How cost grows: with identities, windows, keys and workers, and what each takes of memory.

use crate::cases::{CONNECTIONS, Shape};
use crate::load::{Held, Load};
use crate::processes::{cpu_micros, memory};
use crate::rounds::{Effort, scripts};
use crate::stacks::{Kind, Stack, Stacks};
use crate::statistics::{self, Spread};
use crate::upstream;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const SMALL: Shape = Shape::json(100);
const PLENTY: u64 = 1_000_000_000_000;

/// Identities that are new to a store, to see what each takes.
const STRANGERS: usize = 20_000;

/// Streams that are open at a time.
const STREAMS: usize = 400;

/// The time that Envoy gets to write down what a load has left.
const SETTLES_WITHIN: Duration = Duration::from_millis(1_500);

/// What a gateway does under load.
struct Point {
    rate: Spread,
    lone: Spread,
    /// The processor time of a request: Envoy, sidecar, Redis.
    cpu: [f64; 3],
    /// Redis's time for a script.
    script: f64,
    /// Envoy's memory afterwards, in bytes.
    memory: f64,
}

/// What Envoy's memory consists of, in bytes.
struct Parts {
    /// Envoy with the filter, before any worker.
    base: f64,
    /// A worker.
    worker: f64,
    /// A key of the configuration, whatever the number of workers, and in each worker.
    key: [f64; 2],
    /// An identity that `default` is for, in Envoy with the store `local`, and in Redis.
    identity: [f64; 2],
    /// An open stream, beyond what bare Envoy takes for one, and with that.
    stream: [f64; 2],
}

/// The tables of growth, in Markdown.
pub fn measure(stacks: &Stacks, effort: Effort) -> String {
    let effort = Effort { rounds: effort.rounds.min(3), ..effort };
    eprintln!("growth: identities and windows");
    let points = [identities(stacks, effort), windows(stacks, effort)];
    eprintln!("growth: keys");
    let (keys, key) = keys(stacks, effort);
    eprintln!("growth: workers");
    let (workers, [base, worker]) = workers(stacks, effort);
    eprintln!("growth: identities of default, and streams");
    let (strangers, identity) = strangers(stacks);
    let (streams, stream) = streams(stacks);
    let parts = Parts { base, worker, key, identity, stream };
    let [identities, windows] = points;
    let tables = [identities, windows, keys, workers, strangers, streams];
    format!("{}\n{}", formula(&parts), tables.join("\n"))
}

/// Envoy's memory as a sum.
fn formula(parts: &Parts) -> String {
    let Parts { base, worker, key: [key, key_each], identity: [identity, in_redis], stream: [stream, whole] } =
        parts;
    format!(
        "### Memory as a sum\n\nWith all token limits, in bytes; identities last as long as their windows:\n\n    \
         Envoy = {:.0} MB + workers × {:.0} MB + keys × ({key:.0} + workers × {key_each:.0})\n          \
         + identities × {identity:.0} (store local) + open streams × {whole:.0} (of which the filter {stream:.0})\n    \
         Redis = identities × {in_redis:.0}\n",
        base / 1e6,
        worker / 1e6,
    )
}

fn all(extra: &Value) -> Value {
    let mut limits = json!({"rpm": PLENTY, "tpm": PLENTY, "input_tpm": PLENTY, "output_tpm": PLENTY});
    limits.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    limits
}

/// A load from so many identities of the configuration.
fn load(identities: usize) -> Load {
    let requests: Vec<_> =
        (0..identities).map(|identity| SMALL.request(&format!("key-{identity}"))).collect();
    Load { connections: CONNECTIONS, requests: requests.into(), status: 200 }
}

fn keys_of(number: usize, limits: &Value) -> Value {
    let keys = (0..number).map(|key| {
        let mut entry = limits.clone();
        entry["key"] = json!(format!("key-{key}"));
        entry
    });
    json!({"keys": keys.collect::<Vec<_>>(), "default": "unlimited"})
}

/// The rate, the duration of a lone request, processor times and the time of a script in a turn.
type GrowthTurn = (f64, f64, [f64; 3], f64);

/// Measures some gateways in turns: each with its load.
fn points(stacks: &Stacks, gateways: &[(&Stack, Load)], effort: Effort) -> Vec<Point> {
    let mut turns: Vec<Vec<GrowthTurn>> = vec![Vec::new(); gateways.len()];
    for _ in 0..effort.rounds {
        for ((stack, load), turns) in gateways.iter().zip(&mut turns) {
            let ids: Vec<u32> = stack.processes.iter().map(|(_, id)| *id).collect();
            let redis = stack.has_redis.then(|| &stacks.fleet().redis);
            let snapshot = || {
                let cpu: Vec<f64> = ids.iter().map(|id| cpu_micros(*id)).collect();
                (cpu, redis.map_or([0.0; 2], scripts))
            };
            let address = stack.envoy.address();
            let measured = load.run(address, effort.turn / 4, effort.turn, snapshot);
            let lone = Load { connections: 1, ..load.clone() };
            let alone = lone.run(address, effort.turn / 30, effort.turn / 4, || ());
            let requests = measured.micros.len() as f64;
            let [before, after] = &measured.snapshots;
            let mut cpu = [0.0; 3];
            for (at, cpu) in cpu.iter_mut().enumerate().take(ids.len()) {
                *cpu = (after.0[at] - before.0[at]) / requests;
            }
            let [calls, micros] = [0, 1].map(|at| after.1[at] - before.1[at]);
            let script = if calls > 0.0 { micros / calls } else { 0.0 };
            turns.push((requests / measured.seconds, statistics::at(&alone.micros, 0.5), cpu, script));
        }
    }
    let median = |values: Vec<f64>| Spread::of(values).median;
    let point = |(turns, stack): (Vec<GrowthTurn>, &Stack)| Point {
        rate: Spread::of(turns.iter().map(|turn| turn.0)),
        lone: Spread::of(turns.iter().map(|turn| turn.1)),
        cpu: [0, 1, 2].map(|at| median(turns.iter().map(|turn| turn.2[at]).collect())),
        script: median(turns.iter().map(|turn| turn.3).collect()),
        memory: memory(stack.envoy.id()),
    };
    turns.into_iter().zip(gateways.iter().map(|(stack, _)| *stack)).map(point).collect()
}

/// The heading and first lines of a table of points.
fn heading(title: &str, about: &str, first: &str) -> String {
    format!(
        "### {title}\n\n{about}\n\n| {first} | store | requests/s | lone p50, µs | Envoy, processor µs | \
         sidecar | Redis | Redis, µs a script |\n|---|---|---|---|---|---|---|---|\n"
    )
}

fn row(text: &mut String, first: &str, store: &str, point: &Point) {
    let optional = |micros: f64| if micros == 0.0 { String::new() } else { format!("{micros:.1}") };
    let [envoy, sidecar, redis] = point.cpu.map(optional);
    let _ = writeln!(
        text,
        "| {first} | {store} | {:.0} | {:.0} | {envoy} | {sidecar} | {redis} | {} |",
        point.rate.median,
        point.lone.median,
        optional(point.script)
    );
}

fn identities(stacks: &Stacks, effort: Effort) -> String {
    let mut text = heading(
        "Identities",
        "All token limits; 32 connections send for so many identities in turn.",
        "identities",
    );
    let configuration = keys_of(64, &all(&json!({})));
    for kind in [Kind::Local, Kind::Redis] {
        let stack = stacks.limiter(kind, 1, configuration.clone());
        let numbers = [1, 4, 16, 64];
        let gateways: Vec<_> = numbers.iter().map(|number| (&stack, load(*number))).collect();
        for (number, point) in numbers.iter().zip(points(stacks, &gateways, effort)) {
            row(&mut text, &number.to_string(), kind.name(), &point);
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
            let points = points(stacks, &[(&stack, load(1))], effort);
            row(&mut text, &number.to_string(), kind.name(), &points[0]);
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
            let stack = stacks.limiter(Kind::Local, workers, keys_of(*number, &all(&json!({}))));
            let seconds = begin.elapsed().as_secs_f64();
            std::thread::sleep(SETTLES_WITHIN);
            let bytes = memory(stack.envoy.id());
            let points = points(stacks, &[(&stack, load((*number).min(64)))], effort);
            let rate = points[0].rate.median;
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
    let configuration = keys_of(64, &all(&json!({})));
    let mut taken = Vec::new();
    for kind in [Kind::Local, Kind::Redis] {
        for workers in 1..=4 {
            let stack = stacks.limiter(kind, workers, configuration.clone());
            let points = points(stacks, &[(&stack, load(64))], effort);
            row(&mut text, &workers.to_string(), kind.name(), &points[0]);
            taken.push(points[0].memory);
        }
    }
    let list: Vec<String> = taken.iter().map(|bytes| format!("{:.0}", bytes / 1e6)).collect();
    let _ = writeln!(text, "\nEnvoy's memory after that, in MB, in the same order: {}.", list.join(", "));
    let worker = (taken[3] - taken[0]) / 3.0;
    (text, [taken[0] - worker, worker])
}

/// The table of identities that the configuration does not name, and the bytes of one in Envoy and in Redis.
fn strangers(stacks: &Stacks) -> (String, [f64; 2]) {
    let requests: Vec<_> =
        (0..STRANGERS).map(|stranger| SMALL.request(&format!("stranger-{stranger}"))).collect();
    let everybody = Load { connections: CONNECTIONS, requests: requests.into(), status: 200 };
    let again = Load { requests: vec![SMALL.request("stranger-0")].into(), ..everybody.clone() };
    let configuration = json!({"identity": [{"header": "authorization"}], "default": all(&json!({}))});
    let mut text = format!(
        "### Identities that `default` is for\n\n{STRANGERS} of them send one request each, all token limits; what \
         the process has grown by, beyond what as many requests of one leave.\n\n\
         | store | process | bytes an identity |\n|---|---|---|\n"
    );
    let mut taken = [0.0; 2];
    for kind in [Kind::Local, Kind::Redis] {
        let stack = stacks.limiter(kind, 1, configuration.clone());
        let send = |load: &Load| {
            load.send(stack.envoy.address(), STRANGERS / CONNECTIONS);
            std::thread::sleep(SETTLES_WITHIN);
        };
        let redis = || -> f64 {
            let info: String = stacks.fleet().redis.ask(&["INFO", "memory"]);
            let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
            line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0.0)
        };
        send(&again);
        let before = (memory(stack.envoy.id()), if stack.has_redis { redis() } else { 0.0 });
        send(&everybody);
        let after = (memory(stack.envoy.id()), if stack.has_redis { redis() } else { 0.0 });
        let each = |before: f64, after: f64| (after - before) / STRANGERS as f64;
        let in_envoy = each(before.0, after.0);
        let _ = writeln!(text, "| {} | Envoy | {in_envoy:.0} |", kind.name());
        if stack.has_redis {
            taken[1] = each(before.1, after.1);
            let _ = writeln!(text, "| {} | Redis | {:.0} |", kind.name(), taken[1]);
        } else {
            taken[0] = in_envoy;
        }
    }
    (text, taken)
}

/// The table of open streams, and the bytes of one with the store `local`: the filter's part, and all.
fn streams(stacks: &Stacks) -> (String, [f64; 2]) {
    let mut text = format!(
        "### Open streams\n\n{STREAMS} streams of events whose answers have begun; what Envoy has grown by.\n\n\
         | gateway | bytes a stream |\n|---|---|\n"
    );
    let request = Shape { streams: true, ..SMALL }.request_for("key-0", upstream::HELD);
    let configuration = keys_of(1, &all(&json!({})));
    let mut taken = Vec::new();
    for kind in [Kind::Bare, Kind::Local, Kind::Redis] {
        let stack = if kind == Kind::Bare {
            stacks.start_with(kind, stacks.of_kind(kind, 1, false))
        } else {
            stacks.limiter(kind, 1, configuration.clone())
        };
        // V8 compiles the filter during the first requests.
        load(1).send(stack.envoy.address(), 300);
        std::thread::sleep(SETTLES_WITHIN);
        let before = memory(stack.envoy.id());
        let held = Held::open(stack.envoy.address(), &request, STREAMS);
        std::thread::sleep(SETTLES_WITHIN);
        let grown = (memory(stack.envoy.id()) - before) / held.streams() as f64;
        let _ = writeln!(text, "| {} | {grown:.0} |", kind.name());
        taken.push(grown);
    }
    (text, [taken[1] - taken[0], taken[1]])
}
