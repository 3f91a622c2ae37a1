//! A burst, and `docs/burst.svg`: how many of 50 requests for 1,000 tokens a gateway admits at once under a limit of
//! 10,000. Ours are counted here, on real Envoys; the others' numbers are in `benches/peers.json`, with their date.

use crate::chart::STYLE;
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How many requests come at once.
const REQUESTS: usize = 50;

/// The tokens that each asks for (`max_tokens`), and uses.
const TOKENS: usize = 1_000;

/// The tokens of output that the key may use in a minute.
const LIMIT: usize = 10_000;

/// The gate of the mock that holds every answer back until all requests are decided.
const GATE: &str = "burst";

/// How long the decisions may take.
const DECIDED_WITHIN: Duration = Duration::from_secs(50);

/// A gateway, and how many requests it admitted.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    name: String,
    admitted: usize,
    is_ours: bool,
}

/// Sends the burst to one Envoy that counts by itself, and to two that share a Redis.
///
/// # Panics
/// If a gateway does not start, or a request is answered by neither 200 nor 429.
pub fn measure() -> Vec<Row> {
    let configuration =
        |store: Value| json!({"store": store, "keys": [{"key": "burst", "output_tpm": LIMIT}]});
    let upstream = MockLlm::start();
    let one = Setup::new(upstream.address()).filter(&configuration(json!({"type": "local"}))).start();
    let local = admitted(&[one], &upstream);

    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    let store = json!({
        "type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 10_000, "on_error": "deny",
    });
    let upstream = MockLlm::start();
    let setup = Setup::new(upstream.address()).sidecar(sidecar.address().parse().unwrap());
    let setup = setup.filter(&configuration(store));
    let shared = admitted(&[setup.clone().start(), setup.start()], &upstream);

    let ours =
        |name: &str, admitted| Row { name: format!("llm-rate-limit, {name}"), admitted, is_ours: true };
    vec![ours("one Envoy", local), ours("two Envoys", shared)]
}

/// How many of the requests these Envoys admit, which get them in turns. No answer ends before all are decided.
fn admitted(envoys: &[Envoy], upstream: &MockLlm) -> usize {
    let body = json!({
        "model": "gpt-4o", "max_tokens": TOKENS, "messages": [{"role": "user", "content": "Hi"}],
    });
    let body = body.to_string();
    let refused = AtomicUsize::new(0);
    let ask = |envoy: &Envoy| {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.post(envoy.url("/v1/chat/completions")).header("authorization", "Bearer burst");
        let request = request.header("x-mock-gate", GATE);
        let answer = request.header("x-mock-completion-tokens", TOKENS.to_string()).send(&body);
        match answer.unwrap().status().as_u16() {
            200 => true,
            429 => {
                refused.fetch_add(1, Ordering::SeqCst);
                false
            }
            other => panic!("an answer of {other}"),
        }
    };
    thread::scope(|scope| {
        let asked: Vec<_> =
            (0..REQUESTS).map(|at| scope.spawn(move || ask(&envoys[at % envoys.len()]))).collect();
        let deadline = Instant::now() + DECIDED_WITHIN;
        let decided =
            || refused.load(Ordering::SeqCst) + usize::try_from(upstream.report().requests).unwrap();
        while decided() < REQUESTS && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        upstream.let_through(GATE, REQUESTS * 2);
        asked.into_iter().map(|one| usize::from(one.join().unwrap())).sum()
    })
}

