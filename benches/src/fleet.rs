//! A simulation of a thousand Envoys on one Redis Cluster: which master is busy first, at which rate, and what it would
//! change if each Envoy leased a second's worth of the busiest counters.
//!
//! The model is small. Requests come at random times (Poisson), each at any Envoy and from one of many keys, of which
//! few send most (Zipf). A reservation and a settlement are a script each, on the master that has the counter's scope;
//! a master runs one script at a time, first come, first served, each for the time that was measured. A scope follows
//! the other, as the sidecar does it. Left out: what the sidecars and the network take beyond a fixed round trip,
//! batches (which spare calls, not scripts), and whatever Redis does beside scripts. The same numbers come out of every
//! run.

use crate::statistics;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write as _;

/// Envoys, masters, and keys.
const ENVOYS: u64 = 1_000;
const MASTERS: usize = 12;
const KEYS: usize = 10_000;

/// What a round trip takes without waiting, and how long an answer takes: microseconds.
const ROUND_TRIP: f64 = 500.0;
const ANSWER: f64 = 500_000.0;

/// Until when the simulation runs, and from when it counts: microseconds.
const END: f64 = 2_000_000.0;
const COUNTED_FROM: f64 = 1_000_000.0;

/// The share of its time from which on a master is full: its queue grows as long as requests come.
const FULL: f64 = 0.99;

/// How long a lease lasts: microseconds.
const LEASE: f64 = 1_000_000.0;

/// Fleet rates: requests a second.
const RATES: [f64; 6] = [1_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0, 100_000.0];

/// The time of a script on a master, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Scripts {
    /// Of a reservation.
    pub reserve: f64,
    /// Of a settlement.
    pub settle: f64,
}

/// The limits of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limits {
    /// Each key has its own.
    Keys,
    /// Also one for all requests together.
    Global,
    /// The same, of which each Envoy leases what it needs for a second.
    LeasedGlobal,
    /// Leases also of every key that an Envoy sees more than once a second.
    LeasedAll,
}

/// What has to be done next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// Reserve in the key's scope, then in the global one.
    Reserve {
        key: usize,
    },
    ReserveGlobal {
        begun: f64,
    },
    /// Settle in a scope.
    Settle {
        master: usize,
    },
    /// Renew a lease: settle the old one and reserve the next.
    Renew {
        master: usize,
    },
}

/// A step at its time. Steps at the same time keep their order.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Due {
    at: f64,
    number: u64,
    step: Step,
}

impl Eq for Due {}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.total_cmp(&other.at).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What a run has found.
struct Found {
    /// The share of its time that each master was busy, the busiest last.
    busy: Vec<f64>,
    /// Whether the busiest has the global counter.
    is_global: bool,
    /// The waits of reservations in microseconds, in ascending order.
    waits: Vec<f64>,
}

/// A fleet in a run.
struct Fleet {
    scripts: Scripts,
    limits: Limits,
    rate: f64,
    due: BinaryHeap<Reverse<Due>>,
    steps: u64,
    /// When each master has done all that it has to do, and how long it was busy since counting began.
    free_at: [f64; MASTERS],
    busy: [f64; MASTERS],
    waits: Vec<f64>,
    /// When the lease of an Envoy on a counter ends: on a key, or on the global counter.
    leases: BTreeMap<(u64, Option<usize>), f64>,
    random: Random,
}

/// The master that has the global counter, and that of a key.
const GLOBAL_MASTER: usize = 0;

const fn master_of(key: usize) -> usize {
    // The most frequent key is not on the master with the global counter.
    (key + 1) % MASTERS
}

impl Fleet {
    fn new(scripts: Scripts, limits: Limits, rate: f64) -> Self {
        Self {
            scripts,
            limits,
            rate,
            due: BinaryHeap::new(),
            steps: 0,
            free_at: [0.0; MASTERS],
            busy: [0.0; MASTERS],
            waits: Vec::new(),
            leases: BTreeMap::new(),
            random: Random(1),
        }
    }

