//! The recipe that protects a server with few places.

use crate::recipe::{held_chat, recipe};
use llm_rate_limit_tests::chat::{Answer, eventually};
use llm_rate_limit_tests::mock_llm::MockLlm;

/// The places of the recipe, and those that one client may have.
const PLACES: usize = 16;
const OF_ONE: usize = 8;

#[tokio::test]
async fn protect_vllm() {
    let mock = MockLlm::start();
    let envoy = recipe("protect-vllm", &mock, &[]).start();
    let ask = |key: &str| tokio::spawn(Answer::to(held_chat(&envoy, "vllm").bearer_auth(key)));
    let at_once = async |requests: usize, upstream: usize| {
        let expected = (requests as u64, upstream as u64);
        eventually("requests under way, and those of them at the LLM", expected, async || {
            (envoy.stat("http.llm.downstream_rq_active").unwrap(), mock.report().in_flight)
        })
        .await;
    };
    let mut asked: Vec<_> = (0..OF_ONE + 2).map(|_| ask("ann")).collect();
    at_once(OF_ONE + 2, OF_ONE).await;
    asked.extend((0..PLACES - OF_ONE).map(|_| ask("bob")));
    at_once(PLACES + 2, PLACES).await;
    asked.extend((0..3).map(|_| ask("carol")));
    at_once(PLACES + 5, PLACES).await;

    mock.let_through("vllm", 10_000);
    let mut waited = 0;
    for answer in asked {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200);
        waited += usize::from(answer.header("x-ratelimit-waited-ms").is_some());
    }
    assert_eq!(waited, 5, "those that found no place");
    assert_eq!(mock.report().in_flight_max, PLACES as u64);
}
