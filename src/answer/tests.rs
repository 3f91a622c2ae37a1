//! The text, status and headers of refusals.

use super::*;
use crate::policy::limit::{Enforcement, Limit};
use crate::policy::status::tests::status;
use crate::quantity::{NonZeroMillis, Units};
use crate::window::Window;
use serde_json::{Value, json};
use std::sync::Arc;

const CHAT: Wording<'_> = wording(config::Headers::Auto, Endpoint::ChatCompletions);

const fn wording(headers: config::Headers, endpoint: Endpoint) -> Wording<'static> {
    Wording { message: None, dialect: Dialect { headers, endpoint }, now: Millis::new(1_755_780_000_000) }
}

fn refuse(statuses: Vec<LimitStatus>, message: Option<&str>) -> Reply {
    let over = OverLimit::new(statuses, Some("demo".into())).unwrap();
    let message = message.map(|text| Message::parse(text).unwrap());
    Refusal::OverLimit(over).reply(&Wording { message: message.as_ref(), ..CHAT })
}

fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
}

fn message_of(reply: &Reply) -> String {
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    body["error"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_refusal_has_its_limit_and_the_time_to_retry() {
    let reply = refuse(
        vec![
            status(Metric::Requests, 1_000, 1, (3, 61_000, 0)),
            status(Metric::TotalTokens, 100, 40, (80, 61_000, 1_001)),
        ],
        None,
    );
    assert_eq!(reply.status, 429);
    assert_eq!(header(&reply.headers, "retry-after"), Some("2"));
    assert_eq!(header(&reply.headers, "retry-after-ms"), Some("1001"));
    assert_eq!(header(&reply.headers, "x-should-retry"), None);
    assert_eq!(header(&reply.headers, "x-ratelimit-limit"), Some("100"), "the limit that refuses");
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let expected = "Rate limit reached for demo on total tokens per 1m: limit 100, used 80, requested 40. \
                    Please try again in 1.001s.";
    assert_eq!(
        body,
        json!({"error": {"message": expected, "type": "tokens", "param": null, "code": "rate_limit_exceeded"}})
    );
}

#[test]
fn a_refusal_names_the_owner_of_its_limit() {
    let message = |owner: Owner| {
        let status = LimitStatus { owner, ..status(Metric::Requests, 1, 1, (1, 61_000, 1_000)) };
        message_of(&refuse(vec![status], None)).split(" on ").next().unwrap().to_owned()
    };
    assert_eq!(message(Owner::Key), "Rate limit reached for demo");
    assert_eq!(message(Owner::Group("team-a".into())), "Rate limit reached for group team-a");
    assert_eq!(message(Owner::Model("gpt-4*".into())), "Rate limit reached for model gpt-4*");
    assert_eq!(message(Owner::Global), "Rate limit reached for all requests (global)");
}

#[test]
fn a_request_that_never_fits_should_not_retry() {
    let reply = refuse(vec![status(Metric::OutputTokens, 100, 140, (0, 0, -1))], None);
    assert_eq!(header(&reply.headers, "retry-after"), None);
    assert_eq!(header(&reply.headers, "x-should-retry"), Some("false"));
    assert_eq!(
        message_of(&reply),
        "Request too large for demo on output tokens per 1m: limit 100, requested 140. \
         This request can never be admitted: the maximum is 100."
    );
}

#[test]
fn a_long_wait_is_reported_but_not_worth_a_retry() {
    let reply = refuse(vec![status(Metric::Requests, 1, 1, (1, 90_000, 60_001))], None);
    assert_eq!(header(&reply.headers, "retry-after"), Some("61"));
    assert_eq!(header(&reply.headers, "x-should-retry"), Some("false"));
}

#[test]
fn operators_write_their_own_messages() {
    let reply = refuse(
        vec![status(Metric::Requests, 1, 1, (1, 2_000, 1_500))],
        Some("您的速度太快啦，请慢点！ {name} {limit}/{window} {metric} {retry_after} {{limit}}"),
    );
    assert_eq!(message_of(&reply), "您的速度太快啦，请慢点！ demo 1/1m requests 1.5s {limit}");
}

#[test]
fn headers_can_be_left_out_but_not_the_time_to_retry() {
    let over = OverLimit::new(vec![status(Metric::Requests, 1, 1, (1, 2_000, 1_500))], None).unwrap();
    let reply = Refusal::OverLimit(over).reply(&wording(config::Headers::None, Endpoint::ChatCompletions));
    let names: Vec<_> = reply.headers.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["content-type", "retry-after", "retry-after-ms"]);
}

#[test]
fn other_refusals_have_their_own_status() {
    assert_eq!(Refusal::UnknownIdentity.reply(&CHAT).status, 401);
    let reply = Refusal::NoStore.reply(&CHAT);
    assert_eq!((reply.status, header(&reply.headers, "retry-after")), (503, Some("1")));
}

/// The refusal of a request in some dialect.
fn reply(headers: config::Headers, endpoint: Endpoint) -> Reply {
    let over = OverLimit::new(vec![status(Metric::Requests, 1, 1, (1, 2_000, 1_500))], None).unwrap();
    Refusal::OverLimit(over).reply(&wording(headers, endpoint))
}

fn names(reply: &Reply) -> Vec<&'static str> {
    let of_families = |name: &&str| name.contains("ratelimit") && *name != "x-ratelimit-source";
    reply.headers.iter().map(|(name, _)| *name).filter(of_families).collect()
}

