//! What reports of usage add up to: alone, several in a stream, and numbers that cannot be.

use super::*;
use crate::policy::pattern::{ByPattern, Pattern};
use crate::pricing::{Price, Weights};
use crate::quantity::{MAX_EXACT, MILLION};
use crate::usage::reported::MAX_TOKENS;

/// The outcome of a body with this `usage`, from the endpoint of messages.
fn bill(usage: &Value) -> Outcome {
    let body = json!({"content": [{"type": "text", "text": "Hi"}], "usage": usage});
    read_of(Endpoint::Messages, JSON, 1, [body.to_string().as_bytes()]).1
}

/// Input, output, read from a cache, written to a cache, reasoning.
type Tokens = (u64, u64, Option<u64>, Option<u64>, Option<u64>);

fn of((input, output, cached, written, reasoning): Tokens) -> Outcome {
    Outcome::Reported(Usage {
        input_tokens: Some(input),
        output_tokens: output,
        cached_tokens: cached,
        cache_creation_tokens: written,
        reasoning_tokens: reasoning,
    })
}

#[test]
fn every_name_is_read() {
    for (name, usage, expected) in [
        (
            "chat",
            json!({"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29,
                "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 6, "accepted_prediction_tokens": 0}}),
            (19, 10, Some(4), None, Some(6)),
        ),
        (
            "responses, with what was written to a cache",
            json!({"input_tokens": 19, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 8},
                "output_tokens": 10, "output_tokens_details": {"reasoning_tokens": 6}, "total_tokens": 29}),
            (19, 10, Some(4), Some(8), Some(6)),
        ),
        (
            "Anthropic",
            json!({"input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100,
                "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 5}}),
            (123, 7, Some(100), Some(20), Some(5)),
        ),
        (
            "Anthropic, written by lifetimes",
            json!({"input_tokens": 3, "output_tokens": 7, "cache_creation":
                {"ephemeral_5m_input_tokens": 15, "ephemeral_1h_input_tokens": 5}}),
            (23, 7, None, Some(20), None),
        ),
        (
            "a gateway that translates adds Anthropic's numbers to OpenAI's, which include them",
            json!({"prompt_tokens": 123, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100,
                "completion_tokens": 7}),
            (123, 7, Some(100), Some(20), None),
        ),
        (
            "DeepSeek",
            json!({"prompt_tokens": 563, "completion_tokens": 10, "total_tokens": 573,
                "prompt_cache_hit_tokens": 512, "prompt_cache_miss_tokens": 51}),
            (563, 10, Some(512), None, None),
        ),
        (
            "Kimi",
            json!({"prompt_tokens": 19, "completion_tokens": 21, "total_tokens": 40, "cached_tokens": 10}),
            (19, 21, Some(10), None, None),
        ),
        (
            "OpenRouter",
            json!({"prompt_tokens": 19, "completion_tokens": 21, "total_tokens": 40,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 5, "video_tokens": 0}}),
            (19, 21, Some(4), Some(5), None),
        ),
        (
            "Copilot",
            json!({"prompt_tokens": 19, "completion_tokens": 21, "total_tokens": 40, "reasoning_tokens": 20}),
            (19, 21, None, None, Some(20)),
        ),
        (
            "Bedrock",
            json!({"inputTokens": 3, "outputTokens": 7, "totalTokens": 123, "cacheReadInputTokens": 100,
                "cacheWriteInputTokens": 13}),
            (116, 7, Some(100), Some(13), None),
        ),
        (
            "Cohere, nested once more",
            json!({"billed_units": {"input_tokens": 5, "output_tokens": 418},
                "tokens": {"input_tokens": 71, "output_tokens": 418}}),
            (71, 418, None, None, None),
        ),
        (
            "nested, and absurd numbers beside",
            json!({"usage": {"prompt_tokens": 19, "completion_tokens": 10}, "prompt_tokens": -1, "tokens": 5}),
            (19, 10, None, None, None),
        ),
        (
            "numbers as text, and with fractions",
            json!({"prompt_tokens": "12", "completion_tokens": 7.2, "total_tokens": null}),
            (12, 8, None, None, None),
        ),
    ] {
        assert_eq!(bill(&usage), of(expected), "{name}");
    }
}

#[test]
fn what_the_parts_leave_out_shows_in_the_total() {
    for (name, usage, expected) in [
        (
            "xAI's reasoning",
            json!({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94}}),
            (32, 103, None, None, Some(94)),
        ),
        (
            "Gemini's thoughts, which nothing else shows",
            json!({"prompt_tokens": 8, "completion_tokens": 12, "total_tokens": 82}),
            (8, 74, None, None, None),
        ),
        (
            "Voxtral's sound",
            json!({"prompt_tokens": 11, "completion_tokens": 15, "total_tokens": 401,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 375}}),
            (386, 15, Some(0), None, None),
        ),
        (
            "sound that the prompt includes",
            json!({"prompt_tokens": 386, "completion_tokens": 15, "total_tokens": 401,
                "prompt_tokens_details": {"audio_tokens": 375}}),
            (386, 15, None, None, None),
        ),
        (
            "a cache that the prompt does not include",
            json!({"prompt_tokens": 11, "completion_tokens": 15, "total_tokens": 126,
                "prompt_tokens_details": {"cached_tokens": 100}}),
            (111, 15, Some(100), None, None),
        ),
        (
            "a difference that happens to be what was read from a cache",
            json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 174,
                "prompt_tokens_details": {"cached_tokens": 64}}),
            (100, 74, Some(64), None, None),
        ),
        (
            "a difference that is neither sound nor nothing",
            json!({"prompt_tokens": 11, "completion_tokens": 15, "total_tokens": 401,
                "prompt_tokens_details": {"audio_tokens": 300}}),
            (11, 390, None, None, None),
        ),
        (
            "the parts of a prompt without a number of its own",
            json!({"prompt_cache_hit_tokens": 512, "prompt_cache_miss_tokens": 51, "completion_tokens": 10}),
            (563, 10, Some(512), None, None),
        ),
        (
            "a cached part alone, beside a total",
            json!({"cache_read_input_tokens": 100, "output_tokens": 7, "total_tokens": 110}),
            (103, 7, Some(100), None, None),
        ),
        (
            "reasoning larger than the output, where the total says that nothing is missing",
            json!({"prompt_tokens": 28, "completion_tokens": 9, "total_tokens": 37, "reasoning_tokens": 69}),
            (28, 9, None, None, Some(69)),
        ),
        (
            "a total of less",
            json!({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 10}),
            (32, 9, None, None, None),
        ),
        ("no completion", json!({"prompt_tokens": 5, "total_tokens": 8}), (5, 3, None, None, None)),
        ("no prompt", json!({"completion_tokens": 5, "total_tokens": 8}), (3, 5, None, None, None)),
        (
            "a cached part larger than the prompt, where the total says that nothing is missing",
            json!({"prompt_tokens": 202, "completion_tokens": 15, "total_tokens": 217,
                "prompt_tokens_details": {"cached_tokens": 314}}),
            (202, 15, Some(202), None, None),
        ),
        (
            "the same without a total",
            json!({"prompt_tokens": 202, "completion_tokens": 15, "prompt_tokens_details": {"cached_tokens": 314}}),
            (516, 15, Some(314), None, None),
        ),
        (
            "reasoning larger than the output, without a total",
            json!({"prompt_tokens": 32, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 94}}),
            (32, 103, None, None, Some(94)),
        ),
    ] {
        assert_eq!(bill(&usage), of(expected), "{name}");
    }
}

