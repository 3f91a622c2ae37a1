//! Plays the clients that people use, and judges what each saw by what the filter reported of its requests.
//!
//! `scripts/compat/run.py` names the clients in the file of `COMPAT_ORDERS` and reads the verdicts from that of
//! `COMPAT_ANSWERS`. A client that does not fit is a verdict with its reason, not a failed test.

use llm_rate_limit_tests::chat::eventually;
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use serde::Deserialize;
use serde_json::{Value, json};
use std::env;
use std::fs;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Longer than any client runs: most of the time it loads its libraries, which a busy machine does slowly.
const RUNS_WITHIN: Duration = Duration::from_secs(240);

/// What a client is asked to retry at most after a refusal that can never fit.
const RETRIES: usize = 2;

/// A client to play.
#[derive(Deserialize)]
struct Order {
    id: String,
    api: String,
    command: Vec<String>,
}

/// Whether something holds, with what to note in its place on the page.
type Verdict = Result<Option<String>, String>;

/// The keys of a client; the scripts know how they are named.
fn keys(id: &str) -> [Value; 4] {
    let name = |limit: &str| format!("{limit}-{id}");
    // Longer than the first two pauses of a client that does not read `retry-after`.
    let soon = json!({"metric": "requests", "limit": 1, "window": "5s", "segments": 5});
    [
        json!({"key": name("plain"), "name": name("plain"), "rpd": 100, "tpd": 1_000_000}),
        json!({"key": name("refused"), "name": name("refused"), "rpd": 1}),
        json!({"key": name("soon"), "name": name("soon"), "windows": [soon]}),
        json!({"key": name("small"), "name": name("small"), "output_tpm": 100}),
    ]
}

#[tokio::test]
#[ignore = "needs the clients that make compat fetches"]
async fn each_client_plays() {
    let orders = fs::read(env::var_os("COMPAT_ORDERS").expect("COMPAT_ORDERS")).unwrap();
    let orders: Vec<Order> = serde_json::from_slice(&orders).unwrap();
    let (mock, redis) = (MockLlm::start(), Redis::start());
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let limits = json!({
        "store": {"type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 10_000, "on_error": "deny"},
        "keys": orders.iter().flat_map(|order| keys(&order.id)).collect::<Vec<_>>(),
        "default": "reject",
    });
    let setup = Setup::new(mock.address()).sidecar(sidecar.address().parse().unwrap());
    let envoy = setup.concurrency(1).filter(&limits).start();
    let mut verdicts = json!({});
    for order in &orders {
        let seen = run(order, &envoy).await;
        at_rest(&envoy).await;
        let judged = judge(order, &seen, &envoy);
        eprintln!("compat: {}: {judged}", order.id);
        verdicts[&order.id] = judged;
    }
    fs::write(env::var_os("COMPAT_ANSWERS").expect("COMPAT_ANSWERS"), verdicts.to_string()).unwrap();
}

/// Runs a client; what it reports, or why it reports nothing.
async fn run(order: &Order, envoy: &Envoy) -> Result<Value, String> {
    let mut client = Command::new(&order.command[0]);
    client.args(&order.command[1..]).args([&envoy.url(""), &order.id, &order.api]);
    let output = client.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(RUNS_WITHIN, output).await.map_err(|_| "it hangs".to_owned())?;
    let output = output.map_err(|why| format!("it does not start: {why}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let text = String::from_utf8_lossy(&output.stdout);
    let report = text.lines().last().unwrap_or_default();
    serde_json::from_str(report).map_err(|_| format!("it ends with: {last}"))
}

/// Waits until the log has every request.
async fn at_rest(envoy: &Envoy) {
    eventually("requests that are not in the log", 0, async || {
        envoy.stat("http.llm.downstream_rq_total").unwrap() - envoy.access_log().len() as u64
    })
    .await;
}

fn judge(order: &Order, seen: &Result<Value, String>, envoy: &Envoy) -> Value {
    let lines = |limit: &str| -> Vec<Value> {
        let name = format!("{limit}-{}", order.id);
        envoy.access_log().into_iter().filter(|line| line["name"] == name).collect()
    };
    let verdict = |judge: &dyn Fn(&Value) -> Verdict| match seen.clone().and_then(|seen| judge(&seen)) {
        Ok(None) => json!({"holds": true}),
        Ok(Some(note)) => json!({"holds": true, "note": note}),
        Err(why) => json!({"holds": false, "note": why}),
    };
    json!({
        "answers": verdict(&|seen| answer(&seen["answer"], lines("plain").first())),
        "streams": verdict(&|seen| answer(&seen["stream"], lines("plain").get(1))),
        "429": verdict(&refusal),
        "waits as told": verdict(&|seen| wait(&seen["waited"], &lines("soon"))),
        "gives up as told": verdict(&|seen| end(&seen["too_large"], lines("small").len())),
    })
}

/// The client has the whole text, and shows the usage that the filter charged.
fn answer(seen: &Value, logged: Option<&Value>) -> Verdict {
    let Some(text) = seen["text"].as_str() else { return Err(error(seen)) };
    if text != ["token"; 16].join(" ") {
        return Err(format!("it has the text {text:?}"));
    }
    let number = |member: &str| logged.and_then(|line| line[member].as_str()?.parse::<u64>().ok());
    let charged = json!([number("input_tokens"), number("output_tokens")]);
    if seen["usage"] == charged {
        Ok(None)
    } else {
        Err(format!("it shows {} tokens, and {charged} were charged", seen["usage"]))
    }
}

/// The client's own error, which has the filter's message, for a request and for a stream.
fn refusal(seen: &Value) -> Verdict {
    if !seen["first"]["text"].is_string() {
        return Err(error(&seen["first"]));
    }
    let mut name = String::new();
    for refused in ["refused", "refused_stream"] {
        let refused = &seen[refused];
        if refused["own"] != true || !refused["message"].as_str().unwrap_or_default().contains("Rate limit") {
            return Err(error(refused));
        }
        name =
            refused["class"].as_str().unwrap_or_default().rsplit('.').next().unwrap_or_default().to_owned();
    }
    Ok(Some(format!("`{name}`")))
}

/// One refusal, and then an answer that comes no sooner than the refusal said.
fn wait(seen: &Value, lines: &[Value]) -> Verdict {
    let refusals = lines.iter().filter(|line| line["status"] == 429).count();
    if !seen["text"].is_string() {
        return Err(format!("{} after {refusals} refusals", error(seen)));
    }
    let told = lines.iter().find_map(|line| line["retry_after_ms"].as_str()?.parse::<u64>().ok());
    match (refusals, told, seen["ms"].as_u64()) {
        (1, Some(told), Some(waited)) if waited >= told => Ok(None),
        _ => Err(format!("it comes {refusals} times too early, by pauses of its own")),
    }
}

/// No second attempt.
fn end(seen: &Value, attempts: usize) -> Verdict {
    match attempts {
        _ if seen["text"].is_string() => Err("it has an answer".to_owned()),
        1 => Ok(None),
        _ => Err(format!("it tries again, {} times of {RETRIES}", attempts - 1)),
    }
}

fn error(seen: &Value) -> String {
    format!(
        "`{}`: {}",
        seen["class"].as_str().unwrap_or("no error"),
        seen["message"].as_str().unwrap_or_default()
    )
}
