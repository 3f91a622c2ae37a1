//! Routes without limits, and with limits of their own.

use crate::example::{example, port};
use llm_rate_limit_tests::chat::{Answer, chat, statuses};
use llm_rate_limit_tests::mock_llm::MockLlm;
use serde_json::json;

#[tokio::test]
async fn each_route_has_its_own_limits_or_none() {
    let (mock, ui) = (MockLlm::start(), MockLlm::start());
    let ports = [("port_value: 8000", &*port(mock.address())), ("port_value: 8001", &port(ui.address()))];
    let envoy = example("routes", &ports).start();
    let ask = |path: &str| chat(envoy.url(path)).bearer_auth("a-key");

    let free = Answer::to(ask("/ui/v1/chat/completions")).await;
    assert_eq!((free.status, free.header("x-ratelimit-limit-requests")), (200, None));
    assert_eq!(statuses(5, || ask("/ui/v1/chat/completions")).await, [200; 5]);
    assert_eq!(ui.report().requests, 6);

    let limited = Answer::to(ask("/v1/chat/completions")).await;
    assert_eq!(limited.number("x-ratelimit-limit-requests"), 3);
    assert_eq!(limited.number("x-ratelimit-remaining-requests"), 2);
    // Another spelling of a limited path does not choose the route without limits.
    assert_eq!(statuses(2, || ask("/ui/../v1/chat/completions")).await, [200, 200]);
    assert_eq!(statuses(1, || ask("//v1//chat/completions")).await, [429]);

    let batch = Answer::to(ask("/batch/v1/chat/completions")).await;
    assert_eq!(batch.number("x-ratelimit-limit-requests"), 5);
    assert_eq!(batch.number("x-ratelimit-remaining-requests"), 4, "the counters are the route's own");
    assert_eq!(statuses(5, || ask("/batch/v1/chat/completions")).await, [200, 200, 200, 200, 429]);
    assert_eq!(mock.report().requests, 3 + 5);
}

/// Why the example needs two filters.
#[tokio::test]
async fn envoy_takes_no_configuration_of_the_filter_on_a_route() {
    let mut setup = example("routes", &[]);
    let plugin = setup.http_filter()["typed_config"].clone();
    let host = &mut setup.config()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        ["route_config"]["virtual_hosts"][0];
    host["routes"][0]["typed_per_filter_config"] = json!({"llm-rate-limit": plugin});
    let refused = setup.validate().unwrap_err();
    assert!(refused.contains("doesn't support virtual host or route specific configurations"), "{refused}");
}
