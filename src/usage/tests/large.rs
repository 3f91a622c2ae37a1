//! Events and bodies of any size, in bounded memory.

use super::*;

fn response(members: Value) -> Value {
    json!({"type": "response.completed", "response": members})
}

/// A megabyte and a half, as an image in base64 has it.
fn image() -> Value {
    json!({"type": "image_generation_call", "result": "iVBORw0KGgo".repeat(150_000)})
}

fn log_probabilities() -> Value {
    let tokens: Vec<Value> = (0..40_000).map(|at| json!({"token": "a", "logprob": -0.5, "at": at})).collect();
    json!({"type": "message", "content": [{"type": "output_text", "text": "Hi", "logprobs": tokens}]})
}

#[test]
fn usage_is_found_in_events_of_any_size() {
    let usage = json!({"input_tokens": 9, "output_tokens": 2});
    for item in [image(), log_probabilities()] {
        for event in [
            response(json!({"usage": usage, "output": [item]})),
            response(json!({"output": [item], "usage": usage})),
        ] {
            let text = format!("event: response.completed\ndata: {event}\n\n");
            assert!(text.len() > 1 << 20, "{}", text.len());
            for size in [text.len(), 16_384] {
                let (given, outcome) = read_of(Endpoint::Responses, SSE, 1, text.as_bytes().chunks(size));
                assert_eq!(outcome, reported(9, 2));
                assert!(given.is_some(), "it is certain");
            }
        }
    }
    let choices = json!([{"index": 0, "delta": {"images": [image()]}, "finish_reason": "stop"}]);
    let chunk = json!({"choices": choices, "x_groq": {"usage": self::usage(9, 2)}});
    assert_eq!(stream(1, &[chunk]), (Some(0), reported(9, 2)));
}

#[test]
fn a_large_event_leaves_a_gap_that_only_usage_closes() {
    let partial =
        json!({"type": "response.image_generation_call.partial_image", "output_index": 0, "image": image()});
    let done = json!({"type": "response.output_item.done", "output_index": 0, "item": image()});
    let last = |usage: Value| response(json!({"usage": usage, "output": [image()]}));
    let usage = json!({"input_tokens": 9, "output_tokens": 2});
    assert_eq!(stream(1, &[partial.clone(), done.clone(), last(usage)]).1, reported(9, 2));
    for events in [
        vec![partial.clone()],
        vec![partial.clone(), last(Value::Null)],
        vec![done, json!("[DONE]")],
        vec![
            text_chunk("Hi"),
            json!({"choices": [{"delta": {"content": "x".repeat(1 << 20)}}]}),
            json!("[DONE]"),
        ],
        // What was reported before the gap is not the last word.
        vec![
            with_usage(text_chunk("Hi"), &self::usage(9, 2)),
            json!({"choices": [{"delta": {"content": "x".repeat(1 << 20)}}]}),
            json!("[DONE]"),
        ],
        vec![partial, json!({"type": "response.failed", "response": {"error": {"code": "x"}}})],
    ] {
        assert_eq!(stream(1, &events).1, Outcome::Unknown);
    }
}

#[test]
fn a_large_body_is_read_by_its_outline() {
    let text = "x".repeat(2 << 20);
    for (body, expected) in [
        (json!({"choices": [{"message": {"content": text}, "usage": usage(9, 2)}]}), reported(9, 2)),
        (
            json!({"choices": [{"message": {"content": text}}], "x_groq": {"usage": usage(9, 2)}}),
            reported(9, 2),
        ),
        (json!({"choices": [{"message": {"content": text}}], "usage": usage(9, 0)}), Outcome::Unknown),
        (json!({"choices": [{"message": {"content": text}}], "error": {"code": 5}}), Outcome::Unknown),
    ] {
        assert_eq!(read(JSON, 1, body.to_string().as_bytes().chunks(10_000)).1, expected);
    }
}

#[test]
fn what_cannot_be_decoded_leaves_a_gap() {
    let finish = |kind, begin: &str, end: &str| {
        let mut reader = ResponseReader::new(Endpoint::ChatCompletions, Some(kind), 1, tokenizer(1.0));
        reader.push(begin.as_bytes());
        reader.skip_rest();
        reader.push(end.as_bytes());
        reader.finish(EndedBy::Upstream)
    };
    let said = format!("data: {}\n\n", text_chunk("Hi"));
    assert_eq!(finish(SSE, &said, ""), Outcome::Unknown);
    assert_eq!(finish(JSON, r#"{"choices":[{"message":{"content":"Hi"#, ""), Outcome::Unknown);
    assert_eq!(finish(JSON, "", ""), Outcome::Unknown);
    let paid = r#"{"usage":{"prompt_tokens":9,"completion_tokens":2}"#;
    assert_eq!(finish(JSON, paid, ""), reported(9, 2));
}
