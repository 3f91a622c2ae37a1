//! Streams that cost more than was reserved for them.

use crate::caller::hello_with;
use crate::gateway::{STRANGER_TOKENS, Store, eventually};
use futures_util::StreamExt;
use serde_json::json;

#[tokio::test]
async fn others_see_what_a_stream_spends_while_it_runs() {
    let gateway = Store::Local.gateway().await;
    let caller = gateway.caller("accounting-running");
    let request = caller.chat(&hello_with(json!({"stream": true, "max_tokens": 10})));
    let request = request.header("x-mock-completion-tokens", "100000").header("x-mock-chunk-delay-ms", "5");
    let mut body = request.send().await.unwrap().bytes_stream();
    let reading = tokio::spawn(async move { while body.next().await.is_some() {} });
    eventually("more than was reserved is spent", true, async || {
        let left = caller.too_large().await.number("x-ratelimit-remaining-output-tokens");
        STRANGER_TOKENS - left > 60
    })
    .await;
    assert!(!reading.is_finished(), "the stream still runs");
    reading.abort();
}
