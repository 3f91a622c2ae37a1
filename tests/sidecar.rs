//! The sidecar's calls, on a real Redis and by its real binary: batches, limits, the token, usage, metrics, sockets.
//!
//! `sidecar_outage.rs` has outages and shutdown, and `sidecar_topology.rs` clusters and sentinels.

use llm_rate_limit::quantity::{Millis, NonZeroMillis};
use llm_rate_limit::store::Answer;
use llm_rate_limit::store::keys::Keyspace;
use llm_rate_limit::store::reservations::ReserveQueue;
use llm_rate_limit::store::sidecar::Kind;
use llm_rate_limit::store::wire::{Charge, Reserve, Reserved, ScopeCharges, Settle, Settled};
use llm_rate_limit::window::{Fit, Window};
use llm_rate_limit_tests::charges::hourly;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::{Sidecar, answer, launch};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

fn charge(owner: &str, limit: u64, cost: u64) -> ScopeCharges {
    hourly(owner, "requests", limit, cost)
}

fn reserve(id: impl ToString, charges: &[ScopeCharges]) -> Reserve {
    Reserve { id: id.to_string(), charges: charges.to_vec(), ..Reserve::default() }
}

fn settle(id: impl ToString, charges: &[ScopeCharges]) -> Settle {
    Settle {
        id: id.to_string(),
        if_absent: None,
        extend: false,
        charges: charges.to_vec(),
        ..Settle::default()
    }
}

/// Whether it was admitted, and the units used in each window.
fn decided(answer: &Reserved) -> (bool, Vec<u64>) {
    match answer {
        Reserved::Decided { admitted, windows } => {
            (*admitted, windows.iter().map(|window| window.used.get()).collect())
        }
        Reserved::Failed { error, .. } => panic!("{error}"),
    }
}

fn admitted(answers: &[Reserved]) -> usize {
    answers.iter().filter(|answer| decided(answer).0).count()
}

fn error(answer: &Reserved) -> &str {
    match answer {
        Reserved::Failed { error, .. } => error,
        Reserved::Decided { .. } => panic!("{answer:?} is no error"),
    }
}

/// Sends a batch in which every element has a different answer.
async fn check_order(sidecar: &Sidecar) {
    let batch: Vec<Reserve> = (1..=50)
        .map(|at| reserve(at, &[charge("a", 20, 1), charge(&format!("own-{at}"), 100, at)]))
        .collect();
    for (at, answer) in (1..).zip(sidecar.reserve(&batch).await) {
        let expected = if at <= 20 { (true, vec![at, at]) } else { (false, vec![20, 0]) };
        assert_eq!(decided(&answer), expected, "element {at}");
    }
    let batch: Vec<Settle> =
        (1..=50).map(|at| settle(at, &[charge("a", 20, 0), charge(&format!("own-{at}"), 100, 0)])).collect();
    for (at, answer) in (1..).zip(sidecar.settle(&batch).await) {
        assert_eq!(answer, Settled::Done { settled: at <= 20, over: false }, "element {at}");
    }
    assert_eq!(admitted(&sidecar.reserve(&[reserve("last", &[charge("a", 20, 20)])]).await), 1);
}

