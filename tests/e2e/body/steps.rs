//! Large bodies: they are read and counted in steps, between which the worker serves others, with the same outcome as
//! small ones.

use crate::caller::{Answer, CHAT, body_in_parts, hello_with};
use crate::gateway::{Gateway, STRANGER_TOKENS, Store, strangers};
use crate::raw::Connection;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

/// A limit that admits any prompt.
const ANY: u64 = 1_000_000_000;

/// Keys whose limits need the body.
pub fn keys() -> Value {
    let windows = json!([{"metric": "input_tokens", "limit": ANY, "window": "1h"}]);
    json!([
        {"key": "steps-beside", "windows": windows},
        {"key": "steps-beyond", "windows": windows},
    ])
}

/// A chat of `words` words, each of which is a token, and of 7 tokens beside them.
fn chat(words: usize) -> Value {
    hello_with(json!({"messages": [{"role": "user", "content": " word".repeat(words)}]}))
}

const BESIDE: u64 = 7;

fn left(answer: &Answer) -> u64 {
    answer.number("x-ratelimit-remaining-input-tokens")
}

/// The order of answers shows it: the prompt takes as long as hundreds of small requests.
#[rstest]
#[tokio::test]
async fn small_requests_are_served_while_a_large_prompt_is_counted(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = Gateway::start(store, strangers(json!({"keys": keys()}))).await;
    let caller = gateway.caller("steps-small");
    assert_eq!(caller.hello().await.status, 200);
    let body = chat(4_000_000).to_string();
    let mut connection = Connection::open(gateway.envoy.address()).await;
    let length = format!("content-length: {}", body.len());
    connection.post(CHAT, &["authorization: Bearer steps-beside", &length]).await;
    connection.send(&body).await;
    // From here on the worker has all of the body, or finds it in its socket.
    let mut served = 0;
    let large = tokio::spawn(async move { connection.answer().await });
    while !large.is_finished() {
        assert_eq!(caller.hello().await.status, 200);
        served += 1;
    }
    assert_eq!(large.await.unwrap().status, 200);
    // Far more on an idle machine; if the worker served nobody meanwhile, it would be one or two.
    assert!(served >= 5, "{served}");
}

#[rstest]
#[tokio::test]
async fn a_large_prompt_is_counted_exactly_and_beyond_what_is_counted_a_token_is_a_byte(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let answer = Answer::to(gateway.caller("steps-exact").chat(&chat(500_000))).await;
    assert_eq!((answer.status, STRANGER_TOKENS - left(&answer)), (200, 500_000 + BESIDE));
    let beyond = Answer::to(gateway.caller("steps-beyond").chat(&chat(3_000_000))).await;
    assert_eq!(beyond.status, 200, "{}", beyond.text());
    // 8 MiB are counted, the rest of 15,000,000 bytes is not, and a slice may end a little later.
    let counted = 8_u64 << 20;
    let expected = counted / 5 + (15_000_000 - counted);
    let spent = ANY - left(&beyond);
    assert!(spent > 3_000_000 && spent.abs_diff(expected) < 50_000, "{spent}, not {expected}");
}

#[rstest]
#[tokio::test]
async fn a_large_prompt_that_no_limit_admits_is_refused(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let refused = Answer::to(gateway.caller("steps-refused").chat(&chat(2_000_000))).await;
    assert_eq!(refused.status, 429);
    assert!(refused.message().contains("can never be admitted"), "{}", refused.message());
    gateway.charged("steps-refused", 0, 0, 0).await;
}

#[rstest]
#[tokio::test]
async fn a_client_that_leaves_while_its_prompt_is_counted_is_charged_nothing(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = Gateway::start(store, strangers(json!({}))).await;
    let body = chat(900_000).to_string();
    for _ in 0..3 {
        let mut connection = Connection::open(gateway.envoy.address()).await;
        let length = format!("content-length: {}", body.len());
        connection.post(CHAT, &["authorization: Bearer steps-leaves", &length]).await;
        connection.send(&body).await;
        // Others are served meanwhile, so that some of the body is read when the client leaves.
        assert_eq!(gateway.caller("steps-stays").hello().await.status, 200);
    }
    gateway.at_rest().await;
    gateway.charged("steps-leaves", 0, 0, 0).await;
}

#[rstest]
#[tokio::test]
async fn a_large_body_may_come_in_a_coding_or_end_with_trailers(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let body = chat(100_000).to_string();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_bytes()).unwrap();
    let coded = encoder.finish().unwrap();
    let request = gateway.caller("steps-coded").request(Method::POST, CHAT).header("content-encoding", "gzip");
    let answer = Answer::to(request.header("x-mock-lax", "1").body(coded.clone())).await;
    assert_eq!((answer.status, STRANGER_TOKENS - left(&answer)), (200, 100_000 + BESIDE));
    assert_eq!(gateway.mock.received_from("steps-coded")[0].body, coded, "it is forwarded as it came");

    let caller = gateway.caller("steps-trailers").over_http2();
    let (begin, end) = body.split_at(300_000);
    let request = caller.request(Method::POST, CHAT).header("content-type", "application/json");
    let answer = Answer::to(request.body(body_in_parts(&[begin, end], true))).await;
    assert_eq!((answer.status, STRANGER_TOKENS - left(&answer)), (200, 100_000 + BESIDE));
    assert_eq!(gateway.mock.received_from("steps-trailers")[0].body, body);
}

/// The root context edits the body, long after its last callback.
#[rstest]
#[tokio::test]
async fn the_usage_of_a_large_stream_is_requested(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, strangers(json!({"stream_usage": "inject"}))).await;
    let mut body = chat(100_000);
    body["stream"] = json!(true);
    let answer = Answer::to(gateway.caller("steps-stream").chat(&body)).await;
    assert_eq!(answer.status, 200);
    let received: Value = serde_json::from_slice(&gateway.mock.received_from("steps-stream")[0].body).unwrap();
    assert_eq!(received["stream_options"], json!({"include_usage": true}));
    body["stream_options"] = received["stream_options"].clone();
    assert_eq!(received, body, "nothing else has changed");
}

#[rstest]
#[tokio::test]
async fn a_large_body_that_nobody_reads_is_charged_by_its_size(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let body = chat(100_000).to_string();
    let cut_off = body[..body.len() - 3].to_owned();
    let request = gateway.caller("steps-unread").request(Method::POST, CHAT).body(cut_off.clone());
    let answer = Answer::to(request.header("x-mock-lax", "1").timeout(Duration::from_secs(60))).await;
    assert_eq!((answer.status, STRANGER_TOKENS - left(&answer)), (200, cut_off.len() as u64));
}
