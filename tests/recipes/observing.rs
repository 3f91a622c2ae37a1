//! The recipe that only counts.

use crate::recipe::recipe;
use llm_rate_limit_tests::chat::{Answer, CHAT, chat, eventually, statuses};
use llm_rate_limit_tests::mock_llm::MockLlm;

#[tokio::test]
async fn observe_only() {
    let mock = MockLlm::start();
    let envoy = recipe("observe-only", &mock, &[]).start();
    let ask = || chat(envoy.url(CHAT)).bearer_auth("a-key");
    assert_eq!(statuses(3, ask).await, [200; 3]);
    let fourth = Answer::to(ask()).await;
    assert_eq!((fourth.status, fourth.header("x-ratelimit-dry-run")), (200, Some("requests")));
    assert_eq!(mock.report().requests, 4);
    let reported = async || {
        let log = envoy.access_log();
        let reported: Vec<_> =
            log.iter().filter_map(|line| line["dry_run"].as_str().map(str::to_owned)).collect();
        (envoy.metric("dry_run_requests", &[("decision", "over_limit")]), reported)
    };
    eventually("the report", (1, vec!["key/requests/1d".to_owned()]), reported).await;
}