/// As many requests as a batch takes, each with limits of such long patterns that a batch of all of them would be too
/// large.
#[tokio::test]
async fn requests_with_large_limits_never_make_a_batch_that_is_too_large() {
    const LIMITS: usize = 12;
    let redis = Redis::start();
    // A machine that is busy with other tests takes its time.
    let sidecar = Sidecar::start(&redis.url(), &[("REDIS_TIMEOUT_MS", "10000")]);
    sidecar.wait_until_ready_is(200).await;
    // Names as long as they may be.
    let owner = "a".repeat(512);
    let charges: Vec<Charge> =
        (0..LIMITS).flat_map(|at| hourly(&owner, &format!("{at:0>512}"), 1_000_000, 1).charges).collect();
    let charges = vec![ScopeCharges { scope: owner.as_str().into(), charges }];
    let mut queue = ReserveQueue::new(Millis::SECOND);
    for stream in 0..512 {
        queue.push(stream, reserve(stream, &charges));
    }
    let (mut bytes, mut admitted) = (0, 0);
    while admitted < 512 {
        let callout = queue.next_callout(Millis::ZERO).unwrap();
        bytes += callout.body.len();
        let Kind::Reserve(number) = callout.kind else { panic!("{callout:?}") };
        let (status, answer) = sidecar.post(callout.kind.path(), callout.body).await;
        assert_eq!(status, 200, "{answer}");
        let answers = queue.callout_ended(number, Ok(answer.as_bytes()), Millis::ZERO).answers;
        for (_, answer) in answers {
            assert!(matches!(answer, Answer::Decided(_)), "{answer:?}");
            admitted += 1;
        }
    }
    assert!(bytes > 8 << 20, "one batch would be small enough: {bytes}");
}

#[tokio::test]
async fn a_batch_is_answered_in_order_over_tcp() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    check_order(&sidecar).await;
}

#[tokio::test]
async fn a_batch_is_answered_in_order_over_a_unix_socket() {
    let redis = Redis::start();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sidecar.sock");
    let mut sidecar = Sidecar::start_unix(&socket, &redis.url(), &[("SOCKET_MODE", "600")]);
    sidecar.wait_until_ready_is(200).await;
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    check_order(&sidecar).await;
    sidecar.process().signal(Signal::SIGTERM);
    assert!(sidecar.process().wait(Duration::from_secs(10)).unwrap().success());
    assert!(!socket.exists(), "the socket is still there");
}

#[tokio::test]
async fn it_replaces_a_socket_that_a_crash_left_and_no_other() {
    let redis = Redis::start();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sidecar.sock");
    let mut crashed = Sidecar::start_unix(&socket, &redis.url(), &[]);
    crashed.process().kill();
    assert!(socket.exists());
    let sidecar = Sidecar::start_unix(&socket, &redis.url(), &[]);
    assert_eq!(sidecar.get("/healthz").await, (200, "ok\n".to_owned()));

    let mut second = launch(&format!("unix:{}", socket.display()), &redis.url(), &[]);
    assert_eq!(second.wait(Duration::from_secs(10)).unwrap().code(), Some(1));
    assert!(second.log().contains("another process listens on it"), "{}", second.log());
    assert_eq!(sidecar.get("/healthz").await.0, 200);

    let file = directory.path().join("notes.txt");
    fs::write(&file, "keep").unwrap();
    let mut third = launch(&format!("unix:{}", file.display()), &redis.url(), &[]);
    assert_eq!(third.wait(Duration::from_secs(10)).unwrap().code(), Some(1));
    assert_eq!(fs::read_to_string(&file).unwrap(), "keep");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sidecars_admit_exactly_the_limit_of_many_requests_at_once() {
    let redis = Redis::start();
    let sidecars = [(); 2].map(|()| Arc::new(Sidecar::start(&redis.url(), &[])));
    for sidecar in &sidecars {
        sidecar.wait_until_ready_is(200).await;
    }
    let calls: Vec<_> = (0..1000)
        .map(|at| {
            let sidecar = Arc::clone(&sidecars[at % 2]);
            tokio::spawn(
                async move { admitted(&sidecar.reserve(&[reserve(at, &[charge("a", 100, 1)])]).await) },
            )
        })
        .collect();
    let mut total = 0;
    for call in calls {
        total += call.await.unwrap();
    }
    assert_eq!(total, 100);
}

#[tokio::test]
async fn a_refusal_in_a_later_scope_leaves_earlier_scopes_uncharged_and_every_state_true() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let before = [
        reserve("x", &[charge("key", 10, 4)]),
        reserve("y", &[charge("model", 10, 9)]),
        reserve("z", &[charge("all", 10, 5)]),
    ];
    assert_eq!(admitted(&sidecar.reserve(&before).await), 3);
    let charges = [charge("key", 10, 2), charge("model", 10, 2), charge("all", 10, 6)];
    let answers = sidecar.reserve(&[reserve("a", &charges), reserve("b", &[charge("key", 10, 6)])]).await;
    let Reserved::Decided { admitted: false, windows } = &answers[0] else { panic!("{answers:?}") };
    let used: Vec<u64> = windows.iter().map(|window| window.used.get()).collect();
    // The key's window may count b of the same batch, and nothing of a.
    assert_eq!(used[1..], [9, 5]);
    assert!(used[0] == 4 || used[0] == 10, "{used:?}");
    assert!(
        matches!(windows[1].fit, Fit::After(_)),
        "the window that refused has a time to retry: {windows:?}"
    );
    assert!(matches!(windows[2].fit, Fit::After(_)), "so has a window that was not reached: {windows:?}");
    let now = sidecar.reserve(&[reserve("c", &[charge("key", 100, 0), charge("all", 100, 0)])]).await;
    let key = if decided(&answers[1]).0 { 10 } else { 4 };
    assert_eq!(decided(&now[0]), (true, vec![key, 5]));
}