/// The gateways of `benches/peers.json`, from the one that admitted least.
///
/// # Panics
/// If the file is not as it should be.
pub fn peers() -> Vec<Row> {
    let text = fs::read_to_string(wasm::root().join("benches/peers.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let row = |gateway: &Value| {
        let version = gateway["version"].as_str().map_or_else(String::new, |version| format!(" {version}"));
        let name = format!("{}{version}", gateway["name"].as_str().unwrap());
        Row {
            name,
            admitted: usize::try_from(gateway["admitted"].as_u64().unwrap()).unwrap(),
            is_ours: false,
        }
    };
    file["gateways"].as_array().unwrap().iter().map(row).collect()
}

/// What readers of the results see of it.
pub fn report(ours: &[Row]) -> String {
    let mut text = format!(
        "## A burst\n\n{REQUESTS} requests for {TOKENS} tokens at once, with a key that may use {LIMIT} a minute. The \
         others' numbers are of [peers.json](peers.json), which says how they were measured.\n\n\
         | | admitted |\n|---|---|\n"
    );
    for Row { name, admitted, .. } in ours.iter().chain(&peers()) {
        let _ = writeln!(text, "| {name} | {admitted} |");
    }
    text
}

const WIDTH: usize = 820;
/// Where a row's squares begin, and how far one is from the next.
const LEFT: usize = 240;
const STEP: usize = 9;
const TOP: usize = 72;
const ROW: usize = 30;

/// The picture: a square for each request, filled if it was admitted.
pub fn svg(ours: &[Row]) -> String {
    let peers = peers();
    let rows: Vec<&Row> = ours.iter().chain(&peers).collect();
    let bottom = TOP + ROW * rows.len();
    let height = bottom + 30;
    let limit = LEFT + STEP * LIMIT / TOKENS - 1;
    let title =
        format!("{REQUESTS} requests for 1,000 tokens each, at once, under a limit of 10,000 a minute");
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>{title}: how many are admitted</title>\n<style>{STYLE}\
         .over{{fill:#cf222e}}.none{{fill:none;stroke:#8c959f;stroke-opacity:.45}}\
         @media(prefers-color-scheme:dark){{.over{{fill:#f85149}}}}</style>\n\
         <text class=\"title\" x=\"12\" y=\"24\">{title}</text>\n\
         <text class=\"small\" x=\"{limit}\" y=\"52\" text-anchor=\"middle\">the limit</text>\n\
         <line class=\"line\" x1=\"{limit}\" x2=\"{limit}\" y1=\"58\" y2=\"{bottom}\" stroke-dasharray=\"3 3\"/>\n"
    );
    for (at, Row { name, admitted, is_ours }) in rows.iter().enumerate() {
        let y = TOP + ROW * at;
        let class = if *is_ours { "title" } else { "" };
        let _ = writeln!(
            svg,
            "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>",
            LEFT - 10,
            y + 12
        );
        for request in 0..REQUESTS {
            let class = match request {
                request if request >= *admitted => "none",
                request if request >= LIMIT / TOKENS => "over",
                _ if *is_ours => "ours",
                _ => "other",
            };
            let x = LEFT + STEP * request;
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"7\" height=\"14\" rx=\"1\"/>"
            );
        }
        let x = LEFT + STEP * REQUESTS + 8;
        let _ = writeln!(svg, "\n<text x=\"{x}\" y=\"{}\">{admitted} admitted</text>", y + 12);
    }
    let _ = writeln!(
        svg,
        "<text class=\"small\" x=\"12\" y=\"{}\">llm-rate-limit: make bench CASE=burst, on real Envoys. The others: \
         November 2026, benches/peers.json. LiteLLM's limit counts the prompts too.</text>\n</svg>",
        bottom + 20
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Neither more than the limit holds, nor less, and the picture says so. `UPDATE_DOCS=1` writes it.
    #[test]
    fn the_picture_is_what_envoy_does() {
        let ours = measure();
        assert!(ours.iter().all(|row| row.admitted == LIMIT / TOKENS), "{ours:?}");
        let path = wasm::root().join("docs/burst.svg");
        let picture = svg(&ours);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &picture).unwrap();
        }
        let is_new = fs::read_to_string(&path).is_ok_and(|found| found == picture);
        assert!(is_new, "make bench CASE=burst writes docs/burst.svg");
    }
}
