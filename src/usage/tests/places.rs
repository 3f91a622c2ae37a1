//! Usage in places of its own: in a choice, a delta, another member, or beside a response.

use super::*;

#[test]
fn usage_is_found_in_other_places() {
    let usage = usage(9, 2);
    let in_choice = |index: u64, usage: &Value| {
        let choice = json!({"index": index, "delta": {}, "finish_reason": "stop"});
        with_usage(choice, usage)
    };
    for (name, choices, events) in [
        ("Kimi's", 1, vec![text_chunk("Hi"), json!({"choices": [in_choice(0, &usage)]})]),
        (
            "Kimi's, a part for each choice",
            2,
            vec![
                json!({"choices": [in_choice(0, &self::usage(9, 1))]}),
                json!({"choices": [in_choice(1, &self::usage(9, 1))]}),
            ],
        ),
        (
            "Groq's",
            1,
            vec![
                text_chunk("Hi"),
                json!({"choices": [{"finish_reason": "stop"}], "x_groq": {"usage": usage}}),
            ],
        ),
        (
            "in the last delta",
            1,
            vec![
                text_chunk("Hi"),
                json!({"choices": [{"index": 0, "delta": {"usage": usage}, "finish_reason": "stop"}]}),
            ],
        ),
        (
            "a gateway's",
            1,
            vec![stop_chunk(), json!({"choices": [], "x_gateway": {"id": "r", "usage": usage}})],
        ),
        (
            "beside a response",
            1,
            vec![
                json!({"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"}),
                json!({"type": "response.completed", "response": {}, "usage": usage}),
            ],
        ),
        (
            "in the delta of a message",
            1,
            vec![
                json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}),
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "usage": usage}}),
            ],
        ),
        (
            "both",
            1,
            vec![stop_chunk(), json!({"choices": [], "usage": usage, "x_groq": {"id": "r", "usage": usage}})],
        ),
        (
            "in a chunk without choices",
            1,
            vec![text_chunk("Hi"), stop_chunk(), json!({"id": "c", "usage": usage})],
        ),
        (
            "at the usual place first",
            1,
            vec![
                stop_chunk(),
                json!({"choices": [], "usage": usage, "x_gateway": {"usage": self::usage(1, 1)},
                    "metadata": {"usage": self::usage(1, 1)}}),
            ],
        ),
        (
            "in zeros at the usual place",
            1,
            vec![
                stop_chunk(),
                json!({"choices": [], "usage": self::usage(0, 0), "x_groq": {"usage": usage}}),
            ],
        ),
    ] {
        let (certain, outcome) = stream(choices, &events);
        assert_eq!(outcome, reported(9, 2), "{name}");
        assert_eq!(certain, Some(events.len() - 1), "{name}");
    }
    let first = json!({"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"});
    let second = json!({"index": 1, "delta": {"content": "Hello"}, "finish_reason": "stop"});
    let events =
        [json!({"choices": [second]}), json!({"choices": [with_usage(first, &usage)]}), json!("[DONE]")];
    assert_eq!(stream(2, &events).1, counted_tokens(Some(9), 2), "the usage of one choice of two");
    for body in [
        json!({"choices": [{"message": {"content": "Hi", "usage": usage}}]}),
        // Without an index each.
        json!({"choices": [{"message": {"content": "a"}, "usage": self::usage(9, 1)},
            {"message": {"content": "b"}, "usage": self::usage(9, 1)}]}),
        json!({"choices": [{"message": {"content": "Hi"}}], "x_gateway": {"usage": usage}}),
        json!({"result": {"response": "Hi", "usage": usage}, "success": true, "errors": []}),
        json!({"choices": [{"message": {"content": "Hi"}, "usage": usage}]}),
        json!({"choices": [{"message": {"content": "Hi"}}], "x_groq": {"usage": usage}}),
        json!({"choices": [{"message": {"content": "Hi"}}], "usage": null, "x_groq": {"usage": usage}}),
        json!({"type": "response.completed", "response": {"usage": usage}}),
        json!({"candidates": [], "usageMetadata":
            {"promptTokenCount": 9, "candidatesTokenCount": 1, "thoughtsTokenCount": 1, "totalTokenCount": 11}}),
    ] {
        let Outcome::Reported(found) = read(JSON, 1, [body.to_string().as_bytes()]).1 else {
            panic!("{body}")
        };
        assert_eq!((found.input_tokens, found.output_tokens), (Some(9), 2), "{body}");
    }
}