#[tokio::test]
async fn an_element_that_fails_leaves_the_others_alone() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    // What is no counter of ours is a new one.
    let () = redis.ask(&[
        "SET",
        &charge("foreign", 1, 1).keys(Keyspace::new("")).next().unwrap(),
        "not a counter",
    ]);
    let batch = [
        reserve(1, &[charge("a", 10, 1)]),
        reserve(2, &[charge("a", 10, 1 << 53)]),
        reserve(3, &[charge("foreign", 10, 1)]),
        reserve(4, &[charge("a", 10, 1), charge("foreign", 10, 1 << 53)]),
        reserve(5, &[charge("a", 10, 1)]),
    ];
    let answers = sidecar.reserve(&batch).await;
    assert_eq!(decided(&answers[0]), (true, vec![1]));
    let too_large = "cost is 9007199254740992, more than 9007199254740991 (2^53 - 1)";
    assert_eq!(error(&answers[1]), format!("charges[0]: {too_large}"));
    assert_eq!(decided(&answers[2]), (true, vec![1]));
    assert_eq!(error(&answers[3]), format!("charges[1]: {too_large}"));
    assert!(decided(&answers[4]).0);
    let settled =
        sidecar.settle(&[settle(3, &[charge("foreign", 10, 1)]), settle(1, &[charge("a", 10, 1)])]).await;
    assert_eq!(settled, vec![Settled::Done { settled: true, over: false }; 2]);
    // Nothing of the fourth was charged, so the first and the fifth remain.
    let now = sidecar.reserve(&[reserve(6, &[charge("a", 10, 0)])]).await;
    assert_eq!(decided(&now[0]), (true, vec![2]));
    assert_eq!(sidecar.metric("llm_rate_limit_sidecar_reservations_total{outcome=\"failed\"}").await, 2.0);
}

