//! Rate-limit headers of the IETF's draft: `ratelimit-policy` has the limits, and `ratelimit` has their remainders.
//!
//! Both are lists of names with parameters, as in revision 08 of the draft and later ones.
//! <https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/>

use super::Headers;
use crate::policy::Owner;
use crate::policy::limit::Metric;
use crate::policy::status::LimitStatus;
use crate::window::Algorithm;
use std::collections::BTreeMap;

/// The names of both headers.
pub(super) const NAMES: [&str; 2] = ["ratelimit-policy", "ratelimit"];

/// The largest integer of a structured field: 15 digits (RFC 9651, section 3.3.1).
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// Both headers, with every limit.
pub(super) fn headers(statuses: &[LimitStatus]) -> Headers {
    let names = names(statuses);
    let list = |item: fn(&LimitStatus) -> String| {
        let items = statuses.iter().zip(&names).map(|(status, name)| format!("\"{name}\"{}", item(status)));
        items.collect::<Vec<_>>().join(", ")
    };
    let values = [list(policy), list(state)];
    NAMES.into_iter().zip(values).filter(|(_, value)| !value.is_empty()).collect()
}

/// Names for the limits, all different. Limits with the same name get their window added, and then a number.
fn names(statuses: &[LimitStatus]) -> Vec<String> {
    let plain: Vec<_> = statuses.iter().map(|status| printable(&name(status))).collect();
    let with_window = statuses
        .iter()
        .zip(&plain)
        .map(|(status, name)| format!("{name}-{}", printable(&status.limit.window.label())));
    let named = distinct(plain.clone(), with_window);
    let numbered: Vec<_> = named.iter().enumerate().map(|(at, name)| format!("{name}-{at}")).collect();
    distinct(named, numbered)
}

/// `names`, with every name that occurs more than once replaced by its `longer` form.
fn distinct(names: Vec<String>, longer: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for name in &names {
        let times = times.entry(name.clone()).or_default();
        *times += 1;
    }
    let is_once = |name: &String| times.get(name).is_some_and(|times| *times == 1);
    names.into_iter().zip(longer).map(|(name, longer)| if is_once(&name) { name } else { longer }).collect()
}

/// The name of a limit, with its owner unless that is the key.
pub(super) fn name(status: &LimitStatus) -> String {
    let name = &status.limit.name;
    match &status.owner {
        Owner::Key => name.to_string(),
        Owner::Group(group) => format!("group-{group}/{name}"),
        Owner::Model(pattern) => format!("model-{pattern}/{name}"),
        Owner::Global => format!("global/{name}"),
    }
}

/// `text` with `_` for every character that a string of a structured field cannot contain, or only with an escape.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if matches!(c, ' '..='~') && !matches!(c, '"' | '\\') { c } else { '_' }).collect()
}

/// The parameters of a limit's policy: the quota, its unit unless it is requests, and the window in seconds.
fn policy(status: &LimitStatus) -> String {
    let limit = &status.limit;
    let quota = (limit.amount + status.state.granted).get().min(MAX_INTEGER);
    let unit = match limit.metric {
        Metric::Requests => "",
        Metric::InputTokens
        | Metric::UncachedInputTokens
        | Metric::OutputTokens
        | Metric::ReasoningTokens
        | Metric::TotalTokens => ";qu=\"tokens\"",
        Metric::CostUsd => ";qu=\"micro-usd\"",
        Metric::Concurrency => ";qu=\"concurrent-requests\"",
    };
    match limit.window.algorithm {
        Algorithm::Concurrency => format!(";q={quota}{unit}"),
        _ => format!(";q={quota}{unit};w={}", limit.window.length.get().seconds_rounded_up()),
    }
}

/// The parameters of a limit's state: the remainder, and the seconds until it resets.
fn state(status: &LimitStatus) -> String {
    let remaining = status.remaining().get().min(MAX_INTEGER);
    match status.limit.window.algorithm {
        Algorithm::Concurrency => format!(";r={remaining}"),
        _ => format!(";r={remaining};t={}", status.state.reset.seconds_rounded_up()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limit::Limit;
    use crate::policy::status::tests::status;
    use crate::quantity::{Millis, NonZeroMillis};
    use crate::window::Window;
    use std::sync::Arc;

    fn values(statuses: &[LimitStatus]) -> [String; 2] {
        let values: Vec<_> = headers(statuses).into_iter().map(|(_, value)| value).collect();
        values.try_into().unwrap()
    }

    fn over(status: &LimitStatus, window: Window) -> LimitStatus {
        let limit = Limit { window, ..Limit::clone(&status.limit) };
        LimitStatus { limit: Arc::new(limit), ..status.clone() }
    }

    #[test]
    fn each_limit_has_a_policy_and_a_state() {
        let requests = status(Metric::Requests, 100, 1, (50, 29_001, 0));
        let tokens = status(Metric::TotalTokens, u64::MAX, 1, (0, 500, 0));
        assert_eq!(
            values(&[requests.clone(), tokens]),
            [
                r#""requests";q=100;w=60, "total_tokens";q=999999999999999;qu="tokens";w=60"#,
                r#""requests";r=50;t=30, "total_tokens";r=999999999999999;t=1"#,
            ]
        );
        assert_eq!(headers(&[requests])[0].0, "ratelimit-policy");
        assert_eq!(headers(&[]), []);
    }

    #[test]
    fn every_name_occurs_once() {
        let requests = status(Metric::Requests, 1, 1, (1, 0, 0));
        let second = over(&requests, Window::sliding(Millis::SECOND.at_least_one()));
        let of_group = LimitStatus { owner: Owner::Group("a".into()), ..requests.clone() };
        let of_model = LimitStatus { owner: Owner::Model("\"gpt\\é*".into()), ..requests.clone() };
        let of_all = LimitStatus { owner: Owner::Global, ..requests.clone() };
        let statuses = [requests, second.clone(), second, of_group, of_model, of_all];
        let [policy, _] = values(&statuses);
        let names: Vec<_> = policy.split(", ").map(|item| item.split(';').next().unwrap()).collect();
        assert_eq!(
            names,
            [
                r#""requests-1m""#,
                r#""requests-1s-1""#,
                r#""requests-1s-2""#,
                r#""group-a/requests""#,
                r#""model-_gpt__*/requests""#,
                r#""global/requests""#
            ]
        );
    }

    #[test]
    fn slots_have_no_window() {
        let slots = status(Metric::Concurrency, 4, 1, (1, 600_000, 0));
        let slots = over(&slots, Window::concurrency(NonZeroMillis::new(600_000).unwrap()));
        let expected = [r#""concurrency";q=4;qu="concurrent-requests""#, r#""concurrency";r=3"#];
        assert_eq!(values(&[slots]), expected);
    }
}
