//! Completions: <https://platform.openai.com/docs/api-reference/completions>. Only their choices
//! differ from a chat's.

use super::Plan;
use super::chat::{Part, envelope, events_of, reason, usage};
use serde_json::{Value, json};

const OBJECT: &str = "text_completion";

pub(super) fn body(plan: &Plan) -> Value {
    let choices = (0..plan.answers).map(|index| choice(index, &plan.text(), Some(reason(plan))));
    envelope(plan, OBJECT, choices.collect(), plan.reports_usage.then(|| usage(plan)))
}

pub(super) fn events(plan: &Plan) -> Vec<String> {
    events_of(plan, OBJECT, |index, part| match part {
        Part::Start => None,
        Part::Text(text) => Some(choice(index, text, None)),
        Part::End => Some(choice(index, "", Some(reason(plan)))),
    })
}

fn choice(index: u64, text: &str, finish_reason: Option<&str>) -> Value {
    json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish_reason})
}
