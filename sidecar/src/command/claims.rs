//! What a request says of its own limits, for `explain`: the plan, the group, the name and the amounts, and where each
//! comes from.

use llm_rate_limit::answer::{amount, metric_name};
use llm_rate_limit::policy::limit::Limit;
use llm_rate_limit::policy::{Applied, Finding, Part, Subject};
use serde_json::{Value, json};

/// A line for each part of its limits that the request of `subject` says, or should; of amounts, for those of `limits`.
pub(super) fn in_words<'a>(
    subject: &'a Subject,
    limits: impl Iterator<Item = &'a Applied>,
) -> impl Iterator<Item = String> {
    let parts = findings(subject).filter_map(|found| {
        let (what, value) = match found.part {
            Part::Plan => ("plan", subject.plan()),
            Part::Group => ("group", subject.group()),
            Part::Name => ("name", subject.name()),
            Part::Limit(_) => return None,
        };
        let value = value.map_or_else(|| "none".to_owned(), |value| format!("{value:?}"));
        Some(format!("{what} {value}: {}", origin(found)))
    });
    let amounts = limits.filter_map(|applied| {
        let limit = &applied.limit;
        let found = subject.claims()?.of_limit(limit)?;
        let Part::Limit(allowance) = &found.part else { return None };
        let [is, most] = [limit.amount, allowance.max].map(|units| amount(limit.metric, units));
        let (metric, window) = (metric_name(limit), limit.window.label());
        Some(format!("{metric} in {window}, {is} of at most {most}: {}", origin(found)))
    });
    parts.chain(amounts)
}

/// The same as JSON, but for amounts, which are those of windows.
pub(super) fn as_json(subject: &Subject) -> Value {
    let part = |found: &Finding| {
        let (what, value) = match found.part {
            Part::Plan => ("plan", subject.plan()),
            Part::Group => ("group", subject.group()),
            Part::Name => ("name", subject.name()),
            Part::Limit(_) => return None,
        };
        Some(
            json!({"part": what, "value": value, "from": found.claim.to_string(), "is_default": !found.is_used}),
        )
    };
    findings(subject).filter_map(part).collect()
}

/// Where the amount of `limit` comes from, if a request may say it.
pub(super) fn of_limit(subject: &Subject, limit: &Limit) -> Option<Value> {
    let found = subject.claims()?.of_limit(limit)?;
    let Part::Limit(allowance) = &found.part else { return None };
    Some(json!({"from": found.claim.to_string(), "is_default": !found.is_used, "max": allowance.max}))
}

fn findings(subject: &Subject) -> impl Iterator<Item = &Finding> {
    subject.claims().into_iter().flat_map(|claims| claims.findings())
}

fn origin(found: &Finding) -> String {
    let claim = &found.claim;
    if found.is_used { format!("by {claim}") } else { format!("by default, for {claim} has none of use") }
}
