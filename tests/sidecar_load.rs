//! What callers of the sidecar may take of it: places, time, elements and memory.
//!
//! Tests wait for the sidecar's own time limits, because those are what they test.

use llm_rate_limit::store::wire::{Charge, MAX_ELEMENTS, Reserve, Reserved, ScopeCharges};
use llm_rate_limit_tests::charges::hourly;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The time limit for an answer of a sidecar that is not stalled. A busy machine keeps it.
const SOON: Duration = Duration::from_secs(3);

fn reserve(id: impl ToString, charges: &[ScopeCharges]) -> Reserve {
    Reserve { id: id.to_string(), charges: charges.to_vec(), ..Reserve::default() }
}

/// `many` charges to different counters of one owner.
fn charges(many: usize) -> Vec<ScopeCharges> {
    let one = hourly("me", "requests", 1_000_000, 1);
    let charge = |at: usize| Charge { name: format!("limit-{at}").into(), ..one.charges[0].clone() };
    vec![ScopeCharges { scope: one.scope.clone(), charges: (0..many).map(charge).collect() }]
}

async fn ready(redis: &Redis, settings: &[(&str, &str)]) -> Sidecar {
    let sidecar = Sidecar::start(&redis.url(), settings);
    sidecar.wait_until_ready_is(200).await;
    sidecar
}

/// A connection that has sent `text`.
async fn sent(sidecar: &Sidecar, text: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(sidecar.address()).await.unwrap();
    stream.write_all(text).await.unwrap();
    stream
}

/// The head of a call whose body has `size` bytes.
fn head(size: usize) -> Vec<u8> {
    format!("POST /v1/reserve HTTP/1.1\r\nhost: sidecar\r\ncontent-length: {size}\r\n\r\n").into_bytes()
}

/// All that the sidecar sends until it closes the connection.
async fn until_closed(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let read = timeout(Duration::from_secs(30), stream.read_to_end(&mut text)).await;
    // A reset closes a connection too.
    let _ = read.expect("the connection stays open");
    String::from_utf8_lossy(&text).into_owned()
}

/// Reserves something within [`SOON`].
async fn works(sidecar: &Sidecar, id: impl ToString) {
    let batch = [reserve(id, &[hourly("honest", "requests", 1000, 1)])];
    let answers = timeout(SOON, sidecar.reserve(&batch)).await.expect("an answer in time");
    assert!(matches!(answers[0], Reserved::Decided { admitted: true, .. }), "{answers:?}");
}

