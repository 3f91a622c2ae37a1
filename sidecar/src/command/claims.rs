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
    let parts = parts(subject).map(|(found, what, value)| {
        let value = value.map_or_else(|| "none".to_owned(), |value| format!("{value:?}"));
        format!("{what} {value}: {}", origin(found))
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
    let part = |(found, what, value): (&Finding, &str, Option<&str>)| {
        let (from, is_default) = (found.claim.to_string(), !found.is_used);
        json!({"part": what, "value": value, "from": from, "is_default": is_default})
    };
    parts(subject).map(part).collect()
}

/// Where the amount of `limit` comes from, if a request may say it.
pub(super) fn of_limit(subject: &Subject, limit: &Limit) -> Option<Value> {
    let found = subject.claims()?.of_limit(limit)?;
    let Part::Limit(allowance) = &found.part else { return None };
    Some(json!({"from": found.claim.to_string(), "is_default": !found.is_used, "max": allowance.max}))
}

/// The plan, the group and the name, as far as requests say them, and what holds of each.
fn parts(subject: &Subject) -> impl Iterator<Item = (&Finding, &'static str, Option<&str>)> {
    let findings = subject.claims().into_iter().flat_map(|claims| claims.findings());
    findings.filter_map(|found| match found.part {
        Part::Plan => Some((found, "plan", subject.plan())),
        Part::Group => Some((found, "group", subject.group())),
        Part::Name => Some((found, "name", subject.name())),
        Part::Limit(_) => None,
    })
}

fn origin(found: &Finding) -> String {
    let claim = &found.claim;
    if found.is_used { format!("by {claim}") } else { format!("by default, for {claim} has none of use") }
}
