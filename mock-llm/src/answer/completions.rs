//! Completions: <https://platform.openai.com/docs/api-reference/completions>. They differ from a chat in what a choice
//! is.

use super::Plan;
use super::chat::{Said, envelope, events_of, reason, told};
use serde_json::{Value, json};

const OBJECT: &str = "text_completion";

pub(super) fn body(plan: &Plan) -> Value {
    let choices = (0..plan.answers).map(|index| choice(index, &plan.text(), Some(reason(plan))));
    envelope(plan, OBJECT, choices.collect(), plan.tells_usage.then(|| told(plan)))
}

pub(super) fn events(plan: &Plan) -> Vec<String> {
    events_of(plan, OBJECT, |index, said| match said {
        Said::Nothing => None,
        Said::Text(text) => Some(choice(index, text, None)),
        Said::All => Some(choice(index, "", Some(reason(plan)))),
    })
}

fn choice(index: u64, text: &str, finish_reason: Option<&str>) -> Value {
    json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish_reason})
}
