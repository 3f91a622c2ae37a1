//! Envoy retries, and the request is charged once.

use crate::example::{example, port};
use llm_rate_limit_tests::chat::{Answer, CHAT, chat};
use llm_rate_limit_tests::mock_llm::MockLlm;

#[tokio::test]
async fn a_retried_request_is_charged_once() {
    let mock = MockLlm::start();
    let envoy = example("retries", &[("port_value: 8000", &port(mock.address()))]).start();
    let ask = |failures: u64| {
        let request = chat(envoy.url(CHAT)).bearer_auth("a-key");
        Answer::to(request.header("x-mock-fail-attempts", failures).header("x-mock-prompt-tokens", "100"))
    };
    let twice_failed = ask(2).await;
    assert_eq!((twice_failed.status, mock.report().requests), (200, 3));
    assert_eq!(twice_failed.number("x-ratelimit-remaining-requests"), 2);

    // The retries are used up: a request, and no tokens.
    let failed = ask(9).await;
    assert_eq!((failed.status, mock.report().requests), (503, 7));

    let last = ask(0).await;
    assert_eq!(last.number("x-ratelimit-remaining-requests"), 0);
    // Of the request before the last, 100 tokens of its prompt and 16 of its answer. The last has reserved more than
    // it will cost: its prompt as counted, and all the output that it may have.
    let (prompt, output) = (9, 16);
    assert_eq!(last.number("x-ratelimit-remaining-tokens"), 10_000 - 116 - (prompt + output));

    let refused = ask(0).await;
    assert_eq!((refused.status, mock.report().requests), (429, 8), "what the filter refuses is not retried");
}
