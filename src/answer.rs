//! What the client is told: rate-limit headers on every limited answer, and the body of a refusal.
//!
//! Header names and the error's shape are OpenAI's, so that its clients back off and raise `RateLimitError` by
//! themselves. <https://platform.openai.com/docs/guides/rate-limits>

use crate::config::{self, Message, Placeholder};
use crate::limits::Metric;
use crate::policy::Owner;
use crate::refusal::{OverLimit, Refusal, Standing, closest};
use crate::window::duration_label;
use serde_json::json;

/// A wait longer than this is not worth a client's retry.
const LONGEST_RETRY_MS: u64 = 60_000;

/// Headers to set, in order.
pub type Headers = Vec<(&'static str, String)>;

/// A response made by the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u32,
    /// Headers, `content-type` included.
    pub headers: Headers,
    /// JSON.
    pub body: Vec<u8>,
}

/// How refusals are told.
#[derive(Clone, Copy, Debug)]
pub struct Wording<'a> {
    /// The message of a 429; none is the default one.
    pub message: Option<&'a Message>,
    /// Which headers tell clients about their limits.
    pub headers: config::Headers,
}

/// The rate-limit headers of `standings`: for requests, tokens, and the limit closest to being reached.
pub fn rate_limit_headers(standings: &[Standing]) -> Headers {
    let mut headers = Headers::new();
    let requests = closest(standings, |m| m == Metric::Requests);
    let input = closest(standings, |m| m == Metric::InputTokens);
    let output = closest(standings, |m| m == Metric::OutputTokens);
    let tokens = closest(standings, |m| m == Metric::TotalTokens)
        .or_else(|| closest(standings, |m| m != Metric::Requests));
    let mut family = |names: [&'static str; 3], standing: Option<&Standing>| {
        if let Some(standing) = standing {
            let [limit, remaining, reset] = names;
            headers.push((limit, standing.limit.amount.to_string()));
            headers.push((remaining, standing.remaining().to_string()));
            headers.push((reset, go_duration(standing.state.reset_ms)));
        }
    };
    family(REQUESTS, requests);
    family(TOKENS, tokens);
    family(INPUT_TOKENS, input);
    family(OUTPUT_TOKENS, output);
    if let Some(standing) = closest(standings, |_| true) {
        headers.extend(closest_headers(standing));
    }
    headers
}

const REQUESTS: [&str; 3] =
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
const TOKENS: [&str; 3] =
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];
const INPUT_TOKENS: [&str; 3] = [
    "x-ratelimit-limit-input-tokens",
    "x-ratelimit-remaining-input-tokens",
    "x-ratelimit-reset-input-tokens",
];
const OUTPUT_TOKENS: [&str; 3] = [
    "x-ratelimit-limit-output-tokens",
    "x-ratelimit-remaining-output-tokens",
    "x-ratelimit-reset-output-tokens",
];
const CLOSEST: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];

/// The names that a limited answer must not carry from its upstream.
pub fn replaced_headers() -> impl Iterator<Item = &'static str> {
    [REQUESTS, TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, CLOSEST].into_iter().flatten()
}

fn closest_headers(standing: &Standing) -> Headers {
    let [limit, remaining, reset] = CLOSEST;
    vec![
        (limit, standing.limit.amount.to_string()),
        (remaining, standing.remaining().to_string()),
        (reset, standing.state.reset_ms.div_ceil(1_000).to_string()),
    ]
}

impl Refusal {
    /// The response that says so.
    pub fn reply(&self, wording: &Wording<'_>) -> Reply {
        match self {
            Self::OverLimit(over) => over_limit(over, wording),
            Self::UnknownIdentity => error(
                401,
                Headers::new(),
                "This API key is not known here.",
                "invalid_request_error",
                "invalid_api_key",
            ),
            Self::NoStore => error(
                503,
                vec![("retry-after", "1".into())],
                "Rate limits cannot be checked at the moment. Please try again.",
                "server_error",
                "rate_limit_unavailable",
            ),
        }
    }
}

fn over_limit(over: &OverLimit, wording: &Wording<'_>) -> Reply {
    let mut headers = Headers::new();
    if wording.headers != config::Headers::None {
        headers = rate_limit_headers(over.standings());
        headers.retain(|(name, _)| !CLOSEST.contains(name));
        headers.extend(over.by().map(closest_headers).into_iter().flatten());
    }
    if let Some(ms) = over.retry_after_ms() {
        headers.push(("retry-after", ms.div_ceil(1_000).to_string()));
        headers.push(("retry-after-ms", ms.to_string()));
    }
    if over.retry_after_ms().is_none_or(|ms| ms > LONGEST_RETRY_MS) {
        headers.push(("x-should-retry", "false".into()));
    }
    let kind =
        if over.by().is_some_and(|by| by.limit.metric != Metric::Requests) { "tokens" } else { "requests" };
    error(429, headers, &message(over, wording), kind, "rate_limit_exceeded")
}

