//! What goes wrong during a soak, when, and for how long.

use crate::fleet::Fleet;
use nix::sys::signal::Signal;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The shortest and the longest time between two faults, in milliseconds.
const BETWEEN_MS: std::ops::Range<u64> = 500..6_000;

/// How long nothing else goes wrong before Redis loses its data, so that no settlement waits then.
pub const CALM: Duration = Duration::from_secs(3);

/// Something that goes wrong, for so many milliseconds.
#[derive(Clone, Copy, Debug)]
enum Fault {
    RedisKilled(u64),
    RedisStuck(u64),
    SidecarKilled(usize, u64),
    SidecarStuck(usize, u64),
    Reloaded(usize),
}

/// What went wrong in an era.
#[derive(Debug, Default)]
pub struct Faults {
    /// How often, by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// When Redis lost its data.
    pub loss: Option<Loss>,
}

/// When Redis was killed that lost its data, and when it was back.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Before it was killed.
    pub from: Instant,
    /// After it was back.
    pub to: Instant,
    /// The first, in milliseconds since the epoch.
    pub from_ms: u64,
    /// The second, in milliseconds since the epoch.
    pub to_ms: u64,
}

fn fault(may_kill_second: bool) -> impl Strategy<Value = Fault> {
    let which = 0..2_usize;
    let killed = if may_kill_second { 0..2_usize } else { 0..1 };
    prop_oneof![
        2 => (50..1_000_u64).prop_map(Fault::RedisKilled),
        2 => (100..1_500_u64).prop_map(Fault::RedisStuck),
        3 => (killed, 10..1_000_u64).prop_map(|(which, ms)| Fault::SidecarKilled(which, ms)),
        2 => (which.clone(), 100..1_500_u64).prop_map(|(which, ms)| Fault::SidecarStuck(which, ms)),
        2 => which.prop_map(Fault::Reloaded),
    ]
}

impl Fault {
    const fn name(self) -> &'static str {
        match self {
            Self::RedisKilled(_) => "Redis killed and restarted with its data",
            Self::RedisStuck(_) => "Redis stopped for a while",
            Self::SidecarKilled(..) => "a sidecar killed and replaced",
            Self::SidecarStuck(..) => "a sidecar stopped for a while",
            Self::Reloaded(_) => "configuration reloaded",
        }
    }

    fn happen(self, fleet: &mut Fleet) {
        let pause = |ms| sleep(Duration::from_millis(ms));
        match self {
            Self::RedisKilled(ms) => {
                fleet.redis.kill();
                pause(ms);
                fleet.redis.restart();
            }
            Self::RedisStuck(ms) => {
                fleet.redis.freeze();
                pause(ms);
                fleet.redis.thaw();
            }
            Self::SidecarKilled(which, ms) => {
                fleet.proxies[which].sidecar.kill();
                pause(ms);
                fleet.proxies[which].restart_sidecar(&fleet.redis);
            }
            Self::SidecarStuck(which, ms) => {
                let sidecar = &fleet.proxies[which].sidecar;
                sidecar.signal(Signal::SIGSTOP);
                pause(ms);
                sidecar.signal(Signal::SIGCONT);
            }
            Self::Reloaded(which) => fleet.proxies[which].reload(),
        }
    }
}

/// How an era goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// For how long.
    pub lasts: Duration,
    /// Whether Redis loses its data in the middle.
    pub loses_data: bool,
    /// Whether the second sidecar may be killed too. Its memory is measured, which a new process would begin anew.
    pub may_kill_second: bool,
}

/// Lets faults that `random` chooses happen to `fleet`, one after the other, and returns when all works again.
pub fn inject(fleet: &mut Fleet, plan: Plan, pids: &dyn Fn(&Fleet), random: &mut TestRunner) -> Faults {
    let faults = fault(plan.may_kill_second);
    let began = Instant::now();
    let left = |until: Duration| until.saturating_sub(began.elapsed());
    let mut happened = Faults::default();
    loop {
        let between = Duration::from_millis(BETWEEN_MS.new_tree(random).unwrap().current());
        let half = plan.lasts / 2;
        if plan.loses_data && happened.loss.is_none() && left(half) <= between + CALM {
            sleep(CALM);
            happened.loss = Some(lose_data(fleet));
            *happened.counts.entry("Redis killed and restarted without its data").or_default() += 1;
        } else if left(plan.lasts) <= between {
            sleep(left(plan.lasts));
            break;
        } else {
            sleep(between);
            let fault = faults.new_tree(random).unwrap().current();
            fault.happen(fleet);
            *happened.counts.entry(fault.name()).or_default() += 1;
        }
        pids(fleet);
    }
    for proxy in &fleet.proxies {
        proxy.wait_for_sidecar();
    }
    happened
}

fn lose_data(fleet: &mut Fleet) -> Loss {
    let since_epoch =
        || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let (from, from_ms) = (Instant::now(), since_epoch());
    fleet.redis.kill();
    fleet.redis.lose_data();
    fleet.redis.restart();
    Loss { from, to: Instant::now(), from_ms, to_ms: since_epoch() + 1 }
}
