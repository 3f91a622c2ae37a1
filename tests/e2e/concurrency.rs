//! Limits are exact however many requests come at once: on all workers of an Envoy, and on all Envoys of a fleet.

use crate::caller::{Answer, HELLO_TOKENS, count, hello, hello_with, statuses};
use crate::gateway::{Fleet, Gateway, Store, eventually};
use futures_util::future::{join, join_all};
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::sidecar::Sidecar;
use reqwest::RequestBuilder;
use rstest::rstest;
use serde_json::{Value, json};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The keys that these tests use.
pub fn keys() -> Value {
    json!([
        {"key": "concurrency-requests", "rpm": 100},
        {"key": "concurrency-output", "output_tpm": 10_000},
        {"key": "concurrency-input", "input_tpm": 100},
        {"key": "concurrency-mixed", "rpm": 1000, "input_tpm": 300, "output_tpm": 100_000, "tpm": 100_000},
    ])
}

/// Sends all requests at once; returns each answer and when it came.
async fn all_at_once(requests: impl Iterator<Item = RequestBuilder>) -> Vec<(Answer, Instant)> {
    join_all(requests.map(async |request| (Answer::to(request).await, Instant::now()))).await
}

/// How many connections each worker has accepted.
fn connections(envoy: &Envoy) -> Vec<u64> {
    let port = envoy.address().port();
    (0..2)
        .map(|worker| {
            let name = format!("listener.127.0.0.1_{port}.worker_{worker}.downstream_cx_total");
            let other = format!("listener.127.0.0.1_0.worker_{worker}.downstream_cx_total");
            envoy.stat(&name).or_else(|| envoy.stat(&other)).unwrap()
        })
        .collect()
}

#[rstest]
#[tokio::test]
async fn exactly_a_hundred_of_three_hundred_at_once(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let answers = gateway.caller("concurrency-requests").hellos(300).await;
    assert_eq!((count(&answers, 200), count(&answers, 429)), (100, 200));
    let mut left: Vec<u64> = answers
        .iter()
        .filter(|answer| answer.status == 200)
        .map(|answer| answer.number("x-ratelimit-remaining-requests"))
        .collect();
    left.sort_unstable();
    assert_eq!(left, (0..100).collect::<Vec<_>>(), "each answer has another number");
    let served = connections(&gateway.envoy);
    assert!(served.iter().all(|&connections| connections > 0), "one worker served all: {served:?}");
}

#[tokio::test]
async fn exactly_a_hundred_of_three_hundred_through_two_envoys_on_one_redis() {
    let first = Gateway::start_with(Store::Redis, |setup| setup.filter(&limits())).await;
    let Fleet { redis, .. } = first.fleet.as_ref().unwrap();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let mock = MockLlm::start();
    let second =
        Setup::new(mock.address()).sidecar(sidecar.address().parse().unwrap()).filter(&limits()).start();
    let callers = [first.caller("fleet"), crate::caller::Caller::new(&second.url(""), "fleet")];
    // One through each Envoy before the crowd, so that both have a part whichever is quicker then.
    let mut answers = vec![callers[0].hello().await, callers[1].hello().await];
    assert_eq!(count(&answers, 200), 2);
    answers.extend(join_all((2..300).map(|at| callers[at % 2].hello())).await);
    assert_eq!((count(&answers, 200), count(&answers, 429)), (100, 200));
    assert_eq!(first.mock.report().requests + mock.report().requests, 100);
    assert!(first.mock.report().requests.min(mock.report().requests) > 0, "both Envoys had a part");
    assert_eq!(first.used("fleet", "requests").await, Some(100));

    fn limits() -> Value {
        json!({
            "store": Store::Redis.configuration(),
            "keys": [{"key": "fleet", "rpm": 100}],
            "default": "reject",
        })
    }
}

/// All requests are decided while the upstream holds its answers back, so that nothing is settled yet.
#[rstest]
#[tokio::test]
async fn output_is_reserved_before_it_is_made(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("concurrency-output");
    let gate = "concurrency-output";
    let request = |_| caller.chat(&hello_with(json!({"max_tokens": 1000}))).header("x-mock-gate", gate);
    let refused = Cell::new(0);
    let answers = join_all((0..50).map(request).map(async |request| {
        let answer = Answer::to(request).await;
        refused.set(refused.get() + u32::from(answer.status == 429));
        (answer, Instant::now())
    }));
    let decided = async {
        eventually("refusals while the upstream holds its answers back", 40, async || refused.get()).await;
        gateway.mock.let_through(gate, 10);
    };
    let (answers, ()) = join(answers, decided).await;
    let came = |status| answers.iter().filter(move |(answer, _)| answer.status == status).map(|(_, at)| *at);
    assert_eq!((came(200).count(), came(429).count()), (10, 40));
    assert!(came(429).max() < came(200).min(), "all are decided before the first is settled");
    // Settled to their real use, the ten leave room again.
    eventually("tokens left", 10_000 - 10 * 16, async || {
        caller.too_large().await.number("x-ratelimit-remaining-output-tokens")
    })
    .await;
}

