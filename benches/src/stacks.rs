//! The gateways: an Envoy each, from the shipped configuration, and what counts for it.
//!
//! They write no access log unless that is measured: it costs each of them time, and so makes a filter look cheaper.

use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use tempfile::TempDir;

/// How many identities have a key of each kind.
pub const IDENTITIES: usize = 64;

/// A limit that no benchmark reaches.
const PLENTY: u64 = 1_000_000_000_000;

/// What an Envoy has before its router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing.
    Bare,
    /// Envoy's own filter for limits of one process, with one bucket of requests.
    LocalRateLimit,
    /// A wasm filter that does nothing.
    Empty,
    /// A wasm filter with the host calls that none can do without.
    Floor,
    /// A wasm filter that reads the request's headers and answers what this filter answers over its limit.
    Refuse,
    /// This filter, which counts in Envoy.
    Local,
    /// This filter, whose sidecar listens on TCP.
    Redis,
    /// This filter, whose sidecar listens on a unix socket.
    RedisUnix,
}

/// The keys of a limiter's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// No limit applies.
    Unlimited,
    /// A limit on requests.
    Requests,
    /// Limits on requests, input, output and all tokens.
    All,
    /// A limit of one request a minute.
    Over,
}

/// A gateway.
#[derive(Debug)]
pub struct Stack {
    /// Its Envoy.
    pub envoy: Envoy,
    /// The ids of its processes: Envoy, and if there are any, sidecar and Redis.
    pub processes: Vec<u32>,
    /// Redis and its sidecars, if they count for it.
    fleet: Option<Rc<Fleet>>,
}

/// All gateways, each started when it is first asked for.
#[derive(Debug)]
pub struct Stacks {
    upstream: SocketAddr,
    started: BTreeMap<(Kind, usize, bool), Stack>,
    fleet: OnceCell<Rc<Fleet>>,
}

/// A Redis, and a sidecar for each way to call it.
#[derive(Debug)]
pub struct Fleet {
    /// The Redis.
    pub redis: Redis,
    tcp: (Sidecar, u32),
    unix: (Sidecar, u32),
    directory: TempDir,
}

impl Key {
    /// The key of this kind of an identity.
    pub fn of(self, identity: usize) -> String {
        format!("{self:?}-{identity}").to_lowercase()
    }

    /// Its entry in the configuration, without the key itself.
    fn limits(self) -> Value {
        match self {
            Self::Unlimited => json!({"unlimited": true}),
            Self::Requests => json!({"rpm": PLENTY}),
            Self::All => json!({"rpm": PLENTY, "tpm": PLENTY, "input_tpm": PLENTY, "output_tpm": PLENTY}),
            Self::Over => json!({"rpm": 1}),
        }
    }
}

impl Kind {
    /// Its name for readers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare Envoy",
            Self::LocalRateLimit => "local_ratelimit",
            Self::Empty => "empty wasm filter",
            Self::Floor => "the floor",
            Self::Refuse => "wasm filter that refuses",
            Self::Local => "local",
            Self::Redis => "redis",
            Self::RedisUnix => "redis, unix socket",
        }
    }
}

impl Stack {
    /// The Redis that counts for it, if one does.
    pub fn redis(&self) -> Option<&Redis> {
        self.fleet.as_deref().map(|fleet| &fleet.redis)
    }
}

impl Fleet {
    /// Starts them.
    fn start() -> Self {
        let redis = Redis::start();
        let directory = tempfile::tempdir().unwrap();
        let with_id = |mut sidecar: Sidecar| {
            let id = sidecar.process().id();
            (sidecar, id)
        };
        let tcp = with_id(Sidecar::start(&redis.url(), &[]));
        let unix = with_id(Sidecar::start_unix(&directory.path().join("socket"), &redis.url(), &[]));
        Self { redis, tcp, unix, directory }
    }

    /// The sidecar that listens on TCP.
    pub fn sidecar(&self) -> &Sidecar {
        &self.tcp.0
    }

    /// The id of that sidecar's process.
    pub fn sidecar_id(&self) -> u32 {
        self.tcp.1
    }
}

impl Stacks {
    /// None yet; all will have this upstream.
    pub fn new(upstream: SocketAddr) -> Self {
        Self { upstream, started: BTreeMap::new(), fleet: OnceCell::new() }
    }

    /// The gateway of this kind with so many workers, with or without an access log.
    pub fn get(&mut self, kind: Kind, workers: usize, logs: bool) -> &Stack {
        let which = (kind, workers, logs);
        if !self.started.contains_key(&which) {
            let setup = match kind {
                Kind::Refuse => with_floor(self.setup(workers, logs), &self.refusal()),
                _ => self.of_kind(kind, workers, logs),
            };
            let stack = self.start_with(kind, setup);
            self.started.insert(which, stack);
        }
        &self.started[&which]
    }

    /// Stops all gateways; the Redis and the sidecars go on.
    pub fn stop(&mut self) {
        self.started.clear();
    }

    /// The Redis and the sidecars.
    pub fn fleet(&self) -> &Fleet {
        self.shared_fleet()
    }

    fn shared_fleet(&self) -> &Rc<Fleet> {
        self.fleet.get_or_init(|| Rc::new(Fleet::start()))
    }

