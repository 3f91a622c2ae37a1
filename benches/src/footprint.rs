//! What each part of a gateway takes of memory: identities that nobody has named before, open streams, and the sum.

use crate::cases::{CONNECTIONS, Shape};
use crate::growth::{all, keys_of, load};
use crate::load::{Held, Load};
use crate::processes::memory;
use crate::stacks::{Kind, Stack, Stacks};
use crate::upstream;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

const SMALL: Shape = Shape::json(100);

/// Identities that are new to a store.
const STRANGERS: usize = 20_000;

/// Streams that are open at a time, and those that are opened before, in memory that the start has left.
const STREAMS: usize = 3_000;
const STREAMS_BEFORE: usize = 1_000;

/// The time that Envoy gets to write down what a load has left.
const SETTLES_WITHIN: Duration = Duration::from_millis(1_500);

/// What Envoy's memory consists of, in bytes.
#[derive(Debug)]
pub struct Parts {
    /// Envoy with the filter, before any worker.
    pub base: f64,
    /// A worker.
    pub worker: f64,
    /// A key of the configuration, whatever the number of workers, and in each worker.
    pub key: [f64; 2],
    /// An identity that `default` is for, in Envoy with the store `local`, and in Redis.
    pub identity: [f64; 2],
    /// An open stream, beyond what bare Envoy takes for one, and with that.
    pub stream: [f64; 2],
}

/// Envoy's memory as a sum.
pub fn formula(parts: &Parts) -> String {
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

/// The table of identities that the configuration does not name, and the bytes of one in Envoy and in Redis.
pub fn strangers(stacks: &Stacks) -> (String, [f64; 2]) {
    let requests: Vec<_> =
        (0..STRANGERS).map(|stranger| SMALL.request(&format!("stranger-{stranger}"))).collect();
    let everybody = Load { connections: CONNECTIONS, requests: requests.into(), status: 200 };
    let again = Load { requests: vec![SMALL.request("stranger-0")].into(), ..everybody.clone() };
    let configuration = json!({"identity": [{"header": "authorization"}], "default": all()});
    let mut text = format!(
        "### Identities that `default` is for\n\n{STRANGERS} of them send one request each, all token limits; what \
         Envoy and Redis have allocated since, by their own account. A busy identity takes more: \
         [operations](operations.md#memory-of-the-local-store).\n\n\
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
        let before = (allocated(&stack), if stack.redis().is_some() { redis() } else { 0.0 });
        send(&everybody);
        let after = (allocated(&stack), if stack.redis().is_some() { redis() } else { 0.0 });
        let each = |before: f64, after: f64| (after - before) / STRANGERS as f64;
        let in_envoy = each(before.0, after.0);
        let _ = writeln!(text, "| {} | Envoy | {in_envoy:.0} |", kind.name());
        if stack.redis().is_some() {
            taken[1] = each(before.1, after.1);
            let _ = writeln!(text, "| {} | Redis | {:.0} |", kind.name(), taken[1]);
        } else {
            taken[0] = in_envoy;
        }
    }
    (text, taken)
}

/// The bytes that Envoy has allocated beside its VMs.
fn allocated(stack: &Stack) -> f64 {
    let memory: Value = serde_json::from_str(&stack.envoy.admin("/memory")).unwrap();
    memory["allocated"].as_str().and_then(|bytes| bytes.parse().ok()).unwrap()
}

/// The table of open streams, and the bytes of one with the store `local`: the filter's part, and all.
pub fn streams(stacks: &Stacks) -> (String, [f64; 2]) {
    let mut text = format!(
        "### Open streams\n\n{STREAMS} streams of events whose answers have begun; what Envoy's process has grown by, \
         beyond the first {STREAMS_BEFORE}.\n\n\
         | gateway | bytes a stream |\n|---|---|\n"
    );
    let request = Shape { streams: true, ..SMALL }.request_for("key-0", upstream::HELD);
    let configuration = keys_of(1, &all());
    let mut taken = Vec::new();
    for kind in [Kind::Bare, Kind::Local, Kind::Redis] {
        let stack = if kind == Kind::Bare {
            stacks.start_with(kind, stacks.of_kind(kind, 1, false))
        } else {
            stacks.limiter(kind, 1, configuration.clone())
        };
        // V8 compiles the filter during the first requests.
        load(1).send(stack.envoy.address(), 300);
        let _first = Held::open(stack.envoy.address(), &request, STREAMS_BEFORE);
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
