//! Memory of the processes during a soak, and whether it grows.
//!
//! A thread reads what each process has resident (`VmRSS` in proc(5)) twice a second: what is in Envoy's heap and in
//! the VMs of its workers, which Envoy does not show apart. The first quarter of a run is the warm-up. What follows is
//! flat if the median of its last tenth is at most so much above the median of its first tenth.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The pause between two samples.
const EVERY: Duration = Duration::from_millis(500);

/// The part of a run that is its warm-up: a quarter.
pub const WARM_UP: u32 = 4;

/// Watches processes, each under a name.
pub struct Watch {
    processes: Arc<Vec<(&'static str, AtomicU32)>>,
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What each process has resident at one time, in KiB.
struct Sample {
    at: Instant,
    kib: Vec<u64>,
}

/// One process's memory, in KiB.
#[derive(Debug)]
pub struct Memory {
    /// Its name.
    pub name: &'static str,
    /// The median of the first tenth after the warm-up.
    pub first: u64,
    /// The median of the last tenth.
    pub last: u64,
    /// The most at any time.
    pub peak: u64,
}

impl Memory {
    /// By how many per cent it has grown.
    pub fn growth(&self) -> f64 {
        (self.last as f64 / self.first.max(1) as f64 - 1.0) * 100.0
    }
}

impl Watch {
    /// Begins to watch processes with these names.
    pub fn start(names: &[&'static str]) -> Self {
        let processes: Arc<Vec<_>> = Arc::new(names.iter().map(|name| (*name, AtomicU32::new(0))).collect());
        let (samples, stop) = (Arc::<Mutex<Vec<Sample>>>::default(), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (processes, samples, stop) =
                (Arc::clone(&processes), Arc::clone(&samples), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let kib =
                        processes.iter().map(|(_, id)| resident_kib(id.load(Ordering::Relaxed))).collect();
                    samples.lock().unwrap().push(Sample { at: Instant::now(), kib });
                    thread::sleep(EVERY);
                }
            }
        });
        Self { processes, samples, stop, thread }
    }

    /// The processes with these ids from now on, in the order of their names.
    pub fn are(&self, ids: &[u32]) {
        for ((_, known), id) in self.processes.iter().zip(ids) {
            known.store(*id, Ordering::Relaxed);
        }
    }

    /// Ends, and compares the memory of a run that began and ended then.
    pub fn end(self, began: Instant, ended: Instant) -> Vec<Memory> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        let samples = self.samples.lock().unwrap();
        let warm = began + (ended - began) / WARM_UP;
        let tenth = (ended - warm) / 10;
        let of = |process: usize, from: Instant, to: Instant| {
            let within = samples.iter().filter(|sample| (from..to).contains(&sample.at));
            // A process that is being replaced has nothing.
            let mut kib: Vec<u64> = within.map(|sample| sample.kib[process]).filter(|kib| *kib > 0).collect();
            kib.sort_unstable();
            kib
        };
        let median = |kib: Vec<u64>| kib.get(kib.len() / 2).copied().unwrap_or(0);
        let memory = |(at, (name, _)): (usize, &(&'static str, AtomicU32))| Memory {
            name,
            first: median(of(at, warm, warm + tenth)),
            last: median(of(at, ended - tenth, ended)),
            peak: of(at, began, ended).last().copied().unwrap_or(0),
        };
        self.processes.iter().enumerate().map(memory).collect()
    }
}

/// The processor time of this process, of all that it started and that have ended, and of those with these `ids`.
pub fn processor_time(ids: &[u32]) -> Duration {
    let ticks = |id: &str, children: bool| -> u64 {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The fields after the name, which may have spaces: utime is the 12th, then stime, cutime and cstime.
        let fields: Vec<u64> = stat
            .rsplit_once(") ")
            .map(|(_, rest)| {
                rest.split(' ').skip(11).take(4).filter_map(|field| field.parse().ok()).collect()
            })
            .unwrap_or_default();
        fields.iter().take(if children { 4 } else { 2 }).sum()
    };
    let all = ids.iter().map(|id| ticks(&id.to_string(), false)).sum::<u64>() + ticks("self", true);
    // A hundred ticks a second, on every Linux that runs Envoy.
    Duration::from_millis(all * 10)
}

/// What a process has resident; 0 if it is gone.
fn resident_kib(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}