    fn run(mut self) -> Found {
        let keys = Keys::new();
        let mut next = 0.0;
        loop {
            while self.due.peek().is_some_and(|Reverse(due)| due.at <= next) {
                let Some(Reverse(due)) = self.due.pop() else { break };
                self.serve(due.at, due.step, &keys);
            }
            if next >= END {
                break;
            }
            let key = keys.pick(self.random.share());
            self.plan(next, Step::Reserve { key });
            next += -(1.0 - self.random.share()).ln() * 1e6 / self.rate;
        }
        let mut busy: Vec<(f64, usize)> =
            self.busy.iter().map(|busy| busy / (END - COUNTED_FROM)).zip(0..).collect();
        busy.sort_by(|one, other| one.0.total_cmp(&other.0));
        let is_global = busy.last().is_some_and(|busiest| busiest.1 == GLOBAL_MASTER);
        self.waits.sort_by(f64::total_cmp);
        Found { busy: busy.into_iter().map(|(busy, _)| busy).collect(), is_global, waits: self.waits }
    }

    fn plan(&mut self, at: f64, step: Step) {
        self.steps += 1;
        self.due.push(Reverse(Due { at, number: self.steps, step }));
    }

    /// When `master` has run a script of this length that comes at `at`.
    fn script(&mut self, master: usize, at: f64, length: f64) -> f64 {
        let begin = self.free_at[master].max(at);
        let end = begin + length;
        self.free_at[master] = end;
        let counted = |time: f64| time.clamp(COUNTED_FROM, END);
        self.busy[master] += counted(end) - counted(begin);
        end
    }

    fn serve(&mut self, at: f64, step: Step, keys: &Keys) {
        let Scripts { reserve, settle } = self.scripts;
        match step {
            Step::Reserve { key } => {
                let envoy = self.random.next() % ENVOYS;
                let is_leased = self.limits == Limits::LeasedAll
                    && self.rate * keys.share(key) / ENVOYS as f64 * LEASE / 1e6 >= 1.0;
                let done = if is_leased {
                    self.lease(at, envoy, Some(key), master_of(key));
                    at
                } else {
                    let done = self.script(master_of(key), at, reserve);
                    self.plan(at + ANSWER, Step::Settle { master: master_of(key) });
                    done + ROUND_TRIP
                };
                match self.limits {
                    Limits::Keys => self.admitted(at, done),
                    Limits::Global => self.plan(done, Step::ReserveGlobal { begun: at }),
                    Limits::LeasedGlobal | Limits::LeasedAll => {
                        self.lease(done, envoy, None, GLOBAL_MASTER);
                        self.admitted(at, done);
                    }
                }
            }
            Step::ReserveGlobal { begun } => {
                let done = self.script(GLOBAL_MASTER, at, reserve);
                self.plan(at + ANSWER, Step::Settle { master: GLOBAL_MASTER });
                self.admitted(begun, done + ROUND_TRIP);
            }
            Step::Settle { master } => {
                self.script(master, at, settle);
            }
            Step::Renew { master } => {
                self.script(master, at, settle + reserve);
            }
        }
    }

    /// Uses an Envoy's lease on a counter, which it renews beside the request if it has ended.
    fn lease(&mut self, at: f64, envoy: u64, key: Option<usize>, master: usize) {
        let lease = self.leases.get(&(envoy, key)).copied();
        if lease.is_none_or(|ends| ends <= at) {
            // The first of an Envoy is shorter, so that not all end at once.
            let length = if lease.is_some() { LEASE } else { LEASE * self.random.share() };
            self.leases.insert((envoy, key), at + length);
            self.plan(at, Step::Renew { master });
        }
    }

    fn admitted(&mut self, begun: f64, done: f64) {
        if begun >= COUNTED_FROM {
            self.waits.push(done - begun);
        }
    }
}

/// How often each key sends, by Zipf's law: the n-th most frequent one n times less often than the first.
struct Keys {
    cumulated: Vec<f64>,
}

impl Keys {
    fn new() -> Self {
        let whole: f64 = (1..=KEYS).map(|rank| 1.0 / rank as f64).sum();
        let cumulate = |sum: &mut f64, rank: usize| {
            *sum += 1.0 / rank as f64 / whole;
            Some(*sum)
        };
        Self { cumulated: (1..=KEYS).scan(0.0, cumulate).collect() }
    }

    fn pick(&self, share: f64) -> usize {
        self.cumulated.partition_point(|sum| *sum < share).min(KEYS - 1)
    }

    fn share(&self, key: usize) -> f64 {
        let before = if key == 0 { 0.0 } else { self.cumulated[key - 1] };
        self.cumulated[key] - before
    }
}

