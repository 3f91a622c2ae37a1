//! The recipe for agents, which spend a lot in one session.

use crate::recipe::{KEY, chat_of, held_chat, recipe};
use llm_rate_limit_tests::chat::{Answer, eventually};
use llm_rate_limit_tests::mock_llm::MockLlm;

#[tokio::test]
async fn sessions_of_an_agent() {
    let mock = MockLlm::start();
    let envoy = recipe("sessions-of-an-agent", &mock, &[]).start();
    // Nine tokens of each are the prompt's.
    let request = |session: Option<&str>, tokens: u64| {
        let request = chat_of(&envoy, tokens - 9).bearer_auth(KEY);
        session.into_iter().fold(request, |request, session| request.header("x-session-id", session))
    };
    let ask = async |session, tokens| Answer::to(request(session, tokens)).await;
    assert_eq!(ask(Some("one"), 50_000).await.status, 200);
    let refused = ask(Some("one"), 10).await;
    assert!(refused.message().contains("limit 50000, used 50000"), "{}", refused.message());
    assert_eq!(ask(Some("two"), 50_000).await.status, 200, "another session");
    assert_eq!(ask(None, 15_000).await.status, 200, "no session");
    let refused = ask(Some("three"), 10_000).await;
    assert!(refused.message().contains("limit 120000, used 115000"), "{}", refused.message());

    let hold = || held_chat(&envoy, "agents").bearer_auth(KEY).header("x-session-id", "four");
    let held: Vec<_> = (0..4).map(|_| tokio::spawn(Answer::to(hold()))).collect();
    eventually("requests of a session under way", 4, async || mock.report().in_flight).await;
    let refused = ask(Some("four"), 20).await;
    assert!(refused.message().contains("concurrent requests"), "{}", refused.message());
    assert_eq!(ask(Some("five"), 20).await.status, 200);
    mock.let_through("agents", 1000);
    for answer in held {
        assert_eq!(answer.await.unwrap().status, 200);
    }
}
