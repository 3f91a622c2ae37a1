//! Chat completions: <https://platform.openai.com/docs/api-reference/chat>.

use super::Plan;
use serde_json::{Value, json};

pub(super) fn body(plan: &Plan) -> Value {
    let message = json!({"role": "assistant", "content": plan.text()});
    let choice = |index| json!({"index": index, "message": message, "finish_reason": reason(plan)});
    let choices = (0..plan.answers).map(choice).collect();
    envelope(plan, "chat.completion", choices, plan.tells_usage.then(|| told(plan)))
}

/// As there, the usage is told in an event of its own, before `[DONE]`.
pub(super) fn events(plan: &Plan) -> Vec<String> {
    events_of(plan, "chat.completion.chunk", |index, said| {
        let (delta, reason) = match said {
            Said::Nothing => (json!({"role": "assistant", "content": ""}), None),
            Said::Text(text) => (json!({"content": text}), None),
            Said::All => (json!({}), Some(reason(plan))),
        };
        Some(json!({"index": index, "delta": delta, "finish_reason": reason}))
    })
}

/// What a choice says in an event.
#[derive(Clone, Copy)]
pub(super) enum Said<'t> {
    /// Nothing yet.
    Nothing,
    /// Some text.
    Text(&'t str),
    /// It has said all.
    All,
}

/// A stream of `choices`, whose elements `choice` writes, if there is anything to write.
pub(super) fn events_of(
    plan: &Plan,
    object: &str,
    choice: impl Fn(u64, Said<'_>) -> Option<Value>,
) -> Vec<String> {
    let nothing_yet = plan.tells_usage.then_some(Value::Null);
    let mut chunks = Vec::new();
    let mut say = |said: Said<'_>| {
        for index in 0..plan.answers {
            let choices = choice(index, said).map(|choice| json!([choice]));
            chunks.extend(choices.map(|choices| envelope(plan, object, choices, nothing_yet.clone())));
        }
    };
    say(Said::Nothing);
    for text in plan.deltas() {
        say(Said::Text(&text));
    }
    say(Said::All);
    if plan.tells_usage {
        chunks.push(envelope(plan, object, json!([]), Some(told(plan))));
    }
    let mut events: Vec<String> = chunks.into_iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    if plan.says_done {
        events.push("data: [DONE]\n\n".to_owned());
    }
    events
}

/// Why a choice has finished.
pub(super) const fn reason(plan: &Plan) -> &'static str {
    if plan.is_cut { "length" } else { "stop" }
}

/// What completions of both kinds have around their choices.
pub(super) fn envelope(plan: &Plan, object: &str, choices: Value, usage: Option<Value>) -> Value {
    let head =
        json!({"id": "chatcmpl-mock", "object": object, "created": 1_700_000_000, "model": plan.model});
    let rest = [("choices", Some(choices)), ("usage", usage)];
    let rest = rest.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    head.as_object().cloned().unwrap_or_default().into_iter().chain(rest).collect()
}

/// The usage.
pub(super) fn told(plan: &Plan) -> Value {
    json!({
        "prompt_tokens": plan.usage.prompt_tokens,
        "completion_tokens": plan.usage.completion_tokens,
        "total_tokens": plan.usage.prompt_tokens + plan.usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    })
}