/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to and without 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The table of a fleet whose scripts take this long.
pub fn report(scripts: Scripts) -> String {
    let Scripts { reserve, settle } = scripts;
    let mut text = format!(
        "### A thousand Envoys on one Redis Cluster\n\nSimulated, with the measured times of a master for a \
         reservation ({reserve:.0} µs) and a settlement ({settle:.0} µs) of three windows: {MASTERS} masters with a \
         processor each, {KEYS} keys of which the n-th most frequent sends n times less often than the first, a round \
         trip of {:.1} ms, answers after {:.1} s. A wait grows where a master is full, as long as requests come. A \
         lease is what an Envoy needs of a counter for {:.0} s.\n\n\
         | limits | requests/s | busiest master | is busy | the others, median | wait p50, ms | p99, ms |\n\
         |---|---|---|---|---|---|---|\n",
        ROUND_TRIP / 1e3,
        ANSWER / 1e6,
        LEASE / 1e6,
    );
    for limits in [Limits::Keys, Limits::Global, Limits::LeasedGlobal, Limits::LeasedAll] {
        for rate in RATES {
            let Found { busy, is_global, waits } = Fleet::new(scripts, limits, rate).run();
            let name = match limits {
                Limits::Keys => "each key's",
                Limits::Global => "each key's, and one for all",
                Limits::LeasedGlobal => "the same, leases of that for all",
                Limits::LeasedAll => "the same, leases of frequent keys too",
            };
            let busiest = busy.last().copied().unwrap_or(0.0);
            let wait = |share| match busiest {
                FULL.. => "grows".to_owned(),
                _ => format!("{:.1}", statistics::at(&waits, share) / 1e3),
            };
            let master = if is_global { "of the limit for all" } else { "of the most frequent key" };
            let _ = writeln!(
                text,
                "| {name} | {rate:.0} | {master} | {:.0} % | {:.0} % | {} | {} |",
                busiest * 100.0,
                busy[MASTERS / 2 - 1] * 100.0,
                wait(0.5),
                wait(0.99),
            );
        }
    }
    let both = reserve + settle;
    let hottest = Keys::new().share(0);
    let _ = writeln!(
        text,
        "\nA limit for all is on one master, which bears 10^6 / ({reserve:.0} + {settle:.0}) = {:.0} requests a \
         second, whatever the cluster's size. The most frequent key sends {:.0} % of all requests here, so that its \
         master bears at most {:.0} of the fleet's a second, and {:.0} if it had no other keys.",
        1e6 / both,
        hottest * 100.0,
        1e6 / both
            / (0..KEYS)
                .filter(|key| master_of(*key) == master_of(0))
                .map(|key| Keys::new().share(key))
                .sum::<f64>(),
        1e6 / both / hottest,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPTS: Scripts = Scripts { reserve: 30.0, settle: 30.0 };

    #[test]
    fn a_limit_for_all_fills_its_master_at_the_rate_that_arithmetic_says() {
        let found = Fleet::new(SCRIPTS, Limits::Global, 10_000.0).run();
        // Sixty percent for the limit for all, and whatever keys that master has.
        let busiest = found.busy[MASTERS - 1];
        assert!(found.is_global && (0.6..0.7).contains(&busiest), "{busiest}");
        let found = Fleet::new(SCRIPTS, Limits::Global, 20_000.0).run();
        assert!(found.busy[MASTERS - 1] > 0.99, "{:?}", found.busy);
    }

    #[test]
    fn leases_take_the_load_off_and_a_run_is_like_the_next() {
        let busiest = |limits| Fleet::new(SCRIPTS, limits, 10_000.0).run().busy[MASTERS - 1];
        assert!(busiest(Limits::LeasedGlobal) < busiest(Limits::Global) / 2.0);
        assert_eq!(busiest(Limits::LeasedAll).to_bits(), busiest(Limits::LeasedAll).to_bits());
    }

    #[test]
    fn keys_are_picked_as_often_as_they_send() {
        let (keys, mut random) = (Keys::new(), Random(7));
        let first = (0..100_000).filter(|_| keys.pick(random.share()) == 0).count();
        assert!((first as f64 / 1e5 - keys.share(0)).abs() < 0.005, "{first}");
    }
}
