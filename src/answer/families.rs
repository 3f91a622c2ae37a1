//! Rate-limit headers in families of three: a limit, its remainder, and the time until it resets.
//!
//! OpenAI's headers have the time as a duration (<https://platform.openai.com/docs/guides/rate-limits>), Anthropic's as
//! a date (<https://docs.anthropic.com/en/api/rate-limits#response-headers>).

use super::Headers;
use super::units::{amount, date, go_duration};
use crate::policy::limit::Metric;
use crate::policy::status::{LimitStatus, closest};
use crate::quantity::Millis;

/// The names of a family: limit, remaining, reset.
type Family = [&'static str; 3];

const REQUESTS: Family =
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
const TOKENS: Family =
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];
const INPUT_TOKENS: Family = [
    "x-ratelimit-limit-input-tokens",
    "x-ratelimit-remaining-input-tokens",
    "x-ratelimit-reset-input-tokens",
];
const OUTPUT_TOKENS: Family = [
    "x-ratelimit-limit-output-tokens",
    "x-ratelimit-remaining-output-tokens",
    "x-ratelimit-reset-output-tokens",
];
const COST: Family =
    ["x-ratelimit-limit-cost-usd", "x-ratelimit-remaining-cost-usd", "x-ratelimit-reset-cost-usd"];
const CONCURRENCY: Family =
    ["x-ratelimit-limit-concurrency", "x-ratelimit-remaining-concurrency", "x-ratelimit-reset-concurrency"];
const CLOSEST: Family = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];

const ANTHROPIC_REQUESTS: Family = [
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
];
const ANTHROPIC_TOKENS: Family = [
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
];
const ANTHROPIC_INPUT_TOKENS: Family = [
    "anthropic-ratelimit-input-tokens-limit",
    "anthropic-ratelimit-input-tokens-remaining",
    "anthropic-ratelimit-input-tokens-reset",
];
const ANTHROPIC_OUTPUT_TOKENS: Family = [
    "anthropic-ratelimit-output-tokens-limit",
    "anthropic-ratelimit-output-tokens-remaining",
    "anthropic-ratelimit-output-tokens-reset",
];

const FAMILIES: [Family; 11] = [
    REQUESTS,
    TOKENS,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    COST,
    CONCURRENCY,
    CLOSEST,
    ANTHROPIC_REQUESTS,
    ANTHROPIC_TOKENS,
    ANTHROPIC_INPUT_TOKENS,
    ANTHROPIC_OUTPUT_TOKENS,
];

/// The names of all families.
pub(super) const NAMES: &[&str] = FAMILIES.as_flattened();

/// For each metric, the limit that is closest to being reached.
struct ByMetric<'a> {
    statuses: &'a [LimitStatus],
}

impl<'a> ByMetric<'a> {
    fn of(&self, metric: Metric) -> Option<&'a LimitStatus> {
        closest(self.statuses, |found| found == metric)
    }

    /// The limit on tokens: on their total, or else the closest of those on input and output.
    fn tokens(&self) -> Option<&'a LimitStatus> {
        let is_part = |metric| is_of_input(metric) || matches!(metric, Metric::OutputTokens);
        self.of(Metric::TotalTokens).or_else(|| closest(self.statuses, is_part))
    }

    /// The limit on tokens of the prompt, with or without those of a cache.
    fn input_tokens(&self) -> Option<&'a LimitStatus> {
        closest(self.statuses, is_of_input)
    }
}

/// Whether a limit on `metric` is one on input tokens to clients. Anthropic's own leave out what a cache has.
const fn is_of_input(metric: Metric) -> bool {
    matches!(metric, Metric::InputTokens | Metric::UncachedInputTokens)
}

/// OpenAI's headers, and a family with whole seconds for `refused_by`, or else for the limit closest to being reached.
pub(super) fn openai(statuses: &[LimitStatus], refused_by: Option<&LimitStatus>) -> Headers {
    let limits = ByMetric { statuses };
    let families = [
        (REQUESTS, limits.of(Metric::Requests)),
        (TOKENS, limits.tokens()),
        (INPUT_TOKENS, limits.input_tokens()),
        (OUTPUT_TOKENS, limits.of(Metric::OutputTokens)),
        (COST, limits.of(Metric::CostUsd)),
        (CONCURRENCY, limits.of(Metric::Concurrency)),
    ];
    let mut headers = written(families, |status| go_duration(status.state.reset));
    // Clients expect integers here, and a quantity that resets by itself.
    let is_plain = |metric| !matches!(metric, Metric::CostUsd | Metric::Concurrency);
    let closest = match refused_by {
        Some(by) => Some(by).filter(|by| by.limit.metric != Metric::CostUsd),
        None => closest(statuses, is_plain),
    };
    let seconds = |status: &LimitStatus| status.state.reset.seconds_rounded_up().to_string();
    headers.extend(written([(CLOSEST, closest)], seconds));
    headers
}

