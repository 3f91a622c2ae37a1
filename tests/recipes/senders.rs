//! Recipes that tell senders apart: by the claims of a token, by tenant and user, by address.

use crate::recipe::{KEY, chat_of, recipe};
use llm_rate_limit_tests::chat::{Answer, CHAT, chat, hello, statuses};
use llm_rate_limit_tests::jwt::Issuer;
use llm_rate_limit_tests::mock_llm::MockLlm;
use reqwest::Client;
use serde_json::{Value, json};
use std::net::IpAddr;

#[tokio::test]
async fn tiers_from_a_token() {
    let (mock, issuer) = (MockLlm::start(), Issuer::create());
    let envoy = recipe("tiers-from-a-token", &mock, &[("/etc/envoy/jwks.json", &issuer.jwks())]).start();
    let left = async |tier: &str, user: &str| {
        let token = issuer.token(&json!({"sub": user, "tier": tier}));
        let answer = Answer::to(chat(envoy.url(CHAT)).bearer_auth(token)).await;
        answer.number("x-ratelimit-remaining-requests")
    };
    // Each user counts apart, under the tier's limits.
    assert_eq!([left("free", "ann").await, left("free", "ann").await, left("free", "bob").await], [2, 1, 2]);
    assert_eq!(
        [left("pro", "carol").await, left("pro", "carol").await, left("pro", "dan").await],
        [59, 58, 59]
    );
    // A user who changes the tier has the new one's limits, and what is used.
    assert_eq!([left("pro", "ann").await, left("free", "bob").await], [57, 1]);

    for claims in [json!({"sub": "eve"}), json!({"sub": "eve", "tier": "gold"}), json!({"sub": "pro"})] {
        let answer = Answer::to(chat(envoy.url(CHAT)).bearer_auth(issuer.token(&claims))).await;
        assert_eq!(answer.number("x-ratelimit-limit-requests"), 3, "{claims}");
    }
    assert_eq!(left("free", "eve").await, 0);
    // A header is no claim, and without a token there is none.
    let token = issuer.token(&json!({"sub": "frank", "tier": "free"}));
    let pretence = chat(envoy.url(CHAT)).bearer_auth(token).header("x-tier", "pro");
    assert_eq!(Answer::to(pretence).await.number("x-ratelimit-limit-requests"), 3);
    assert_eq!(Answer::to(chat(envoy.url(CHAT))).await.status, 401);
}

#[tokio::test]
async fn budget_from_a_token() {
    let (mock, issuer) = (MockLlm::start(), Issuer::create());
    let envoy = recipe("budget-from-a-token", &mock, &[("/etc/envoy/jwks.json", &issuer.jwks())]).start();
    // Each takes 50 tokens.
    let ask = async |user: &str, budget: Value| {
        let token = issuer.token(&json!({"sub": user, "daily_tokens": budget}));
        Answer::to(chat_of(&envoy, 41).bearer_auth(token)).await
    };
    for (budget, expected) in [
        (json!(120), 200),
        (json!("120"), 200),
        (json!(120), 429),
        (json!(150), 200),
        (json!(150), 429),
        (json!("much"), 200),
        (json!(-1), 200),
        (json!(0), 429),
    ] {
        assert_eq!(ask("ann", budget.clone()).await.status, expected, "{budget}");
    }
    assert_eq!(ask("bob", json!(1e12)).await.number("x-ratelimit-limit-tokens"), 1_000_000);
    assert_eq!(ask("carol", json!(null)).await.number("x-ratelimit-limit-tokens"), 1_000);
}

#[tokio::test]
async fn tenants_and_users() {
    let mock = MockLlm::start();
    let envoy = recipe("tenants-and-users", &mock, &[]).start();
    let ask = |key: &str, user: &str| chat(envoy.url(CHAT)).bearer_auth(key).header("x-user-id", user);
    assert_eq!(statuses(4, || ask(KEY, "ann")).await, [200, 200, 200, 429]);
    assert_eq!(statuses(4, || ask(KEY, "bob")).await, [200, 200, 200, 429]);
    // The tenant has one left, whoever its users are.
    assert_eq!(statuses(2, || ask(KEY, "carol")).await, [200, 429]);
    let refused = Answer::to(ask(KEY, "dan")).await;
    assert!(refused.message().contains("limit 7, used 7"), "{}", refused.message());
    // A user of the same name at another tenant is somebody else.
    assert_eq!(statuses(4, || ask("test-key-2", "ann")).await, [200, 200, 200, 429]);
    assert_eq!(statuses(1, || ask("an-invented-key", "ann")).await, [401]);
    assert_eq!(statuses(1, || chat(envoy.url(CHAT)).bearer_auth(KEY)).await, [401], "a user must be named");
}

#[tokio::test]
async fn free_tier_by_address() {
    let mock = MockLlm::start();
    let envoy = recipe("free-tier-by-address", &mock, &[]).start();
    let ask = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        Client::builder().local_address(address).build().unwrap().post(envoy.url(CHAT)).json(&hello())
    };
    assert_eq!(statuses(2, || ask("127.0.5.1")).await, [200, 200]);
    // Neither an invented key nor an invented address is a new client.
    let invented = || ask("127.0.5.1").bearer_auth("invented").header("x-forwarded-for", "203.0.113.7");
    assert_eq!(statuses(2, invented).await, [200, 429]);
    assert_eq!(statuses(1, || ask("127.0.5.2")).await, [200], "another address");
    let paid = Answer::to(ask("127.0.5.1").bearer_auth(KEY)).await;
    assert_eq!(paid.number("x-ratelimit-remaining-requests"), 59);
}

/// Behind a load balancer, with the one number of the recipe changed.
#[tokio::test]
async fn free_tier_by_address_behind_a_load_balancer() {
    let mock = MockLlm::start();
    let hops = [("xff_num_trusted_hops: 0", "xff_num_trusted_hops: 1")];
    let envoy = recipe("free-tier-by-address", &mock, &hops).start();
    // What the client invents comes first, and what the load balancer adds comes last.
    let ask = |list: &str| chat(envoy.url(CHAT)).header("x-forwarded-for", list);
    for invented in ["198.51.100.1", "198.51.100.2", "198.51.100.3"] {
        assert_eq!(statuses(1, || ask(&format!("{invented}, 203.0.113.7"))).await, [200]);
    }
    assert_eq!(statuses(1, || ask("198.51.100.4, 203.0.113.7")).await, [429]);
    assert_eq!(statuses(1, || ask("198.51.100.4, 203.0.113.8")).await, [200]);
}
