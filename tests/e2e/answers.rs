//! Every header and error that the filter adds to an answer, and the upstream's own headers that it leaves or replaces.

use crate::caller::{Answer, HELLO_TOKENS, hello, hello_with, milliseconds};
use crate::gateway::{Gateway, Store};
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};
use std::ops::RangeInclusive;

/// The keys that these tests use.
pub fn keys() -> Value {
    json!([
        {"key": "answers-requests", "name": "five a minute", "rpm": 5},
        {"key": "answers-all", "name": "all", "rpm": 10, "input_tpm": 1000, "output_tpm": 2000, "tpm": 2600},
        {"key": "answers-never", "name": "small", "output_tpm": 100},
        {"key": "answers-upstream", "rpm": 100},
        {"key": "answers-day", "rpd": 1},
    ])
}

/// The time until a charge leaves a window of a minute: it leaves together with its segment of a second.
const MINUTE_MS: RangeInclusive<u64> = 55_000..=61_000;

#[rstest]
#[tokio::test]
async fn answers_report_the_limit_on_requests(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("answers-requests");
    let names = [
        "x-ratelimit-limit",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset",
        "x-ratelimit-reset-requests",
    ];
    for left in (0..5).rev() {
        let answer = caller.hello().await;
        assert_eq!((answer.status, answer.limit_headers()), (200, names.to_vec()));
        check_family(&answer, "-requests", 5, left);
        check_closest(&answer, 5, left);
    }
    let refused = caller.hello().await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("x-ratelimit-source"), Some("gateway"));
    let mut expected = [&["retry-after", "retry-after-ms", "x-ratelimit-source"][..], &names].concat();
    expected.sort_unstable();
    assert_eq!(refused.limit_headers(), expected);
    check_family(&refused, "-requests", 5, 0);
    check_closest(&refused, 5, 0);
    let wait = refused.number("retry-after-ms");
    assert!(MINUTE_MS.contains(&wait), "{wait}");
    assert_eq!(refused.number("retry-after"), wait.div_ceil(1000));
    let worth = refused.header("x-should-retry").is_none();
    assert_eq!(worth, wait <= 60_000, "a wait of more than a minute is not worth a retry: {wait} ms");
    assert_eq!(refused.header("content-type"), Some("application/json"));
    let message = refused.message();
    let (head, tail) = message.split_once(" Please try again in ").unwrap();
    assert_eq!(
        head,
        "Rate limit reached for five a minute on requests per 1m: limit 5, used 5, requested 1."
    );
    assert_eq!(milliseconds(tail.strip_suffix('.').unwrap()), wait);
    let error = json!({"message": message, "type": "requests", "param": null, "code": "rate_limit_exceeded"});
    assert_eq!(refused.json(), json!({"error": error}));
}

#[rstest]
#[tokio::test]
async fn every_limited_metric_has_headers(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("answers-all");
    let request = caller
        .chat(&hello_with(json!({"max_tokens": 500, "n": 2})))
        .header("x-mock-prompt-tokens", HELLO_TOKENS)
        .header("x-mock-completion-tokens", "500");
    let answer = Answer::to(request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.limit_headers().len(), 15);
    check_family(&answer, "-requests", 10, 9);
    check_family(&answer, "-input-tokens", 1000, 1000 - HELLO_TOKENS);
    check_family(&answer, "-output-tokens", 2000, 1000);
    check_family(&answer, "-tokens", 2600, 2600 - 1000 - HELLO_TOKENS);
    check_closest(&answer, 2000, 1000);

    let refused = Answer::to(caller.chat(&hello_with(json!({"max_tokens": 1500})))).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"]["type"], "tokens");
    let message = refused.message();
    let expected =
        "Rate limit reached for all on output tokens per 1m: limit 2000, used 1000, requested 1500.";
    assert!(message.starts_with(expected), "{message}");
}