/// The text of a 429.
fn message(over: &OverLimit, wording: &Wording<'_>) -> String {
    let Some(by) = over.by() else { return String::new() };
    let name = over.name().unwrap_or("this key");
    let metric = by.limit.name.replace('_', " ");
    let window = duration_label(by.limit.window.length_ms.get());
    let limit = by.limit.amount;
    let retry_after = over.retry_after_ms().map(go_duration);
    if let Some(message) = wording.message {
        return message.render(|placeholder| match placeholder {
            Placeholder::Name => name.to_owned(),
            Placeholder::Metric => metric.clone(),
            Placeholder::Window => window.clone(),
            Placeholder::Limit => limit.to_string(),
            Placeholder::RetryAfter => retry_after.clone().unwrap_or_else(|| "never".to_owned()),
        });
    }
    let (asked, used) = (by.cost, by.state.used);
    let whose = match &by.owner {
        Owner::Key => name.to_owned(),
        owner => owner.to_string(),
    };
    match retry_after {
        Some(retry_after) => format!(
            "Rate limit reached for {whose} on {metric} per {window}: limit {limit}, used {used}, requested {asked}. \
             Please try again in {retry_after}."
        ),
        None => format!(
            "Request too large for {whose} on {metric} per {window}: limit {limit}, requested {asked}. \
             It cannot be admitted at any time; please make it smaller."
        ),
    }
}

/// An error in OpenAI's shape.
fn error(status: u32, mut headers: Headers, message: &str, kind: &str, code: &str) -> Reply {
    headers.insert(0, ("content-type", "application/json".into()));
    let body = json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    Reply { status, headers, body: body.to_string().into_bytes() }
}

