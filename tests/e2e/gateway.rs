//! What a test sends its requests to: an Envoy with the filter, its store, and a mock LLM behind it.
//!
//! Two gateways, one for each store, are shared by all tests that only need keys of their own: their configuration is
//! put together from the `keys` of each module. They start with the first test that asks, and stop when the process
//! exits, so that nothing outlives the tests, files included.

use crate::caller::{Answer, Caller};
use crate::routes;
use llm_rate_limit::identity::Identity;
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::process::free_port;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Where limits are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// In Envoy.
    Local,
    /// In Redis.
    Redis,
}

/// Who is not in the shared configuration's keys has these limits, and counters of his own.
pub const STRANGER_TOKENS: u64 = 1_000_000;

/// How long a test waits for what should happen soon. A machine that does much else may take long.
const WITHIN: Duration = Duration::from_secs(30);

/// A running gateway. Its fields go in their order: Envoy first.
pub struct Gateway {
    /// The proxy.
    pub envoy: Envoy,
    /// What counts, if Envoy does not.
    pub fleet: Option<Fleet>,
    /// What is protected.
    pub mock: MockLlm,
}

/// What several Envoys can share.
pub struct Fleet {
    /// Counts.
    pub sidecar: Sidecar,
    /// Remembers.
    pub redis: Redis,
}

impl Fleet {
    /// A sidecar on a Redis, both of their own, ready.
    pub async fn start() -> Self {
        let redis = Redis::start();
        // A sidecar that takes this one's place must be able to listen on the same port.
        let listen = format!("127.0.0.1:{}", free_port());
        let sidecar = Sidecar::start(&redis.url(), &[("LISTEN", &listen)]);
        sidecar.wait_until_ready_is(200).await;
        Self { sidecar, redis }
    }

    /// Where the sidecar listens.
    pub fn address(&self) -> SocketAddr {
        self.sidecar.address().parse().unwrap()
    }
}

impl Store {
    /// The gateway that tests share.
    pub async fn gateway(self) -> Arc<Gateway> {
        static STOPS: Once = Once::new();
        STOPS.call_once(|| {
            // SAFETY: the function is there as long as the process is, and does not unwind.
            unsafe { nix::libc::atexit(stop_shared) };
        });
        let mut shared = self.shared().lock().await;
        if let Some(gateway) = &*shared {
            return Arc::clone(gateway);
        }
        let mut limits = shared_limits();
        limits["store"] = self.configuration();
        let gateway = Gateway::start_with(self, |setup| setup.filter(&limits).concurrency(2)).await;
        let gateway = Arc::new(gateway);
        Arc::clone(shared.insert(gateway))
    }

    fn shared(self) -> &'static Mutex<Option<Arc<Gateway>>> {
        static LOCAL: Mutex<Option<Arc<Gateway>>> = Mutex::const_new(None);
        static REDIS: Mutex<Option<Arc<Gateway>>> = Mutex::const_new(None);
        match self {
            Self::Local => &LOCAL,
            Self::Redis => &REDIS,
        }
    }

    /// The `store` of a filter's configuration. Nothing here is about slow stores, so the time that one has is long.
    pub fn configuration(self) -> Value {
        match self {
            Self::Local => json!({"type": "local"}),
            Self::Redis => json!({
                "type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 10_000, "on_error": "deny"
            }),
        }
    }
}

/// Statics are never dropped, and what is not dropped leaves its files behind.
extern "C" fn stop_shared() {
    for store in [Store::Local, Store::Redis] {
        if let Ok(mut shared) = store.shared().try_lock() {
            *shared = None;
        }
    }
}

impl Gateway {
    /// A gateway whose filter is configured with `limits` and this store.
    pub async fn start(store: Store, mut limits: Value) -> Self {
        limits["store"] = store.configuration();
        Self::start_with(store, |setup| setup.filter(&limits)).await
    }

    /// A gateway from the shipped configuration as `change` leaves it; its store must be `store`. It has one worker if
    /// nobody asks for more, which starts sooner.
    pub async fn start_with(store: Store, change: impl FnOnce(Setup) -> Setup) -> Self {
        let fleet = match store {
            Store::Local => None,
            Store::Redis => Some(Fleet::start().await),
        };
        let mock = MockLlm::start();
        let mut setup = Setup::new(mock.address()).concurrency(1);
        if let Some(fleet) = &fleet {
            setup = setup.sidecar(fleet.address());
        }
        routes::add(&mut setup);
        let envoy = change(setup).start();
        Self { envoy, fleet, mock }
    }

    /// Somebody who sends `authorization: Bearer <key>`.
    pub fn caller(&self, key: &str) -> Caller {
        Caller::new(&self.envoy.url(""), key)
    }

