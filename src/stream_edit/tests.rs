//! Edited streams in chunks of every size, and recorded streams of every format that are ended after every event.

use super::editor::MAX_BUFFERED;
use super::*;
use crate::request::Endpoint;
use crate::tokens::{Counting, Encoding, Factor, Tokenizer};
use crate::usage::{Outcome, ResponseReader};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const FINISHES: Edits = Edits { hides_usage: false, finishes: true };

const HIDES: Edits = Edits { hides_usage: true, finishes: false };

const HELLO: &str = concat!(
    r#"data: {"id":"c","object":"chat.completion.chunk","#,
    r#""choices":[{"index":0,"delta":{"content":"hi"}}]}"#
);
/// [`HELLO`], as an upstream sends it that was asked for usage.
const ASKED: &str = concat!(
    r#"data: {"id":"c","object":"chat.completion.chunk","#,
    r#""choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}"#
);
const USAGE: &str =
    r#"data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":1}}"#;

fn edit<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> String {
    let mut editor = StreamEditor::new(HIDES);
    let mut out: Vec<u8> = chunks.into_iter().flat_map(|chunk| editor.push(chunk)).collect();
    out.extend(editor.finish());
    String::from_utf8(out).unwrap()
}

fn stream(end: &str, events: &[&str]) -> String {
    events.iter().map(|event| format!("{event}{end}{end}")).collect()
}

#[test]
fn only_the_chunk_of_usage_and_the_nulls_before_it_are_hidden() {
    for end in ["\n", "\r\n", "\r"] {
        let came = stream(end, &[": hello", ASKED, HELLO, USAGE, "data: [DONE]"]);
        let went = stream(end, &[": hello", HELLO, HELLO, "data: [DONE]"]);
        for size in 1..60 {
            assert_eq!(edit(came.as_bytes().chunks(size)), went, "{end:?} by {size}");
        }
    }
    assert_eq!(
        StreamEditor::new(FINISHES).push(stream("\n", &[ASKED, USAGE]).as_bytes()),
        stream("\n", &[ASKED, USAGE]).as_bytes()
    );
}

#[test]
fn an_event_goes_on_as_soon_as_it_is_whole() {
    let mut editor = StreamEditor::new(HIDES);
    assert_eq!(editor.push(HELLO.as_bytes()), b"");
    assert_eq!(editor.push(b"\n"), b"");
    assert_eq!(editor.push(b"\n"), format!("{HELLO}\n\n").as_bytes());
}

#[test]
fn an_event_too_large_to_wait_passes() {
    let large = format!("data: {}\n\n", "x".repeat(MAX_BUFFERED + 10));
    let came = format!("{large}{}", stream("\n", &[USAGE, HELLO]));
    assert_eq!(edit(came.as_bytes().chunks(8192)), format!("{large}{}", stream("\n", &[HELLO])));
}

