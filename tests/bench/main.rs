//! `make bench`: what the filter costs, as ratios to the same Envoy without it.
//!
//! Absolute numbers depend on the machine and on what else it does; so each case is measured side by side with its
//! baseline, in turns, and what is told is the median of the ratios of the turns.

use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Turns per case; odd, so that there is a median.
const TURNS: usize = 7;

/// Length of a turn.
const TURN: Duration = Duration::from_secs(2);

/// Connections that send one request after the other.
const CONNECTIONS: usize = 32;

/// Text of which one copy is about 1 KiB, and 230 tokens.
const PROSE: &str = "The quick brown fox jumps over the lazy dog while the band plays on. ";

fn main() {
    let upstream = MockLlm::start();
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    let plan = json!({"rpm": 100_000_000, "tpm": 100_000_000_000_u64, "rpd": 1_000_000_000});
    let at_redis = json!({"type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 2_000});

    let bare = without_filter(Setup::new(upstream.address())).concurrency(1).start();
    let local = Setup::new(upstream.address()).filter(&json!({"default": plan})).concurrency(1).start();
    let shared = Setup::new(upstream.address())
        .sidecar(sidecar.address().parse().unwrap())
        .filter(&json!({"store": at_redis, "default": plan}))
        .concurrency(1)
        .start();

    println!("requests a second, {CONNECTIONS} connections, one Envoy worker, three limits");
    println!("{:<44}{:>12}{:>12}{:>8}", "case", "bare Envoy", "filter", "ratio");
    for (size, copies) in [("1 KiB", 15), ("8 KiB", 120), ("100 KiB", 1_480)] {
        let body = chat(&json!(PROSE.repeat(copies)));
        for (store, envoy) in [("local", &local), ("redis", &shared)] {
            let (baseline, filtered, ratio) = compare(&bare, envoy, &body, CONNECTIONS);
            println!(
                "{:<44}{baseline:>12.0}{filtered:>12.0}{ratio:>8.2}",
                format!("prompt of {size}, {store} store")
            );
        }
    }

    println!();
    println!("one request at a time: a body of 20 MB, images in base64");
    let picture =
        format!("data:image/png;base64,{}", "iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAYAAAB".repeat(27_000));
    let part = json!({"type": "image_url", "image_url": {"url": picture}});
    let body = chat(&Value::Array(vec![part; 20]));
    println!("{:<44}{:>12}{:>12}{:>8}", "case", "bare Envoy", "filter", "ratio");
    let (baseline, filtered, ratio) = compare(&bare, &local, &body, 1);
    println!(
        "{:<44}{:>9.0} ms{:>9.0} ms{ratio:>8.2}",
        format!("{:.1} MB", body.len() as f64 / 1e6),
        1e3 / baseline,
        1e3 / filtered
    );
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
fn compare(baseline: &Envoy, candidate: &Envoy, body: &str, connections: usize) -> (f64, f64, f64) {
    let turns: Vec<(f64, f64)> =
        (0..TURNS).map(|_| (rate(baseline, body, connections), rate(candidate, body, connections))).collect();
    let of = |value: fn(&(f64, f64)) -> f64| median(turns.iter().map(value).collect());
    (of(|turn| turn.0), of(|turn| turn.1), of(|turn| turn.1 / turn.0))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Requests a second during one turn.
///
/// # Panics
/// If an answer is not a 200.
fn rate(envoy: &Envoy, body: &str, connections: usize) -> f64 {
    let (begin, done) = (Instant::now(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let agent: ureq::Agent =
                    ureq::Agent::config_builder().http_status_as_error(false).build().into();
                while begin.elapsed() < TURN {
                    let request =
                        agent.post(envoy.url("/v1/chat/completions")).content_type("application/json");
                    let mut answer = request.send(body).unwrap();
                    assert_eq!(answer.status().as_u16(), 200);
                    answer.body_mut().read_to_string().unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
}
