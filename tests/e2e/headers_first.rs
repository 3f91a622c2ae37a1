//! Without the option `allow_on_headers_stop_iteration` Envoy holds the body back as long as the filter holds the
//! headers. The filter must notice that, or the request would wait forever. Envoy's clock decides when it gives up.
//! With the option a slow client must not look like that.

use crate::caller::{Answer, CHAT, HELLO_TOKENS, hello, hello_with};
use crate::gateway::{Gateway, Store, strangers};
use crate::raw::Connection;
use rstest::rstest;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[rstest]
#[case::set_to_false(Store::Redis, Some(json!(false)))]
#[case::not_set(Store::Local, None)]
#[tokio::test]
async fn no_request_hangs_and_limits_hold(#[case] store: Store, #[case] option: Option<Value>) {
    let mut limits = json!({"keys": [{"key": "patient", "rpm": 8, "input_tpm": 1000}]});
    limits["store"] = store.configuration();
    let gateway = Gateway::start_with(store, |setup| {
        let mut setup = setup.filter(&limits);
        let plugin = setup.plugin().as_object_mut().unwrap();
        assert!(plugin.remove("allow_on_headers_stop_iteration").is_some());
        plugin.extend(option.map(|value| ("allow_on_headers_stop_iteration".to_owned(), value)));
        setup
    })
    .await;
    let caller = gateway.caller("patient");
    let mut times = Vec::new();
    for left in (0..8_u64).rev() {
        let began = Instant::now();
        let request = caller.chat(&hello()).header("x-mock-prompt-tokens", HELLO_TOKENS);
        let answer = Answer::to(request).await;
        times.push(began.elapsed());
        assert_eq!(answer.status, 200);
        assert_eq!(answer.number("x-ratelimit-remaining-requests"), left);
        assert_eq!(answer.number("x-ratelimit-remaining-input-tokens"), 1000 - (8 - left) * HELLO_TOKENS);
    }
    let refused = caller.hello().await;
    assert_eq!(refused.status, 429, "limits hold");
    assert_eq!(gateway.mock.received().len(), 8);
    assert!(times.iter().all(|time| *time < Duration::from_secs(2)), "{times:?}");
    // The first ones wait for a body that does not come; then the filter stops waiting.
    assert!(times.iter().skip(3).all(|time| *time < Duration::from_millis(280)), "{times:?}");
    assert!(gateway.envoy.log().contains("set allow_on_headers_stop_iteration: true"));
}

#[tokio::test]
async fn no_request_waits_where_the_configuration_says_that_headers_go_first() {
    let mut limits = strangers(json!({}));
    limits["headers_mode"] = json!("headers_first");
    let gateway = Gateway::start_with(Store::Local, |setup| {
        let mut setup = setup.filter(&limits);
        setup.plugin().as_object_mut().unwrap().remove("allow_on_headers_stop_iteration");
        setup
    })
    .await;
    let caller = gateway.caller("stated");
    for _ in 0..4 {
        let began = Instant::now();
        let answer = caller.hello().await;
        let took = began.elapsed();
        assert_eq!(answer.status, 200);
        assert!(answer.number("x-ratelimit-remaining-input-tokens") > 0, "the body is read");
        assert!(took < Duration::from_millis(280), "{took:?}");
    }
    assert!(!gateway.envoy.log().contains("allow_on_headers_stop_iteration"));
}

/// Only where headers wait for the body does the filter ask for a stream's usage.
#[tokio::test]
async fn slow_clients_do_not_let_headers_go_first() {
    let gateway = Gateway::start(Store::Local, strangers(json!({}))).await;
    let body = hello().to_string();
    for _ in 0..5 {
        let mut connection = Connection::open(gateway.envoy.address()).await;
        let length = format!("content-length: {}", body.len());
        connection.post(CHAT, &["authorization: Bearer slow", &length]).await;
        // The filter waits for the body for 0.3 s.
        tokio::time::sleep(Duration::from_millis(450)).await;
        connection.send(&body).await;
        assert_eq!(connection.answer().await.status, 200);
    }
    let stream = hello_with(json!({"stream": true}));
    assert_eq!(Answer::to(gateway.caller("quick").chat(&stream)).await.status, 200);
    let received = gateway.mock.received();
    let last = String::from_utf8_lossy(&received.last().unwrap().body).into_owned();
    assert!(last.contains("include_usage"), "{last}");
}
