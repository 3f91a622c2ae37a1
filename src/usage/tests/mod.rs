//! Responses, whole and in every split.

mod beside_text;
mod bills;
mod bodies;
mod failures;
mod large;
mod places;
mod recorded;
mod transcripts;
mod twice;

use super::*;
use crate::tokens::{Counting, Encoding, Factor};
use proptest::prelude::*;
use serde_json::{Value, json};

const SSE: &str = "text/event-stream; charset=utf-8";
const JSON: &str = "application/json";

fn tokenizer(factor: f64) -> Tokenizer {
    let counting = Counting { encoding: Encoding::O200kBase, factor: Factor::new(factor).unwrap() };
    Tokenizer::new(counting)
}

fn tokens(text: &str) -> u64 {
    tokenizer(1.0).count(text)
}

const fn reported(input_tokens: u64, output_tokens: u64) -> Outcome {
    Outcome::Reported(Usage {
        input_tokens: Some(input_tokens),
        output_tokens,
        cached_tokens: None,
        cache_creation_tokens: None,
        reasoning_tokens: None,
    })
}

fn counted(text: &str) -> Outcome {
    counted_tokens(None, tokens(text))
}

fn counted_tokens(input_tokens: Option<u64>, output_tokens: u64) -> Outcome {
    Outcome::Counted {
        usage: Usage { input_tokens, output_tokens, ..Usage::default() },
        reasoning: Reasoning::Unknown,
    }
}

/// The outcome that `push` returned and the number of the chunk, and the outcome that `finish` returned.
fn read<'c>(
    kind: &str,
    choices: u64,
    chunks: impl IntoIterator<Item = &'c [u8]>,
) -> (Option<(usize, Outcome)>, Outcome) {
    read_of(Endpoint::ChatCompletions, kind, choices, chunks)
}

/// The same for a response from `endpoint`.
fn read_of<'c>(
    endpoint: Endpoint,
    kind: &str,
    choices: u64,
    chunks: impl IntoIterator<Item = &'c [u8]>,
) -> (Option<(usize, Outcome)>, Outcome) {
    let mut reader = ResponseReader::new(endpoint, Some(kind), choices, tokenizer(1.0));
    let mut given = None;
    for (number, chunk) in chunks.into_iter().enumerate() {
        if let Some(outcome) = reader.push(chunk) {
            assert_eq!(given, None, "an outcome is returned once");
            given = Some((number, outcome));
        }
    }
    let outcome = reader.finish(EndedBy::Upstream);
    if let Some((_, given)) = given {
        assert_eq!(given, outcome);
    }
    (given, outcome)
}

/// Reads a stream of these events, an event a chunk: the event after which the outcome was certain, and the outcome.
fn stream(choices: u64, events: &[Value]) -> (Option<usize>, Outcome) {
    let done = json!("[DONE]");
    let events: Vec<_> = events
        .iter()
        .map(|event| {
            if *event == done { "data: [DONE]\n\n".into() } else { format!("data: {event}\n\n") }.into_bytes()
        })
        .collect();
    let (given, outcome) = read(SSE, choices, events.iter().map(Vec::as_slice));
    (given.map(|(event, _)| event), outcome)
}

fn text_chunk(text: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
}

fn stop_chunk() -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
}

