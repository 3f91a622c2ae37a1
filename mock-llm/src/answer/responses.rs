//! Responses: <https://platform.openai.com/docs/api-reference/responses>. One message with one text.

use super::{Plan, with};
use serde_json::{Value, json};

pub(super) fn body(plan: &Plan) -> Value {
    let item = message(ended(plan), json!([part(&plan.text())]));
    match plan.response_status.as_deref() {
        Some(status @ ("queued" | "in_progress")) => response(plan, status, json!([]), false),
        Some(status) => response(plan, status, json!([item]), plan.reports_usage),
        None => response(plan, ended(plan), json!([item]), plan.reports_usage),
    }
}

pub(super) fn events(plan: &Plan) -> Vec<String> {
    let begun = response(plan, "in_progress", json!([]), false);
    let text = plan.text();
    let place = || json!({"item_id": "msg_mock", "output_index": 0, "content_index": 0});
    let mut events = vec![
        ("response.created", json!({"response": begun})),
        ("response.in_progress", json!({"response": begun})),
        ("response.output_item.added", json!({"output_index": 0, "item": message("in_progress", json!([]))})),
        ("response.content_part.added", with(place(), json!({"part": part("")}))),
    ];
    for delta in plan.deltas() {
        events.push(("response.output_text.delta", with(place(), json!({"delta": delta}))));
    }
    events.push(("response.output_text.done", with(place(), json!({"text": text}))));
    events.push(("response.content_part.done", with(place(), json!({"part": part(&text)}))));
    let item = message(ended(plan), json!([part(&text)]));
    events.push(("response.output_item.done", json!({"output_index": 0, "item": item})));
    if plan.ends_properly {
        let kind = if plan.is_cut { "response.incomplete" } else { "response.completed" };
        events.push((kind, json!({"response": body(plan)})));
    }
    let write = |(number, (kind, event)): (usize, (&str, Value))| {
        let event = with(event, json!({"type": kind, "sequence_number": number}));
        format!("event: {kind}\ndata: {event}\n\n")
    };
    events.into_iter().enumerate().map(write).collect()
}

const fn ended(plan: &Plan) -> &'static str {
    if plan.is_cut { "incomplete" } else { "completed" }
}

fn response(plan: &Plan, status: &str, output: Value, reports_usage: bool) -> Value {
    let usage = json!({
        "input_tokens": plan.usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": plan.usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": plan.usage.prompt_tokens + plan.usage.completion_tokens,
    });
    let incomplete = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
    json!({
        "id": plan.response_id,
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "error": null,
        "incomplete_details": incomplete,
        "instructions": null,
        "metadata": {},
        "model": plan.model,
        "output": output,
        "parallel_tool_calls": true,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": reports_usage.then_some(usage),
    })
}

fn message(status: &str, content: Value) -> Value {
    json!({"id": "msg_mock", "type": "message", "status": status, "role": "assistant", "content": content})
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": []})
}
