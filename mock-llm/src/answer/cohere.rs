//! Cohere's API: <https://docs.cohere.com/reference/chat>. One block of text, an event for each word.

use super::{Plan, with};
use serde_json::{Value, json};

pub(super) fn body(plan: &Plan) -> Value {
    let message = json!({"role": "assistant", "content": [{"type": "text", "text": plan.text()}]});
    with(json!({"id": "cohere-mock", "message": message}), ending(plan))
}

pub(super) fn embeddings(plan: &Plan) -> Value {
    let vectors: Vec<_> = (0..plan.answers).map(|_| json!([0.1, 0.2])).collect();
    with(json!({"id": "cohere-mock", "embeddings": {"float": vectors}}), meta(plan))
}

pub(super) fn ranking(plan: &Plan) -> Value {
    with(json!({"id": "cohere-mock", "results": [{"index": 0, "relevance_score": 0.5}]}), meta(plan))
}

pub(super) fn events(plan: &Plan) -> Vec<Value> {
    let event = |kind: &str, delta: Value| json!({"type": kind, "index": 0, "delta": delta});
    let text = |text: &str| json!({"message": {"content": {"type": "text", "text": text}}});
    let mut events = vec![event("message-start", json!({"message": {"role": "assistant"}}))];
    events.push(event("content-start", text("")));
    events.extend(plan.deltas().map(|delta| event("content-delta", text(&delta))));
    events.push(json!({"type": "content-end", "index": 0}));
    if plan.ends_properly {
        events.push(event("message-end", ending(plan)));
    }
    events
}

fn ending(plan: &Plan) -> Value {
    let reason = json!({"finish_reason": if plan.is_cut { "MAX_TOKENS" } else { "COMPLETE" }});
    if !plan.reports_usage {
        return reason;
    }
    let usage = &plan.usage;
    let tokens = json!({"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens});
    with(reason, json!({"usage": {"billed_units": tokens, "tokens": tokens}}))
}

fn meta(plan: &Plan) -> Value {
    if !plan.reports_usage {
        return json!({});
    }
    json!({"meta": {"billed_units": {"input_tokens": plan.usage.prompt_tokens}}})
}
