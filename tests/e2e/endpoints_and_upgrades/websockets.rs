//! Connections that become WebSockets, in which any number of requests could pass unseen.

use crate::caller::{Answer, Caller, hello};
use crate::gateway::{Gateway, Store, eventually};
use crate::raw::{Connection, RawAnswer};
use crate::routes::connection_manager;
use bytes::Bytes;
use h2::ext::Protocol;
use http::{Method, Request, StatusCode};
use llm_rate_limit_tests::envoy::Setup;
use rstest::rstest;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;

const RESPONSES: &str = "/v1/responses";

/// Lets Envoy upgrade connections, to WebSockets and to a protocol of no name, over HTTP/1.1 and HTTP/2.
fn with_upgrades(mut setup: Setup) -> Setup {
    let manager = connection_manager(&mut setup);
    manager["upgrade_configs"] = json!([{"upgrade_type": "websocket"}, {"upgrade_type": "other"}]);
    manager["http2_protocol_options"]["allow_connect"] = json!(true);
    setup
}

async fn gateway(store: Store, mut limits: Value) -> Gateway {
    limits["store"] = store.configuration();
    Gateway::start_with(store, |setup| with_upgrades(setup).filter(&limits)).await
}

/// Asks for an upgrade with these header lines besides the key's.
async fn ask(gateway: &Gateway, key: &str, request: &str, headers: &[&str]) -> (Connection, RawAnswer) {
    let mut connection = Connection::open(gateway.envoy.address()).await;
    let mut head = format!("{request} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    connection.send(head + "\r\n").await;
    let answer = connection.answer().await;
    (connection, answer)
}

const WEBSOCKET: [&str; 4] = [
    "connection: Upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
];

async fn websocket(gateway: &Gateway, key: &str, path: &str) -> (Connection, RawAnswer) {
    ask(gateway, key, &format!("GET {path}"), &WEBSOCKET).await
}

/// Sends bytes and expects them back.
async fn echo(connection: &mut Connection) {
    connection.send("a frame").await;
    assert_eq!(connection.read_until(b"a frame").await, b"a frame");
}

#[rstest]
#[tokio::test]
async fn a_websocket_to_an_llm_is_refused_where_limits_apply(#[values(Store::Local, Store::Redis)] store: Store) {
    let limits = json!({
        "keys": [{"key": "one", "rpm": 1}, {"key": "free", "unlimited": true}, {"key": "none", "group": "of-models"}],
        "groups": {"of-models": {"models": {"gpt-4*": {"tpm": 5}}}},
        "default": "reject",
    });
    let mut gateway = gateway(store, limits).await;
    for (request, upgrade) in [
        ("GET /v1/responses", "upgrade: websocket"),
        ("GET /V1/Responses/", "Upgrade: WebSocket"),
        ("GET /v1/realtime?model=gpt-realtime", "upgrade: websocket"),
        ("POST /v1/responses", "upgrade: websocket"),
    ] {
        for key in ["one", "none"] {
            let (_, answer) = ask(&gateway, key, request, &["Connection: keep-alive, upgrade", upgrade]).await;
            assert_eq!(answer.status, 426, "{request}: {answer:?}");
            assert!(answer.head.contains("\r\nupgrade: http/1.1\r\n"), "{}", answer.head);
            assert!(answer.head.contains("\r\ncontent-type: application/json\r\n"), "{}", answer.head);
            let body: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(body["error"]["code"], "websocket_not_available");
        }
    }
    assert_eq!(gateway.mock.report().requests, 0);
    // The client uses HTTP instead, and has all of its limit.
    let caller = Caller::new(&gateway.envoy.url(""), "one");
    let answer = Answer::to(caller.request(Method::POST, RESPONSES).json(&hello())).await;
    assert_eq!((answer.status, answer.number("x-ratelimit-remaining-requests")), (200, 0));
    assert_eq!(websocket(&gateway, "stranger", RESPONSES).await.1.status, 401);
    let (mut connection, answer) = websocket(&gateway, "free", RESPONSES).await;
    assert_eq!(answer.status, 101, "{answer:?}");
    echo(&mut connection).await;
    let upgrade = [("reason", "upgrade")];
    eventually("the metric", 8, async || gateway.envoy.metric("refused", &upgrade)).await;
    gateway.envoy.wait_for_log(r#""reason":"upgrade""#, Duration::from_secs(20));
}

#[rstest]
#[tokio::test]
async fn a_counted_websocket_is_a_request_and_a_slot_as_long_as_it_lives(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let requests = json!({"metric": "requests", "limit": 3, "window": "1h"});
    let tokens = json!({"metric": "input_tokens", "limit": 5, "window": "1h"});
    let limits = json!({"websocket": "count", "default": {"windows": [requests, tokens], "max_concurrency": 1}});
    let gateway = gateway(store, limits).await;
    for path in [RESPONSES, "/events"] {
        let key = format!("counted {path}");
        let (mut first, answer) = websocket(&gateway, &key, path).await;
        assert_eq!(answer.status, 101, "{answer:?}");
        assert!(answer.head.contains("x-ratelimit-remaining-requests: 2\r\n"), "{}", answer.head);
        echo(&mut first).await;
        assert_eq!(websocket(&gateway, &key, path).await.1.status, 429, "the slot is taken");
        echo(&mut first).await;
        drop(first);
        let reopened = async || {
            let (connection, answer) = websocket(&gateway, &key, path).await;
            (answer.status == 101).then_some(connection)
        };
        for _ in 0..2 {
            let mut connection = None;
            while connection.is_none() {
                connection = reopened().await;
            }
            echo(&mut connection.unwrap()).await;
        }
        eventually("requests that are left", true, async || {
            let (_, answer) = websocket(&gateway, &key, path).await;
            answer.status == 429 && answer.body.contains("on requests per")
        })
        .await;
    }
}

#[rstest]
#[tokio::test]
async fn a_websocket_elsewhere_follows_its_endpoint(#[values(Store::Local, Store::Redis)] store: Store) {
    let limits = json!({
        "endpoints": {"/free": "pass", "/closed": "reject", "/llm": "responses", "/v1/realtime": "pass"},
        "default": {"rpm": 0},
    });
    let gateway = gateway(store, limits).await;
    for (path, status) in [("/free", 101), ("/closed", 403), ("/llm", 426), ("/v1/realtime", 101), ("/else", 429)] {
        assert_eq!(websocket(&gateway, "any", path).await.1.status, status, "{path}");
    }
    // Another protocol is not touched.
    let (mut connection, answer) =
        ask(&gateway, "any", "GET /v1/responses", &["connection: upgrade", "upgrade: other"]).await;
    assert_eq!(answer.status, 101, "{answer:?}");
    assert!(!answer.head.contains("x-ratelimit"), "{}", answer.head);
    echo(&mut connection).await;
}

/// Envoy refuses some handshakes by itself, and makes ordinary requests of others.
#[rstest]
#[tokio::test]
async fn no_other_handshake_gets_past(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = gateway(store, json!({"default": {"rpm": 0}})).await;
    for (headers, status) in [
        (&["connection: upgrade", "upgrade: foo, websocket"][..], 403),
        (&["connection: upgrade", "upgrade: foo", "upgrade: websocket"], 403),
        (&["connection: upgrade", "upgrade: websocket/13"], 403),
        (&["connection: upgrade", "UPGRADE: WEBSOCKET", "content-length: 0"], 426),
        (&["connection: close, Upgrade", "upgrade: websocket"], 426),
        // The upstream's: it expects a body.
        (&["upgrade: websocket"], 400),
        (&["connection: upgrade", "upgrade: h2c"], 400),
    ] {
        let (_, answer) = ask(&gateway, "any", "GET /openai/v1/responses?a=/health", headers).await;
        assert_eq!(answer.status, status, "{headers:?}: {answer:?}");
    }
}

/// Servers that know no WebSocket answer such a request, so its body counts.
#[rstest]
#[tokio::test]
async fn a_post_that_wants_a_websocket_is_counted_as_a_post(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = gateway(store, json!({"websocket": "count", "default": {"rpm": 0}})).await;
    let (_, answer) = ask(&gateway, "any", "POST /v1/responses", &WEBSOCKET).await;
    assert_eq!(answer.status, 429, "{answer:?}");
}

#[rstest]
#[case::everything(json!({"dry_run": true, "default": {"rpm": 5}}))]
#[case::every_limit(json!({"default": {"rpm": 5, "dry_run": true}}))]
#[tokio::test]
async fn a_dry_run_refuses_no_websocket(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] limits: Value,
) {
    let mut gateway = gateway(store, limits).await;
    let (mut connection, answer) = websocket(&gateway, "dry", RESPONSES).await;
    assert_eq!(answer.status, 101, "{answer:?}");
    echo(&mut connection).await;
    eventually("the metrics", [1, 1], async || {
        let [of_dry_run, of_all] = [("dry_run_requests", "refused"), ("requests", "admitted")];
        [of_dry_run, of_all].map(|(family, decision)| gateway.envoy.metric(family, &[("decision", decision)]))
    })
    .await;
    drop(connection);
    gateway.envoy.wait_for_log(r#""dry_run":"upgrade""#, Duration::from_secs(20));
}

/// Asks for a WebSocket by HTTP/2's extended CONNECT (RFC 8441).
async fn connect(gateway: &Gateway, key: &str, path: &str) -> (http::Response<h2::RecvStream>, h2::SendStream<Bytes>) {
    let stream = TcpStream::connect(gateway.envoy.address()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    eventually("Envoy's settings", true, async || client.is_extended_connect_protocol_enabled()).await;
    let request = Request::builder().method(Method::CONNECT).uri(format!("http://gateway{path}"));
    let request = request.header("authorization", format!("Bearer {key}")).header("sec-websocket-version", "13");
    let request = request.extension(Protocol::from_static("websocket")).body(()).unwrap();
    let (response, body) = client.send_request(request, false).unwrap();
    (response.await.unwrap(), body)
}

#[rstest]
#[tokio::test]
async fn extended_connect_is_a_websocket_too(#[values(Store::Local, Store::Redis)] store: Store) {
    let refusing = gateway(store, json!({"default": {"rpm": 5}})).await;
    let (answer, _) = connect(&refusing, "any", RESPONSES).await;
    assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
    // HTTP/2 forbids these headers.
    assert!(!answer.headers().contains_key("upgrade") && !answer.headers().contains_key("connection"), "{answer:?}");
    assert_eq!(refusing.mock.report().requests, 0);

    let limits = json!({"websocket": "count", "default": {"rpm": 5, "max_concurrency": 1}});
    let counting = gateway(store, limits).await;
    let (answer, mut body) = connect(&counting, "any", RESPONSES).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["x-ratelimit-remaining-requests"], "4");
    body.send_data(Bytes::from_static(b"a frame"), false).unwrap();
    assert_eq!(answer.into_body().data().await.unwrap().unwrap(), "a frame");
    assert_eq!(connect(&counting, "any", RESPONSES).await.0.status(), StatusCode::TOO_MANY_REQUESTS);
    body.send_reset(h2::Reason::CANCEL);
    eventually("a free slot", StatusCode::OK, async || connect(&counting, "any", RESPONSES).await.0.status()).await;
}
