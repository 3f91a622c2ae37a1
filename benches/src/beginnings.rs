//! How long an Envoy takes to listen, and the memory that it then has, with more and more workers.

use crate::processes::memory;
use crate::stacks::{Kind, Stacks};
use crate::statistics::Spread;
use std::time::{Duration, Instant};

/// The time that an Envoy gets to settle before its memory is read: V8 compiles the filter beside the first requests.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

/// The beginning of a gateway.
#[derive(Debug)]
pub struct Beginning {
    /// The gateway.
    pub kind: Kind,
    /// Envoy's workers.
    pub workers: usize,
    /// Seconds from the start of the process until it is ready.
    pub seconds: Spread,
    /// Envoy's memory then, in bytes.
    pub memory: Spread,
}

/// The gateways that are started, and with how many workers.
pub const KINDS: [Kind; 4] = [Kind::Bare, Kind::Empty, Kind::Local, Kind::Redis];

/// With how many workers.
pub const WORKERS: [usize; 3] = [1, 2, 4];

/// Starts each gateway so many times.
pub fn measure(stacks: &Stacks, times: usize) -> Vec<Beginning> {
    let mut beginnings = Vec::new();
    for kind in KINDS {
        for workers in WORKERS {
            let starts: Vec<(f64, f64)> = (0..times).map(|_| start(stacks, kind, workers)).collect();
            beginnings.push(Beginning {
                kind,
                workers,
                seconds: Spread::of(starts.iter().map(|start| start.0)),
                memory: Spread::of(starts.iter().map(|start| start.1)),
            });
        }
    }
    beginnings
}

fn start(stacks: &Stacks, kind: Kind, workers: usize) -> (f64, f64) {
    let setup = stacks.of_kind(kind, workers, false);
    let begin = Instant::now();
    let stack = stacks.start_with(kind, setup);
    let seconds = begin.elapsed().as_secs_f64();
    std::thread::sleep(SETTLES_WITHIN);
    (seconds, memory(stack.envoy.id()))
}

/// The beginning of a gateway among those measured.
pub fn find(beginnings: &[Beginning], kind: Kind, workers: usize) -> Option<&Beginning> {
    beginnings.iter().find(|beginning| beginning.kind == kind && beginning.workers == workers)
}
