//! The scripts of `lua/` on a real Redis, called as the sidecar calls them, at a time that the test chooses.

use crate::redis::Redis;
use llm_rate_limit::quantity::Units;
use llm_rate_limit::store::keys::Keyspace;
use llm_rate_limit::store::wire::{Charge, IfAbsent, OpenResponse, ScopeCharges, Settle};
use llm_rate_limit::usage::learned_prompt::{Factors, Lesson};
use llm_rate_limit::window::WindowState;
use llm_rate_limit_cli::metrics::Metrics;
use llm_rate_limit_cli::store::Store;
use llm_rate_limit_cli::store::call::{self, Call};
use llm_rate_limit_cli::store::grants::{self, Action, Change, Changed};
use llm_rate_limit_cli::store::learning;
use llm_rate_limit_cli::store::link::{Link, Timeouts};
use llm_rate_limit_cli::store::topology::Topology;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// When histories begin, in milliseconds since the epoch.
pub const BEGIN_MS: u64 = 1_700_000_000_000;

/// A Redis, and the sidecar's own code that calls scripts on it. All charges of a call share one scope.
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

    /// Runs calls in one round trip and returns for each its integers, or the error that Redis answered.
    ///
    /// # Panics
    /// If Redis is unavailable.
    pub fn run(&self, calls: &[Call<'_>]) -> Vec<Result<Vec<i64>, String>> {
        self.runtime.block_on(self.store.run(calls)).unwrap()
    }

    fn run_one(&self, call: Call<'_>) -> Vec<i64> {
        self.run(&[call]).remove(0).unwrap()
    }

    /// Reserves; returns whether the reservation was admitted, and the state of its windows.
    ///
    /// # Panics
    /// If the script fails or answers nonsense.
    pub fn reserve(&self, id: &str, charges: &[Charge], now_ms: u64) -> (bool, Vec<WindowState>) {
        let charges = team(charges);
        let reply = self.run_one(call::groups("", id, &charges).unwrap()[0].reserve(id, now_ms));
        (reply[0] == 1, call::window_states(&reply[1..]).unwrap())
    }

    /// Settles; returns whether it settled anything.
    ///
    /// # Panics
    /// If the script fails.
    pub fn settle(&self, id: &str, charges: &[Charge], if_absent: Option<IfAbsent>, now_ms: u64) -> bool {
        self.try_settle(&settlement(id, charges, if_absent, false), now_ms).unwrap() == 1
    }

    /// Extends; returns whether the extension took a window past its limit, or `None` if it extended nothing.
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
        match self.try_settle(&settlement(id, charges, if_absent, true), now_ms).unwrap() {
            0 => None,
            1 => Some(false),
            2 => Some(true),
            other => panic!("{other}"),
        }
    }

    /// Settles or extends `one`; returns what the script replies, or its error.
    ///
    /// # Errors
    /// The script's.
    ///
    /// # Panics
    /// If the charges cannot be made into a call, or the reply is empty.
    pub fn try_settle(&self, one: &Settle, now_ms: u64) -> Result<i64, String> {
        let groups = call::groups("", &one.id, &one.charges).unwrap();
        Ok(self.run(&[groups[0].settle(one, now_ms)]).remove(0)?[0])
    }

    /// Ends the leases of a reservation whose cost is still to come; returns whether there is one.
    ///
    /// # Panics
    /// If the script fails.
    pub fn detach(&self, id: &str, charges: &[Charge], now_ms: u64) -> bool {
        let open =
            OpenResponse { id: id.to_owned(), charges: team(charges).to_vec(), ..OpenResponse::default() };
        self.run_one(call::groups("", id, &open.charges).unwrap()[0].detach(&open, now_ms))[0] == 1
    }

    /// Changes the limit of `charge` by hand; returns what has become of it, or why nothing has changed. A grant ends
    /// at `until_ms`, 0 for the end of the window.
    ///
    /// # Errors
    /// The script's.
    ///
    /// # Panics
    /// If the change cannot be made into a call, or Redis does not answer.
    pub fn change(
        &self,
        action: Action,
        charge: &Charge,
        units: u64,
        until_ms: u64,
        now_ms: u64,
    ) -> Result<Changed, String> {
        let change = Change {
            identity: charge.identity.to_string(),
            scope: "team".to_owned(),
            namespace: String::new(),
            limit: charge.name.to_string(),
            window: charge.window.label(),
            configured: None,
            action,
            units: Units::new(units),
            until_ms: Some(until_ms.into()),
            by: "a test".to_owned(),
            reason: None,
            dry_run: false,
        };
        let command = [grants::invocation(&change, charge, now_ms).unwrap().by_source()];
        let mut replies = self.runtime.block_on(self.store.link().send(&command)).unwrap();
        grants::changed(charge, replies.remove(0)).map_err(|why| why.to_string())
    }

    /// Takes lessons about the counts of prompts; returns the factors in force.
    ///
    /// # Errors
    /// The script's.
    ///
    /// # Panics
    /// If Redis does not answer.
    pub fn learn(&self, lessons: &[Lesson]) -> Result<Factors, String> {
        let invocation = learning::invocation("", lessons).unwrap();
        let command = [invocation.by_source()];
        let mut replies = self.runtime.block_on(self.store.link().send(&command)).unwrap();
        learning::factors(replies.remove(0)).map_err(|why| why.to_string())
    }

    /// The state of the charges' windows.
    ///
    /// # Panics
    /// If the script fails or answers nonsense.
    pub fn peek(&self, charges: &[Charge], now_ms: u64) -> Vec<WindowState> {
        let charges = team(charges);
        let reply = self.run_one(call::groups("", "peek", &charges).unwrap()[0].peek(now_ms));
        call::window_states(&reply).unwrap()
    }

    /// The units used in each charge's window.
    ///
    /// # Panics
    /// If the script fails or answers nonsense.
    pub fn used(&self, charges: &[Charge], now_ms: u64) -> Vec<Units> {
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

/// The settlement of a reservation or, if `extend`, what brings it up to date.
pub fn settlement(id: &str, charges: &[Charge], if_absent: Option<IfAbsent>, extend: bool) -> Settle {
    Settle { id: id.to_owned(), if_absent, extend, charges: team(charges).to_vec(), ..Settle::default() }
}

/// `charges` in the scope of all of them.
pub fn team(charges: &[Charge]) -> [ScopeCharges; 1] {
    [ScopeCharges { scope: "team".into(), charges: charges.to_vec() }]
}

/// The key of a charge's counter.
///
/// # Panics
/// Never.
pub fn key(charge: &Charge) -> String {
    team(std::slice::from_ref(charge))[0].keys(Keyspace::new("")).next().unwrap()
}
