//! The claim of a checked token owns the limits.

use crate::example::{example, port};
use llm_rate_limit_tests::chat::{Answer, CHAT, chat, statuses};
use llm_rate_limit_tests::jwt::Issuer;
use llm_rate_limit_tests::mock_llm::MockLlm;
use serde_json::json;

#[tokio::test]
async fn a_checked_claim_owns_the_limits() {
    let (mock, issuer) = (MockLlm::start(), Issuer::create());
    let replacements =
        [("port_value: 8000", &*port(mock.address())), ("/etc/envoy/jwks.json", &issuer.jwks())];
    let envoy = example("jwt", &replacements).start();
    let ask = |token: &str| chat(envoy.url(CHAT)).bearer_auth(token);

    let ann = issuer.token(&json!({"sub": "ann"}));
    let first = Answer::to(ask(&ann)).await;
    assert_eq!((first.status, first.number("x-ratelimit-remaining-requests")), (200, 1));
    // Another token of the same user has the same limits, and no header chooses others.
    let again = issuer.token(&json!({"sub": "ann", "jti": "2"}));
    let other_key = || ask(&again).header("x-api-key", "another-key");
    assert_eq!(statuses(2, other_key).await, [200, 429]);
    assert_eq!(statuses(3, || ask(&issuer.token(&json!({"sub": "bob"})))).await, [200, 200, 429]);

    let stranger = Issuer::create();
    for (token, status) in [
        ("no-token".to_owned(), 401),
        (stranger.token(&json!({"sub": "carol"})), 401),
        (issuer.token(&json!({"sub": "carol", "exp": 1})), 401),
        (issuer.token(&json!({"sub": "carol", "aud": "another"})), 403),
    ] {
        assert_eq!(Answer::to(ask(&token)).await.status, status, "{token}");
    }
    let carol = Answer::to(ask(&issuer.token(&json!({"sub": "carol"})))).await;
    assert_eq!(carol.number("x-ratelimit-remaining-requests"), 1, "what jwt_authn refuses is not counted");

    let received = mock.received();
    assert_eq!(received.len(), 5);
    assert!(
        received.iter().all(|request| !request.headers.contains_key("authorization")),
        "no token leaves Envoy"
    );
}
