//! Compressed answers: what is asked of the upstream, what the client gets, and what is charged.

use crate::caller::{Answer, hello_with};
use crate::gateway::Store;
use rstest::rstest;
use serde_json::json;

#[rstest]
#[case::gzip("br, gzip;q=0.8, deflate", "gzip;q=0.8, deflate", "gzip")]
#[case::deflate("zstd, deflate", "deflate", "deflate")]
#[tokio::test]
async fn a_compressed_answer_is_charged_and_passes_untouched(
    #[values(false, true)] stream: bool,
    #[case] accept: &str,
    #[case] narrowed: &str,
    #[case] encoding: &str,
) {
    let gateway = Store::Local.gateway().await;
    let key = format!("compression-{encoding}-{stream}");
    let body = hello_with(json!({"stream": stream, "stream_options": {"include_usage": true}}));
    let ask = |caller: &crate::caller::Caller| {
        let request = caller.chat(&body).header("accept-encoding", accept);
        Answer::to(request.header("x-mock-compress", "1").header("x-mock-prompt-tokens", "70"))
    };
    let through = ask(&gateway.caller(&key)).await;
    let direct = ask(&crate::caller::Caller::new(&format!("http://{}", gateway.mock.address()), "")).await;
    assert_eq!(through.header("content-encoding"), Some(encoding));
    assert_eq!(through.body, direct.body, "not a byte is changed");
    let authorization = format!("Bearer {key}");
    let received = gateway.mock.received();
    let received = received.iter().find(|request| request.headers["authorization"] == authorization).unwrap();
    assert_eq!(received.headers["accept-encoding"], narrowed);
    gateway.charged(&key, 1, 70, 16).await;
}
