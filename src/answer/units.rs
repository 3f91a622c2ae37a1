//! Amounts, durations and dates as text for clients.

use crate::policy::limit::{Limit, Metric};
use crate::quantity::{Millis, NonZeroMillis, Units, millionths_label};
use crate::window::period::Period;
use crate::window::{Algorithm, Window};

/// Units of `metric` for clients: dollars as a decimal number, everything else as an integer.
pub fn amount(metric: Metric, units: Units) -> String {
    if metric == Metric::CostUsd { millionths_label(units.get()) } else { units.get().to_string() }
}

/// Units of the limit that stores call `name`, for people: dollars with their sign.
pub fn amount_of_limit(name: &str, units: Units) -> String {
    match Metric::of_limit(name) {
        Some(metric @ Metric::CostUsd) => format!("${}", amount(metric, units)),
        _ => units.to_string(),
    }
}

/// The metric of `limit` in words, after the pattern of models if the limit has one: `gpt-4*/total tokens`.
pub fn metric(limit: &Limit) -> String {
    let words = match limit.metric {
        Metric::CostUsd => "cost in USD",
        Metric::Concurrency => "concurrent requests",
        Metric::Requests => "requests",
        Metric::InputTokens => "input tokens",
        Metric::UncachedInputTokens => "uncached input tokens",
        Metric::OutputTokens => "output tokens",
        Metric::ReasoningTokens => "reasoning tokens",
        Metric::TotalTokens => "total tokens",
    };
    match limit.name.strip_suffix(limit.metric.name()) {
        Some(pattern) => format!("{pattern}{words}"),
        None => words.to_owned(),
    }
}

/// The duration of `window`: `1m`, `90s`, `1mo`. For requests in flight, which have no window, it is `moment`.
pub fn window(window: &Window) -> String {
    match window.algorithm {
        Algorithm::Concurrency => "moment".to_owned(),
        Algorithm::CalendarMonth => "1mo".to_owned(),
        Algorithm::CalendarWindow(calendar) => calendar.name.unit().to_owned(),
        _ => window.length.get().label(),
    }
}

/// `duration` as OpenAI writes it: `12ms`, `1.5s`, `6m0s`, `24h0m0s`.
pub fn go_duration(duration: Millis) -> String {
    const SECOND: u64 = Millis::SECOND.get();
    const MINUTE: u64 = Millis::MINUTE.get();
    const HOUR: u64 = Millis::HOUR.get();
    let ms = duration.get();
    if ms < SECOND {
        return ms.to_string() + "ms";
    }
    let (hours, minutes, seconds, millis) = (ms / HOUR, ms / MINUTE % 60, ms / SECOND % 60, ms % SECOND);
    let mut text = String::with_capacity(16);
    if hours > 0 {
        text.push_str(&hours.to_string());
        text.push('h');
    }
    if ms >= MINUTE {
        push_below_100(&mut text, minutes);
        text.push('m');
    }
    push_below_100(&mut text, seconds);
    if millis > 0 {
        text.push('.');
        // Without zeros at the end.
        let digits = [millis / 100, millis / 10 % 10, millis % 10];
        let shown = if !millis.is_multiple_of(10) {
            3
        } else if !millis.is_multiple_of(100) {
            2
        } else {
            1
        };
        text.extend(digits.into_iter().take(shown).map(digit));
    }
    text.push('s');
    text
}

/// Writes a number below 100. Every answer has several durations, and a formatter takes ten times as long.
fn push_below_100(text: &mut String, number: u64) {
    text.extend((number >= 10).then(|| digit(number / 10)));
    text.push(digit(number % 10));
}

fn digit(value: u64) -> char {
    u32::try_from(value).ok().and_then(|value| char::from_digit(value, 10)).unwrap_or_default()
}

/// The last second of the year 9999: RFC 3339 has no later ones.
const LAST_SECOND: u64 = 253_402_300_799;

/// `time` since the epoch as RFC 3339 writes it, rounded up to a whole second: `2025-08-21T12:41:00Z`. A time past the
/// end of the year 9999 is its last second.
///
/// A library's formatter would be a twentieth of the filter, all of which V8 compiles whenever Envoy starts.
pub fn date(time: Millis) -> String {
    let seconds = time.seconds_rounded_up().min(LAST_SECOND);
    let day = seconds / (24 * 60 * 60);
    let months = Period::Month.index(Millis::DAY * day);
    let first = Period::Month.begins_at(months) / NonZeroMillis::DAY;
    let (year, month, day) = (1_970 + months / 12, months % 12 + 1, day - first + 1);
    let (minutes, second) = (seconds / 60, seconds % 60);
    let (hour, minute) = (minutes / 60 % 24, minutes % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The time since the epoch that `text` is, in RFC 3339 with any offset. None for other texts and for earlier times.
/// Commands read times with it; the filter itself never does.
pub fn parse_date(text: &str) -> Option<Millis> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(Millis::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limit::Enforcement;
    use crate::window::tests::days;
    use proptest::prelude::*;

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
            assert_eq!(go_duration(Millis::new(ms)), text);
        }
    }

    #[test]
    fn dates_are_whole_seconds_rounded_up() {
        let date = |ms| date(Millis::new(ms));
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(1_755_780_059_001), "2025-08-21T12:41:00Z");
        assert_eq!(date(1_709_164_800_000), "2024-02-29T00:00:00Z");
        assert_eq!(date(u64::MAX), "9999-12-31T23:59:59Z");
    }

    proptest! {
        #[test]
        fn dates_are_as_a_library_writes_them(second in 0..=LAST_SECOND) {
            let expected = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0)
                .saturating_add(jiff::SignedDuration::from_secs(second.try_into().unwrap()));
            prop_assert_eq!(date(Millis::new(second * 1_000)), format!("{expected}Z"));
        }
    }

    #[test]
    fn dollars_are_decimal() {
        let dollars = |units| amount(Metric::CostUsd, Units::new(units));
        assert_eq!(
            [dollars(0), dollars(1), dollars(2_500_000), dollars(10_000_000)],
            ["0", "0.000001", "2.5", "10"]
        );
        assert_eq!(amount(Metric::TotalTokens, Units::new(2_500_000)), "2500000");
    }

    #[test]
    fn limits_are_named_in_words() {
        let window = Window::sliding(NonZeroMillis::MIN);
        let words = |name: &str, metric| {
            super::metric(&Limit {
                name: name.into(),
                metric,
                amount: Units::new(1),
                window,
                enforcement: Enforcement::default(),
                allowance: None,
            })
        };
        assert_eq!(words("input_tokens", Metric::InputTokens), "input tokens");
        assert_eq!(words("gpt_4*/cost_usd", Metric::CostUsd), "gpt_4*/cost in USD");
        assert_eq!(words("concurrency", Metric::Concurrency), "concurrent requests");
    }

    #[test]
    fn windows_are_named_by_their_length() {
        let minute = NonZeroMillis::MINUTE;
        let windows = [
            Window::sliding(minute),
            Window::fixed(minute),
            Window::token_bucket(minute, Units::new(1)),
            Window::calendar_month(),
            days("1d-Europe/Paris", Millis::ZERO),
            Window::concurrency(minute),
        ];
        assert_eq!(windows.map(|window| super::window(&window)), ["1m", "1m", "1m", "1mo", "1d", "moment"]);
    }
}
