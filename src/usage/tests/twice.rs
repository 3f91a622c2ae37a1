//! Streams that send the same text in several ways: it is counted once.

use super::*;

/// A chunk as Perplexity sends it: new text, and beside it the whole message so far.
fn beside(delta: &str, message: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": delta},
        "message": {"role": "assistant", "content": message}, "finish_reason": null}]})
}

#[test]
fn a_message_beside_new_text_is_not_new() {
    let words: Vec<&str> = "one two three four five six seven".split_inclusive(' ').collect();
    let chunk = |at: usize| beside(words[at], &words[..=at].concat());
    let mut events: Vec<Value> = (0..words.len()).map(chunk).collect();
    // The last chunks have no new text.
    events.push(beside("", &words.concat()));
    events.push(
        json!({"choices": [{"index": 0, "message": {"content": words.concat()}, "finish_reason": "stop"}]}),
    );
    assert_eq!(stream(1, &events).1, counted(&words.concat()));

    let mut reader = ResponseReader::new(Endpoint::ChatCompletions, Some(SSE), 1, tokenizer(1.0));
    let words = "word ".repeat(10);
    for times in 1..=200 {
        reader.push(format!("data: {}\n\n", beside(&words, &words.repeat(times))).as_bytes());
    }
    let exact = tokens(&words.repeat(200));
    assert!(reader.so_far() <= 2 * exact, "{}: nothing cuts the stream", reader.so_far());
}

#[test]
fn a_message_without_new_text_is_the_text_so_far() {
    let message =
        |text: &str| json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]});
    let events: Vec<Value> = ["one", "one two", "one two", "one two three"].map(message).into();
    assert_eq!(stream(1, &events).1, counted("one two three"));
    let events: Vec<Value> = ["one", " two", " three"].map(message).into();
    assert_eq!(stream(1, &events).1, counted("one two three"), "some servers send new text under this name");
}

#[test]
fn reasoning_under_two_names_counts_once() {
    let delta = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
    let thought = |text: &str| {
        delta(json!({"reasoning": text, "reasoning_content": text,
            "reasoning_details": [{"type": "reasoning.text", "text": text}]}))
    };
    let events = [thought("Let me"), thought(" see."), delta(json!({"content": " Yes", "reasoning": null}))];
    let Outcome::Counted { usage, reasoning } = stream(1, &events).1 else { panic!() };
    assert_eq!((usage.output_tokens, reasoning), (tokens("Let me see. Yes"), Reasoning::Shown));
}

#[test]
fn items_that_are_told_only_as_a_whole_count() {
    let message = json!({"type": "message", "content": [{"type": "output_text", "text": "Hi there"}]});
    let call = json!({"type": "function_call", "name": "f", "arguments": "{\"a\":1}"});
    let event = |kind: &str, members: Value| {
        let mut event = members;
        event["type"] = json!(format!("response.{kind}"));
        event
    };
    let done =
        |index: u64, item: &Value| event("output_item.done", json!({"output_index": index, "item": item}));
    let last = event("completed", json!({"response": {"output": [message, call], "usage": null}}));
    let output_tokens = tokens("Hi there") + tokens("f{\"a\":1}");
    let delta = event("output_text.delta", json!({"output_index": 0, "delta": "Hi there"}));
    for events in [
        vec![last.clone()],
        vec![done(0, &message), done(1, &call), last.clone()],
        vec![delta, done(0, &message), done(1, &call), last],
    ] {
        let usage = Usage { output_tokens, ..Usage::default() };
        assert_eq!(stream(1, &events).1, Outcome::Counted { usage, reasoning: Reasoning::None });
    }

    let start = json!({"type": "content_block_start", "index": 0, "content_block":
        {"type": "tool_use", "name": "f", "input": {"a": 1}}});
    assert_eq!(stream(1, &[start, json!({"type": "message_stop"})]).1, counted("f{\"a\":1}"));
}