#[rstest]
#[tokio::test]
async fn a_request_that_never_fits_must_not_be_retried(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("answers-never");
    let refused = Answer::to(caller.chat(&hello_with(json!({"max_tokens": 101})))).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(refused.headers.get("retry-after"), None);
    assert_eq!(refused.headers.get("retry-after-ms"), None);
    check_fresh(&refused, "-output-tokens", 100);
    // Only output tokens are limited, so the header for tokens in general shows them.
    check_fresh(&refused, "-tokens", 100);
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(
        refused.message(),
        "Request too large for small on output tokens per 1m: limit 100, requested 101. \
         This request can never be admitted: the maximum is 100."
    );
    // The client sets no maximum, so the reservation is a guess, and shrinks until it fits.
    assert_eq!(caller.hello().await.status, 200);
}

#[rstest]
#[tokio::test]
async fn a_wait_of_hours_is_reported_but_not_worth_a_retry(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("answers-day");
    assert_eq!(caller.hello().await.status, 200);
    let refused = caller.hello().await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    let wait = refused.number("retry-after-ms");
    assert!((24 * 3_600_000 - 60_000..=24 * 3_600_000 + 24 * 60_000).contains(&wait), "{wait}");
    let reset = refused.header("x-ratelimit-reset-requests").unwrap();
    assert!(reset.starts_with("24h") || reset.starts_with("23h59m"), "{reset}");
}

#[rstest]
#[tokio::test]
async fn the_upstreams_own_limits_are_not_the_clients(#[values(Store::Local, Store::Redis)] store: Store) {
    let gateway = store.gateway().await;
    let caller = gateway.caller("answers-upstream");
    for status in ["200", "429", "500"] {
        let request = caller
            .chat(&hello())
            .header("x-mock-status", status)
            .header("x-mock-header", "x-ratelimit-limit-requests: 9999")
            .header("x-mock-header", "x-ratelimit-remaining-tokens: 8888")
            .header("x-mock-header", "x-ratelimit-reset: 7777")
            .header("x-mock-header", "retry-after: 3")
            .header("x-mock-header", "x-ratelimit-source: gateway")
            .header("x-mock-header", "x-request-cost: 5");
        let answer = Answer::to(request).await;
        assert_eq!(answer.status.to_string(), status);
        if status == "429" {
            // This refusal is the upstream's, and so are its limits.
            assert_eq!(answer.header("x-ratelimit-source"), Some("upstream"));
            assert_eq!(answer.number("x-ratelimit-limit-requests"), 9999);
            assert_eq!(answer.number("x-ratelimit-remaining-tokens"), 8888);
            assert_eq!(answer.number("x-ratelimit-reset"), 7777);
            assert_eq!(answer.header("retry-after"), Some("3"));
            continue;
        }
        assert_eq!(answer.header("x-ratelimit-source"), None);
        assert_eq!(answer.number("x-ratelimit-limit-requests"), 100);
        assert_eq!(answer.header("x-ratelimit-remaining-tokens"), None, "no tokens are limited here");
        assert!(answer.number("x-ratelimit-reset") <= 61);
        assert_eq!(answer.header("retry-after"), Some("3"), "the upstream's own stays");
        assert_eq!(answer.header("x-request-cost"), Some("5"));
    }
}

