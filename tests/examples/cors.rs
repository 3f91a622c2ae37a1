//! Browsers of another origin ask before they send, and read the headers of limits.

use crate::example::{example, port};
use llm_rate_limit_tests::chat::{Answer, CHAT, chat, client};
use llm_rate_limit_tests::mock_llm::MockLlm;
use reqwest::Method;

const ORIGIN: &str = "https://chat.example.com";

#[tokio::test]
async fn preflights_are_free_and_scripts_may_read_limits() {
    let mock = MockLlm::start();
    let envoy = example("cors", &[("port_value: 8000", &port(mock.address()))]).start();
    for _ in 0..5 {
        let preflight = client().request(Method::OPTIONS, envoy.url(CHAT));
        let preflight = preflight.header("origin", ORIGIN).header("access-control-request-method", "POST");
        let allowed = Answer::to(preflight).await;
        assert_eq!(allowed.status, 200);
        assert_eq!(allowed.header("access-control-allow-origin"), Some(ORIGIN));
        assert_eq!(allowed.header("access-control-allow-headers"), Some("authorization, content-type"));
    }
    assert_eq!(mock.report().requests, 0);

    let ask = || Answer::to(chat(envoy.url(CHAT)).bearer_auth("a-key").header("origin", ORIGIN));
    let first = ask().await;
    assert_eq!((first.status, first.number("x-ratelimit-remaining-requests")), (200, 1));
    ask().await;
    let refused = ask().await;
    assert_eq!((refused.status, mock.report().requests), (429, 2));
    for answer in [first, refused] {
        assert_eq!(answer.header("access-control-allow-origin"), Some(ORIGIN));
        let exposed: Vec<_> = answer.header("access-control-expose-headers").unwrap().split(", ").collect();
        let limits = answer.headers.keys().map(|name| name.as_str());
        for name in limits.filter(|name| name.starts_with("retry-after") || name.ends_with("-requests")) {
            assert!(exposed.contains(&name), "{name} is hidden from scripts: {exposed:?}");
        }
    }
}
