//! The scripts of `lua/` on a real Redis, called the way the sidecar calls them, at a time of the test's choice.

use crate::redis::Redis;
use llm_rate_limit::store::wire::{Charge, IfAbsent, Settle, WindowState};
use llm_rate_limit::window::Window;
use llm_rate_limit_cli::metrics::Metrics;
use llm_rate_limit_cli::store::Store;
use llm_rate_limit_cli::store::call::{self, Call};
use llm_rate_limit_cli::store::link::{Link, Timeouts};
use llm_rate_limit_cli::store::topology::Topology;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// When histories begin, in milliseconds since the epoch.
pub const BEGIN_MS: u64 = 1_700_000_000_000;

/// A Redis and the sidecar's own way to call scripts on it. All charges of a call share one scope.
#[derive(Debug)]
pub struct Scripts {
    /// The Redis.
    pub redis: Redis,
    store: Store,
    runtime: Runtime,
}

impl Scripts {
    /// Starts a Redis and connects to it.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Self {
        let redis = Redis::start();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let store = runtime.block_on(async {
            let timeouts = Timeouts { answer: Duration::from_secs(10), connect: Duration::from_secs(10) };
            let metrics = Arc::new(Metrics::new());
            let topology = Topology::parse(&redis.url(), timeouts.answer, timeouts.connect).unwrap();
            let link = Link::start(topology, timeouts, 64, Arc::clone(&metrics));
            let deadline = Instant::now() + Duration::from_secs(10);
            while link.ping().await.is_err() {
                assert!(Instant::now() < deadline, "no connection to Redis");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Store::new(link, metrics)
        });
        Self { redis, store, runtime }
    }

    /// Runs calls in one round trip; for each its integers, or the error that Redis answered.
    ///
    /// # Panics
    /// If Redis is unavailable.
    pub fn run(&self, calls: &[Call]) -> Vec<Result<Vec<i64>, String>> {
        self.runtime.block_on(self.store.run(calls)).unwrap()
    }

    fn run_one(&self, call: Call) -> Vec<i64> {
        self.run(&[call]).remove(0).unwrap()
    }

    /// Whether the reservation was admitted, and how its windows stand.
    ///
    /// # Panics
    /// If the script fails or answers nonsense.
    pub fn reserve(&self, id: &str, charges: &[Charge], now_ms: u64) -> (bool, Vec<WindowState>) {
        let reply = self.run_one(call::groups(id, charges).unwrap()[0].reserve(id, now_ms));
        (reply[0] == 1, call::window_states(&reply[1..]).unwrap())
    }

    /// Whether there was something to settle.
    ///
    /// # Panics
    /// If the script fails.
    pub fn settle(&self, id: &str, charges: &[Charge], if_absent: Option<IfAbsent>, now_ms: u64) -> bool {
        self.run_one(settle(id, charges, if_absent, false, now_ms)) == [1]
    }

    /// Whether there was something to extend, and then whether it took a window past its limit.
    ///
    /// # Panics
    /// If the script fails.
    pub fn extend(
        &self,
        id: &str,
        charges: &[Charge],
        if_absent: Option<IfAbsent>,
        now_ms: u64,
    ) -> Option<bool> {
        match self.run_one(settle(id, charges, if_absent, true, now_ms))[..] {
            [0] => None,
            [1] => Some(false),
            [2] => Some(true),
            ref other => panic!("{other:?}"),
        }
    }

    /// How windows stand.
    ///
    /// # Panics
    /// If the script fails or answers nonsense.
    pub fn peek(&self, charges: &[Charge], now_ms: u64) -> Vec<WindowState> {
        let reply = self.run_one(call::groups("peek", charges).unwrap()[0].peek(now_ms));
        call::window_states(&reply).unwrap()
    }

    /// Units used, for each charge.
    ///
    /// # Panics
    /// If the script fails or answers nonsense.
    pub fn used(&self, charges: &[Charge], now_ms: u64) -> Vec<u64> {
        self.peek(charges, now_ms).iter().map(|state| state.used).collect()
    }

    /// All keys in Redis.
    ///
    /// # Panics
    /// If Redis does not answer.
    pub fn keys(&self) -> Vec<String> {
        self.redis.ask(&["KEYS", "*"])
    }
}

/// The call that settles or extends.
///
/// # Panics
/// If the charges cannot be made into one.
pub fn settle(id: &str, charges: &[Charge], if_absent: Option<IfAbsent>, extend: bool, now_ms: u64) -> Call {
    let one = Settle { id: id.to_owned(), if_absent, extend, charges: charges.to_vec() };
    call::groups(id, charges).unwrap()[0].settle(&one, now_ms)
}

/// A charge to a counter of one identity, all under one scope.
pub fn charge(name: &str, window: Window, limit: u64, cost: u64) -> Charge {
    Charge {
        scope: "team".to_owned(),
        identity: "key".to_owned(),
        name: name.to_owned(),
        window,
        limit,
        cost,
        enforced: true,
    }
}