fn usage(input: u64, output: u64) -> Value {
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

fn with_usage(mut chunk: Value, usage: &Value) -> Value {
    chunk["usage"] = usage.clone();
    chunk
}

#[test]
fn usage_is_found_wherever_the_upstream_puts_it() {
    let last = with_usage(json!({"choices": []}), &usage(9, 2));
    let done = json!("[DONE]");
    let null = |chunk| with_usage(chunk, &Value::Null);
    for (name, events, certain, outcome) in [
        (
            "in a chunk of its own",
            vec![
                null(text_chunk("Hello")),
                null(text_chunk(" you")),
                null(stop_chunk()),
                last.clone(),
                done.clone(),
            ],
            Some(3),
            reported(9, 2),
        ),
        (
            "beside the finish",
            vec![text_chunk("Hello"), with_usage(stop_chunk(), &usage(9, 2)), done.clone()],
            Some(1),
            reported(9, 2),
        ),
        (
            "in every chunk",
            vec![
                with_usage(text_chunk("Hello"), &usage(9, 1)),
                with_usage(text_chunk(" you"), &usage(9, 2)),
                with_usage(stop_chunk(), &usage(9, 2)),
                last.clone(),
            ],
            Some(2),
            reported(9, 2),
        ),
        (
            "in a chunk after the finish that has a choice",
            vec![text_chunk("Hello"), stop_chunk(), with_usage(text_chunk(""), &usage(9, 2))],
            Some(2),
            reported(9, 2),
        ),
        (
            "before the finish and never after",
            vec![
                text_chunk("Hello"),
                with_usage(text_chunk(" you"), &usage(9, 2)),
                stop_chunk(),
                done.clone(),
            ],
            Some(3),
            reported(9, 2),
        ),
        (
            "in zeros until it is known",
            vec![with_usage(text_chunk("Hello"), &usage(0, 0)), with_usage(stop_chunk(), &usage(0, 0)), last],
            Some(2),
            reported(9, 2),
        ),
        (
            "for the prompt alone, at the start",
            vec![with_usage(json!({"choices": []}), &usage(9, 0)), text_chunk("Hello"), text_chunk(" you")],
            None,
            counted_tokens(Some(9), tokens("Hello you")),
        ),
    ] {
        assert_eq!(stream(1, &events), (certain, outcome), "{name}");
    }
}

#[test]
fn every_choice_must_finish() {
    let finish = |index: u64| {
        let choice = json!({"index": index, "finish_reason": "stop"});
        json!({"choices": [choice], "usage": usage(9, index + 1)})
    };
    let events = [finish(0), finish(0), finish(1), text_chunk("late")];
    assert_eq!(stream(2, &events), (Some(2), reported(9, 2)));
    // A server may return fewer answers than were requested.
    assert_eq!(stream(u64::MAX, &[finish(0), json!("[DONE]")]), (Some(1), reported(9, 1)));
}

#[test]
fn text_is_counted_when_there_is_no_usage() {
    let delta = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
    for (name, events, text) in [
        ("content", vec![text_chunk("Hel"), text_chunk("lo"), text_chunk(" world")], "Hello world"),
        ("older completions", vec![json!({"choices": [{"text": "Hello"}]})], "Hello"),
        ("refusal", vec![delta(json!({"refusal": "No", "role": "assistant", "content": null}))], "No"),
        ("parts", vec![delta(json!({"content": [{"type": "text", "text": "Hello"}]}))], "Hello"),
        (
            "calls of tools",
            vec![
                delta(
                    json!({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "get", "arguments": ""}}]}),
                ),
                delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"city\":"}}]})),
                delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "\"Rome\"}"}}]})),
            ],
            "get{\"city\":\"Rome\"}",
        ),
        ("nothing", vec![json!({"choices": []})], ""),
        (
            "broken events between",
            vec![text_chunk("Hello"), json!("{"), json!([1]), text_chunk(" you")],
            "Hello you",
        ),
    ] {
        assert_eq!(stream(1, &events), (None, counted(text)), "{name}");
        let done = [events, vec![json!("[DONE]")]].concat();
        assert_eq!(stream(1, &done), (Some(done.len() - 1), counted(text)), "{name}, done");
    }
}

#[test]
fn choices_are_counted_apart() {
    let events: Vec<_> = (0..400)
        .map(|at| json!({"choices": [{"index": at % 200, "delta": {"content": if at < 200 { "hel" } else { "lo" }}}]}))
        .collect();
    let (_, outcome) = stream(1, &events);
    // The first 127 are counted apart, the other 73 as one text.
    let last = tokens(&("hel".repeat(73) + &"lo".repeat(73)));
    assert_eq!(outcome, counted_tokens(None, 127 * tokens("hello") + last));
}

#[test]
fn the_factor_corrects_counted_tokens_and_not_reported_ones() {
    let finish = |events: &str| {
        let mut reader = ResponseReader::new(Endpoint::ChatCompletions, Some(SSE), 1, tokenizer(2.0));
        reader.push(events.as_bytes());
        reader.finish(EndedBy::Upstream)
    };
    let text = format!("data: {}\n\n", text_chunk("Hello"));
    assert_eq!(finish(&text), counted_tokens(None, 2));
    let usage = format!("data: {}\n\n", with_usage(stop_chunk(), &usage(9, 1)));
    assert_eq!(finish(&(text + &usage)), reported(9, 1));
}

#[test]
fn a_long_answer_counts_as_its_whole_text() {
    let text = "The quick brown fox jumps over 13 lazy dogs. ";
    let events: Vec<_> = text
        .split_inclusive(' ')
        .map(text_chunk)
        .cycle()
        .take(9 * 2_000)
        .chain([stop_chunk(), json!("[DONE]")])
        .collect();
    assert_eq!(stream(1, &events).1, counted(&text.repeat(2_000)));
}

