//! Compressed request bodies: they count as what they decode to, reach the upstream as they came, and are refused where
//! nobody can tell what they say.

use crate::caller::{Answer, CHAT, HELLO_TOKENS, hello};
use crate::gateway::{Gateway, Store, eventually};
use crate::raw::Connection;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// Compressions of one chat, each sent with a key of its own.
const COMPRESSIONS: [&str; 8] =
    ["gzip", "x_gzip", "br", "zstd", "zstd_in_frames", "br_in_gzip", "zstd_in_deflate", "gzip_in_bare_deflate"];

/// Keys whose limits need the body, and one whose limit does not.
pub fn keys() -> Value {
    let hour = |metric: &str, limit: u64| json!([{"metric": metric, "limit": limit, "window": "1h"}]);
    let large = |name| json!({"key": format!("codings-large-{name}"), "windows": hour("input_tokens", 10_000_000)});
    let others = json!([
        {"key": "codings-small", "windows": hour("input_tokens", 20_000)},
        {"key": "codings-large", "windows": hour("input_tokens", 10_000_000)},
        {"key": "codings-requests", "windows": hour("requests", 100)},
        {"key": "codings-unlimited", "unlimited": true},
        {"key": "codings-tried", "rpm": 1000, "windows": [
            {"metric": "input_tokens", "limit": 1000, "window": "1h", "dry_run": true},
        ]},
    ]);
    COMPRESSIONS.into_iter().map(large).chain(others.as_array().unwrap().iter().cloned()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bare(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One chat of some 27,000 tokens, as zlib, brotli and libzstd compress it.
fn file(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read(root.join("tests/data/codings").join(name)).unwrap()
}

#[rstest]
#[case::gzip("gzip", "gzip", file("chat.json.gz"))]
#[case::x_gzip("x_gzip", "X-GZip", file("chat.json.gz"))]
#[case::br("br", "br", file("chat.json.br"))]
#[case::zstd("zstd", "zstd", file("chat.json.zst"))]
#[case::zstd_in_frames("zstd_in_frames", " ZSTD\t,", file("frames.json.zst"))]
#[case::br_in_gzip("br_in_gzip", "br, gzip", gzip(&file("chat.json.br")))]
#[case::zstd_in_deflate("zstd_in_deflate", "identity,zstd ,deflate", zlib(&file("chat.json.zst")))]
#[case::gzip_in_bare_deflate("gzip_in_bare_deflate", "gzip, deflate", bare(&file("chat.json.gz")))]
#[tokio::test]
async fn a_compressed_prompt_counts_as_what_it_says(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] name: &str,
    #[case] coding: &str,
    #[case] body: Vec<u8>,
) {
    let gateway = store.gateway().await;
    let send = async |key: &str| {
        let request = gateway.caller(key).request(Method::POST, CHAT).header("content-encoding", coding);
        Answer::to(request.header("x-mock-lax", "1").body(body.clone())).await
    };
    let refused = send("codings-small").await;
    assert_eq!(refused.status, 429);
    assert!(refused.message().contains("can never be admitted"), "{}", refused.message());
    let key = format!("codings-large-{name}");
    let admitted = send(&key).await;
    assert_eq!(admitted.status, 200);
    let spent = 10_000_000 - admitted.number("x-ratelimit-remaining-input-tokens");
    assert!((20_000..40_000).contains(&spent), "{spent}");
    let received = gateway.mock.received_from(&key);
    assert!(received.iter().any(|request| request.body == body), "it is forwarded as it came");
}

#[rstest]
#[tokio::test]
async fn a_compressed_body_of_a_hundred_thousand_tokens_is_no_small_one(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let chat = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "word ".repeat(100_000)}]});
    let body = gzip(chat.to_string().as_bytes());
    assert!(body.len() < 2_000, "{}", body.len());
    let request = gateway.caller("codings-small").request(Method::POST, CHAT).header("content-encoding", "gzip");
    assert_eq!(Answer::to(request.body(body)).await.status, 429);
}

/// Envoy joins fields of one name, and a body may come byte by byte.
#[rstest]
#[tokio::test]
async fn codings_may_come_in_several_fields_and_bodies_in_many_parts(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let body = gzip(&zlib(hello().to_string().as_bytes()));
    let mut connection = Connection::open(gateway.envoy.address()).await;
    let headers = [
        "authorization: Bearer codings-fields",
        "x-mock-lax: 1",
        "content-encoding: deflate",
        "content-encoding: gzip",
        "transfer-encoding: chunked",
    ];
    connection.post(CHAT, &headers).await;
    for byte in &body {
        connection.send([b"1\r\n", &[*byte][..], b"\r\n"].concat()).await;
    }
    connection.send("0\r\n\r\n").await;
    let answer = connection.answer().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let left = crate::gateway::STRANGER_TOKENS - HELLO_TOKENS;
    let expected = format!("x-ratelimit-remaining-input-tokens: {left}\r\n");
    assert!(answer.head.contains(&expected), "{}", answer.head);
    assert_eq!(gateway.mock.received_from("codings-fields")[0].body, body);
}