    /// What is used of the limit `name` of `key`, by the sidecar, which lists what is used only; none if it cannot tell
    /// at the moment.
    ///
    /// # Panics
    /// If there is no sidecar.
    pub async fn used(&self, key: &str, name: &str) -> Option<u64> {
        let address = self.fleet.as_ref().unwrap().address();
        let url = format!("http://{address}/v1/usage?identity={}", Identity::of_key(key).id());
        let usage: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let windows = usage["windows"].as_array()?;
        let window = windows.iter().find(|window| window["name"] == name);
        Some(window.map_or(0, |window| window["used"].as_u64().unwrap()))
    }

    /// Waits until this gateway has seen and finished all that clients have sent, and its store knows what each request
    /// cost, so that books can be compared. Every client must have closed its connections: drop it first.
    ///
    /// # Panics
    /// If that is not so in time.
    pub async fn at_rest(&self) {
        let envoy = &self.envoy;
        // What a client that has left sent before may still be in the kernel.
        eventually("connections of clients", 0, async || envoy.connections()).await;
        // A request is in the log once its stream has ended, and the filter has settled by then.
        eventually("requests under way, and finished ones that are not in the log", (0, 0), async || {
            let stat = |name: &str| envoy.stat(&format!("http.llm.downstream_rq_{name}")).unwrap();
            let ended = envoy.access_log().iter().filter(|line| is_of_an_end(line)).count() as u64;
            (stat("active"), stat("total") - ended)
        })
        .await;
        eventually("requests upstream", 0, async || self.mock.report().in_flight).await;
        let Some(Fleet { sidecar, .. }) = &self.fleet else { return };
        // In this order: a reservation that is under way is counted before its call ends.
        eventually("calls to the sidecar under way, and reservations not settled", (0, 0.0), async || {
            let calls = envoy.stat("cluster.rate-limit-sidecar.upstream_rq_active").unwrap();
            let metric = async |name: &str| sidecar.metric(&format!("llm_rate_limit_sidecar_{name}")).await;
            let admitted = metric(r#"reservations_total{outcome="admitted"}"#).await;
            let settled = metric(r#"settlements_total{outcome="settled"}"#).await;
            (calls, admitted - settled)
        })
        .await;
    }

    /// Waits until `key` has used exactly this much input and output and this many requests, by a request that is
    /// refused, and by the sidecar if there is one. The key must have the limits of [`STRANGER_TOKENS`].
    ///
    /// # Panics
    /// If it has not in time.
    pub async fn charged(&self, key: &str, requests: u64, input: u64, output: u64) {
        let caller = self.caller(key);
        let expected = [requests, input, output, input + output];
        eventually(&format!("requests, input, output and total charged to {key}"), expected, async || {
            used_by(&caller.too_large().await)
        })
        .await;
        if self.fleet.is_some() {
            let mut used = [0; 4];
            for (used, name) in
                used.iter_mut().zip(["requests", "input_tokens", "output_tokens", "total_tokens"])
            {
                *used = self.used(key, name).await.expect("the sidecar can tell");
            }
            assert_eq!(used, expected, "by /v1/usage");
        }
    }
}

/// Whether a line of the access log is about a request that has ended, as all are unless Envoy also logs beginnings.
pub fn is_of_an_end(line: &Value) -> bool {
    line["access_log_type"] != "DownstreamStart"
}

/// What an answer's headers say is used of requests, input, output and total tokens.
pub fn used_by(answer: &Answer) -> [u64; 4] {
    ["requests", "input-tokens", "output-tokens", "tokens"].map(|what| {
        answer.number(&format!("x-ratelimit-limit-{what}"))
            - answer.number(&format!("x-ratelimit-remaining-{what}"))
    })
}

/// Waits until `look` sees `expected`.
///
/// # Panics
/// If it does not in time, with what it saw last.
pub async fn eventually<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, look: impl AsyncFn() -> T) {
    let deadline = Instant::now() + WITHIN;
    loop {
        let seen = look().await;
        if seen == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: expected {expected:?}, still seeing {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What all shared gateways are limited by.
fn shared_limits() -> Value {
    strangers(json!({"keys": crate::keys()}))
}

/// Limits for whoever is not in the keys that `members` may have: counters of his own that nobody fills by chance.
pub fn strangers(members: Value) -> Value {
    // An hour: nothing leaves the windows while a test runs, however slow the machine is.
    let window = |metric: &str, limit: u64| json!({"metric": metric, "limit": limit, "window": "1h"});
    let windows = [
        window("requests", 1000),
        window("input_tokens", STRANGER_TOKENS),
        window("output_tokens", STRANGER_TOKENS),
        window("total_tokens", 2 * STRANGER_TOKENS),
    ];
    let mut limits = json!({
        "plans": {
            "stranger": {"windows": windows},
        },
        "default": {"plan": "stranger"},
        // What is reserved must not depend on which tests ran before.
        "output_reservation": {"mode": "declared"},
    });
    limits.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    limits
}
