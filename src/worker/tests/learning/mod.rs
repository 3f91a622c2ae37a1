//! What answers teach about the reservations of later requests, and what they do not.

mod prompts;

use super::*;

fn config() -> Value {
    json!({
        "plans": {"p": {"output_tpm": 10_000_000}},
        "default": {"plan": "p"},
        "output_reservation": {"default_tokens": 500},
        "stream_usage": "count",
    })
}

/// Sends a request of `key`, and returns the output that is reserved for it.
fn begin(worker: &mut Driver<'_>, stream: u32, key: &str, members: &Value) -> u64 {
    let mut chat = json!({"model": "m", "messages": []});
    chat.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    worker.request_headers(stream, &post("/v1/chat/completions", key), false, NOW);
    worker.request_body(stream, true, || chat.to_string().into_bytes(), NOW);
    let log = worker.take_log(stream);
    let (_, value) = log.iter().find(|(field, _)| *field == Field::ReservedOutputTokens).unwrap();
    value.parse().unwrap()
}

fn answer_of(tokens: u64, reason: &str) -> Value {
    json!({"choices": [{"finish_reason": reason}], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}})
}

/// Sends 600 requests of `key` with `members`, each with this answer.
fn teach(worker: &mut Driver<'_>, key: &str, members: &Value, answer: &Value) {
    for stream in 1..=600 {
        begin(worker, stream, key, members);
        worker.response_headers(stream, OK, false, NOW);
        worker.response_body(stream, answer.to_string().as_bytes(), true, NOW);
        worker.stream_done(stream, NOW);
    }
}

#[test]
fn a_subject_learns_from_its_own_answers_and_others_do_not() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config());
    teach(&mut worker, "attacker", &json!({}), &answer_of(1, "stop"));
    assert_eq!(begin(&mut worker, 900, "attacker", &json!({})), 1);
    assert_eq!(begin(&mut worker, 901, "victim", &json!({})), 500);
    teach(&mut worker, "long", &json!({}), &answer_of(4_000, "stop"));
    assert!(begin(&mut worker, 902, "newcomer", &json!({})) >= 4_000, "long answers of others count");
}

#[test]
fn an_answer_that_a_cap_cut_short_teaches_nothing() {
    let capped = json!({"max_tokens": 1});
    let of_two = json!({"max_tokens": 1, "n": 2});
    let responses = json!({"status": "incomplete", "usage": {"input_tokens": 5, "output_tokens": 1}});
    for (members, answer) in [
        (&json!({}), answer_of(1, "length")),
        (&json!({}), answer_of(1, "max_tokens")),
        (&capped, answer_of(1, "stop")),
        (&of_two, answer_of(2, "stop")),
        (&json!({}), responses),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &config());
        teach(&mut worker, "me", members, &answer);
        assert_eq!(begin(&mut worker, 900, "me", &json!({})), 500, "{members} {answer}");
    }
    let memory = Memory::default();
    let mut worker = worker(&memory, &config());
    teach(&mut worker, "me", &json!({"max_tokens": 100}), &answer_of(1, "stop"));
    assert_eq!(begin(&mut worker, 900, "me", &json!({})), 1, "a cap that is not reached cuts nothing");
}

#[test]
fn a_stream_that_is_left_teaches_nothing() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config());
    for stream in 1..=600 {
        begin(&mut worker, stream, "me", &json!({"stream": true}));
        worker.response_headers(
            stream,
            ResponseHead { content_type: Some("text/event-stream"), ..OK },
            false,
            NOW,
        );
        let event = json!({"choices": [{"delta": {"content": "a"}}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 1}});
        worker.response_body(stream, format!("data: {event}\n\n").as_bytes(), false, NOW);
        worker.stream_done(stream, NOW);
    }
    assert_eq!(begin(&mut worker, 900, "me", &json!({})), 500);
}

#[test]
fn a_body_that_reports_usage_before_its_end_teaches_nothing_until_it_says_why_it_ended() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config());
    for stream in 1..=600 {
        begin(&mut worker, stream, "me", &json!({}));
        worker.response_headers(stream, OK, false, NOW);
        let usage = br#"{"usage":{"prompt_tokens":5,"completion_tokens":1},"#;
        worker.response_body(stream, usage, false, NOW);
        worker.response_body(stream, br#""choices":[{"finish_reason":"length"}]}"#, true, NOW);
    }
    assert_eq!(begin(&mut worker, 900, "me", &json!({})), 500);
}