#[test]
fn a_stream_is_ended_as_its_api_ends_one() {
    let mut editor = StreamEditor::new(FINISHES);
    assert_eq!(editor.cut(1, 0), None, "no event has shown the format");
    editor.push(format!("{HELLO}\n\ndata: {{\"half").as_bytes());
    let end = String::from_utf8(editor.cut(2, 1).unwrap()).unwrap();
    let (chunk, done) = end.split_once("\n\n").unwrap();
    let chunk: Value = serde_json::from_str(chunk.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(
        chunk,
        json!({"id": "c", "object": "chat.completion.chunk", "choices": [
            {"index": 0, "delta": {}, "finish_reason": "length"},
            {"index": 1, "delta": {}, "finish_reason": "length"},
        ]})
    );
    assert_eq!(done, "data: [DONE]\n\n");
    assert_eq!(
        (editor.push(format!(" past\"}}\n\n{HELLO}\n\n").as_bytes()), editor.finish()),
        (vec![], vec![])
    );
}

#[test]
fn text_completions_end_with_text() {
    let mut editor = StreamEditor::new(FINISHES);
    editor.push(b"data: {\"object\":\"text_completion\",\"choices\":[{\"text\":\"a\"}]}\n\n");
    assert!(String::from_utf8(editor.cut(1, 1).unwrap()).unwrap().contains(r#""text":"""#));
}

proptest! {
    #[test]
    fn without_a_chunk_of_usage_every_byte_passes(bytes in "[a-z:\r\n ]{0,80}", size in 1usize..20) {
        prop_assert_eq!(edit(bytes.as_bytes().chunks(size)), bytes);
    }
}

macro_rules! transcript {
    ($path:literal) => {
        include_str!(concat!("../../tests/data/transcripts/", $path))
    };
}

const CHATS: [&str; 3] = [
    transcript!("chat/azure.sse"),
    transcript!("chat/tool_calls.sse"),
    transcript!("chat/include_usage.sse"),
];

const MESSAGES: [&str; 3] = [
    transcript!("messages/text.sse"),
    transcript!("messages/tool_use.sse"),
    transcript!("messages/thinking.sse"),
];

const RESPONSES: [&str; 2] =
    [transcript!("responses/completed.sse"), transcript!("responses/refusal_and_call.sse")];

/// Ends a stream after each of its events in turn. Returns the events that the client has by then, and the events that
/// end the stream.
fn cuts(stream: &'static str) -> impl Iterator<Item = (String, Option<String>)> {
    let ends = stream.match_indices("\n\n").map(|(at, end)| at + end.len());
    ends.map(|at| {
        let mut editor = StreamEditor::new(FINISHES);
        let (before, after) = stream.split_at(at);
        let seen = String::from_utf8(editor.push(before.as_bytes())).unwrap();
        let end = editor.cut(1, 7).map(|end| String::from_utf8(end).unwrap());
        if end.is_some() {
            assert_eq!(
                (editor.push(after.as_bytes()), editor.finish()),
                (vec![], vec![]),
                "nothing follows the end"
            );
            assert_eq!(editor.cut(1, 7), None, "a stream ends once");
        }
        (seen, end)
    })
}

/// The data of a stream's events. Each event must give its type twice.
fn events(stream: &str) -> Vec<Value> {
    let event = |text: &str| {
        let (kind, data) = text.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], kind);
        data
    };
    stream.split("\n\n").filter(|text| !text.is_empty()).map(event).collect()
}

/// Whether the filter's own reader takes `stream`, which the client gets, for a whole answer.
fn is_whole(endpoint: Endpoint, stream: &str) -> bool {
    let counting = Counting { encoding: Encoding::O200kBase, factor: Factor::ONE };
    let tokenizer = Tokenizer::new(counting);
    let mut reader = ResponseReader::new(endpoint, Some("text/event-stream"), 1, tokenizer);
    reader.push(stream.as_bytes()).is_some_and(|outcome| outcome != Outcome::Unknown)
}

#[test]
fn a_chat_may_end_after_every_event_until_it_has() {
    // Azure's stream can be ended after one event only: its first event has no choice.
    for (stream, times) in CHATS.into_iter().zip([1, 3, 3]) {
        let (mut ended, mut refused) = (0, 0);
        for (seen, end) in cuts(stream) {
            let chunks = |text: &str| -> Vec<Value> {
                let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
                data.filter(|data| *data != "[DONE]")
                    .map(|data| serde_json::from_str(data).unwrap())
                    .collect()
            };
            let choices = |chunk: &Value| chunk["choices"].as_array().cloned().unwrap_or_default();
            let spoken = chunks(&seen).into_iter().filter(|chunk| !choices(chunk).is_empty());
            let spoken: Vec<Value> = spoken.collect();
            let has_finished =
                spoken.iter().flat_map(choices).any(|choice| choice["finish_reason"].is_string());
            let Some(end) = end else {
                assert!(spoken.is_empty() || has_finished, "{seen}");
                refused += 1;
                continue;
            };
            assert!(!has_finished && end.ends_with("data: [DONE]\n\n"), "{end}");
            let last = chunks(&end).remove(0);
            assert_eq!((&last["id"], &last["object"]), (&spoken[0]["id"], &spoken[0]["object"]));
            assert_eq!(choices(&last), [json!({"index": 0, "delta": {}, "finish_reason": "length"})]);
            assert!(is_whole(Endpoint::ChatCompletions, &format!("{seen}{end}")));
            ended += 1;
        }
        assert!(refused >= 1);
        assert_eq!(ended, times);
    }
}

#[test]
fn only_choices_that_have_not_finished_are_ended() {
    let chunk = |choice: Value| format!("data: {}\n\n", json!({"id": "c", "choices": [choice]})).into_bytes();
    let mut editor = StreamEditor::new(FINISHES);
    editor.push(&chunk(json!({"index": 0, "delta": {"content": "a"}, "finish_reason": null})));
    editor.push(&chunk(json!({"index": 1, "delta": {"content": "b"}, "finish_reason": ""})));
    editor.push(&chunk(json!({"index": 0, "delta": {}, "finish_reason": "stop"})));
    let end = String::from_utf8(editor.cut(2, 2).unwrap()).unwrap();
    assert!(!end.contains(r#""index":0"#) && end.contains(r#""index":1"#), "{end}");
}

#[test]
fn a_message_may_end_after_every_event() {
    for stream in MESSAGES {
        let mut ended = 0;
        for (seen, end) in cuts(stream) {
            if seen.contains("message_stop") {
                continue;
            }
            let all = format!("{seen}{}", end.expect("the stream has begun"));
            let (mut open, mut stopped) = (BTreeSet::new(), 0);
            for event in events(&all) {
                match event["type"].as_str().unwrap() {
                    "content_block_start" => assert!(open.insert(event["index"].as_u64())),
                    "content_block_stop" => assert!(open.remove(&event["index"].as_u64())),
                    "message_stop" => stopped += 1,
                    _ => {}
                }
            }
            assert!(open.is_empty() && stopped == 1, "{all}");
            let last = events(&all).into_iter().rev().nth(1).unwrap();
            assert_eq!(
                last,
                json!({
                    "type": "message_delta",
                    "delta": {"stop_reason": "max_tokens", "stop_sequence": null},
                    "usage": {"output_tokens": 7},
                })
            );
            assert!(is_whole(Endpoint::Messages, &all), "{all}");
            ended += 1;
        }
        assert!(ended >= 5, "{ended}");
    }
}

#[test]
fn a_response_may_end_after_every_event() {
    for stream in RESPONSES {
        let mut ended = 0;
        for (seen, end) in cuts(stream) {
            if seen.contains("event: response.completed") {
                continue;
            }
            let all = events(&format!("{seen}{}", end.expect("the stream has begun")));
            let numbers: Vec<_> =
                all.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");

            let (mut added, mut done, mut deltas) = (0, 0, String::new());
            for event in &all {
                match event["type"].as_str().unwrap() {
                    "response.output_item.added" => added += 1,
                    "response.output_item.done" => done += 1,
                    kind if kind.ends_with(".delta") => deltas.push_str(event["delta"].as_str().unwrap()),
                    _ => {}
                }
            }
            assert_eq!(added, done);
            let response = &all.last().unwrap()["response"];
            assert_eq!(all.last().unwrap()["type"], "response.incomplete");
            assert_eq!(response["status"], "incomplete");
            assert_eq!(response["incomplete_details"], json!({"reason": "max_output_tokens"}));
            assert_eq!(response["id"], all[0]["response"]["id"]);
            let output = response["output"].as_array().unwrap();
            assert_eq!(output.len(), added);
            assert_eq!(texts_of(output), deltas, "the response repeats the whole answer");
            assert!(is_whole(Endpoint::Responses, &format!("{seen}{}", cut_after(stream, &seen))));
            ended += 1;
        }
        assert!(ended >= 5, "{ended}");
    }
}

/// The text of all items of an output.
fn texts_of(output: &[Value]) -> String {
    let texts = output.iter().flat_map(|item| {
        let parts = ["summary", "content"].map(|list| item[list].as_array().cloned().unwrap_or_default());
        let texts =
            parts.concat().into_iter().flat_map(|part| [part["text"].clone(), part["refusal"].clone()]);
        texts.chain([item["arguments"].clone()]).collect::<Vec<_>>()
    });
    texts.filter_map(|text| text.as_str().map(ToOwned::to_owned)).collect()
}

/// The events that end `stream` after the part `seen`.
fn cut_after(stream: &str, seen: &str) -> String {
    let mut editor = StreamEditor::new(FINISHES);
    assert!(stream.starts_with(seen));
    editor.push(seen.as_bytes());
    String::from_utf8(editor.cut(1, 7).unwrap()).unwrap()
}

#[test]
fn an_answer_that_is_too_long_to_keep_is_not_ended() {
    let mut editor = StreamEditor::new(FINISHES);
    let event = |event: Value| format!("data: {event}\n\n").into_bytes();
    editor.push(&event(json!({"type": "response.created", "response": {"id": "r"}})));
    assert!(editor.cut(1, 1).is_some());

    let mut editor = StreamEditor::new(FINISHES);
    editor.push(&event(json!({"type": "response.created", "response": {"id": "r"}})));
    let item = json!({"type": "message", "content": [{"type": "output_text", "text": ""}]});
    editor.push(&event(json!({"type": "response.output_item.added", "output_index": 0, "item": item})));
    let delta = event(json!({
        "type": "response.output_text.delta", "output_index": 0, "delta": "x".repeat(1 << 19)
    }));
    for _ in 0..9 {
        assert_eq!(editor.push(&delta), delta);
    }
    assert_eq!(editor.cut(1, 1), None);
}

#[test]
fn a_stream_of_no_known_format_is_not_ended() {
    for stream in
        ["data: {\"type\":\"ping\"}\n\n", "data: [1]\n\n", ": hello\n\n", "data: {\"choices\":1}\n\n"]
    {
        let mut editor = StreamEditor::new(FINISHES);
        assert_eq!(editor.push(stream.as_bytes()), stream.as_bytes());
        assert_eq!(editor.cut(1, 1), None, "{stream}");
    }
}
