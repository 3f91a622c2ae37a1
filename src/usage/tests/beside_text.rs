//! What answers cost beside their text, and what they show of reasoning.

use super::*;
use crate::models::Encodings;
use crate::tokens::{WantedCall, Wants};

fn body(json: &Value) -> Outcome {
    let text = json.to_string();
    let mut reader = ResponseReader::new(Endpoint::Responses, Some(JSON), 1, tokenizer(1.0));
    reader.push(text.as_bytes()).unwrap_or_else(|| reader.finish(EndedBy::Upstream))
}

#[test]
fn a_response_shows_whether_it_has_reasoning() {
    let message = json!({"type": "message", "content": [{"type": "output_text", "text": "Hi there"}]});
    let hidden = json!({"type": "reasoning", "summary": [], "encrypted_content": "x"});
    let search = json!({"type": "web_search_call", "status": "completed"});
    for (output, status, expected) in [
        (json!([message]), "completed", Reasoning::None),
        (
            json!([message, {"type": "function_call", "name": "f", "arguments": "{}"}]),
            "completed",
            Reasoning::None,
        ),
        (json!([hidden, message]), "completed", Reasoning::Shown),
        (json!([search, message]), "completed", Reasoning::Unknown),
        (json!([message]), "failed", Reasoning::Unknown),
    ] {
        let response = json!({"object": "response", "status": status, "output": output, "usage": null});
        let last = json!({"type": format!("response.{status}"), "response": response});
        for outcome in [body(&response), stream(1, &[last]).1] {
            let Outcome::Counted { reasoning, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(reasoning, expected, "{response}");
        }
    }
    // A stream that breaks off may have more.
    let delta = json!({"type": "response.output_text.delta", "output_index": 0, "delta": "Hi there"});
    assert_eq!(stream(1, &[delta]).1, counted("Hi there"));
}

#[test]
fn what_the_client_wants_changes_what_a_counted_answer_costs() {
    let beside = |model: &str, wants: Wants, json: &Value| {
        let tokenizer = Encodings::default().tokenizer(Some(model)).wanting(wants);
        let mut reader =
            ResponseReader::new(Endpoint::ChatCompletions, Some("application/json"), 1, tokenizer);
        let text = json.to_string();
        let outcome = reader.push(text.as_bytes()).unwrap_or_else(|| reader.finish(EndedBy::Upstream));
        let Outcome::Counted { usage, .. } = outcome else { panic!("{outcome:?}") };
        usage.output_tokens
    };
    let text = json!({"choices": [{"message": {"content": "hello world"}}]});
    let call =
        json!({"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]});
    let functions = Wants { functions: 1, ..Wants::NOTHING };
    assert_eq!(beside("gpt-4o", Wants::NOTHING, &text), 2);
    assert_eq!(beside("gpt-4o", functions, &text), 3);
    assert_eq!(beside("gpt-4o", Wants { has_schema: true, ..functions }, &text), 7);
    assert_eq!(beside("gpt-4o", functions, &call), 2 + 7);
    assert_eq!(beside("gpt-4o", Wants { call: WantedCall::Named(1), ..functions }, &call), 1);
    assert_eq!(beside("gpt-5", functions, &text), 2 + 3);
    assert_eq!(beside("openai/gpt-5", functions, &text), 2 + 4);
}
