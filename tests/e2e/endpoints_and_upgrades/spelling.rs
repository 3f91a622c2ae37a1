//! Whatever spelling some server takes for an endpoint is that endpoint, with and without Envoy's own normalization.

use crate::caller::{HELLO_TOKENS, hello};
use crate::gateway::{Gateway, STRANGER_TOKENS, Store, strangers};
use crate::raw::{Connection, RawAnswer};
use crate::routes::connection_manager;
use llm_rate_limit_tests::envoy::Setup;
use rstest::rstest;
use serde_json::json;

/// Spellings of the path of chat completions that Envoy forwards.
const SPELLINGS: [&str; 28] = [
    "/v1/chat/completions",
    "/V1/Chat/Completions",
    "/v1/chat/COMPLETIONS?a=/v1/models",
    "/v1/chat/completions/",
    "/v1/chat/completions//",
    "//v1//chat///completions",
    "/v1/chat/completions;a=b",
    "/v1;x/chat;y=1/completions;",
    "/v1/./chat/completions/.",
    "/v1/files/../chat/completions",
    "/v1/chat/completions/x/..",
    "/v1/chat/completions//..",
    "/v1/chat/completions.json",
    "/v1/chat/completions.",
    "/v1/%63hat/completion%73",
    "/v1/chat%2Fcompletions",
    "/v1/chat%5ccompletions",
    "/v1/chat%252Fcompletions",
    "/v1/%2563hat/completions",
    "/v1/chat%c0%afcompletions",
    "/v1/x/%c0%ae%c0%ae/chat/completions",
    "/v1/x/%2e%2e/chat/completions",
    "/v1/x/..;/chat/completions",
    "/v1/chat/completions%3Ba=b",
    "/v1/chat/completions%3Fa=b",
    "/v1/chat/completions%23a",
    "/v1/chat/completions%20",
    "http://gateway/v1/chat/completions",
];

async fn post(gateway: &Gateway, key: &str, path: &str) -> RawAnswer {
    let body = hello().to_string();
    let mut connection = Connection::open(gateway.envoy.address()).await;
    let (key, length) = (format!("authorization: Bearer {key}"), format!("content-length: {}", body.len()));
    connection.post(path, &[&key, &length, "content-type: application/json"]).await;
    connection.send(body).await;
    connection.answer().await
}

/// Leaves paths as clients write them.
fn as_written(mut setup: Setup) -> Setup {
    let manager = connection_manager(&mut setup).as_object_mut().unwrap();
    manager["normalize_path"] = json!(false);
    manager["merge_slashes"] = json!(false);
    setup
}

#[rstest]
#[case::as_shipped(|setup| setup)]
#[case::as_written(as_written)]
#[tokio::test]
async fn every_spelling_of_an_endpoint_is_that_endpoint(
    #[values(Store::Local, Store::Redis)] store: Store,
    #[case] change: fn(Setup) -> Setup,
) {
    let mut limits = strangers(json!({}));
    limits["store"] = store.configuration();
    let gateway = Gateway::start_with(store, |setup| change(setup).filter(&limits)).await;
    let left = STRANGER_TOKENS - HELLO_TOKENS;
    for (number, path) in SPELLINGS.into_iter().enumerate() {
        let answer = post(&gateway, &format!("spelling-{number}"), path).await;
        let header = format!("x-ratelimit-remaining-input-tokens: {left}\r\n");
        assert!(answer.head.contains(&header), "{path} is not read as a chat: {answer:?}");
    }
}

#[rstest]
#[tokio::test]
async fn a_path_with_several_readings_is_treated_as_the_strictest(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let mut limits = strangers(json!({"endpoints": {"/public/*": "pass", "*": "pass"}}));
    limits["store"] = store.configuration();
    let gateway = Gateway::start_with(store, |setup| as_written(setup).filter(&limits)).await;
    let is_limited = async |path: &str| {
        post(&gateway, "spelling-readings", path).await.head.contains("x-ratelimit-limit-input-tokens:")
    };
    for path in [
        "/public/..%2Fv1/chat/completions",
        "/public/%252e%252e/v1/chat/completions",
        "/public/..;/v1/messages",
        "/v1/messages%3F/count_tokens",
        "/v1/chat/completions%00/public/",
    ] {
        assert!(is_limited(path).await, "{path}");
    }
    for path in ["/public/a;b%20c.css", "/else%2Fwhere", "/v1/threads/thread_1/messages"] {
        assert!(!is_limited(path).await, "{path}");
    }
}