#[tokio::test]
async fn a_malformed_body_is_refused_and_the_answer_names_the_place() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[("MAX_BODY_BYTES", "2000")]);
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    for (body, expected) in [
        ("", "EOF while parsing"),
        ("{", "expected a sequence"),
        ("{}", "expected a sequence"),
        ("null", "expected a sequence"),
        ("[1]", "[0]: invalid type: integer `1`"),
        ("[] []", "trailing characters"),
        ("\u{0}\u{1}", "expected value"),
        (deep.as_str(), "[0]: "),
        (r#"[{"id":"a","charges":[]},{"id":"b"}]"#, "[1]: missing field `charges`"),
        (r#"[{"id":"a","charges":[],"limit":1}]"#, "[0].limit: unknown field `limit`"),
        (r#"[{"id":"a","charges":[{"scope":7}]}]"#, "[0].charges[0].scope: invalid type: integer `7`"),
        (
            r#"[{"id":"a","charges":[{"scope":"s","identity":"i","name":"n","limit":1,"cost":-1}]}]"#,
            "[0].charges[0].cost: invalid value: integer `-1`",
        ),
        (
            r#"[{"id":"a","charges":[{"scope":"s","identity":"i","name":"n","limit":1,"cost":1,
                "window":{"window_ms":0,"algorithm":"sliding_window","segments":60}}]}]"#,
            "[0].charges[0].window",
        ),
        (
            r#"[{"id":"a","charges":[{"scope":"s","identity":"i","name":"n","limit":1,"cost":1,
                "window":{"window_ms":1000,"algorithm":"leaky_bucket"}}]}]"#,
            "unknown variant `leaky_bucket`",
        ),
    ] {
        for path in ["/v1/reserve", "/v1/settle"] {
            let (status, answer) = sidecar.post(path, body.to_owned()).await;
            let message = serde_json::from_str::<serde_json::Value>(&answer).unwrap()["error"].to_string();
            let message: String = serde_json::from_str(&message).unwrap();
            assert!(status == 400 && message.contains(expected), "{path} {body}: {status} {message}");
        }
    }
    let (status, answer) = sidecar.post("/v1/reserve", " ".repeat(2001)).await;
    assert_eq!((status, answer.as_str()), (413, r#"{"error":"the body is larger than 2000 bytes"}"#));
    assert_eq!(sidecar.get("/v1/nothing").await.0, 404);
    assert_eq!(sidecar.get("/v1/reserve").await.0, 405);
    assert_eq!(sidecar.post("/v1/reserve", "[]").await, (200, "[]".to_owned()));
}

#[tokio::test]
async fn with_a_token_set_calls_must_send_it() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[("AUTH_TOKEN", "open-sesame")]);
    sidecar.wait_until_ready_is(200).await;
    for (sent, expected) in [
        (None, 401),
        (Some("open-sesame"), 401),
        (Some("Bearer "), 401),
        (Some("Bearer open-sesam"), 401),
        (Some("Bearer open-sesame2"), 401),
        (Some("Basic open-sesame"), 401),
        (Some("Bearer open-sesame"), 200),
        (Some("bearer open-sesame"), 200),
    ] {
        for (method, path) in [
            (Method::POST, "/v1/reserve"),
            (Method::POST, "/v1/settle"),
            (Method::GET, "/v1/usage?identity=a"),
            (Method::DELETE, "/v1/usage?identity=a"),
        ] {
            let mut request = sidecar.request(method.clone(), path).body("[]");
            if let Some(sent) = sent {
                request = request.header("authorization", sent);
            }
            let (status, body) = answer(request).await.unwrap();
            assert_eq!(status, expected, "{method} {path} with {sent:?}: {body}");
        }
    }
    assert_eq!(sidecar.get("/healthz").await.0, 200);
    assert_eq!(sidecar.get("/metrics").await.0, 200);
}