#[test]
fn iterations_add_up() {
    let iteration = |kind: &str, input: u64, output: u64, read: u64| {
        json!({"type": kind, "input_tokens": input, "output_tokens": output, "cache_read_input_tokens": read,
            "cache_creation_input_tokens": 0})
    };
    let compacted = json!({
        "input_tokens": 23_000, "output_tokens": 1_000, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
        "iterations": [iteration("compaction", 180_000, 3_500, 0), iteration("message", 23_000, 1_000, 0)],
    });
    assert_eq!(bill(&compacted), of((203_000, 4_500, Some(0), Some(0), None)));
    let advised = json!({
        "input_tokens": 2_390, "output_tokens": 121, "output_tokens_details": {"thinking_tokens": 47},
        "iterations": [
            iteration("message", 1_128, 110, 40),
            iteration("advisor_message", 2_518, 22, 0),
            iteration("message", 1_262, 11, 0),
        ],
    });
    assert_eq!(bill(&advised), of((4_948, 143, Some(40), Some(0), Some(47))));
    for none in [json!([]), Value::Null, json!("x"), json!([{}, 5]), json!([{"input_tokens": 0}])] {
        let usage = json!({"input_tokens": 30, "output_tokens": 4, "iterations": none});
        assert_eq!(bill(&usage), of((30, 4, None, None, None)), "{usage}");
    }
}

