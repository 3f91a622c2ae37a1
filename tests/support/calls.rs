//! The calls between Envoy and the filter, read out of Envoy's log: at the level `trace` of `wasm`, it writes a line
//! for each.

use std::collections::{BTreeMap, HashMap};

/// The calls of some requests.
#[derive(Debug, Default)]
pub struct Calls {
    /// Entries into the VM, by callback; those that allocate are left out, and ticks, which come whatever happens.
    pub entries: BTreeMap<String, usize>,
    /// Calls to Envoy, by function.
    pub calls: BTreeMap<String, usize>,
    /// How many ticks came.
    pub ticks: usize,
    /// The calls that they made.
    pub of_ticks: BTreeMap<String, usize>,
    /// Calls that returned bytes, for which Envoy entered the VM to allocate them; without those of ticks.
    pub allocations: usize,
}

impl Calls {
    /// The calls in `log`.
    pub fn of(log: &str) -> Self {
        let mut calls = Self::default();
        // By thread.
        let mut in_tick: HashMap<&str, bool> = HashMap::new();
        for line in log.lines() {
            let thread = line.split("][").nth(1).unwrap_or_default();
            // [time][thread][level][wasm] [file] [host->vm] proxy_on_log(3)
            let name = |text: &str| text.split('(').next().unwrap_or_default().to_owned();
            if let Some((_, callback)) = line.split_once("[host->vm] proxy_on_") {
                let callback = name(callback);
                if callback == "memory_allocate" {
                    calls.allocations += usize::from(!in_tick.get(thread).is_some_and(|in_tick| *in_tick));
                    continue;
                }
                in_tick.insert(thread, callback == "tick");
                if callback == "tick" {
                    calls.ticks += 1;
                } else {
                    *calls.entries.entry(callback).or_default() += 1;
                }
            } else if let Some((_, call)) = line.split_once("[vm->host] env.proxy_") {
                *calls.calls.entry(name(call)).or_default() += 1;
                if in_tick.get(thread).is_some_and(|in_tick| *in_tick) {
                    *calls.of_ticks.entry(name(call)).or_default() += 1;
                }
            }
        }
        calls
    }

    /// The calls that write fields of the access log.
    pub fn of_log_fields(&self) -> usize {
        self.calls.get("set_property").copied().unwrap_or_default()
    }

    /// All other calls to Envoy.
    pub fn without_log_fields(&self) -> usize {
        self.calls.values().sum::<usize>() - self.of_log_fields()
    }

    /// How often Envoy has entered the VM.
    pub fn all_entries(&self) -> usize {
        self.entries.values().sum()
    }
}
