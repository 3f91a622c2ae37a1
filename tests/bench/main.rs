//! `make bench`: the cost of the filter, as ratios to the same Envoy without it.
//!
//! Absolute numbers depend on the machine and its load. So each case takes turns with its baseline, and the result is
//! the median of the ratios of the turns.

mod large_body;

use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Turns per case; odd, so that there is a median.
const TURNS: usize = 7;

/// Duration of a turn.
const TURN: Duration = Duration::from_secs(2);

/// Connections that send one request after the other.
const CONNECTIONS: usize = 32;

/// Text of which one copy is about 1 KiB, and 230 tokens.
const PROSE: &str = "The quick brown fox jumps over the lazy dog while the band plays on. ";

/// Has limits on requests and tokens.
const LIMITED: &str = "limited";

/// Has a limit that a body of 20 MB of text is too large for.
const BOUNDED: &str = "bounded";

/// Has limits on requests alone, for which no body is read.
const COUNTED: &str = "counted";

fn main() {
    let upstream = MockLlm::start();
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    let place = sidecar.address().parse().unwrap();
    let limits = |store: Value| {
        json!({"store": store, "keys": [
            {"key": LIMITED, "rpm": 100_000_000, "tpm": 100_000_000_000_u64, "rpd": 1_000_000_000},
            {"key": BOUNDED, "input_tpm": 1_000_000},
            {"key": COUNTED, "rpm": 100_000_000, "rpd": 1_000_000_000},
        ]})
    };
    let at_redis = json!({"type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 2_000});
    let setup = || Setup::new(upstream.address()).concurrency(1);
    let bare = without_filter(setup()).start();
    let local = setup().filter(&limits(json!({"type": "local"}))).start();
    let shared = setup().sidecar(place).filter(&limits(at_redis)).start();

    println!("requests a second, {CONNECTIONS} connections, one Envoy worker");
    println!("{:<44}{:>12}{:>12}{:>8}", "case", "bare Envoy", "filter", "ratio");
    for (case, key, copies) in [
        ("requests alone", COUNTED, 15),
        ("tokens of 1 KiB", LIMITED, 15),
        ("tokens of 8 KiB", LIMITED, 120),
        ("tokens of 100 KiB", LIMITED, 1_480),
    ] {
        let body = chat(&json!(PROSE.repeat(copies)));
        for (store, envoy) in [("local", &local), ("redis", &shared)] {
            let case = format!("{case}, {store} store");
            if !is_wanted(&case) {
                continue;
            }
            let (baseline, filtered, ratio) = compare(&bare, envoy, key, &body);
            println!("{case:<44}{baseline:>12.0}{filtered:>12.0}{ratio:>8.2}");
        }
    }

    if is_wanted("a large body") {
        large_body::compare(&bare, &local);
    }
    if is_wanted("beside a large prompt") {
        large_body::beside(&bare, &local);
    }
}

/// Whether to measure a case: all, or those with the argument in their names.
fn is_wanted(case: &str) -> bool {
    std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .is_none_or(|part| case.contains(&part))
}

fn chat(content: &Value) -> String {
    json!({"model": "gpt-4o", "max_tokens": 16, "messages": [{"role": "user", "content": content}]})
        .to_string()
}

/// The same Envoy with nothing but its router.
fn without_filter(mut setup: Setup) -> Setup {
    let filters = setup.http_filters().as_array_mut().unwrap();
    filters.retain(|filter| filter["name"] == "envoy.filters.http.router");
    setup
}

/// Requests a second of `baseline` and `candidate`, each its median, and the median of their ratios, turn by turn.
fn compare(baseline: &Envoy, candidate: &Envoy, key: &str, body: &str) -> (f64, f64, f64) {
    let turns: Vec<(f64, f64)> =
        (0..TURNS).map(|_| (rate(baseline, key, body), rate(candidate, key, body))).collect();
    let of = |value: fn(&(f64, f64)) -> f64| median(turns.iter().map(value).collect());
    (of(|turn| turn.0), of(|turn| turn.1), of(|turn| turn.1 / turn.0))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Requests a second during one turn.
fn rate(envoy: &Envoy, key: &str, body: &str) -> f64 {
    let (begin, done) = (Instant::now(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let client = Client::of(envoy, key);
                while begin.elapsed() < TURN {
                    client.ask(body, 200);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
}

/// A connection to an Envoy.
struct Client {
    agent: ureq::Agent,
    url: String,
    authorization: String,
}

impl Client {
    fn of(envoy: &Envoy, key: &str) -> Self {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Self { agent, url: envoy.url("/v1/chat/completions"), authorization: format!("Bearer {key}") }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Panics
    /// If that does not have this status.
    fn ask(&self, body: &str, status: u16) {
        let request = self.agent.post(&self.url).content_type("application/json");
        let mut answer = request.header("authorization", &self.authorization).send(body).unwrap();
        assert_eq!(answer.status().as_u16(), status);
        answer.body_mut().read_to_string().unwrap();
    }
}
