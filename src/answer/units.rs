//! How amounts, lengths of time and dates are written for clients.

use crate::policy::limit::{Limit, Metric};
use crate::quantity::MILLION;
use crate::window::{Algorithm, Window, duration_label};
use jiff::Timestamp;

/// Units of `metric` as clients read them: dollars as a decimal number, everything else as an integer.
pub fn amount(metric: Metric, units: u64) -> String {
    if metric != Metric::CostUsd {
        return units.to_string();
    }
    let (dollars, millionths) = (units / MILLION, units % MILLION);
    format!("{dollars}.{millionths:06}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What `limit` counts, in words, with the pattern of models if it has one: `gpt-4*/total tokens`.
pub fn metric(limit: &Limit) -> String {
    let words = match limit.metric {
        Metric::CostUsd => "cost in USD",
        Metric::Concurrency => "concurrent requests",
        Metric::Requests => "requests",
        Metric::InputTokens => "input tokens",
        Metric::OutputTokens => "output tokens",
        Metric::TotalTokens => "total tokens",
    };
    match limit.name.strip_suffix(limit.metric.name()) {
        Some(pattern) => format!("{pattern}{words}"),
        None => words.to_owned(),
    }
}

/// The length of `window` in words: `1m`, `90s`, `1mo`. Requests in flight are counted at every moment.
pub fn window(window: &Window) -> String {
    match window.algorithm {
        Algorithm::Concurrency => "moment".to_owned(),
        Algorithm::CalendarMonth => "1mo".to_owned(),
        _ => duration_label(window.length_ms.get()),
    }
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

/// The second that `ms` milliseconds since the epoch are in, or the next, as RFC 3339 writes it:
/// `2025-08-21T12:41:00Z`. A time that no calendar has is the last that it has.
pub fn date(ms: u64) -> String {
    let seconds = i64::try_from(ms.div_ceil(1_000)).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limit::Enforcement;
    use std::num::NonZeroU64;

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
    fn dates_are_whole_seconds_rounded_up() {
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(1_755_780_059_001), "2025-08-21T12:41:00Z");
        assert_eq!(date(1_709_164_800_000), "2024-02-29T00:00:00Z");
        assert_eq!(date(u64::MAX), "9999-12-30T22:00:00Z");
    }

    #[test]
    fn dollars_are_decimal() {
        let dollars = |units| amount(Metric::CostUsd, units);
        assert_eq!(
            [dollars(0), dollars(1), dollars(2_500_000), dollars(10_000_000)],
            ["0", "0.000001", "2.5", "10"]
        );
        assert_eq!(amount(Metric::TotalTokens, 2_500_000), "2500000");
    }

    #[test]
    fn limits_are_named_in_words() {
        let window = Window::sliding(NonZeroU64::new(1).unwrap());
        let words = |name: &str, metric| {
            super::metric(&Limit {
                name: name.to_owned(),
                metric,
                amount: 1,
                window,
                manner: Enforcement::default(),
            })
        };
        assert_eq!(words("input_tokens", Metric::InputTokens), "input tokens");
        assert_eq!(words("gpt_4*/cost_usd", Metric::CostUsd), "gpt_4*/cost in USD");
        assert_eq!(words("concurrency", Metric::Concurrency), "concurrent requests");
    }

    #[test]
    fn windows_are_named_by_their_length() {
        let minute = NonZeroU64::new(60_000).unwrap();
        let windows = [
            Window::sliding(minute),
            Window::fixed(minute),
            Window::token_bucket(minute, 1),
            Window::calendar_month(),
            Window::concurrency(minute),
        ];
        assert_eq!(windows.map(|window| super::window(&window)), ["1m", "1m", "1m", "1mo", "moment"]);
    }
}
