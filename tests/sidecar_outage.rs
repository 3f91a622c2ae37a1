//! The sidecar while Redis is down, stuck or restarted, and while it stops itself: no caller waits long, it recovers
//! without help, and no answer is lost.

use llm_rate_limit::store::keys::Keyspace;
use llm_rate_limit::store::wire::{Reserve, Reserved};
use llm_rate_limit_tests::charges::hourly;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::{Sidecar, answer};
use nix::sys::signal::Signal;
use reqwest::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A reservation of 1 under a limit of 1000 an hour.
fn reserve(id: impl ToString) -> Vec<Reserve> {
    vec![Reserve {
        id: id.to_string(),
        charges: vec![hourly("key", "requests", 1000, 1)],
        ..Reserve::default()
    }]
}

/// The units used, after the reservation was admitted.
fn used(answers: &[Reserved]) -> u64 {
    match answers {
        [Reserved::Decided { admitted: true, windows }] => windows[0].used.get(),
        other => panic!("{other:?}"),
    }
}

/// Sends a reservation in a task of its own, which returns the status, the body and the duration.
fn send(sidecar: &Sidecar, id: impl ToString) -> JoinHandle<(u16, String, Duration)> {
    let body = serde_json::to_vec(&reserve(id)).unwrap();
    let request = sidecar.request(Method::POST, "/v1/reserve").body(body);
    tokio::spawn(async move {
        let began = Instant::now();
        let (status, body) = answer(request).await.unwrap();
        (status, body, began.elapsed())
    })
}

