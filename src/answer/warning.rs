//! The header that tells a client of limits that are nearly used: `requests;w=60;used=0.83`.
//!
//! It is a list of names with parameters (RFC 9651), as the IETF's headers are: the window in seconds, which requests
//! in flight do not have, and the used part of the limit. `warn_at` in the configuration says from which part on.

use super::ietf::{name, printable};
use crate::policy::status::LimitStatus;
use crate::window::Algorithm;

/// The header's name.
pub(super) const NAME: &str = "x-ratelimit-warning";

/// The header with those of the limits that are nearly used; none if no limit is.
pub(super) fn header(statuses: &[LimitStatus]) -> Option<(&'static str, String)> {
    let items: Vec<_> = statuses.iter().filter(|status| status.is_nearly_used()).map(item).collect();
    (!items.is_empty()).then(|| (NAME, items.join(", ")))
}

fn item(status: &LimitStatus) -> String {
    let name = printable(&name(status));
    let name = if is_token(&name) { name } else { format!("\"{name}\"") };
    let window = match status.limit.window.algorithm {
        Algorithm::Concurrency => String::new(),
        _ => format!(";w={}", status.limit.window.length.get().seconds_rounded_up()),
    };
    format!("{name}{window};used={}", used_part(status))
}

/// The used part of the limit, with two decimals, rounded down.
fn used_part(status: &LimitStatus) -> String {
    // 64 bits times 100 fit 128.
    let hundredths = u128::from(status.state.used.get()) * 100 / u128::from(status.capacity().get().max(1));
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Whether `text` is a token of a structured field, which needs no quotes (RFC 9651, section 3.3.4).
fn is_token(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Owner;
    use crate::policy::limit::{Enforcement, Limit, Metric, Part};
    use crate::policy::status::tests::status;
    use std::sync::Arc;

    fn warned(metric: Metric, amount: u64, used: u64) -> LimitStatus {
        let status = status(metric, amount, 1, (used, 1_000, 0));
        let warn_at = Some(Part::of_millionths(800_000));
        let enforcement = Enforcement { warn_at, ..Enforcement::default() };
        LimitStatus { limit: Arc::new(Limit { enforcement, ..Limit::clone(&status.limit) }), ..status }
    }

    fn value(statuses: &[LimitStatus]) -> Option<String> {
        header(statuses).map(|(_, value)| value)
    }

    #[test]
    fn limits_warn_from_their_part_on() {
        assert_eq!(value(&[warned(Metric::Requests, 10, 7)]), None);
        assert_eq!(value(&[warned(Metric::Requests, 10, 8)]).as_deref(), Some("requests;w=60;used=0.80"));
        assert_eq!(value(&[warned(Metric::Requests, 6, 5)]).as_deref(), Some("requests;w=60;used=0.83"));
        assert_eq!(value(&[warned(Metric::Requests, 0, 0)]), None, "nothing is used of it");
        assert_eq!(value(&[status(Metric::Requests, 10, 1, (10, 1_000, 0))]), None, "it does not warn");
    }

    #[test]
    fn every_limit_that_warns_is_named_with_its_owner() {
        let group = LimitStatus {
            owner: Owner::Group("team a, \"b\"".into()),
            ..warned(Metric::TotalTokens, 100, 107)
        };
        let model = LimitStatus { owner: Owner::Model("gpt-4*".into()), ..warned(Metric::Requests, 10, 9) };
        let statuses = [group, warned(Metric::InputTokens, 10, 1), model];
        assert_eq!(
            value(&statuses).as_deref(),
            Some(concat!(
                "\"group-team a, _b_/total_tokens\";w=60;used=1.07, ",
                "model-gpt-4*/requests;w=60;used=0.90"
            ))
        );
    }
}