/// Some servers do not know content codings, and read a body as it comes.
#[rstest]
#[tokio::test]
async fn a_body_that_is_not_in_its_coding_is_charged_the_most(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[values("gzip", "deflate", "br", "zstd", "br, gzip")] coding: &str,
) {
    let gateway = store.gateway().await;
    let key = format!("codings-plain-{}", coding.replace(", ", "-"));
    let request = gateway.caller(&key).chat(&hello()).header("content-encoding", coding);
    let answer = Answer::to(request.header("x-mock-lax", "1").header("x-mock-status", "500")).await;
    assert_eq!(answer.status, 500);
    let spent = crate::gateway::STRANGER_TOKENS - answer.number("x-ratelimit-remaining-input-tokens");
    assert!(spent >= hello().to_string().len() as u64, "{spent}");
}

#[rstest]
#[case::chat(CHAT, "/error/type", "invalid_request_error")]
#[case::messages("/v1/messages", "/error/type", "invalid_request_error")]
#[tokio::test]
async fn an_unknown_coding_is_415(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] path: &str,
    #[case] pointer: &str,
    #[case] expected: &str,
) {
    let gateway = store.gateway().await;
    for coding in ["compress", "gzip, snappy", "aws-chunked", "gzip;q=1"] {
        let send = async |key: &str| {
            let request = gateway.caller(key).request(Method::POST, path).json(&hello());
            Answer::to(request.header("content-encoding", coding)).await
        };
        let refused = send("codings-small").await;
        assert_eq!(refused.status, 415, "{coding}");
        assert_eq!(refused.header("accept-encoding"), Some("gzip, deflate, br, zstd"));
        assert_eq!(refused.json().pointer(pointer), Some(&json!(expected)));
        assert_eq!(refused.json().get("type").is_some(), path.ends_with("messages"), "in the API's shape");
        // Where nothing depends on the body, and for those who are exempt, it is none of the filter's business.
        assert_eq!(send("codings-requests").await.status, 200, "{coding}");
        assert_eq!(send("codings-unlimited").await.status, 200, "{coding}");
        // In a dry run it is counted and reported.
        assert_eq!(send("codings-tried").await.status, 200, "{coding}");
    }
}

#[rstest]
#[tokio::test]
async fn a_bomb_is_413(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let zeros = vec![b' '; 64 << 20];
    for (coding, bomb) in [("gzip", gzip(&zeros)), ("deflate", zlib(&zeros)), ("gzip,gzip", gzip(&gzip(&zeros)))] {
        let send = async |key: &str, path: &str| {
            let request = gateway.caller(key).request(Method::POST, path).header("content-encoding", coding);
            Answer::to(request.header("x-mock-lax", "1").body(bomb.clone())).await
        };
        let refused = send("codings-large", CHAT).await;
        assert_eq!((refused.status, refused.header("retry-after")), (413, None), "{coding}");
        assert_eq!(refused.json()["error"]["code"], "request_too_large");
        let refused = send("codings-large", "/v1/messages").await;
        assert_eq!(refused.json()["error"]["type"], "request_too_large");
        assert_eq!(send("codings-tried", CHAT).await.status, 200, "{coding}");
    }
}

#[rstest]
#[tokio::test]
async fn what_a_dry_run_would_refuse_is_counted_and_logged(#[values(Store::Local, Store::Redis)] store: Store) {
    let limits = json!({
        "keys": [{"key": "real", "input_tpm": 1000}, {"key": "tried", "input_tpm": 1000, "dry_run": true}],
        "default": "reject",
    });
    let gateway = Gateway::start(store, limits).await;
    for key in ["real", "tried"] {
        let request = gateway.caller(key).request(Method::POST, CHAT).json(&hello());
        let status = Answer::to(request.header("content-encoding", "compress")).await.status;
        assert_eq!(status, if key == "real" { 415 } else { 200 });
    }
    for (family, labels) in [
        ("refused", &[("reason", "encoding")][..]),
        ("dry_run_requests", &[("decision", "refused")]),
        ("unreadable", &[]),
        ("requests", &[("decision", "admitted")]),
    ] {
        eventually(family, 1, async || gateway.envoy.metric(family, labels)).await;
    }
    eventually("lines of the log", 2, async || gateway.envoy.access_log().len()).await;
    let log = gateway.envoy.access_log();
    let fields = |status: u64| {
        let line = log.iter().find(|line| line["status"] == status).unwrap_or_else(|| panic!("{log:?}"));
        ["decision", "reason", "dry_run"].map(|field| line[field].as_str().map(ToOwned::to_owned))
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(fields(415), [text("refused"), text("encoding"), None]);
    assert_eq!(fields(200)[..2], [text("admitted"), text("encoding")]);
}
