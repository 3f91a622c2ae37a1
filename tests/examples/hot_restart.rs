//! A second Envoy takes over: with Redis limits go on, with the local store they begin anew.

use crate::example::{example, port};
use llm_rate_limit_tests::chat::{Answer, CHAT, chat, client, eventually, hello, statuses};
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::process::free_port;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use serde_json::json;
use std::process::id;

/// The example on a port that both Envoys share.
fn setup(mock: &MockLlm, sidecar: &Sidecar) -> Setup {
    let listen = format!("port_value: {}", free_port());
    let replacements = [
        ("port_value: 10000", &*listen),
        ("port_value: 8000", &port(mock.address())),
        // Slow stores have tests of their own.
        ("cluster: rate-limit-sidecar}", "cluster: rate-limit-sidecar, timeout_ms: 10000}"),
        ("port_value: 8081", &port(sidecar.address().parse().unwrap())),
    ];
    example("hot-restart", &replacements)
}

/// Waits until a new connection reaches the second Envoy. The first closes its listener when the second is ready.
async fn has_taken_over(second: &Envoy) {
    let accepted = || second.stat("http.llm.downstream_cx_total");
    eventually("a connection to the second Envoy", true, async || {
        client().get(second.url("/health")).send().await.unwrap();
        accepted() > Some(0)
    })
    .await;
}

#[tokio::test]
async fn with_redis_limits_go_on() {
    let (mock, redis) = (MockLlm::start(), Redis::start());
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let setup = setup(&mock, &sidecar);
    let first = setup.clone().hot_restart(id(), 0).start();
    let ask = || chat(first.url(CHAT)).bearer_auth("a-key");
    assert_eq!(statuses(2, ask).await, [200, 200]);
    // A stream that is under way.
    let mut chat = hello();
    chat["stream"] = json!(true);
    let stream =
        client().post(first.url(CHAT)).bearer_auth("a-key").header("x-mock-gate", "restart").json(&chat);
    let stream = tokio::spawn(Answer::to(stream));
    eventually("a stream", 3, async || mock.report().requests).await;

    let second = setup.hot_restart(id(), 1).start();
    has_taken_over(&second).await;
    eventually("refusals by the second Envoy", true, async || {
        assert_eq!(Answer::to(ask()).await.status, 429);
        second.stat("http.llm.downstream_rq_4xx") >= Some(3)
    })
    .await;
    mock.let_through("restart", 1000);
    let answer = stream.await.unwrap();
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "the first Envoy finishes it: {answer:?}");
}

#[tokio::test]
async fn with_the_local_store_limits_begin_anew() {
    let (mock, redis) = (MockLlm::start(), Redis::start());
    let sidecar = Sidecar::start(&redis.url(), &[]);
    let mut setup = setup(&mock, &sidecar);
    setup.plugin()["configuration"]["value"]["store"] = json!({"type": "local"});
    // Not the ids of the other test, which may run at the same time.
    let base = id() + (1 << 24);
    let first = setup.clone().hot_restart(base, 0).start();
    let ask = || chat(first.url(CHAT)).bearer_auth("a-key");
    assert_eq!(statuses(4, ask).await, [200, 200, 200, 429]);
    let second = setup.hot_restart(base, 1).start();
    has_taken_over(&second).await;
    // The first may accept a last connection.
    eventually("an empty counter", 200, async || Answer::to(ask()).await.status).await;
    assert_eq!(statuses(3, ask).await, [200, 200, 429]);
}
