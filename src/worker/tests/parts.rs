//! Limits on the parts of prompts and answers that only answers report: tokens that no cache has, and reasoning.

use super::*;

/// Sends a chat of `model` with these members, whose answer reports `usage`.
fn ask(worker: &mut Driver<'_>, stream: u32, members: &Value, usage: &Value) -> Directive {
    let mut chat = json!({"model": "o3", "messages": [{"role": "user", "content": "hi"}]});
    chat.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    worker.request_headers(stream, &super::chat(), false, NOW);
    let decided = worker.whole_body(stream, chat.to_string().as_bytes(), NOW);
    if decided == Directive::Continue {
        worker.response_headers(stream, OK, false, NOW);
        let answer = json!({"choices": [], "usage": usage}).to_string();
        worker.response_body(stream, answer.as_bytes(), true, NOW);
        worker.stream_done(stream, NOW);
    }
    decided
}

fn minute(metric: &str, limit: u64) -> Value {
    local(json!({"windows": [{"metric": metric, "limit": limit, "window": "1m"}]}))
}

#[test]
fn what_a_cache_has_is_given_back_and_what_is_written_to_it_is_not() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &minute("uncached_input_tokens", 1_000));
    let usage = json!({"prompt_tokens": 900, "completion_tokens": 500,
        "prompt_tokens_details": {"cached_tokens": 800, "cache_write_tokens": 60}});
    for stream in 1..=10 {
        assert_eq!(ask(&mut worker, stream, &json!({}), &usage), Directive::Continue, "{stream}");
    }
    // 10 times 100 tokens: only 800 of 900 have come from the cache.
    assert_eq!(status(&ask(&mut worker, 11, &json!({}), &usage)), 429);
}

#[test]
fn a_prompt_larger_than_the_limit_may_be_cached_unless_reservations_are_declared() {
    let long = json!({"messages": [{"role": "user", "content": "word ".repeat(50)}]});
    let usage = json!({"prompt_tokens": 58, "completion_tokens": 1,
        "prompt_tokens_details": {"cached_tokens": 50}});
    for (mode, admitted) in [("learned", true), ("declared", false)] {
        let mut config = minute("uncached_input_tokens", 20);
        config["output_reservation"] = json!({"mode": mode});
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        let decided = ask(&mut worker, 1, &long, &usage);
        assert_eq!(decided == Directive::Continue, admitted, "{mode}");
    }
}

#[test]
fn a_sender_whose_prompts_come_from_a_cache_reserves_what_does_not() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &minute("uncached_input_tokens", 100_000));
    let usage = json!({"prompt_tokens": 1_000, "completion_tokens": 1,
        "prompt_tokens_details": {"cached_tokens": 980}});
    for stream in 1..=1_000 {
        assert_eq!(ask(&mut worker, stream, &json!({}), &usage), Directive::Continue);
    }
    let long = json!({"messages": [{"role": "user", "content": "word ".repeat(1_000)}]});
    // Of a thousand tokens, about twenty are expected not to come from the cache, as it was before.
    worker.request_headers(2_000, &super::chat(), false, NOW);
    let mut chat = json!({"model": "o3"});
    chat["messages"] = long["messages"].clone();
    assert_eq!(worker.whole_body(2_000, chat.to_string().as_bytes(), NOW), Directive::Continue);
    let spent = used(&mut worker, 2_000);
    assert!((20_020..20_030).contains(&spent), "{spent}");
}

#[test]
fn reasoning_is_charged_as_it_is_reported_and_as_the_whole_answer_where_it_is_not() {
    let reported = json!({"prompt_tokens": 9, "completion_tokens": 300,
        "completion_tokens_details": {"reasoning_tokens": 40}});
    let unsaid = json!({"prompt_tokens": 9, "completion_tokens": 300});
    for (model, usage, admitted) in [
        ("o3", &reported, 25),
        ("o3", &unsaid, 4),
        // Nobody knows what this name stands for.
        ("our-model", &unsaid, 4),
        ("gpt-4o", &unsaid, 30),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &minute("reasoning_tokens", 1_000));
        let members = json!({"model": model, "max_completion_tokens": 1});
        let served =
            (1..=30).take_while(|stream| ask(&mut worker, *stream, &members, usage) == Directive::Continue);
        assert_eq!(served.count(), admitted, "{model} {usage}");
    }
}
