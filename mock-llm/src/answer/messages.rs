//! Messages: <https://docs.anthropic.com/en/api/messages>. One block of text.

use super::{Plan, with};
use serde_json::{Value, json};

pub(super) fn body(plan: &Plan) -> Value {
    let content = json!([{"type": "text", "text": plan.text()}]);
    message(plan, content, Some(reason(plan)), plan.usage.completion_tokens)
}

/// As in Anthropic's API, the usage of the prompt comes at the beginning, and all usage with the `stop_reason`.
pub(super) fn events(plan: &Plan) -> Vec<String> {
    let begun = plan.usage.completion_tokens.min(1);
    let mut events = vec![
        ("message_start", json!({"message": message(plan, json!([]), None, begun)})),
        ("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}})),
        ("ping", json!({})),
    ];
    for text in plan.deltas() {
        events.push((
            "content_block_delta",
            json!({"index": 0, "delta": {"type": "text_delta", "text": text}}),
        ));
    }
    events.push(("content_block_stop", json!({"index": 0})));
    let delta = json!({"delta": {"stop_reason": reason(plan), "stop_sequence": null}});
    let all =
        json!({"input_tokens": plan.usage.prompt_tokens, "output_tokens": plan.usage.completion_tokens});
    let usage = json!({"usage": all});
    events.push(("message_delta", if plan.reports_usage { with(delta, usage) } else { delta }));
    if plan.ends_properly {
        events.push(("message_stop", json!({})));
    }
    let write = |(kind, event): (&str, Value)| {
        format!("event: {kind}\ndata: {}\n\n", with(event, json!({"type": kind})))
    };
    events.into_iter().map(write).collect()
}

const fn reason(plan: &Plan) -> &'static str {
    if plan.is_cut { "max_tokens" } else { "end_turn" }
}

fn message(plan: &Plan, content: Value, stop_reason: Option<&str>, output_tokens: u64) -> Value {
    let message = json!({
        "id": "msg_mock",
        "type": "message",
        "role": "assistant",
        "model": plan.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
    });
    let usage = json!({"input_tokens": plan.usage.prompt_tokens, "output_tokens": output_tokens});
    if plan.reports_usage { with(message, json!({"usage": usage})) } else { message }
}