#[test]
fn messages_have_anthropics_headers_and_errors() {
    let reply = reply(config::Headers::Auto, Endpoint::Messages);
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    let message = message_of(&reply);
    assert!(message.starts_with("Rate limit reached for this key on requests per 1m"), "{message}");
    assert_eq!(body, json!({"type": "error", "error": {"type": "rate_limit_error", "message": message}}));
    assert_eq!(header(&reply.headers, "anthropic-ratelimit-requests-reset"), Some("2025-08-21T12:40:02Z"));
    assert_eq!(header(&reply.headers, "x-ratelimit-limit"), Some("1"), "as on every limited answer");
    assert_eq!(header(&reply.headers, "retry-after"), Some("2"));
    let kind = |refusal: &Refusal| {
        let reply = refusal.reply(&wording(config::Headers::Auto, Endpoint::Messages));
        serde_json::from_slice::<Value>(&reply.body).unwrap()["error"]["type"].as_str().unwrap().to_owned()
    };
    assert_eq!(kind(&Refusal::UnknownIdentity), "authentication_error");
    assert_eq!(kind(&Refusal::NoStore), "api_error");
}

#[test]
fn the_configuration_chooses_the_headers() {
    use config::Headers::{Anthropic, Auto, Ietf, None, Openai};
    let is = |reply: &Reply, prefix: &str| names(reply).iter().all(|name| name.starts_with(prefix));
    assert!(is(&reply(Auto, Endpoint::ChatCompletions), "x-ratelimit-"));
    for endpoint in [Endpoint::ChatCompletions, Endpoint::Messages] {
        assert!(is(&reply(Openai, endpoint), "x-ratelimit-"));
        assert!(is(&reply(Anthropic, endpoint), "anthropic-ratelimit-"));
        assert_eq!(names(&reply(Ietf, endpoint)), ["ratelimit-policy", "ratelimit"]);
        assert!(names(&reply(None, endpoint)).is_empty());
        let source =
            |headers| header(&reply(headers, endpoint).headers, "x-ratelimit-source").map(ToOwned::to_owned);
        let expected = [Some("gateway".to_owned()), Some("gateway".to_owned()), Option::None];
        assert_eq!([source(Auto), source(Ietf), source(None)], expected);
    }
}

#[test]
fn errors_have_the_shape_of_the_api_unless_the_configuration_names_one() {
    use config::Headers::{Anthropic, Auto, Ietf, None, Openai};
    let is_anthropic = |headers, endpoint| {
        serde_json::from_slice::<Value>(&reply(headers, endpoint).body).unwrap()["type"] == "error"
    };
    for headers in [Auto, Ietf, None] {
        assert!(is_anthropic(headers, Endpoint::Messages) && !is_anthropic(headers, Endpoint::Responses));
    }
    assert!(is_anthropic(Anthropic, Endpoint::ChatCompletions) && !is_anthropic(Openai, Endpoint::Messages));
}

#[test]
fn the_upstreams_headers_of_every_dialect_are_replaced() {
    use config::Headers::{Auto, Ietf};
    for reply in [reply(Auto, Endpoint::Messages), reply(Ietf, Endpoint::Messages)] {
        assert!(names(&reply).iter().all(|name| replaced_headers().contains(name)));
    }
}