/// Anthropic's headers; `now` is the time, since the epoch.
pub(super) fn anthropic(statuses: &[LimitStatus], now: Millis) -> Headers {
    let limits = ByMetric { statuses };
    let families = [
        (ANTHROPIC_REQUESTS, limits.of(Metric::Requests)),
        (ANTHROPIC_TOKENS, limits.tokens()),
        (ANTHROPIC_INPUT_TOKENS, limits.input_tokens()),
        (ANTHROPIC_OUTPUT_TOKENS, limits.of(Metric::OutputTokens)),
    ];
    written(families, |status| date(now + status.state.reset))
}

fn written<'a>(
    families: impl IntoIterator<Item = (Family, Option<&'a LimitStatus>)>,
    reset: impl Fn(&LimitStatus) -> String,
) -> Headers {
    let mut headers = Headers::new();
    for ([limit, remaining, reset_name], status) in families {
        let Some(status) = status else { continue };
        let metric = status.limit.metric;
        headers.push((limit, amount(metric, status.capacity())));
        headers.push((remaining, amount(metric, status.remaining())));
        headers.push((reset_name, reset(status)));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::status::tests::status;

    fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
        headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    fn requests_and_tokens() -> [LimitStatus; 3] {
        [
            status(Metric::Requests, 20, 1, (1, 61_000, 0)),
            status(Metric::InputTokens, 100, 10, (90, 61_500, 0)),
            status(Metric::OutputTokens, 1_000, 10, (10, 61_000, 0)),
        ]
    }

    #[test]
    fn openai_has_a_family_per_metric_and_one_for_the_closest_limit() {
        let headers = openai(&requests_and_tokens(), None);
        let value = |name: &str| value(&headers, name);
        assert_eq!(value("x-ratelimit-limit-requests"), Some("20"));
        assert_eq!(value("x-ratelimit-remaining-requests"), Some("19"));
        assert_eq!(value("x-ratelimit-reset-requests"), Some("1m1s"));
        assert_eq!(value("x-ratelimit-remaining-input-tokens"), Some("10"));
        assert_eq!(value("x-ratelimit-remaining-output-tokens"), Some("990"));
        let tokens = value("x-ratelimit-limit-tokens");
        assert_eq!(tokens, Some("100"), "no total is limited: the closest part");
        assert_eq!(value("x-ratelimit-remaining"), Some("10"));
        assert_eq!(value("x-ratelimit-reset"), Some("62"), "whole seconds, rounded up");
    }

    #[test]
    fn anthropic_has_a_family_per_metric_with_dates() {
        let headers = anthropic(&requests_and_tokens(), Millis::new(1_755_780_000_000));
        let value = |name: &str| value(&headers, name);
        assert_eq!(value("anthropic-ratelimit-requests-limit"), Some("20"));
        assert_eq!(value("anthropic-ratelimit-requests-remaining"), Some("19"));
        assert_eq!(value("anthropic-ratelimit-requests-reset"), Some("2025-08-21T12:41:01Z"));
        assert_eq!(value("anthropic-ratelimit-tokens-limit"), Some("100"));
        assert_eq!(value("anthropic-ratelimit-input-tokens-reset"), Some("2025-08-21T12:41:02Z"));
        assert_eq!(value("anthropic-ratelimit-output-tokens-remaining"), Some("990"));
        assert_eq!(headers.len(), 12);
    }

    #[test]
    fn metrics_without_a_limit_have_no_headers() {
        let requests = [status(Metric::Requests, 20, 1, (1, 61_000, 0))];
        for headers in [openai(&requests, None), anthropic(&requests, Millis::ZERO)] {
            assert!(headers.iter().all(|(name, _)| !name.contains("tokens")), "{headers:?}");
        }
        assert_eq!((openai(&[], None), anthropic(&[], Millis::ZERO)), (vec![], vec![]));
    }

    #[test]
    fn costs_are_in_dollars_and_have_a_family_of_their_own() {
        let cost = status(Metric::CostUsd, 5_000_000, 1, (4_500_000, 61_000, 0));
        let requests = status(Metric::Requests, 20, 1, (1, 61_000, 0));
        let headers = openai(&[cost.clone(), requests], None);
        assert_eq!(value(&headers, "x-ratelimit-limit-cost-usd"), Some("5"));
        assert_eq!(value(&headers, "x-ratelimit-remaining-cost-usd"), Some("0.5"));
        assert_eq!(
            value(&headers, "x-ratelimit-limit"),
            Some("20"),
            "an integer, though the budget is closer"
        );
        assert_eq!(value(&headers, "x-ratelimit-limit-tokens"), None);
        let refused = openai(std::slice::from_ref(&cost), Some(&cost));
        assert_eq!(value(&refused, "x-ratelimit-limit"), None);
    }

    #[test]
    fn slots_have_a_family_of_their_own() {
        let slots = status(Metric::Concurrency, 4, 1, (4, 600_000, 0));
        let requests = status(Metric::Requests, 20, 1, (1, 61_000, 0));
        let headers = openai(&[slots.clone(), requests], None);
        assert_eq!(value(&headers, "x-ratelimit-remaining-concurrency"), Some("0"));
        assert_eq!(value(&headers, "x-ratelimit-limit"), Some("20"));
        let refused = openai(std::slice::from_ref(&slots), Some(&slots));
        assert_eq!(value(&refused, "x-ratelimit-remaining"), Some("0"));
    }
}
