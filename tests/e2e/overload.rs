//! Bodies that crawl: the shipped configuration bounds what they take of Envoy's memory, and for how long.

use crate::caller::CHAT;
use crate::gateway::{Gateway, Store, eventually, strangers};
use crate::raw::Connection;
use llm_rate_limit_tests::envoy::Setup;
use serde_json::{Value, json};
use std::cell::Cell;

/// What Envoy's heap may have.
const MAX_HEAP: u64 = 160 << 20;

/// Half of the prompt that each client sends.
const SENT: usize = 10 << 20;

fn shipped(setup: Setup) -> Setup {
    setup.filter(&strangers(json!({})))
}

async fn crawl(gateway: &Gateway) -> Connection {
    let mut connection = Connection::open(gateway.envoy.address()).await;
    let length = format!("content-length: {}", 2 * SENT);
    connection.post(CHAT, &["authorization: Bearer crawls", &length]).await;
    // Envoy may end it meanwhile.
    let _ = connection.try_send(&vec![b' '; SENT]).await;
    connection
}

#[tokio::test]
async fn bodies_that_crawl_take_bounded_memory_for_a_bounded_time() {
    let gateway = Gateway::start_with(Store::Local, |setup| {
        let mut setup = shipped(setup);
        connection_manager(&mut setup)["request_timeout"] = json!("10s");
        let monitor = &mut setup.config()["overload_manager"]["resource_monitors"][0];
        assert_eq!(monitor["name"], "envoy.resource_monitors.fixed_heap");
        monitor["typed_config"]["max_heap_size_bytes"] = json!(MAX_HEAP);
        setup
    })
    .await;
    let caller = gateway.caller("small");
    let heap = || {
        let memory: Value = serde_json::from_str(&gateway.envoy.admin("/memory")).unwrap();
        memory["allocated"].as_str().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(caller.hello().await.status, 200);
    let mut crawling = Vec::new();
    for _ in 0..20 {
        crawling.push(crawl(&gateway).await);
    }
    // Envoy looks at its heap four times a second, and refuses when it is nearly full.
    let fullest = Cell::new(0);
    eventually("a refusal", 503, async || {
        fullest.set(heap().max(fullest.get()));
        caller.hello().await.status
    })
    .await;
    assert!(fullest.get() > MAX_HEAP / 10 * 9, "it is refused for that: {fullest:?}");
    eventually("others are served", 200, async || caller.hello().await.status).await;
    eventually("memory that is free again", true, async || heap() < MAX_HEAP).await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let gateway = Gateway::start_with(Store::Local, |setup| {
        let mut setup = shipped(setup);
        let manager = connection_manager(&mut setup);
        assert_eq!(manager["request_timeout"], "300s");
        manager["request_timeout"] = json!("1s");
        setup
    })
    .await;
    let mut connection = Connection::open(gateway.envoy.address()).await;
    connection.post(CHAT, &["authorization: Bearer crawls", "content-length: 100"]).await;
    connection.send("{").await;
    assert_eq!(connection.answer().await.status, 408);
    assert_eq!(gateway.mock.received().len(), 0);
}

fn connection_manager(setup: &mut Setup) -> &mut Value {
    &mut setup.config()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}