#[test]
fn requests_in_flight_and_budgets_have_their_own_words() {
    let slots = status(Metric::Concurrency, 16, 1, (16, 600_000, 600_000));
    let window = Window::concurrency(NonZeroMillis::new(600_000).unwrap());
    let slots = LimitStatus { limit: Arc::new(Limit { window, ..Limit::clone(&slots.limit) }), ..slots };
    let reply = refuse(vec![slots], None);
    assert_eq!(
        message_of(&reply),
        "Rate limit reached for demo on concurrent requests: limit 16, used 16, requested 1. \
         Please try again in 1s."
    );
    assert_eq!(header(&reply.headers, "retry-after"), Some("1"), "a slot is free as soon as a request ends");
    assert_eq!(header(&reply.headers, "x-should-retry"), None);
    let reply = refuse(vec![status(Metric::CostUsd, 5_000_000, 250_000, (4_999_999, 60_000, 60_000))], None);
    assert_eq!(
        message_of(&reply),
        "Rate limit reached for demo on cost in USD per 1m: limit 5, used 4.999999, requested 0.25. \
         Please try again in 1m0s."
    );
}

#[test]
fn a_bucket_holds_less_than_its_limit() {
    let window = Window::token_bucket(NonZeroMillis::MINUTE, Units::new(10));
    let limit = Limit {
        name: "requests".into(),
        metric: Metric::Requests,
        amount: Units::new(600),
        window,
        enforcement: Enforcement::default(),
        allowance: None,
    };
    let status = LimitStatus { limit: Arc::new(limit), ..status(Metric::Requests, 1, 11, (4, 400, -1)) };
    let reply = refuse(vec![status], None);
    assert_eq!(header(&reply.headers, "x-ratelimit-limit"), Some("10"));
    assert_eq!(header(&reply.headers, "x-ratelimit-remaining"), Some("6"));
    assert!(
        message_of(&reply)
            .ends_with("limit 600, requested 11. This request can never be admitted: the maximum is 10.")
    );
}

/// Metrics are there at zero for each.
#[test]
fn every_reason_for_which_a_request_is_refused_is_listed() {
    let fault = crate::codec::loose_json::Fault::whole("no");
    let bad =
        [BadBody::UnknownCoding, BadBody::TooLarge(1), BadBody::TooCompressed(1), BadBody::Unreadable(fault)];
    let of_bodies = bad.map(Refusal::BadBody);
    let cap = Refusal::OutputCap(BadCap::Unread { most: 1 });
    let mut found: Vec<_> = of_bodies
        .iter()
        .chain(&[
            Refusal::ClosedEndpoint,
            Refusal::ForbiddenModel(Forbidden::Unknown),
            cap,
            Refusal::WebSocket,
        ])
        .filter_map(Refusal::reason)
        .collect();
    found.sort_unstable();
    found.dedup();
    let mut listed = Refusal::REASONS;
    listed.sort_unstable();
    assert_eq!(found, listed);
}

#[test]
fn ollamas_and_coheres_clients_get_their_errors() {
    for (endpoint, expected) in [
        (Endpoint::OllamaChat, json!({"error": "Unknown API key."})),
        (Endpoint::OllamaGenerate, json!({"error": "Unknown API key."})),
        (Endpoint::CohereChat, json!({"message": "Unknown API key."})),
        (Endpoint::CohereEmbed, json!({"message": "Unknown API key."})),
        (Endpoint::Rerank, json!({"message": "Unknown API key."})),
    ] {
        let reply = Refusal::UnknownIdentity.reply(&wording(config::Headers::Auto, endpoint));
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, body), (401, expected), "{endpoint:?}");
    }
}

#[test]
fn googles_clients_get_googles_errors() {
    let google = wording(config::Headers::Auto, Endpoint::Gemini);
    let over = OverLimit::new(vec![status(Metric::Requests, 1, 1, (1, 2_000, 1_500))], None).unwrap();
    let reply = Refusal::OverLimit(over).reply(&google);
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("Rate limit reached for this key"), "{message}");
    let info = json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500s"});
    assert_eq!(
        body,
        json!({"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": [info]}})
    );
    for (refusal, code, status) in [
        (Refusal::UnknownIdentity, 401, "UNAUTHENTICATED"),
        (Refusal::ClosedEndpoint, 403, "PERMISSION_DENIED"),
        (Refusal::OutputCap(BadCap::Unread { most: 7 }), 400, "INVALID_ARGUMENT"),
        (Refusal::NoStore, 503, "UNAVAILABLE"),
    ] {
        let reply = refusal.reply(&google);
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(
            (reply.status, &body["error"]["status"], &body["error"]["code"]),
            (code, &json!(status), &json!(code))
        );
        assert_eq!(body["error"].get("details"), None);
    }
    let chosen = wording(config::Headers::Openai, Endpoint::Gemini);
    let body: serde_json::Value = serde_json::from_slice(&Refusal::NoStore.reply(&chosen).body).unwrap();
    assert_eq!(body["error"]["type"], "server_error", "the configuration chooses");
}