    /// Starts a gateway from a setup of [`Stacks::of_kind`].
    pub fn start_with(&self, kind: Kind, setup: Setup) -> Stack {
        let envoy = setup.start();
        let mut processes = vec![envoy.id()];
        let has_redis = matches!(kind, Kind::Redis | Kind::RedisUnix);
        let fleet = has_redis.then(|| Rc::clone(self.shared_fleet()));
        if let Some(fleet) = &fleet {
            let sidecar = if kind == Kind::Redis { fleet.tcp.1 } else { fleet.unix.1 };
            processes.extend([sidecar, fleet.redis.id()]);
        }
        Stack { envoy, processes, fleet }
    }

    /// How a gateway of this kind is set up; [`Kind::Refuse`] as one that does nothing.
    pub fn of_kind(&self, kind: Kind, workers: usize, logs: bool) -> Setup {
        let setup = self.setup(workers, logs);
        match kind {
            Kind::Bare => in_place_of_the_filter(setup, None),
            Kind::LocalRateLimit => in_place_of_the_filter(setup, Some(local_rate_limit())),
            Kind::Empty | Kind::Refuse => with_floor(setup, &json!({"mode": "empty"})),
            Kind::Floor => with_floor(setup, &json!({"mode": "floor"})),
            Kind::Local => setup.filter(&limits(&json!({"type": "local"}))),
            Kind::Redis | Kind::RedisUnix => self.at_redis(kind, setup).filter(&limits(&redis_store())),
        }
    }

    /// `setup` with the sidecar's place.
    fn at_redis(&self, kind: Kind, setup: Setup) -> Setup {
        let fleet = self.fleet();
        if kind == Kind::Redis {
            setup.sidecar(fleet.tcp.0.address().parse().unwrap())
        } else {
            setup.sidecar_socket(&fleet.directory.path().join("socket"))
        }
    }

    /// A gateway with this filter whose keys are others than [`Key`]'s.
    pub fn limiter(&self, kind: Kind, workers: usize, mut configuration: Value) -> Stack {
        let setup = self.setup(workers, false);
        let setup = if kind == Kind::Local {
            configuration["store"] = json!({"type": "local"});
            setup
        } else {
            configuration["store"] = redis_store();
            self.at_redis(kind, setup)
        };
        self.start_with(kind, setup.filter(&configuration))
    }

    fn setup(&self, workers: usize, logs: bool) -> Setup {
        let mut setup = Setup::new(self.upstream).concurrency(workers);
        if logs {
            return setup;
        }
        let listener = &mut setup.config()["static_resources"]["listeners"][0];
        let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
        manager.as_object_mut().unwrap().remove("access_log");
        setup
    }

    /// The configuration of a filter that answers what this one answers over its limit.
    fn refusal(&mut self) -> Value {
        let envoy = &self.get(Kind::Local, 1, false).envoy;
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let ask = || {
            let request = agent.post(envoy.url("/v1/chat/completions")).content_type("application/json");
            request.header("authorization", format!("Bearer {}", Key::Over.of(0))).send("{}").unwrap()
        };
        ask();
        let mut refusal = ask();
        assert_eq!(refusal.status(), 429);
        let is_the_filters = |name: &str| !["date", "server", "content-length"].contains(&name);
        let headers = refusal.headers().iter().filter(|(name, _)| is_the_filters(name.as_str()));
        let headers: Vec<_> =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        json!({"mode": "refuse", "headers": headers, "body": refusal.body_mut().read_to_string().unwrap()})
    }
}

/// All keys, with their limits.
fn limits(store: &Value) -> Value {
    let kinds = [Key::Unlimited, Key::Requests, Key::All, Key::Over];
    let entry = |key: Key, identity| {
        let mut entry = key.limits();
        entry["key"] = json!(key.of(identity));
        entry
    };
    let keys: Vec<Value> =
        kinds.iter().flat_map(|key| (0..IDENTITIES).map(|identity| entry(*key, identity))).collect();
    json!({"store": store, "keys": keys, "default": {"rpm": PLENTY}})
}

fn redis_store() -> Value {
    json!({"type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 2_000, "on_error": "deny"})
}

/// The same Envoy with another filter in the limiter's place, or none.
fn in_place_of_the_filter(mut setup: Setup, filter: Option<Value>) -> Setup {
    let filters = setup.http_filters().as_array_mut().unwrap();
    filters.retain(|filter| filter["name"] == "envoy.filters.http.router");
    if let Some(filter) = filter {
        filters.insert(0, filter);
    }
    setup
}

/// The same Envoy with a filter of `benches/floor` in the limiter's place.
fn with_floor(mut setup: Setup, configuration: &Value) -> Setup {
    let path = wasm::root().join("target/wasm32-wasip1/release/llm_rate_limit_floor.wasm");
    let path = path.canonicalize().unwrap_or_else(|why| panic!("{}: {why}; run make bench", path.display()));
    setup.plugin()["vm_config"]["code"]["local"]["filename"] = json!(path);
    setup.plugin()["vm_config"]["vm_id"] = json!("floor");
    setup.filter(configuration)
}

fn local_rate_limit() -> Value {
    let tokens = 4_000_000_000_u32;
    let always = json!({"default_value": {"numerator": 100, "denominator": "HUNDRED"}});
    json!({
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "bench",
            "token_bucket": {"max_tokens": tokens, "tokens_per_fill": tokens, "fill_interval": "1s"},
            "filter_enabled": always,
            "filter_enforced": always,
        },
    })
}
