//! Compressed answers: the encodings that the filter lets through to the upstream, the bytes that the client gets, and
//! the charge.

use crate::caller::{Answer, HELLO_TOKENS, hello_with};
use crate::gateway::{Gateway, Store, strangers};
use rstest::rstest;
use serde_json::json;

#[rstest]
#[case::gzip("br, gzip;q=0.8, deflate", "gzip;q=0.8, deflate", "gzip")]
#[case::deflate("zstd, deflate", "deflate", "deflate")]
#[tokio::test]
async fn a_compressed_answer_is_charged_and_passes_untouched(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values(false, true)] stream: bool,
    #[case] accept: &str,
    #[case] narrowed: &str,
    #[case] encoding: &str,
) {
    let gateway = store.gateway().await;
    let key = format!("compression-{encoding}-{stream}");
    let body = hello_with(json!({"stream": stream, "stream_options": {"include_usage": true}}));
    let send = |caller: &crate::caller::Caller| {
        let request = caller.chat(&body).header("accept-encoding", accept);
        Answer::to(request.header("x-mock-compress", "1").header("x-mock-prompt-tokens", "70"))
    };
    let through = send(&gateway.caller(&key)).await;
    let direct = send(&crate::caller::Caller::new(&format!("http://{}", gateway.mock.address()), "")).await;
    assert_eq!(through.header("content-encoding"), Some(encoding));
    assert_eq!(through.body, direct.body, "not a byte is changed");
    let received = gateway.mock.received_from(&key);
    assert_eq!(received[0].headers["accept-encoding"], narrowed);
    gateway.charged(&key, 1, 70, 16).await;
}

/// With `accept_encoding: keep` the client's own `accept-encoding` goes upstream. The filter charges an answer that it
/// can decompress by its usage, and any other as reserved.
#[rstest]
#[case::readable("zstd, gzip", None, (70, 16))]
#[case::not_readable("br", Some("content-encoding: br"), (HELLO_TOKENS, 30))]
#[tokio::test]
async fn compressions_that_cannot_be_read_may_be_kept(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] accept: &str,
    #[case] answered: Option<&str>,
    #[case] (input, output): (u64, u64),
) {
    let gateway = Gateway::start(store, strangers(json!({"accept_encoding": "keep"}))).await;
    let request = gateway
        .caller("keep")
        .chat(&hello_with(json!({"max_tokens": 30})))
        .header("accept-encoding", accept)
        .header("x-mock-compress", "1")
        .header("x-mock-prompt-tokens", "70")
        .header("x-mock-completion-tokens", "16");
    let request = match answered {
        // The mock cannot compress with brotli, so it only claims to.
        Some(header) => request.header("x-mock-header", header),
        None => request,
    };
    let answer = Answer::to(request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(gateway.mock.received()[0].headers["accept-encoding"], accept);
    gateway.at_rest().await;
    gateway.charged("keep", 1, input, output).await;
}