/// `ms` as OpenAI writes a duration: `12ms`, `1.5s`, `6m0s`, `24h0m0s`.
pub fn go_duration(ms: u64) -> String {
    if ms < 1_000 {
        return format!("{ms}ms");
    }
    let (hours, minutes, seconds, millis) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if ms >= 60_000 {
        text.push_str(&format!("{minutes}m"));
    }
    text.push_str(&seconds.to_string());
    if millis > 0 {
        text.push_str(format!(".{millis:03}").trim_end_matches('0'));
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::tests::standing;

    fn refuse(standings: Vec<Standing>, message: Option<&str>) -> Reply {
        let over = OverLimit::new(standings, Some("demo".into())).unwrap();
        let message = message.map(|text| Message::parse(text).unwrap());
        Refusal::OverLimit(over).reply(&Wording { message: message.as_ref(), headers: config::Headers::Auto })
    }

    fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
        headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    fn message_of(reply: &Reply) -> String {
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        body["error"]["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn durations_are_written_as_openai_writes_them() {
        let cases = [
            (0, "0ms"),
            (12, "12ms"),
            (1_000, "1s"),
            (8_640, "8.64s"),
            (360_000, "6m0s"),
            (86_400_000, "24h0m0s"),
            (61_005, "1m1.005s"),
        ];
        for (ms, text) in cases {
            assert_eq!(go_duration(ms), text);
        }
    }

    #[test]
    fn every_limited_answer_has_a_family_per_metric_and_one_for_the_closest() {
        let headers = rate_limit_headers(&[
            standing(Metric::Requests, 20, 1, (1, 61_000, 0)),
            standing(Metric::InputTokens, 100, 10, (90, 61_500, 0)),
            standing(Metric::OutputTokens, 1_000, 10, (10, 61_000, 0)),
        ]);
        let value = |name: &str| header(&headers, name);
        assert_eq!(value("x-ratelimit-limit-requests"), Some("20"));
        assert_eq!(value("x-ratelimit-remaining-requests"), Some("19"));
        assert_eq!(value("x-ratelimit-reset-requests"), Some("1m1s"));
        assert_eq!(value("x-ratelimit-remaining-input-tokens"), Some("10"));
        assert_eq!(value("x-ratelimit-remaining-output-tokens"), Some("990"));
        assert_eq!(
            value("x-ratelimit-limit-tokens"),
            Some("100"),
            "no total is limited: the tighter of the two"
        );
        assert_eq!(value("x-ratelimit-remaining"), Some("10"));
        assert_eq!(value("x-ratelimit-reset"), Some("62"), "whole seconds, rounded up");
        assert!(headers.iter().all(|(name, _)| replaced_headers().any(|n| n == *name)));
    }

    #[test]
    fn what_is_not_limited_has_no_headers() {
        let headers = rate_limit_headers(&[standing(Metric::Requests, 20, 1, (1, 61_000, 0))]);
        assert!(headers.iter().all(|(name, _)| !name.contains("tokens")), "{headers:?}");
        assert_eq!(rate_limit_headers(&[]), []);
    }

    #[test]
    fn a_refusal_names_its_limit_and_says_when_to_come_back() {
        let reply = refuse(
            vec![
                standing(Metric::Requests, 1_000, 1, (3, 61_000, 0)),
                standing(Metric::TotalTokens, 100, 40, (80, 61_000, 1_001)),
            ],
            None,
        );
        assert_eq!(reply.status, 429);
        assert_eq!(header(&reply.headers, "retry-after"), Some("2"));
        assert_eq!(header(&reply.headers, "retry-after-ms"), Some("1001"));
        assert_eq!(header(&reply.headers, "x-should-retry"), None);
        assert_eq!(header(&reply.headers, "x-ratelimit-limit"), Some("100"), "the limit that refused");
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        let expected = "Rate limit reached for demo on total tokens per 1m: limit 100, used 80, requested 40. \
                        Please try again in 1.001s.";
        assert_eq!(
            body,
            json!({"error": {"message": expected, "type": "tokens", "param": null, "code": "rate_limit_exceeded"}})
        );
    }

    #[test]
    fn a_refusal_says_whose_limit_it_is() {
        let message = |owner: Owner| {
            let standing = Standing { owner, ..standing(Metric::Requests, 1, 1, (1, 61_000, 1_000)) };
            message_of(&refuse(vec![standing], None)).split(" on ").next().unwrap().to_owned()
        };
        assert_eq!(message(Owner::Key), "Rate limit reached for demo");
        assert_eq!(message(Owner::Group("team-a".into())), "Rate limit reached for group team-a");
        assert_eq!(message(Owner::Model("gpt-4*".into())), "Rate limit reached for model gpt-4*");
        assert_eq!(message(Owner::Global), "Rate limit reached for all requests (global)");
    }

    #[test]
    fn a_request_that_never_fits_is_not_told_to_retry() {
        let reply = refuse(vec![standing(Metric::OutputTokens, 100, 140, (0, 0, -1))], None);
        assert_eq!(header(&reply.headers, "retry-after"), None);
        assert_eq!(header(&reply.headers, "x-should-retry"), Some("false"));
        assert_eq!(
            message_of(&reply),
            "Request too large for demo on output tokens per 1m: limit 100, requested 140. \
             It cannot be admitted at any time; please make it smaller."
        );
    }

    #[test]
    fn a_long_wait_is_told_but_not_worth_a_retry() {
        let reply = refuse(vec![standing(Metric::Requests, 1, 1, (1, 90_000, 60_001))], None);
        assert_eq!(header(&reply.headers, "retry-after"), Some("61"));
        assert_eq!(header(&reply.headers, "x-should-retry"), Some("false"));
    }

    #[test]
    fn messages_are_the_operators_to_write() {
        let reply = refuse(
            vec![standing(Metric::Requests, 1, 1, (1, 2_000, 1_500))],
            Some("您的速度太快啦，请慢点！ {name} {limit}/{window} {metric} {retry_after} {{limit}}"),
        );
        assert_eq!(message_of(&reply), "您的速度太快啦，请慢点！ demo 1/1m requests 1.5s {limit}");
    }

    #[test]
    fn headers_can_be_left_out_but_not_the_time_to_retry() {
        let over = OverLimit::new(vec![standing(Metric::Requests, 1, 1, (1, 2_000, 1_500))], None).unwrap();
        let reply =
            Refusal::OverLimit(over).reply(&Wording { message: None, headers: config::Headers::None });
        let names: Vec<_> = reply.headers.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["content-type", "retry-after", "retry-after-ms"]);
    }

    #[test]
    fn other_refusals_have_their_own_status() {
        let wording = Wording { message: None, headers: config::Headers::Auto };
        assert_eq!(Refusal::UnknownIdentity.reply(&wording).status, 401);
        assert_eq!(Refusal::NoStore.reply(&wording).status, 503);
    }
}
