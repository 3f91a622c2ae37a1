//! The recipe of teams in a company.

use crate::recipe::{KEY, chat_of, recipe};
use llm_rate_limit_tests::chat::{Answer, CHAT, chat, statuses};
use llm_rate_limit_tests::mock_llm::MockLlm;

#[tokio::test]
async fn a_company_and_its_teams() {
    let mock = MockLlm::start();
    let envoy = recipe("a-company-and-its-teams", &mock, &[]).start();
    // Nine tokens of each are the prompt's.
    let ask = async |key: &str, tokens: u64| Answer::to(chat_of(&envoy, tokens - 9).bearer_auth(key)).await;
    let refused_by = async |key: &str, tokens: u64| {
        let refused = ask(key, tokens).await;
        assert_eq!(refused.status, 429);
        refused.message()
    };
    assert_eq!(ask(KEY, 50_000).await.status, 200);
    assert!(refused_by(KEY, 20_000).await.contains("limit 60000, used 50000"), "the team's");
    assert_eq!(ask("test-key-2", 40_000).await.status, 200);
    assert!(refused_by("test-key-2", 15_000).await.contains("limit 100000, used 90000"), "the company's");
    // What was refused is charged to nobody.
    assert_eq!(ask("test-key-2", 10_000).await.status, 200);
    assert!(
        refused_by(KEY, 5_000).await.contains("limit 100000, used 100000"),
        "the company's, of the other team"
    );
    assert_eq!(statuses(1, || chat(envoy.url(CHAT)).bearer_auth("an-invented-key")).await, [401]);
}
