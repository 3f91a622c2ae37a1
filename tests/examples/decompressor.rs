//! A compressed prompt arrives plain, at the filter and at the LLM.

use crate::example::{example, port};
use flate2::Compression;
use flate2::write::GzEncoder;
use llm_rate_limit_tests::chat::{Answer, CHAT, client, hello};
use llm_rate_limit_tests::mock_llm::MockLlm;
use serde_json::{Value, json};
use std::io::Write;

#[tokio::test]
async fn the_usage_of_a_stream_is_asked_for_in_a_body_that_was_compressed() {
    let mock = MockLlm::start();
    let envoy = example("decompressor", &[("port_value: 8000", &port(mock.address()))]).start();
    let mut chat = hello();
    chat["stream"] = json!(true);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(chat.to_string().as_bytes()).unwrap();
    let request = client().post(envoy.url(CHAT)).bearer_auth("a-key").body(gzip.finish().unwrap());
    let request = request.header("content-type", "application/json").header("content-encoding", "gzip");
    let answer = Answer::to(request).await;
    assert_eq!((answer.status, answer.number("x-ratelimit-remaining-tokens")), (200, 10_000 - 25));
    let text = answer.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(!text.contains("\"usage\":{"), "the client has not asked for it: {text}");

    let [received] = &mock.received_from("a-key")[..] else { panic!("the LLM got one request") };
    assert_eq!(received.headers.get("content-encoding"), None);
    let body: Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!(body["stream_options"], json!({"include_usage": true}));
}