#[test]
fn what_is_not_reported_is_counted_or_estimated() {
    let counted = |input_tokens: Option<u64>| Outcome::Counted {
        usage: Usage { input_tokens, output_tokens: tokens("Hi"), ..Usage::default() },
        reasoning: Reasoning::Unknown,
    };
    for (usage, expected) in [
        (json!({"prompt_tokens": 5}), counted(Some(5))),
        (json!({"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}), counted(Some(5))),
        (json!({"prompt_tokens": 5, "completion_tokens": -1}), counted(Some(5))),
        (json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}), counted(None)),
        (json!({"prompt_tokens": -1, "completion_tokens": "x"}), counted(None)),
        // One number for both.
        (json!({"total_tokens": 8}), counted(Some(8 - tokens("Hi")))),
        (json!({}), counted(None)),
        (json!([1]), counted(None)),
        (Value::Null, counted(None)),
        (json!({"output_tokens": 8}), Outcome::Reported(Usage { output_tokens: 8, ..Usage::default() })),
        (
            json!({"input_tokens": 0, "output_tokens": 8}),
            Outcome::Reported(Usage { output_tokens: 8, ..Usage::default() }),
        ),
    ] {
        assert_eq!(bill(&usage), expected, "{usage}");
    }
    let embeddings = |usage: Value| {
        let body = json!({"data": [], "usage": usage}).to_string();
        read_of(Endpoint::Embeddings, JSON, 1, [body.as_bytes()]).1
    };
    assert_eq!(embeddings(json!({"prompt_tokens": 5, "total_tokens": 5})), reported(5, 0));
    assert_eq!(embeddings(json!({"total_tokens": 5})), reported(5, 0));
    assert_eq!(embeddings(json!({"total_tokens": 0})), Outcome::Unknown);
}

#[test]
fn numbers_that_cannot_be_are_cut_to_what_every_store_can_hold() {
    for absurd in ["9007199254740991", "9007199254740992", "18446744073709551615", "1e400", "\"1e300\""] {
        for usage in [
            format!(r#"{{"prompt_tokens":{absurd},"completion_tokens":{absurd},"total_tokens":{absurd}}}"#),
            format!(
                r#"{{"input_tokens":{absurd},"cache_read_input_tokens":{absurd},"output_tokens":{absurd}}}"#
            ),
            format!(
                r#"{{"input_tokens":1,"output_tokens":1,"iterations":[{0},{0}]}}"#,
                format_args!(r#"{{"input_tokens":{absurd},"output_tokens":{absurd}}}"#)
            ),
        ] {
            let body = format!(r#"{{"usage":{usage}}}"#);
            let Outcome::Reported(usage) = read(JSON, 1, [body.as_bytes()]).1 else { panic!("{body}") };
            assert_eq!((usage.input_tokens, usage.output_tokens), (Some(MAX_TOKENS), MAX_TOKENS), "{body}");
        }
    }
    let tokens = crate::pricing::Tokens {
        input: MAX_TOKENS,
        output: MAX_TOKENS,
        reasoning: MAX_TOKENS,
        ..crate::pricing::Tokens::NONE
    };
    // The largest weights and prices that the configuration takes.
    let models = ByPattern::new([(Pattern::new("*"), 1_000 * MILLION)]);
    let weighed = Weights { reasoning: 10 * MILLION, models, ..Weights::default() }.weigh(Some("m"), &tokens);
    assert!(weighed.input_tokens + weighed.output_tokens < MAX_EXACT);
    let dearest = 1_000_000 * MILLION;
    let price = Price { input: dearest, cached_input: dearest, cache_write: dearest, output: dearest };
    assert!(price.cost_micro_usd(&tokens) < MAX_EXACT);
}

/// A stream of messages with these reports: in `message_start`, and in the last `message_delta`.
fn messages(start: &Value, delta: &Value) -> Outcome {
    let events = [
        json!({"type": "message_start", "message": {"usage": start}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": delta}),
    ];
    stream(1, &events).1
}

#[test]
fn the_prompts_numbers_are_replaced_together_and_never_by_zeros_alone() {
    let start = json!({"input_tokens": 100, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 55_096,
        "output_tokens": 7});
    for (name, delta, expected) in [
        ("an older API", json!({"output_tokens": 15}), (55_196, 15, Some(55_096), Some(0), None)),
        (
            "zeros included",
            json!({"input_tokens": 181, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                "output_tokens": 8}),
            (181, 8, Some(0), Some(0), None),
        ),
        (
            "zeros alone",
            json!({"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                "output_tokens": 8}),
            (55_196, 8, Some(55_096), Some(0), None),
        ),
        (
            "what it does not mention",
            json!({"input_tokens": 100, "output_tokens": 8}),
            (55_196, 8, Some(55_096), Some(0), None),
        ),
        (
            "nothing but what was read from the cache",
            json!({"cache_read_input_tokens": 60_000, "output_tokens": 8}),
            (60_100, 8, Some(60_000), Some(0), None),
        ),
        (
            "the cache alone",
            json!({"input_tokens": 0, "cache_read_input_tokens": 60_000, "output_tokens": 8}),
            (60_000, 8, Some(60_000), Some(0), None),
        ),
        (
            "compacted",
            json!({"input_tokens": 181, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                "output_tokens": 8, "iterations": [
                {"type": "compaction", "input_tokens": 100, "output_tokens": 83, "cache_read_input_tokens": 55_096,
                    "cache_creation_input_tokens": 0},
                {"type": "message", "input_tokens": 181, "output_tokens": 8, "cache_read_input_tokens": 0,
                    "cache_creation_input_tokens": 0}]}),
            (55_377, 91, Some(55_096), Some(0), None),
        ),
        (
            "the last output that is not zero",
            json!({"output_tokens": 0}),
            (55_196, 7, Some(55_096), Some(0), None),
        ),
    ] {
        let outcome = messages(&start, &delta);
        // Text came after the report of the start.
        let outcome = match outcome {
            Outcome::Counted { usage, .. } => Outcome::Reported(usage),
            outcome => outcome,
        };
        assert_eq!(outcome, of(expected), "{name}");
    }
}
