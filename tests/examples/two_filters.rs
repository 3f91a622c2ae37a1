//! Two filters in one chain count apart, and a request passes both or is charged by neither.

use crate::example::{example, port};
use llm_rate_limit_tests::chat::{Answer, CHAT, chat};
use llm_rate_limit_tests::envoy::Envoy;
use llm_rate_limit_tests::mock_llm::MockLlm;

async fn ask(envoy: &Envoy, key: &str) -> Answer {
    Answer::to(chat(envoy.url(CHAT)).bearer_auth(key)).await
}

#[tokio::test]
async fn each_filter_counts_for_itself_and_both_must_admit() {
    let mock = MockLlm::start();
    let envoy = example("two-filters", &[("port_value: 8000", &port(mock.address()))]).start();
    for left in [7, 6, 5, 4, 3] {
        let answer = ask(&envoy, "ann").await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining-requests")), (200, left));
    }
    // The first filter refuses: the second does not count.
    let refused = ask(&envoy, "ann").await;
    assert_eq!(refused.status, 429);
    assert!(refused.message().contains("limit 5, used 5"), "{}", refused.message());
    for left in [2, 1, 0] {
        let answer = ask(&envoy, "bob").await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining-requests")), (200, left));
    }
    // The second filter refuses, more often than the first would admit: the first gives back what it has charged.
    for _ in 0..6 {
        let refused = ask(&envoy, "bob").await;
        assert_eq!(refused.status, 429);
        assert!(refused.message().contains("limit 8, used 8"), "{}", refused.message());
        assert_eq!(refused.number("x-ratelimit-limit-requests"), 8);
        assert!(refused.header("retry-after").is_some());
    }
    assert_eq!(mock.report().requests, 8);
}