/// A probe is a reservation without charges: the filter asks whether Redis takes writes, and nothing is counted.
#[tokio::test]
async fn a_probe_says_whether_redis_takes_writes() {
    let mut redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let probe = async || {
        let body = r#"[{"id":"probe","namespace":"staging","charges":[]}]"#;
        sidecar.post("/v1/reserve", body).await
    };
    assert_eq!(probe().await, (200, r#"[{"admitted":true,"windows":[]}]"#.to_owned()));
    let expires: i64 = redis.ask(&["PTTL", "llmrl:3:staging:{probe}"]);
    assert!((1..=1000).contains(&expires), "{expires}");
    redis.ask::<String>(&["CONFIG", "SET", "maxmemory", "1"]);
    let (status, answer) = probe().await;
    assert!(status == 200 && answer.contains("OOM") && answer.contains(r#""unavailable":true"#), "{answer}");
    redis.ask::<String>(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(probe().await.0, 200);
    assert_eq!(sidecar.metric(r#"llm_rate_limit_sidecar_reservations_total{outcome="admitted"}"#).await, 0.0);
    redis.kill();
    let (status, answer) = probe().await;
    assert_eq!(status, 503, "{answer}");
}

#[tokio::test]
async fn a_call_is_answered_in_its_own_version_or_not_at_all() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let body = serde_json::to_string(&[reserve("a", &[charge("a", 10, 1)])]).unwrap();
    for (sent, expected) in [
        (None, 200),
        (Some("1"), 200),
        (Some("2"), 501),
        (Some("0"), 501),
        (Some("new"), 501),
        (Some(""), 501),
    ] {
        for path in ["/v1/reserve", "/v1/settle", "/v1/background"] {
            let body = if path == "/v1/background" { "[]".to_owned() } else { body.clone() };
            let mut request = sidecar.request(Method::POST, path).body(body);
            if let Some(sent) = sent {
                request = request.header("x-llm-rate-limit-wire", sent);
            }
            let response = request.send().await.unwrap();
            assert_eq!((response.status().as_u16(), path), (expected, path), "{sent:?}");
            assert_eq!(response.headers()["x-llm-rate-limit-wire"], "1");
        }
    }
    let usage = sidecar.usage(Method::GET, "identity=a").await;
    assert_eq!(usage["windows"][0]["used"], 2, "only the two that were understood count: {usage}");
    assert_eq!(sidecar.log().matches("run the same release of both").count(), 1, "{}", sidecar.log());
}

#[tokio::test]
async fn usage_lists_the_windows_of_an_owner_and_reset_empties_them() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let in_team = |name: &str, minutes: u64, limit, cost| {
        let window = Window::sliding((Millis::MINUTE * minutes).non_zero().unwrap());
        let own = charge("key", limit, cost).charges.remove(0);
        let charge = Charge { name: name.into(), window, ..own };
        ScopeCharges { scope: "team".into(), charges: vec![charge] }
    };
    let charges = [
        in_team("requests", 60, 10, 3),
        in_team("requests", 1440, 5, 3),
        in_team("input_tokens", 60, 100, 0),
    ];
    let answers = sidecar.reserve(&[reserve("a", &charges), reserve("b", &[charge("key", 7, 1)])]).await;
    assert_eq!(admitted(&answers), 2);

    for _ in 0..2 {
        let usage = sidecar.usage(Method::GET, "identity=key&scope=team").await;
        assert_eq!((&usage["identity"], &usage["scope"]), (&json!("key"), &json!("team")));
        // A window without charges is not listed.
        let windows = usage["windows"].as_array().unwrap();
        assert_eq!(windows.len(), 2, "{usage}");
        for (window, (label, limit, remaining, hours)) in
            windows.iter().zip([("1h", 10, 7, 1), ("1d", 5, 2, 24)])
        {
            let reset_ms = window["reset_ms"].as_u64().unwrap();
            let mut rest = window.clone();
            rest["reset_ms"] = json!(null);
            let expected = json!({"name": "requests", "window": label, "algorithm": "sliding_window", "limit": limit,
                "used": 3, "remaining": remaining, "reset_ms": null});
            assert_eq!(rest, expected);
            assert!((hours * 3_590_000..=hours * 3_662_000).contains(&reset_ms), "{reset_ms}");
        }
    }
    let own = sidecar.usage(Method::GET, "identity=key").await;
    assert_eq!(own["scope"], "key");
    assert_eq!(own["windows"][0]["limit"], 7);

    let reset = sidecar.usage(Method::DELETE, "identity=key&scope=team").await;
    let removed: Vec<_> =
        reset["removed"].as_array().unwrap().iter().map(|window| &window["window"]).collect();
    assert_eq!(removed, ["1h", "1d"]);
    let usage = sidecar.usage(Method::GET, "identity=key&scope=team").await;
    assert_eq!(usage["windows"], json!([]));
    assert_eq!(sidecar.usage(Method::DELETE, "identity=key&scope=team").await["removed"], json!([]));
    let again = sidecar.reserve(&[reserve("c", &[in_team("requests", 60, 10, 10)])]).await;
    assert_eq!(admitted(&again), 1, "the whole limit is free again");
    assert_eq!(
        sidecar.usage(Method::GET, "identity=key").await["windows"][0]["used"],
        1,
        "the reset leaves another scope alone"
    );

    let (status, body) = sidecar.get("/v1/usage").await;
    assert!(status == 400 && body.contains("identity"), "{status} {body}");
    assert_eq!(sidecar.get("/v1/usage?identity=a&scope=b%7D").await.0, 400);
}

/// Either side may come first, and each may be sent again.
#[tokio::test]
async fn an_open_response_and_its_usage_meet_through_any_sidecar() {
    let redis = Redis::start();
    let sidecars = [Sidecar::start(&redis.url(), &[]), Sidecar::start(&redis.url(), &[])];
    for sidecar in &sidecars {
        sidecar.wait_until_ready_is(200).await;
    }
    let background = async |at: usize, call: Value| {
        let (status, answer) = sidecars[at].post("/v1/background", json!([call]).to_string()).await;
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()[0].clone()
    };
    let open = |hash: &str, cost| {
        let charges =
            serde_json::to_value(reserve("x", &[charge("me", 100, cost)])).unwrap()["charges"].clone();
        json!({"open": {"response": hash, "id": hash, "charges": charges, "record": "r", "keep_ms": 60_000}})
    };
    let usage = |hash: &str| json!({"usage": {"response": hash, "usage": "u", "keep_ms": 60_000}});
    let (early, late) = ("a".repeat(64), "b".repeat(64));
    for _ in 0..2 {
        assert_eq!(background(0, open(&early, 1)).await, json!({}));
        assert_eq!(background(1, usage(&late)).await, json!({}));
    }
    for _ in 0..2 {
        assert_eq!(background(1, usage(&early)).await, json!({"found": "r"}));
        assert_eq!(background(0, open(&late, 1)).await, json!({"found": "u"}));
    }
    let other = json!({"usage": {"response": early, "namespace": "other", "usage": "u", "keep_ms": 60_000}});
    assert_eq!(background(0, other).await, json!({}), "another namespace has responses of its own");
    let keys: Vec<String> = redis.ask(&["KEYS", "*:response"]);
    for key in &keys {
        let left: i64 = redis.ask(&["PTTL", key]);
        assert!((1..=600_000).contains(&left), "{key}: {left}");
    }
    let long = "x".repeat(20_000);
    for (call, why) in [
        (
            json!({"usage": {"response": "resp_1", "usage": "u", "keep_ms": 1}}),
            "response: expected a SHA-256",
        ),
        (
            json!({"usage": {"response": late, "usage": long, "keep_ms": 1}}),
            "usage is empty or larger than 512",
        ),
        (json!({"usage": {"response": late, "usage": "u", "keep_ms": 0}}), "keep_ms is empty"),
    ] {
        let answer = background(0, call).await;
        assert!(answer["error"].as_str().unwrap().starts_with(why), "{answer}");
    }
}

#[tokio::test]
async fn metrics_count_decisions() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let batch: Vec<Reserve> = (0..5).map(|at| reserve(at, &[charge("a", 3, 1)])).collect();
    sidecar.reserve(&batch).await;
    sidecar.settle(&[settle(0, &[charge("a", 3, 1)]), settle(4, &[charge("a", 3, 1)])]).await;
    sidecar.post("/v1/reserve", "?").await;
    for (name, expected) in [
        ("reservations_total{outcome=\"admitted\"}", 3.0),
        ("reservations_total{outcome=\"refused\"}", 2.0),
        ("settlements_total{outcome=\"settled\"}", 1.0),
        ("settlements_total{outcome=\"absent\"}", 1.0),
        ("errors_total{kind=\"malformed\"}", 1.0),
        ("batch_size_sum{call=\"reserve\"}", 5.0),
        ("batch_size_count{call=\"settle\"}", 1.0),
        ("redis_connected", 1.0),
        ("redis_connections_total", 1.0),
        ("queue_depth", 0.0),
    ] {
        assert_eq!(sidecar.metric(&format!("llm_rate_limit_sidecar_{name}")).await, expected, "{name}");
    }
    assert!(sidecar.metric("llm_rate_limit_sidecar_redis_seconds_count").await >= 2.0);
    for name in ["request_seconds_count", "script_seconds_count"] {
        let found = sidecar.metric(&format!("llm_rate_limit_sidecar_{name}{{call=\"settle\"}}")).await;
        assert_eq!(found, 1.0, "{name}");
    }
    assert!(sidecar.metric("llm_rate_limit_sidecar_connections").await >= 1.0);
}

#[tokio::test]
async fn lines_about_an_element_have_the_id_of_its_request() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[("LOG", "debug")]);
    sidecar.wait_until_ready_is(200).await;
    let of = |id: &str, cost| Reserve {
        request_id: Some(format!("request-{id}").into()),
        ..reserve(id, &[charge("a", 3, cost)])
    };
    sidecar.reserve(&[of("sound", 1), of("unsound", 1 << 53)]).await;
    let end = settle("sound", &[charge("a", 3, 1)]);
    sidecar.settle(&[Settle { request_id: Some("request-sound".into()), ..end }]).await;
    let log = sidecar.log();
    let has = |level: &str, what: &str, id: &str| {
        let id = format!("request_id=\"request-{id}\"");
        let mut lines = log.lines().filter(|line| line.contains(level) && line.contains(what));
        assert!(lines.any(|line| line.contains(&id)), "{level} {what} {id}: {log}");
    };
    has("DEBUG", "decided a reservation", "sound");
    has("WARN", "a reservation failed", "unsound");
    has("DEBUG", "settled a reservation", "sound");
}

#[tokio::test]
async fn the_clock_is_that_of_redis() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let window = Window::sliding(NonZeroMillis::new(300).unwrap());
    let short = charge("a", 1, 1);
    let short = ScopeCharges::changed(&[short], |charge| charge.window = window).remove(0);
    let answers = sidecar
        .reserve(&[reserve(1, std::slice::from_ref(&short)), reserve(2, std::slice::from_ref(&short))])
        .await;
    assert_eq!(admitted(&answers), 1);
    let Reserved::Decided { windows, .. } = &answers[1] else { panic!("{answers:?}") };
    let Fit::After(wait) = windows[0].fit else { panic!("{windows:?}") };
    let retry_after_ms = wait.get().get();
    // Redis's clock decides when it fits. At most the window and the segment that leaves it.
    assert!((1..=305).contains(&retry_after_ms), "{retry_after_ms}");
    tokio::time::sleep(Duration::from_millis(retry_after_ms + 1)).await;
    assert_eq!(
        admitted(&sidecar.reserve(&[reserve(3, &[short])]).await),
        1,
        "it fits when the answer promised"
    );
}

#[test]
fn an_invalid_setting_exits_with_two() {
    for (listen, redis_url, settings, expected) in [
        ("nowhere", "redis://localhost", ("LOG", "info"), "expected host:port or unix:/path"),
        ("127.0.0.1:0", "http://me:secret@localhost", ("LOG", "info"), "REDIS_URL: "),
        ("127.0.0.1:0", "redis://localhost", ("MAX_QUEUE", "0"), "0 is not in 1..=1000000"),
    ] {
        let mut process = launch(listen, redis_url, &[settings]);
        let status = process.wait(Duration::from_secs(10)).unwrap();
        let log = process.log();
        assert_eq!(status.code(), Some(2), "{log}");
        assert!(log.contains(expected) && !log.contains("secret"), "{log}");
    }
}
