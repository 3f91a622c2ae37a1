//! A copy of what is admitted goes to another LLM, whose answers cost nothing.

use crate::example::{example, port};
use llm_rate_limit_tests::chat::{Answer, CHAT, chat, eventually, statuses};
use llm_rate_limit_tests::mock_llm::MockLlm;

#[tokio::test]
async fn only_admitted_requests_are_mirrored_and_only_the_answer_is_charged() {
    let (mock, new) = (MockLlm::start(), MockLlm::start());
    let ports = [("port_value: 8000", &*port(mock.address())), ("port_value: 8001", &port(new.address()))];
    let envoy = example("mirror", &ports).start();
    let ask = |key: &str| chat(envoy.url(CHAT)).bearer_auth(key).header("x-mock-prompt-tokens", "100");
    assert_eq!(statuses(2, || ask("a-key")).await, [200, 200]);
    let last = Answer::to(ask("a-key")).await;
    // Two answers, and what the third has reserved.
    assert_eq!(last.number("x-ratelimit-remaining-tokens"), 10_000 - 2 * 116 - 25);
    assert_eq!(statuses(2, || ask("a-key")).await, [429, 429]);
    assert_eq!(statuses(1, || ask("another-key")).await, [200]);
    eventually("mirrored requests of the other key", 1, async || new.received_from("another-key").len())
        .await;
    eventually("mirrored requests", 3, async || new.received_from("a-key").len()).await;
    assert_eq!(mock.report().requests, 4);
}
