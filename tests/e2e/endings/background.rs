//! Responses that the provider goes on with when their client has left: they cost their creator what the provider
//! reports later, once, whoever asks for it and through whatever worker or Envoy.

use crate::api::Api;
use crate::caller::{Answer, Caller, HELLO_TOKENS};
use crate::gateway::{Fleet, Gateway, Store, eventually, strangers};
use futures_util::StreamExt;
use llm_rate_limit_tests::envoy::Setup;
use llm_rate_limit_tests::sidecar::Sidecar;
use reqwest::{Method, RequestBuilder};
use rstest::rstest;
use serde_json::{Value, json};

/// Output tokens that each request reserves.
const RESERVED: u64 = 60;

/// The usage that the provider reports in the end.
const USED: (u64, u64) = (40, 4_000);

fn create(caller: &Caller, id: &str, members: Value) -> RequestBuilder {
    let mut body = Api::Responses.hello(RESERVED);
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    caller.request(Method::POST, Api::Responses.path()).json(&body).header("x-mock-response-id", id)
}

/// Creates a response in the background and leaves the stream after its first event.
async fn create_and_leave(gateway: &Gateway, key: &str, id: &str, members: Value) {
    let caller = gateway.caller(key);
    let request = create(&caller, id, members).header("x-mock-gate", id);
    gateway.mock.let_through(id, 1);
    let mut body = request.send().await.unwrap().bytes_stream();
    let created = body.next().await.unwrap().unwrap();
    assert!(created.starts_with(b"event: response.created"), "{created:?}");
}

/// Creates a response in the background, which is queued.
async fn create_queued(caller: &Caller, id: &str) {
    let answer = Answer::to(create(caller, id, json!({"background": true}))).await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("queued")));
}

fn with_usage(request: RequestBuilder) -> RequestBuilder {
    request.header("x-mock-prompt-tokens", USED.0).header("x-mock-completion-tokens", USED.1)
}

/// Asks for a response; the answer passes as it is.
async fn ask(caller: &Caller, method: Method, path: &str, status: Option<&str>) -> Answer {
    let mut request = with_usage(caller.request(method, path));
    if let Some(status) = status {
        request = request.header("x-mock-response-status", status);
    }
    let answer = Answer::to(request).await;
    assert_eq!((answer.status, answer.limit_headers()), (200, vec![]), "{}", answer.text());
    answer
}

async fn get(caller: &Caller, id: &str, status: Option<&str>) -> Answer {
    ask(caller, Method::GET, &format!("/v1/responses/{id}"), status).await
}

#[rstest]
#[tokio::test]
async fn a_background_stream_that_is_left_costs_what_the_provider_reports_later(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(false, true)] finishes: bool,
) {
    let mut limits = strangers(json!({"on_stream_over": if finishes { "finish" } else { "continue" }}));
    limits["store"] = store.configuration();
    let gateway = Gateway::start_with(store, |setup| setup.filter(&limits).concurrency(2)).await;
    let (key, id) = ("background-left", "resp_left");
    create_and_leave(&gateway, key, id, json!({"background": true, "stream": true})).await;
    gateway.charged(key, 1, HELLO_TOKENS, RESERVED).await;
    // Each on a connection of its own, so that both workers have a part.
    let others: Vec<_> = (0..6).map(|_| gateway.caller("background-other")).collect();
    for other in &others {
        let answer = get(other, id, Some("in_progress")).await;
        assert_eq!(answer.json()["usage"], Value::Null);
    }
    gateway.charged(key, 1, HELLO_TOKENS, RESERVED).await;
    for other in &others {
        let answer = get(other, id, None).await;
        assert_eq!(answer.json()["usage"]["output_tokens"], USED.1);
    }
    gateway.charged(key, 1, USED.0, USED.1).await;
    get(&gateway.caller(key), id, None).await;
    gateway.charged(key, 1, USED.0, USED.1).await;
    gateway.charged("background-other", 0, 0, 0).await;
}

