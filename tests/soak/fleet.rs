//! The processes of a soak: two Envoys, each with a sidecar of its own, one Redis that keeps its data, and an upstream.

use crate::routes;
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::process::{Process, free_port};
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::launch;
use serde_json::{Value, json};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the filter waits for the store.
const TIMEOUT_MS: u64 = 300;

/// A limit that nothing here reaches. A cap of [`crate::act::Ending::Refused`] is larger.
const PLENTY: u64 = 1_000_000_000_000;

/// Flags of a Redis that a kill costs nothing that it has answered.
const DURABLE: [&str; 6] =
    ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-min-size", "16mb"];

/// How long a process may take to be ready again on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The keys of which every charge is compared, each with its group.
pub const BOOKED: [(&str, Option<&str>); 6] = [
    ("booked-0", Some("red")),
    ("booked-1", Some("red")),
    ("booked-2", Some("blue")),
    ("booked-3", Some("blue")),
    ("booked-4", None),
    ("booked-5", None),
];

/// What an Envoy does without the store's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// It forwards.
    Allow,
    /// It answers 503.
    Deny,
    /// It counts by itself.
    Local,
}

impl OnError {
    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Local => "local",
        }
    }
}

/// An Envoy and its sidecar.
pub struct Proxy {
    /// The Envoy.
    pub envoy: Envoy,
    /// The sidecar.
    pub sidecar: Process,
    /// The sidecar's address.
    pub address: String,
    on_error: OnError,
    /// How often its configuration has changed.
    pub reloads: u64,
}

/// All of them.
pub struct Fleet {
    /// The first refuses without the store's answer, whatever happens; the second does as its era says.
    pub proxies: [Proxy; 2],
    /// The store.
    pub redis: Redis,
    /// The upstream.
    pub mock: Arc<MockLlm>,
}

impl Fleet {
    /// Starts all.
    pub fn start() -> Self {
        let redis = Redis::start_with(&DURABLE);
        let mock = MockLlm::start();
        // The first serves with two workers.
        let proxies = [2, 1].map(|workers| Proxy::start(workers, &redis, &mock));
        Self { proxies, redis, mock: Arc::new(mock) }
    }

    /// The ids of all processes: the Envoys, the sidecars, and Redis.
    pub fn ids(&self) -> [u32; 5] {
        let [first, second] = &self.proxies;
        [first.envoy.id(), second.envoy.id(), first.sidecar.id(), second.sidecar.id(), self.redis.id()]
    }
}

impl Proxy {
    fn start(workers: usize, redis: &Redis, mock: &MockLlm) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let sidecar = launch(&address, &redis.url(), &[]);
        let mut setup = Setup::new(mock.address()).concurrency(workers).sidecar(address.parse().unwrap());
        setup = setup.filter(&limits(OnError::Deny, 0)).reloadable();
        routes::add(&mut setup);
        let manager = routes::connection_manager(&mut setup);
        let format = &mut manager["access_log"][0]["typed_config"]["log_format"]["json_format"];
        // An hour's log should be small: only what the books need.
        let field = |name: &str| format!("%FILTER_STATE(wasm.llm_rate_limit.{name}:PLAIN)%");
        *format = json!({
            "number": "%REQ(X-STORM)%",
            "start": "%START_TIME(%s.%3f)%",
            "duration": "%DURATION%",
            "status": "%RESPONSE_CODE%",
            "flags": "%RESPONSE_FLAGS%",
            "decision": field("decision"),
            "name": field("name"),
            "model": field("model"),
            "estimated": field("estimated_input_tokens"),
            "reserved": field("reserved_output_tokens"),
            "input": field("input_tokens"),
            "output": field("output_tokens"),
            "outcome": field("outcome"),
        });
        let proxy = Self { envoy: setup.start(), sidecar, address, on_error: OnError::Deny, reloads: 0 };
        proxy.wait_for_sidecar();
        proxy
    }

    /// Waits until the sidecar is connected to Redis.
    pub fn wait_for_sidecar(&self) {
        let ready = || ureq::get(format!("http://{}/readyz", self.address)).call().is_ok();
        wait_until("the sidecar is ready", ready);
    }

    /// Starts the sidecar again, at the same place.
    pub fn restart_sidecar(&mut self, redis: &Redis) {
        self.sidecar = launch(&self.address, &redis.url(), &[]);
    }

    /// Loads a configuration that differs only in what a refusal says.
    pub fn reload(&mut self) {
        self.configure(self.on_error);
    }

    /// Loads a configuration with this `on_error`, and waits until Envoy has accepted it.
    pub fn configure(&mut self, on_error: OnError) {
        self.reloads += 1;
        self.on_error = on_error;
        self.envoy.reload(&limits(on_error, self.reloads).to_string()).expect("a good configuration");
    }

    /// Waits until a worker refuses as the last configuration says.
    pub fn wait_for_configuration(&self) {
        let message = message(self.reloads);
        let body = json!({"model": "tiny", "max_tokens": PLENTY + 1, "messages": []}).to_string();
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        wait_until("the new configuration is in force", || {
            let request = agent.post(self.envoy.url("/v1/chat/completions"));
            let request = request.header("authorization", "Bearer booked-0");
            let answer = request.content_type("application/json").send(&body);
            answer.is_ok_and(|mut answer| answer.body_mut().read_to_string().unwrap().contains(&message))
        });
    }
}

/// Waits for what must come.
///
/// # Panics
/// If it does not come in a minute.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "still waiting until {what}");
        sleep(Duration::from_millis(20));
    }
}

/// The sentence that tells one configuration from another.
fn message(number: u64) -> String {
    format!("refused by configuration {number}.")
}

fn limits(on_error: OnError, number: u64) -> Value {
    let day = |metric: &str| json!({"metric": metric, "limit": PLENTY, "window": "1d"});
    let short =
        |metric: &str, limit: u64, window: &str| json!({"metric": metric, "limit": limit, "window": window});
    let all = ["requests", "input_tokens", "output_tokens", "total_tokens"].map(day);
    let mut keys = vec![
        json!({"key": "tight-requests", "windows": [short("requests", crate::errand::TIGHT, "2s")]}),
        json!({"key": "tight-tokens", "windows": [
            short("total_tokens", crate::errand::TIGHT * crate::errand::TIGHT_TOKENS, "2s")
        ]}),
        json!({"key": "slots", "max_concurrency": crate::errand::SLOTS}),
        json!({"key": "patient", "max_wait_ms": 1000, "windows": [short("requests", 10, "1s")]}),
        json!({"key": "nothing", "rpm": 0}),
    ];
    for (key, group) in BOOKED {
        let mut booked = json!({"key": key, "plan": "booked"});
        if let Some(group) = group {
            booked["group"] = json!(group);
        }
        keys.push(booked);
    }
    for key in &mut keys {
        key["name"] = key["key"].clone();
    }
    json!({
        "store": {
            "type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": TIMEOUT_MS, "on_error": on_error.name(),
        },
        "plans": {"booked": {"windows": all}},
        "groups": {
            "red": {"windows": [day("requests"), day("total_tokens")]},
            "blue": {"windows": [day("requests"), day("input_tokens")]},
        },
        "keys": keys,
        "default": {"windows": [short("requests", 5, "10s"), short("total_tokens", 100_000, "10s")]},
        "models": {"gpt-4*": {"windows": [day("requests"), day("output_tokens")]}},
        "global": {"windows": all},
        "endpoints": {"/rejected/*": "reject"},
        "on_unreadable": "refuse",
        "output_reservation": {"mode": "declared"},
        "rejection": {"message": message(number)},
    })
}
