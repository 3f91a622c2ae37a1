//! Reservations that earlier answers have taught, and answers that teach nothing.

use crate::caller::{Answer, Caller, hello_with};
use crate::gateway::{Gateway, Store, eventually};
use rstest::rstest;
use serde_json::{Value, json};

const DEFAULT_TOKENS: u64 = 500;

fn limits() -> Value {
    json!({
        "keys": [{"key": "victim", "output_tpm": 10_000}],
        "default": {"output_tpm": 10_000_000},
        "output_reservation": {"default_tokens": DEFAULT_TOKENS},
    })
}

/// So many answers of this length, each to a chat with these members.
async fn teach(caller: &Caller, answers: usize, members: Value, words: u64) {
    for _ in 0..answers.div_ceil(50) {
        let requests = (0..50).map(async |_| {
            let request = caller.chat(&hello_with(members.clone()));
            Answer::to(request.header("x-mock-completion-tokens", words)).await.status
        });
        let statuses = futures_util::future::join_all(requests).await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    }
}

/// The output that a request without a cap reserves.
async fn reserved(caller: &Caller) -> u64 {
    let left = async |max_tokens: u64| {
        let request = caller.chat(&hello_with(json!({"max_tokens": max_tokens})));
        Answer::to(request).await.number("x-ratelimit-remaining-output-tokens")
    };
    let before = left(1_000_000_000).await;
    let answer = Answer::to(caller.chat(&hello_with(json!({})))).await;
    before - answer.number("x-ratelimit-remaining-output-tokens")
}

#[rstest]
#[tokio::test]
async fn answers_of_others_let_no_more_through_at_once(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = Gateway::start(store, limits()).await;
    teach(&gateway.caller("attacker"), 600, json!({}), 1).await;
    teach(&gateway.caller("another"), 600, json!({"max_tokens": 1}), 1).await;
    let victim = gateway.caller("victim");
    let at_once = (0..50).map(|_| {
        let request = victim.chat(&hello_with(json!({}))).header("x-mock-gate", "held");
        tokio::spawn(Answer::to(request))
    });
    let at_once: Vec<_> = at_once.collect();
    let admitted = (10_000 / DEFAULT_TOKENS) as usize;
    eventually("the rest is refused", 50 - admitted, async || {
        at_once.iter().filter(|answer| answer.is_finished()).count()
    })
    .await;
    eventually("requests upstream", admitted, async || gateway.mock.received_from("victim").len()).await;
    gateway.mock.let_through("held", 50);
    let answers = futures_util::future::join_all(at_once).await;
    let passed = answers.into_iter().filter(|answer| answer.as_ref().unwrap().status == 200).count();
    assert_eq!(passed, admitted);
}

#[rstest]
#[tokio::test]
async fn only_a_subjects_own_whole_answers_take_its_reservation_down(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = Gateway::start(store, limits()).await;
    let capped = gateway.caller("capped");
    teach(&capped, 600, json!({"max_tokens": 1}), 1).await;
    assert_eq!(reserved(&capped).await, DEFAULT_TOKENS, "a cap cut them short");
    let brief = gateway.caller("brief");
    teach(&brief, 600, json!({}), 3).await;
    assert_eq!(reserved(&brief).await, 3);
    assert_eq!(reserved(&gateway.caller("stranger")).await, DEFAULT_TOKENS);
    let streams = gateway.caller("streams");
    teach(&streams, 600, json!({"stream": true}), 3).await;
    assert_eq!(reserved(&streams).await, 3, "streams teach too");
}