#[tokio::test]
async fn the_operator_chooses_the_words_and_whether_there_are_headers() {
    let limits = json!({
        "keys": [{"key": "known", "name": "Your Service", "rpm": 1}],
        "default": "reject",
        "headers": "none",
        "rejection": {"message": "您的速度太快啦，请慢点！ {name}: {limit} {metric}/{window}. Try again in {retry_after}."},
    });
    let gateway = Gateway::start(Store::Local, limits).await;
    let caller = gateway.caller("known");
    let answer =
        Answer::to(caller.chat(&hello()).header("x-mock-header", "x-ratelimit-limit: its own")).await;
    assert_eq!((answer.status, answer.limit_headers()), (200, vec!["x-ratelimit-limit"]));
    let refused = caller.hello().await;
    assert_eq!((refused.status, refused.limit_headers()), (429, vec!["retry-after", "retry-after-ms"]));
    let message = refused.message();
    let expected = "您的速度太快啦，请慢点！ Your Service: 1 requests/1m. Try again in ";
    let wait = message.strip_prefix(expected).unwrap_or_else(|| panic!("{message}"));
    assert_eq!(milliseconds(wait.strip_suffix('.').unwrap()), refused.number("retry-after-ms"));

    let before = gateway.mock.report().requests;
    let stranger = gateway.caller("unknown").hello().await;
    assert_eq!(stranger.status, 401);
    assert_eq!(
        stranger.json(),
        json!({"error": {
            "message": "Unknown API key.",
            "type": "invalid_request_error",
            "param": null,
            "code": "invalid_api_key",
        }})
    );
    assert_eq!(gateway.mock.report().requests, before);
}

/// Checks the headers of one metric after a charge to it.
fn check_family(answer: &Answer, metric: &str, limit: u64, remaining: u64) {
    assert_eq!(answer.number(&format!("x-ratelimit-limit{metric}")), limit, "{metric}");
    assert_eq!(answer.number(&format!("x-ratelimit-remaining{metric}")), remaining, "{metric}");
    let reset = answer.header(&format!("x-ratelimit-reset{metric}")).unwrap();
    assert!(MINUTE_MS.contains(&milliseconds(reset)), "{metric}: {reset}");
}

/// Checks the headers of one metric without any charge.
fn check_fresh(answer: &Answer, metric: &str, limit: u64) {
    assert_eq!(answer.number(&format!("x-ratelimit-limit{metric}")), limit, "{metric}");
    assert_eq!(answer.number(&format!("x-ratelimit-remaining{metric}")), limit, "{metric}");
    assert_eq!(answer.header(&format!("x-ratelimit-reset{metric}")), Some("0ms"), "{metric}");
}

/// Checks the headers of the limit that is closest to being reached.
fn check_closest(answer: &Answer, limit: u64, remaining: u64) {
    assert_eq!(answer.number("x-ratelimit-limit"), limit);
    assert_eq!(answer.number("x-ratelimit-remaining"), remaining);
    assert!(MINUTE_MS.contains(&(answer.number("x-ratelimit-reset") * 1000)));
}

/// The upstream's own 429 says so whoever gets it: where no limit applies, too.
#[rstest]
#[case::exempt(Method::POST, "/v1/chat/completions", "free")]
#[case::without_tokens(Method::POST, "/v1/moderations", "tokens")]
#[case::by_method(Method::GET, "/v1/models", "tokens")]
#[case::by_path(Method::POST, "/healthz", "tokens")]
#[tokio::test]
async fn a_429_of_the_upstream_says_so_where_nothing_is_limited(
    #[case] method: Method,
    #[case] path: &str,
    #[case] key: &str,
) {
    let keys = json!([{"key": "free", "unlimited": true}, {"key": "tokens", "tpm": 1_000}]);
    let gateway = Gateway::start(Store::Local, json!({"keys": keys, "endpoints": {"/healthz": "pass"}})).await;
    for (status, source) in [("429", Some("upstream")), ("500", None)] {
        let request = gateway.caller(key).request(method.clone(), path).json(&hello());
        let request = request.header("x-mock-status", status).header("x-mock-header", "retry-after: 3");
        let request = request.header("x-mock-header", "x-ratelimit-source: gateway");
        let answer = Answer::to(request).await;
        assert_eq!(answer.status.to_string(), status);
        assert_eq!((answer.header("x-ratelimit-source"), answer.header("retry-after")), (source, Some("3")));
        assert_eq!(answer.limit_headers().len(), 1 + usize::from(source.is_some()), "{answer:?}");
    }
}
