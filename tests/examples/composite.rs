//! A header chooses the limits.

use crate::example::{example, port};
use llm_rate_limit_tests::chat::{Answer, CHAT, chat, statuses};
use llm_rate_limit_tests::mock_llm::MockLlm;

#[tokio::test]
async fn each_host_has_limits_of_its_own() {
    let mock = MockLlm::start();
    let envoy = example("composite", &[("port_value: 8000", &port(mock.address()))]).start();
    let ask = |host: &str| chat(envoy.url(CHAT)).bearer_auth("a-key").header("host", host);
    for (host, limit) in [("batch.example.com", 5), ("llm.example.com", 3)] {
        let first = Answer::to(ask(host)).await;
        assert_eq!((first.status, first.number("x-ratelimit-limit-requests")), (200, limit), "{host}");
        assert_eq!(first.number("x-ratelimit-remaining-requests"), limit - 1, "{host}");
    }
    assert_eq!(statuses(3, || ask("llm.example.com")).await, [200, 200, 429]);
    assert_eq!(statuses(1, || ask("another.example.com")).await, [429], "every other host is one");
    assert_eq!(statuses(5, || ask("batch.example.com")).await, [200, 200, 200, 200, 429]);
}
