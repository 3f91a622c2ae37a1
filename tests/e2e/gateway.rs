//! A gateway to send requests to: an Envoy with the filter, its store, and a mock LLM behind it.
//!
//! Two gateways, one for each store, serve all tests that only need keys of their own. Their configuration consists of
//! the `keys` of every module. They start with the first test that needs them and stop when the process exits, so that
//! no process or file outlives the tests.
//!
//! A test that compares counts waits until they are final, and never for a while: [`eventually`] for one value that
//! must come, [`Gateway::at_rest`] before books are compared.

use crate::caller::{Answer, Caller};
use crate::routes;
use llm_rate_limit::identity::Identity;
pub use llm_rate_limit_tests::chat::eventually;
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::process::free_port;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Once};
use tokio::sync::Mutex;

/// The place where limits are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// In Envoy.
    Local,
    /// In Redis.
    Redis,
}

/// The limit on input and on output tokens for strangers: keys that are not in the configuration.
pub const STRANGER_TOKENS: u64 = 1_000_000;

/// A running gateway. Rust drops its fields in this order: Envoy stops first.
pub struct Gateway {
    /// The proxy.
    pub envoy: Envoy,
    /// The sidecar and Redis, if they count.
    pub fleet: Option<Fleet>,
    /// The upstream.
    pub mock: MockLlm,
}

/// A sidecar and a Redis, which several Envoys can share.
pub struct Fleet {
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Its Redis.
    pub redis: Redis,
}

impl Fleet {
    /// Starts a Redis and a sidecar on it, and waits until both are ready.
    pub async fn start() -> Self {
        let redis = Redis::start();
        // Another sidecar may have to take its place on the same port.
        let listen = format!("127.0.0.1:{}", free_port());
        let sidecar = Sidecar::start(&redis.url(), &[("LISTEN", &listen)]);
        sidecar.wait_until_ready_is(200).await;
        Self { sidecar, redis }
    }

    /// The sidecar's address.
    pub fn address(&self) -> SocketAddr {
        self.sidecar.address().parse().unwrap()
    }
}

impl Store {
    /// The shared gateway with this store.
    pub async fn gateway(self) -> Arc<Gateway> {
        static STOPS: Once = Once::new();
        STOPS.call_once(|| {
            // SAFETY: the function exists as long as the process does, and does not unwind.
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

    /// The `store` of a filter's configuration. Its timeout is long: slow stores have tests of their own.
    pub fn configuration(self) -> Value {
        match self {
            Self::Local => json!({"type": "local"}),
            Self::Redis => json!({
                "type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 10_000, "on_error": "deny"
            }),
        }
    }
}

/// Rust never drops statics, and a gateway that is not dropped leaves its files behind.
extern "C" fn stop_shared() {
    for store in [Store::Local, Store::Redis] {
        if let Ok(mut shared) = store.shared().try_lock() {
            *shared = None;
        }
    }
}

impl Gateway {
    /// Starts a gateway with `limits` in this store.
    pub async fn start(store: Store, mut limits: Value) -> Self {
        limits["store"] = store.configuration();
        Self::start_with(store, |setup| setup.filter(&limits)).await
    }

    /// Starts a gateway from the shipped configuration after `change`, which must keep `store`. One worker is the
    /// default, because it starts sooner than two.
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

    /// A client that sends `authorization: Bearer <key>`.
    pub fn caller(&self, key: &str) -> Caller {
        Caller::new(&self.envoy.url(""), key)
    }

    /// The sidecar's count for the limit `name` of `key`; `None` while the sidecar cannot read it.
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

    /// Waits until Envoy has read and finished every request that clients have sent, and the store has the final cost
    /// of each. Books can be compared then. Drop the clients first: their connections must be closed.
    ///
    /// # Panics
    /// If the gateway is not at rest in time.
    pub async fn at_rest(&self) {
        let envoy = &self.envoy;
        // The kernel may still hold a request after its client has left.
        eventually("connections of clients", 0, async || envoy.connections()).await;
        // Envoy logs a request after the filter has settled it.
        eventually("requests under way, and finished ones that are not in the log", (0, 0), async || {
            let stat = |name: &str| envoy.stat(&format!("http.llm.downstream_rq_{name}")).unwrap();
            let ended = envoy.access_log().iter().filter(|line| is_of_an_end(line)).count() as u64;
            (stat("active"), stat("total") - ended)
        })
        .await;
        eventually("requests upstream", 0, async || self.mock.report().in_flight).await;
        self.settled().await;
    }

    /// Waits until Redis has settled all that it has admitted.
    pub async fn settled(&self) {
        let envoy = &self.envoy;
        let Some(Fleet { sidecar, .. }) = &self.fleet else { return };
        // In this order: the sidecar counts a reservation before the call that asks for it ends.
        eventually("calls to the sidecar under way, and reservations not settled", (0, 0.0), async || {
            let calls = envoy.stat("cluster.rate-limit-sidecar.upstream_rq_active").unwrap();
            let metric = async |name: &str| sidecar.metric(&format!("llm_rate_limit_sidecar_{name}")).await;
            let admitted = metric(r#"reservations_total{outcome="admitted"}"#).await;
            let settled = metric(r#"settlements_total{outcome="settled"}"#).await;
            let needless = metric(r#"settlements_total{outcome="needless"}"#).await;
            // What is needless may be settled all the same: its request was not served.
            (calls, (admitted - settled - needless).max(0.0))
        })
        .await;
    }

    /// Waits until `key`, which must be a stranger's, has used exactly these requests and tokens: in the headers of a
    /// refusal, and in `/v1/usage` if there is a sidecar. Where the reservation is as large, wait until the gateway is
    /// at rest first.
    ///
    /// # Panics
    /// If the counts differ after a while.
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
                *used = self.used(key, name).await.expect("the sidecar can read its counters");
            }
            assert_eq!(used, expected, "by /v1/usage");
        }
    }
}

/// Whether a line of the access log reports the end of a request. All do unless Envoy also logs beginnings.
pub fn is_of_an_end(line: &Value) -> bool {
    line["access_log_type"] != "DownstreamStart"
}

/// The requests, input, output and total tokens that are used, by the headers of an answer.
pub fn used_by(answer: &Answer) -> [u64; 4] {
    ["requests", "input-tokens", "output-tokens", "tokens"].map(|what| {
        answer.number(&format!("x-ratelimit-limit-{what}"))
            - answer.number(&format!("x-ratelimit-remaining-{what}"))
    })
}

/// The configuration of the shared gateways, without its store.
fn shared_limits() -> Value {
    strangers(json!({"keys": crate::keys()}))
}

/// A configuration with `members` and limits for strangers, each with counters of its own that no test fills by chance.
pub fn strangers(members: Value) -> Value {
    // An hour: no charge leaves its window during a test, however slow the machine is.
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
        // A learned reservation would depend on the tests that ran before.
        "output_reservation": {"mode": "declared"},
    });
    limits.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    limits
}