#[rstest]
#[tokio::test]
async fn as_many_prompts_as_fit_at_once(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("concurrency-input");
    let request = |_| caller.chat(&hello()).header("x-mock-prompt-tokens", HELLO_TOKENS);
    let answers = all_at_once((0..33).map(request)).await;
    let admitted = answers.iter().filter(|(answer, _)| answer.status == 200).count();
    assert_eq!(admitted as u64, 100 / HELLO_TOKENS);
}

/// Prompts of many sizes: a refused one must leave no trace in any of the four counters.
#[rstest]
#[tokio::test]
async fn requests_refused_among_others_are_charged_nothing(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("concurrency-mixed");
    let sizes: Vec<u64> = (0..60).map(|at| 1 + at % 20).collect();
    let request = |size: &u64| {
        let content = vec!["word"; usize::try_from(*size).unwrap()].join(" ");
        let chat = hello_with(json!({"messages": [{"role": "user", "content": content}], "max_tokens": 50}));
        caller.chat(&chat).header("x-mock-prompt-tokens", 7 + size).header("x-mock-completion-tokens", "50")
    };
    let answers = all_at_once(sizes.iter().map(request)).await;
    let input: Vec<u64> = answers
        .iter()
        .zip(&sizes)
        .filter(|((answer, _), _)| answer.status == 200)
        .map(|(_, size)| 7 + size)
        .collect();
    let (requests, input) = (input.len() as u64, input.iter().sum::<u64>());
    assert!(input <= 300, "{input}");
    // Else the largest prompt, of 27 tokens, would still fit.
    assert!(input > 300 - 27, "{input}");
    gateway.charged("concurrency-mixed", requests, input, requests * 50).await;
}

#[rstest]
#[tokio::test]
async fn strangers_do_not_spend_each_others_limits(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let callers: Vec<_> = (0..40).map(|at| gateway.caller(&format!("concurrency-stranger-{at}"))).collect();
    let answers = join_all(callers.iter().flat_map(|caller| (0..3).map(|_| caller.hello()))).await;
    assert_eq!(statuses(&answers), [200; 120]);
    for of_one in answers.chunks(3) {
        let mut left: Vec<_> =
            of_one.iter().map(|answer| answer.number("x-ratelimit-remaining-requests")).collect();
        left.sort_unstable();
        assert_eq!(left, [997, 998, 999]);
    }
}

/// Eight clients send for several windows of a second, by the clock of the store. An early refund would show.
#[rstest]
#[tokio::test]
async fn no_second_ever_admits_more_than_its_limit(#[values(Store::Local, Store::Redis)] store: Store) {
    const LIMIT: usize = 10;
    let window = json!({"metric": "requests", "limit": LIMIT, "window": "1s", "segments": 4});
    let limits = json!({"store": store.configuration(), "keys": [{"key": "busy", "windows": [window]}]});
    let gateway = Gateway::start_with(store, |setup| setup.filter(&limits).concurrency(2)).await;
    let caller = gateway.caller("busy");
    let began = Instant::now();
    let clients = (0..8).map(async |_| {
        let mut admitted = Vec::new();
        while began.elapsed() < Duration::from_millis(3500) {
            let sent = Instant::now();
            if caller.hello().await.status == 200 {
                admitted.push((sent, Instant::now()));
            }
        }
        admitted
    });
    let mut admitted = join_all(clients).await.concat();
    admitted.sort_unstable();
    assert!(admitted.len() >= 2 * LIMIT, "{}", admitted.len());
    for (first, last) in admitted.iter().zip(admitted.iter().skip(LIMIT)) {
        // The span begins before the first decision and ends after the last: no window of a second contains both.
        let span = last.1 - first.0;
        assert!(span >= Duration::from_secs(1), "{} were admitted within {span:?}", LIMIT + 1);
    }
}
