//! A sidecar of another release: the filter never reads a number that it may misunderstand.

use crate::caller::{Answer, CHAT, hello};
use crate::gateway::{Gateway, Store};
use crate::outages::Impostor;
use reqwest::Method;
use rstest::rstest;
use serde_json::json;

/// A good answer in the sidecar's place, which says this version.
fn sentence(version: Option<&str>, admitted: bool) -> String {
    let wait = if admitted { 0 } else { 1000 };
    let used = if admitted { 1 } else { 1000 };
    let window = format!(r#"{{"used": {used}, "reset_ms": 1000, "retry_after_ms": {wait}}}"#);
    let body = format!(r#"[{{"admitted": {admitted}, "windows": [{window}]}}]"#);
    let version = version.map_or(String::new(), |version| format!("x-llm-rate-limit-wire: {version}\r\n"));
    format!("HTTP/1.1 200 OK\r\n{version}content-length: {}\r\n\r\n{body}", body.len())
}

/// The statuses of requests whose reservations get these sentences, and the log.
async fn statuses(on_error: &str, sentences: Vec<String>) -> (Vec<u16>, String) {
    let limits = json!({
        "store": {"type": "redis", "cluster": "rate-limit-sidecar", "timeout_ms": 2000, "on_error": on_error},
        "default": {"rpm": 1000},
    });
    let count = sentences.len();
    let impostor = Impostor::start(sentences).await;
    let change = |setup: llm_rate_limit_tests::envoy::Setup| {
        setup.concurrency(1).sidecar(impostor.address).filter(&limits)
    };
    let gateway = Gateway::start_with(Store::Local, change).await;
    let caller = gateway.caller("anybody");
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(Answer::to(caller.request(Method::POST, CHAT).json(&hello())).await.status);
    }
    (statuses, gateway.envoy.log())
}

#[rstest]
#[case::deny("deny", true, 503)]
#[case::allow("allow", false, 200)]
#[case::local("local", false, 200)]
#[tokio::test]
async fn on_error_decides_and_the_log_says_so_once(
    #[case] on_error: &str,
    #[case] admitted: bool,
    #[case] expected: u16,
) {
    let sentences = vec![sentence(Some("2"), admitted); 5];
    let (statuses, log) = statuses(on_error, sentences).await;
    assert_eq!(statuses, [expected; 5]);
    let line = "the sidecar speaks version 2 of the wire, and this filter speaks version 1: run the same release";
    assert_eq!(log.matches(line).count(), 1, "{log}");
}

#[tokio::test]
async fn the_same_version_is_read_whether_it_is_said_or_not() {
    let sentences = [(Some("1"), true), (None, true), (Some("1"), false), (None, false)];
    let sentences = sentences.map(|(version, admitted)| sentence(version, admitted));
    let (statuses, log) = statuses("deny", sentences.into()).await;
    assert_eq!(statuses, [200, 200, 429, 429], "{log}");
    assert!(!log.contains("of the wire"), "{log}");
}
