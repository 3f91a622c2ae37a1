//! The time and memory of processes, as proc(5) shows them.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use std::fs;

/// The processor time of the process `id` so far, in microseconds: of all threads that it has now.
///
/// # Panics
/// If it has ended.
pub fn cpu_micros(id: u32) -> f64 {
    let threads =
        fs::read_dir(format!("/proc/{id}/task")).unwrap_or_else(|why| panic!("process {id}: {why}"));
    // The first number is the time on a processor, in nanoseconds; /proc/<id>/stat counts in ticks of ten milliseconds.
    let nanos = threads.flatten().map(|thread| {
        let stat = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        stat.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
    });
    nanos.sum::<u64>() as f64 / 1e3
}

/// The processor time of this process so far, in microseconds.
///
/// # Panics
/// Never.
pub fn own_cpu_micros() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros = |time: TimeVal| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64;
    micros(usage.user_time()) + micros(usage.system_time())
}

/// The memory that the process `id` has resident, in bytes.
///
/// # Panics
/// If it has ended.
pub fn memory(id: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}
