//! Chat completions: <https://platform.openai.com/docs/api-reference/chat>.

use super::Plan;
use serde_json::{Value, json};

pub(super) fn body(plan: &Plan) -> Value {
    let message = json!({"role": "assistant", "content": plan.text()});
    let choice = |index| json!({"index": index, "message": message, "finish_reason": reason(plan)});
    let choices = (0..plan.answers).map(choice).collect();
    envelope(plan, "chat.completion", choices, plan.reports_usage.then(|| usage(plan)))
}

/// As in OpenAI's API, the usage comes in an event of its own before `[DONE]`.
pub(super) fn events(plan: &Plan) -> Vec<String> {
    events_of(plan, "chat.completion.chunk", |index, part| {
        let (delta, reason) = match part {
            Part::Start => (json!({"role": "assistant", "content": ""}), None),
            Part::Text(text) => (json!({"content": text}), None),
            Part::End => (json!({}), Some(reason(plan))),
        };
        Some(json!({"index": index, "delta": delta, "finish_reason": reason}))
    })
}

/// The part of a choice in one event.
#[derive(Clone, Copy)]
pub(super) enum Part<'t> {
    /// The beginning, without text.
    Start,
    /// Some text.
    Text(&'t str),
    /// The end.
    End,
}

/// A stream of events. `choice` writes the element of `choices` for a part, if the format has one.
pub(super) fn events_of(
    plan: &Plan,
    object: &str,
    choice: impl Fn(u64, Part<'_>) -> Option<Value>,
) -> Vec<String> {
    let nothing_yet = plan.reports_usage.then_some(Value::Null);
    let mut chunks = Vec::new();
    let mut push = |part: Part<'_>| {
        for index in 0..plan.answers {
            let choices = choice(index, part).map(|choice| json!([choice]));
            chunks.extend(choices.map(|choices| envelope(plan, object, choices, nothing_yet.clone())));
        }
    };
    push(Part::Start);
    for text in plan.deltas() {
        push(Part::Text(&text));
    }
    push(Part::End);
    if plan.reports_usage {
        chunks.push(envelope(plan, object, json!([]), Some(usage(plan))));
    }
    let mut events: Vec<String> = chunks.into_iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    if plan.ends_properly {
        events.push("data: [DONE]\n\n".to_owned());
    }
    events
}

/// The `finish_reason` of a choice.
pub(super) const fn reason(plan: &Plan) -> &'static str {
    if plan.is_cut { "length" } else { "stop" }
}

/// The object around the choices of both kinds of completions.
pub(super) fn envelope(plan: &Plan, object: &str, choices: Value, usage: Option<Value>) -> Value {
    let head =
        json!({"id": "chatcmpl-mock", "object": object, "created": 1_700_000_000, "model": plan.model});
    let rest = [("choices", Some(choices)), ("usage", usage)];
    let rest = rest.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    head.as_object().cloned().unwrap_or_default().into_iter().chain(rest).collect()
}

/// The usage.
pub(super) fn usage(plan: &Plan) -> Value {
    json!({
        "prompt_tokens": plan.usage.prompt_tokens,
        "completion_tokens": plan.usage.completion_tokens,
        "total_tokens": plan.usage.prompt_tokens + plan.usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    })
}