#[test]
fn a_stream_is_read_in_its_own_format_whatever_the_endpoint() {
    let anthropic = [
        json!({"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1}}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 15}}),
    ];
    assert_eq!(stream(1, &anthropic), (Some(2), reported(25, 15)));
    let responses = [
        json!({"type": "response.created", "response": {"usage": null}}),
        json!({"type": "response.completed", "response": {"usage": {"input_tokens": 9, "output_tokens": 2}}}),
    ];
    assert_eq!(stream(1, &responses), (Some(1), reported(9, 2)));
    let chat = [text_chunk("Hello"), with_usage(stop_chunk(), &usage(9, 1))];
    let chat: Vec<_> = chat.iter().map(|event| format!("data: {event}\n\n")).collect();
    for endpoint in [Endpoint::Responses, Endpoint::Messages, Endpoint::Embeddings] {
        let (_, outcome) = read_of(endpoint, SSE, 1, [chat.concat().as_bytes()]);
        assert_eq!(outcome, reported(9, 1));
    }
    // Once the format is known, events of another format are skipped.
    let mixed = [text_chunk("Hello"), anthropic[0].clone(), anthropic[2].clone()];
    assert_eq!(stream(1, &mixed), (None, counted("Hello")));
    assert_eq!(stream(1, &[json!("[DONE]")]), (Some(0), Outcome::Unknown));
    assert_eq!(stream(1, &[json!({"type": "hello"}), json!({"id": {}})]), (None, Outcome::Unknown));
}

#[test]
fn the_output_so_far_is_close_at_any_time() {
    let mut reader = ResponseReader::new(Endpoint::ChatCompletions, Some(SSE), 1, tokenizer(1.0));
    assert_eq!(reader.so_far(), 0);
    let sentence = "The quick brown fox jumps over the lazy dog, and the dog does not mind it. ";
    let event = format!("data: {}\n\n", text_chunk(sentence));
    let mut least = 0;
    for times in 1..1_000 {
        reader.push(event.as_bytes());
        let exact = tokens(sentence) * times;
        assert!(reader.so_far().abs_diff(exact) <= 1_000 + exact / 100, "{} {exact}", reader.so_far());
        assert!(reader.so_far() + 1_000 >= least);
        least = least.max(reader.so_far());
    }
    let reported = format!("data: {}\n\n", with_usage(text_chunk(""), &usage(9, 100_000)));
    reader.push(reported.as_bytes());
    assert_eq!(reader.so_far(), 100_000);
    let last = format!("data: {}\n\n", with_usage(stop_chunk(), &usage(9, 100_001)));
    reader.push(last.as_bytes());
    assert_eq!(reader.so_far(), 100_001);
    assert_eq!(reader.finish(EndedBy::Upstream), self::reported(9, 100_001));
}

/// Streams of chunks as servers send them, with any line ends, comments and garbage between.
fn events() -> impl Strategy<Value = Vec<u8>> {
    let usage = || (1_u64..9, 0_u64..9).prop_map(|(input, output)| usage(input, output));
    let event = prop_oneof![
        4 => "\\PC{0,6}".prop_map(|text| text_chunk(&text).to_string()),
        2 => usage().prop_map(|usage| with_usage(text_chunk("é"), &usage).to_string()),
        1 => usage().prop_map(|usage| with_usage(stop_chunk(), &usage).to_string()),
        1 => Just(stop_chunk().to_string()),
        1 => Just(serde_json::to_string_pretty(&text_chunk("several lines")).unwrap().replace('\n', "\ndata: ")),
        1 => Just("[DONE]".to_owned()),
        1 => "\\PC{0,12}",
    ];
    let end = prop::sample::select(vec!["\n\n", "\r\n\r\n", "\r\r", "\n: keep-alive\n\n"]);
    prop::collection::vec((event, end), 0..8).prop_map(|events| {
        let events: Vec<_> = events.iter().map(|(event, end)| format!("data: {event}{end}")).collect();
        events.concat().into_bytes()
    })
}

/// Bodies with usage here and there, whole or not.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let member = prop_oneof![
        (0_u64..9, 0_u64..9).prop_map(|(input, output)| format!("\"usage\":{}", usage(input, output))),
        Just("\"usage\":null".to_owned()),
        "\\PC{0,9}".prop_map(|text| format!("\"choices\":[{}]", json!({"message": {"content": text}}))),
        "\\PC{0,9}".prop_map(|text| format!("\"id\":{}", json!({"usage": usage(1, 1), "text": text}))),
        "\\PC{0,9}",
    ];
    prop::collection::vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(",")).into_bytes())
}

/// Streams and bodies, each with its content type.
fn response() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    prop_oneof![events().prop_map(|bytes| (SSE, bytes)), body().prop_map(|bytes| (JSON, bytes))]
}

fn split(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| bytes[cut[0]..cut[1]].to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_split_equals_the_whole(
        (kind, bytes) in response(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        choices in 1_u64..3,
    ) {
        let whole = read(kind, choices, [bytes.as_slice()]);
        let chunks = split(&bytes, &cuts);
        for (given, outcome) in [
            read(kind, choices, chunks.iter().map(Vec::as_slice)),
            read(kind, choices, bytes.chunks(1)),
        ] {
            prop_assert_eq!(outcome, whole.1);
            prop_assert_eq!(given.map(|given| given.1), whole.0.map(|given| given.1));
        }
    }

    #[test]
    fn garbage_has_no_outcome_and_does_not_panic(
        (kind, mut bytes) in response(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        noise in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        read(kind, 1, [bytes.as_slice(), &noise]);
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read(kind, 1, [bytes.as_slice()]);
        let outcome = read(kind, 1, [noise.as_slice()]).1;
        prop_assert!(matches!(outcome, Outcome::Unknown | Outcome::Failed), "{:?}", outcome);
    }
}