#[rstest]
#[case::asked_for(Method::GET, "", None)]
#[case::asked_for_as_a_stream(Method::GET, "?stream=true", None)]
#[case::cancelled(Method::POST, "/cancel", Some("cancelled"))]
#[case::failed(Method::GET, "", Some("failed"))]
#[case::spelled_otherwise(Method::GET, "/?include=x", Some("incomplete"))]
#[tokio::test]
async fn a_queued_response_costs_what_the_provider_reports_later(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(false, true)] compressed: bool,
    #[case] method: Method,
    #[case] suffix: &str,
    #[case] status: Option<&str>,
) {
    let gateway = store.gateway().await;
    let id = format!("resp_{method}_{}_{compressed}", status.unwrap_or(suffix).replace(['?', '='], ""));
    let key = format!("background-{id}-{store:?}");
    let caller = gateway.caller(&key);
    create_queued(&caller, &id).await;
    gateway.charged(&key, 1, HELLO_TOKENS, RESERVED).await;
    let mut request = with_usage(caller.request(method, &format!("/v1/responses/{id}{suffix}")));
    if let Some(status) = status {
        request = request.header("x-mock-response-status", status);
    }
    if compressed {
        request = request.header("accept-encoding", "gzip").header("x-mock-compress", "1");
    }
    assert_eq!(Answer::to(request).await.status, 200);
    gateway.charged(&key, 1, USED.0, USED.1).await;
}

#[rstest]
#[tokio::test]
async fn a_response_in_the_background_takes_no_slot_once_its_client_has_left(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let mut limits = strangers(json!({"keys": [{"key": "one-slot", "max_concurrency": 1, "tpd": 1_000_000}]}));
    limits["store"] = store.configuration();
    let gateway = Gateway::start_with(store, |setup| setup.filter(&limits)).await;
    create_and_leave(&gateway, "one-slot", "resp_slot", json!({"background": true, "stream": true})).await;
    let caller = gateway.caller("one-slot");
    eventually("a free slot", 200, async || caller.hello().await.status).await;
    get(&caller, "resp_slot", None).await;
    eventually("a free slot after the settlement", 200, async || caller.hello().await.status).await;
}

#[rstest]
#[tokio::test]
async fn without_background_a_stream_that_is_left_costs_what_has_passed(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let (key, id) = (format!("background-without-{store:?}"), format!("resp_without_{store:?}"));
    create_and_leave(&gateway, &key, &id, json!({"stream": true})).await;
    gateway.charged(&key, 1, HELLO_TOKENS, 0).await;
    get(&gateway.caller(&key), &id, None).await;
    gateway.charged(&key, 1, HELLO_TOKENS, 0).await;
}

/// The prices and weights are those of the model that was asked.
#[rstest]
#[tokio::test]
async fn a_response_in_the_background_costs_the_price_of_its_model(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let key = json!({"key": "priced", "windows": [{"metric": "cost_usd", "limit": 1, "window": "1d"}]});
    let prices = json!({"gpt-4o": {"input": 1, "output": 100}});
    let mut limits = strangers(json!({"keys": [key], "prices": prices}));
    limits["store"] = store.configuration();
    let gateway = Gateway::start_with(store, |setup| setup.filter(&limits)).await;
    let caller = gateway.caller("priced");
    create_queued(&caller, "resp_priced").await;
    assert_eq!(caller.hello().await.status, 200);
    // More than the budget of a dollar.
    let request = caller.request(Method::GET, "/v1/responses/resp_priced").header("x-mock-model", "another");
    let request = request.header("x-mock-prompt-tokens", 1).header("x-mock-completion-tokens", 20_000);
    assert_eq!(Answer::to(request).await.status, 200);
    eventually("refusals for the budget", 429, async || caller.hello().await.status).await;
}

#[tokio::test]
async fn usage_that_passes_another_envoy_settles_the_reservation() {
    let mut limits = strangers(json!({}));
    limits["store"] = Store::Redis.configuration();
    let first = Gateway::start_with(Store::Redis, |setup| setup.filter(&limits)).await;
    let Fleet { redis, .. } = first.fleet.as_ref().unwrap();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let second = Setup::new(first.mock.address())
        .sidecar(sidecar.address().parse().unwrap())
        .filter(&limits)
        .start();
    for (key, id) in [("fleet-left", "resp_fleet_1"), ("fleet-queued", "resp_fleet_2")] {
        if key == "fleet-left" {
            create_and_leave(&first, key, id, json!({"background": true, "stream": true})).await;
        } else {
            create_queued(&first.caller(key), id).await;
        }
        first.charged(key, 1, HELLO_TOKENS, RESERVED).await;
        for _ in 0..2 {
            get(&Caller::new(&second.url(""), "someone-else"), id, None).await;
            first.charged(key, 1, USED.0, USED.1).await;
        }
    }
    let keys: Vec<String> = redis.ask(&["KEYS", "*"]);
    assert!(!keys.iter().any(|key| key.contains("resp_fleet")), "ids are hashed: {keys:?}");
    // The first Envoy finds the reservation settled.
    get(&first.caller("fleet-left"), "resp_fleet_1", None).await;
    first.charged("fleet-left", 1, USED.0, USED.1).await;
}