/// The most memory that it has had so far, in MiB.
fn peak(sidecar: &mut Sidecar) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.process().id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn half_sent_bodies_keep_nobody_out() {
    let redis = Redis::start();
    let sidecar = ready(&redis, &[("MAX_QUEUE", "4")]).await;
    let mut half = head(1000);
    half.extend_from_slice(b"[{");
    let mut streams = Vec::new();
    for _ in 0..1100 {
        streams.push(sent(&sidecar, &half).await);
    }
    for id in 0..20 {
        works(&sidecar, id).await;
    }
    assert_eq!(sidecar.metric("llm_rate_limit_sidecar_queue_depth").await, 0.0);
    let answer = until_closed(streams.remove(0)).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn connections_without_a_call_are_closed() {
    let redis = Redis::start();
    let sidecar = ready(&redis, &[("IDLE_TIMEOUT_MS", "500")]).await;
    let whole = b"GET /healthz HTTP/1.1\r\nhost: sidecar\r\n\r\n";
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let began = Instant::now();
    for (what, text) in [
        ("nothing", &b""[..]),
        ("half a head", b"POST /v1/reserve HTTP/1.1\r\nhost: si"),
        ("half a preface of HTTP/2", &preface[..10]),
        ("a preface of HTTP/2", preface),
        ("a call and no other", whole),
        ("a call and half a head", &[&whole[..], b"GET /he"].concat()),
    ] {
        let answer = until_closed(sent(&sidecar, text).await).await;
        assert_eq!(answer.contains("200 OK"), what.starts_with("a call"), "{what}: {answer}");
    }
    // Each lasts for half a second, and those that the sidecar cannot tell from a caller who waits for four timeouts of
    // Redis more.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_head_that_trickles_in_is_not_waited_for() {
    let redis = Redis::start();
    let sidecar = ready(&redis, &[("IDLE_TIMEOUT_MS", "500")]).await;
    let mut stream = sent(&sidecar, b"POST /v1/reserve HTTP/1.1\r\n").await;
    let began = Instant::now();
    let mut byte = [0];
    loop {
        assert!(began.elapsed() < Duration::from_secs(20), "the connection stays open");
        let _ = stream.write_all(b"x").await;
        match timeout(Duration::from_millis(100), stream.read(&mut byte)).await {
            Ok(Ok(1)) | Err(_) => {}
            Ok(_) => break,
        }
    }
}

#[tokio::test]
async fn a_caller_who_waits_for_redis_is_not_idle() {
    let redis = Redis::start();
    let sidecar = ready(&redis, &[("IDLE_TIMEOUT_MS", "100"), ("REDIS_TIMEOUT_MS", "1500")]).await;
    redis.freeze();
    let body = serde_json::to_vec(&[reserve(1, &charges(1))]).unwrap();
    let (status, answer) = sidecar.post("/v1/reserve", String::from_utf8(body).unwrap()).await;
    redis.thaw();
    assert_eq!(status, 503, "{answer}");
}

#[tokio::test]
async fn a_call_has_at_most_1024_elements() {
    let redis = Redis::start();
    let sidecar = ready(&redis, &[]).await;
    let batch = |len: usize| -> Vec<Reserve> { (0..len).map(|at| reserve(at, &charges(1))).collect() };
    for (len, path) in [(MAX_ELEMENTS + 1, "/v1/reserve"), (40_000, "/v1/reserve"), (1025, "/v1/settle")] {
        let body = serde_json::to_string(&batch(len)).unwrap();
        let began = Instant::now();
        let (status, answer) = sidecar.post(path, body).await;
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        let expected = format!(
            r#"{{"error":"{len} elements are more than a call may have, 1024: {}","permanent":true}}"#,
            "send them in several calls"
        );
        assert_eq!((status, answer), (413, expected));
    }
    assert_eq!(redis.ask::<u64>(&["DBSIZE"]), 0, "none of them reached Redis");
    let answers = sidecar.reserve(&batch(MAX_ELEMENTS)).await;
    assert_eq!(answers.len(), MAX_ELEMENTS);
    assert!(answers.iter().all(|answer| matches!(answer, Reserved::Decided { admitted: true, .. })));
}

#[tokio::test]
async fn an_element_with_too_many_charges_costs_redis_nothing() {
    let redis = Redis::start();
    let sidecar = ready(&redis, &[]).await;
    let batch = [reserve("a", &charges(40_000)), reserve("b", &charges(2048)), reserve("c", &charges(1))];
    let began = Instant::now();
    let answers = sidecar.reserve(&batch).await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let expected = "40000 charges are more than a request may have, 2048";
    assert_eq!(answers[0], Reserved::Failed { error: expected.into(), unavailable: false });
    for answer in &answers[1..] {
        assert!(matches!(answer, Reserved::Decided { admitted: true, .. }), "{answer:?}");
    }
}

#[tokio::test]
async fn bodies_that_wait_hold_bounded_memory_and_give_way_to_others() {
    let redis = Redis::start();
    let mut sidecar = ready(&redis, &[]).await;
    let before = peak(&mut sidecar);
    let mut part = head(8 << 20);
    part.resize(part.len() + (7 << 20), b' ');
    let mut streams = Vec::new();
    for id in 0..40 {
        // The sidecar may close it while it is written to.
        let mut stream = TcpStream::connect(sidecar.address()).await.unwrap();
        let _ = stream.write_all(&part).await;
        streams.push(stream);
        works(&sidecar, id).await;
    }
    let after = peak(&mut sidecar);
    eprintln!("from {before} to {after} MiB");
    assert!(after < before + 80, "280 MiB of bodies took it from {before} to {after} MiB");
    assert!(sidecar.metric("llm_rate_limit_sidecar_body_bytes").await <= f64::from(32 << 20));
    drop(streams);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_once_hold_bounded_memory() {
    let redis = Redis::start();
    let mut sidecar = ready(&redis, &[("REDIS_TIMEOUT_MS", "20000")]).await;
    let batch: Vec<Reserve> = (0..MAX_ELEMENTS).map(|at| reserve(at, &charges(30))).collect();
    let body = serde_json::to_string(&batch).unwrap();
    assert!((4 << 20..8 << 20).contains(&body.len()), "{}", body.len());
    let calls: Vec<_> = (0..12)
        .map(|_| {
            let request = sidecar.request(reqwest::Method::POST, "/v1/reserve").body(body.clone());
            tokio::spawn(async move { request.send().await.map(|answer| answer.status().as_u16()) })
        })
        .collect();
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await.unwrap().unwrap());
    }
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.iter().filter(|status| **status == 200).count() >= 3, "{statuses:?}");
    let peak = peak(&mut sidecar);
    eprintln!("peak {peak} MiB for calls of {} bytes: {statuses:?}", body.len());
    assert!(peak < 256, "{peak} MiB");
    works(&sidecar, "after").await;
}