/// Waits until `depth` calls are in flight.
async fn wait_for_queue(sidecar: &Sidecar, depth: f64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while sidecar.metric("llm_rate_limit_sidecar_queue_depth").await < depth {
        assert!(Instant::now() < deadline, "the queue does not fill");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn calls_fail_at_once_while_redis_is_down_and_work_again_after() {
    let mut redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    assert_eq!(used(&sidecar.reserve(&reserve(1)).await), 1);
    redis.kill();
    for at in 0..20 {
        let (status, body, took) = send(&sidecar, at).await.unwrap();
        assert_eq!(status, 503, "{body}");
        assert!(body.starts_with(r#"{"error":""#) && body.contains("Redis"), "{body}");
        assert!(took < Duration::from_millis(500), "a caller waited {took:?}");
    }
    let (status, why) = sidecar.get("/readyz").await;
    assert!(status == 503 && why.contains("Redis"), "{status} {why}");
    assert_eq!(sidecar.get("/healthz").await.0, 200);
    assert_eq!(sidecar.metric("llm_rate_limit_sidecar_redis_connected").await, 0.0);
    assert!(sidecar.metric("llm_rate_limit_sidecar_errors_total{kind=\"redis_away\"}").await >= 20.0);
    redis.restart();
    sidecar.wait_until_ready_is(200).await;
    // The restarted Redis knows no scripts.
    assert_eq!(used(&sidecar.reserve(&reserve(1)).await), 1);
}

#[tokio::test]
async fn it_starts_before_redis_and_connects_without_help() {
    let mut redis = Redis::start();
    redis.kill();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(503).await;
    redis.restart();
    sidecar.wait_until_ready_is(200).await;
    assert_eq!(used(&sidecar.reserve(&reserve(1)).await), 1);
}

#[tokio::test]
async fn a_connection_that_redis_dropped_costs_no_answer() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    for at in 1..=3 {
        // The sidecar's clock: so long after connecting, a loss is no sign of a Redis that drops every connection.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let () = redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert_eq!(used(&sidecar.reserve(&reserve(at)).await), at);
    }
    assert_eq!(sidecar.metric("llm_rate_limit_sidecar_redis_connections_total").await, 4.0);
}

#[tokio::test]
async fn it_drops_a_redis_that_hangs_after_the_timeout() {
    let redis = Redis::start();
    let settings = [("REDIS_TIMEOUT_MS", "200"), ("REDIS_CONNECT_TIMEOUT_MS", "200")];
    let sidecar = Sidecar::start(&redis.url(), &settings);
    sidecar.wait_until_ready_is(200).await;
    redis.freeze();
    let (status, body, took) = send(&sidecar, 1).await.unwrap();
    assert_eq!((status, body.as_str()), (503, r#"{"error":"Redis did not answer within 200 ms"}"#));
    assert!(took < Duration::from_millis(1000), "a caller waited {took:?}");
    // From then on no caller waits for it.
    let (status, _, took) = send(&sidecar, 2).await.unwrap();
    assert_eq!(status, 503);
    assert!(took < Duration::from_millis(150), "a caller waited {took:?}");
    redis.thaw();
    sidecar.wait_until_ready_is(200).await;
    // The reservations sent during the freeze may have been charged since, once.
    assert!(used(&sidecar.reserve(&reserve(1)).await) <= 2);
    assert!(used(&sidecar.reserve(&reserve(1)).await) <= 2);
}

#[tokio::test]
async fn it_refuses_one_call_more_than_the_queue_holds_at_once() {
    let redis = Redis::start();
    let settings = [("MAX_QUEUE", "2"), ("REDIS_TIMEOUT_MS", "20000")];
    let sidecar = Sidecar::start(&redis.url(), &settings);
    sidecar.wait_until_ready_is(200).await;
    redis.freeze();
    let waiting = [send(&sidecar, 1), send(&sidecar, 2)];
    wait_for_queue(&sidecar, 2.0).await;
    let (status, body, took) = send(&sidecar, 3).await.unwrap();
    assert_eq!((status, body.as_str()), (503, r#"{"error":"the queue is full: 2 calls are in flight"}"#));
    assert!(took < Duration::from_secs(1), "a caller waited {took:?}");
    redis.thaw();
    for call in waiting {
        assert_eq!(call.await.unwrap().0, 200);
    }
    assert_eq!(send(&sidecar, 4).await.unwrap().0, 200);
    assert_eq!(sidecar.metric("llm_rate_limit_sidecar_errors_total{kind=\"queue_full\"}").await, 1.0);
}

#[tokio::test]
async fn when_stopped_it_answers_the_calls_in_flight() {
    let redis = Redis::start();
    let mut sidecar = Sidecar::start(&redis.url(), &[("REDIS_TIMEOUT_MS", "20000")]);
    sidecar.wait_until_ready_is(200).await;
    redis.freeze();
    let calls: Vec<_> = (0..50).map(|at| send(&sidecar, at)).collect();
    wait_for_queue(&sidecar, 50.0).await;
    sidecar.process().signal(Signal::SIGTERM);
    let refused = || async { answer(sidecar.request(Method::GET, "/healthz")).await.is_err() };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !refused().await {
        assert!(Instant::now() < deadline, "it still accepts calls");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    redis.thaw();
    for call in calls {
        let (status, body, _) = call.await.unwrap();
        let answers: Vec<Reserved> = serde_json::from_str(&body).unwrap();
        assert!(status == 200 && used(&answers) <= 50, "{body}");
    }
    assert!(sidecar.process().wait(Duration::from_secs(10)).unwrap().success());
    assert_eq!(charged(&redis), 50);
}

/// The units in the counter of [`reserve`].
fn charged(redis: &Redis) -> u64 {
    let key = reserve(0)[0].charges[0].keys(Keyspace::new("")).next().unwrap();
    let numbers: String = redis.ask(&["HGET", &key, "s"]);
    numbers.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_stopped_under_load_it_answers_every_admission_that_it_charged() {
    let redis = Redis::start();
    let mut sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let answered_calls = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let template = sidecar.request(Method::POST, "/v1/reserve");
            let answered = Arc::clone(&answered_calls);
            tokio::spawn(async move {
                for at in 0..100 {
                    let body = serde_json::to_vec(&reserve(format!("{client}-{at}"))).unwrap();
                    match answer(template.try_clone().unwrap().body(body)).await {
                        Ok((status, body)) => {
                            assert_eq!(status, 200, "{body}");
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        // It has stopped, and later calls fail.
                        Err(_) => return,
                    }
                }
            })
        })
        .collect();
    while answered_calls.load(Ordering::Relaxed) < 100 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    sidecar.process().signal(Signal::SIGTERM);
    for client in clients {
        client.await.unwrap();
    }
    assert!(sidecar.process().wait(Duration::from_secs(10)).unwrap().success());
    assert_eq!(charged(&redis), answered_calls.load(Ordering::Relaxed));
}

#[tokio::test]
async fn stopping_takes_no_longer_than_the_drain_timeout() {
    let redis = Redis::start();
    let settings = [("REDIS_TIMEOUT_MS", "60000"), ("DRAIN_TIMEOUT_MS", "200")];
    let mut sidecar = Sidecar::start(&redis.url(), &settings);
    sidecar.wait_until_ready_is(200).await;
    redis.freeze();
    let stuck = send(&sidecar, 1);
    wait_for_queue(&sidecar, 1.0).await;
    sidecar.process().signal(Signal::SIGINT);
    let status = sidecar.process().wait(Duration::from_secs(10));
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert!(stuck.await.is_err(), "there was an answer");
    assert!(sidecar.process().log().contains("dropping the calls still in flight"));
}
