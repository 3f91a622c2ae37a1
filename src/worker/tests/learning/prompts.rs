//! What answers teach about the counts of prompts.

use super::super::*;
use crate::store::corrections::Told;
use crate::tokens::PromptKind;
use crate::usage::learned_prompt::{Cell, Factor, Factors};

/// Tokens of [`prompt`] by the rules: 3 for the message, 1 for its role, 3 for the reply, and its text.
const BY_RULES: u64 = 100;

fn prompt(model: &str) -> Vec<u8> {
    let text = " a".repeat(93);
    json!({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 5})
        .to_string()
        .into_bytes()
}

fn config(limits: Value) -> Value {
    json!({"prompt_estimates": "learned", "default": limits})
}

/// Sends a prompt for `model` of `key`. Returns the tokens that it is counted, and what becomes of it.
fn begin(worker: &mut Driver<'_>, stream: u32, key: &str, model: &str) -> (Option<u64>, Directive) {
    worker.request_headers(stream, &post("/v1/chat/completions", key), false, NOW);
    let directive = worker.request_body(stream, true, || prompt(model), NOW).directive;
    let log = worker.take_log(stream);
    let logged = log.iter().find(|(field, _)| *field == Field::EstimatedInputTokens);
    (logged.map(|(_, value)| value.parse().unwrap()), directive)
}

/// Sends so many prompts of `key`, whose answers report so many tokens, and lets a tick pass.
fn teach(worker: &mut Driver<'_>, key: &str, model: &str, count: u32, answer: &[u8]) {
    for stream in 1..=count {
        begin(worker, stream, key, model);
        worker.response_headers(stream, OK, false, NOW);
        worker.response_body(stream, answer, true, NOW);
        worker.stream_done(stream, NOW);
    }
    worker.ticks(NOW);
}

fn count(worker: &mut Driver<'_>, model: &str) -> u64 {
    let (counted, _) = begin(worker, 900, "asks", model);
    worker.stream_done(900, NOW);
    counted.unwrap()
}

const PLENTY: u64 = 10_000_000;

#[test]
fn twenty_answers_of_several_senders_correct_the_next_prompt() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config(json!({"input_tpm": PLENTY})));
    teach(&mut worker, "a", "m", 10, &usage(130, 1));
    teach(&mut worker, "b", "m", 9, &usage(130, 1));
    assert_eq!(count(&mut worker, "m"), BY_RULES);
    teach(&mut worker, "c", "m", 1, &usage(130, 1));
    assert_eq!(count(&mut worker, "m"), 130);
    assert_eq!(count(&mut worker, "M"), 130, "names have no case");
    assert_eq!(count(&mut worker, "another"), BY_RULES);
    teach(&mut worker, "c", "m", 200, &usage(5_000, 1));
    assert_eq!(count(&mut worker, "m"), 130, "one vote of three");
}

#[test]
fn a_lesson_is_about_the_rules_and_not_about_what_was_learned() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config(json!({"input_tpm": PLENTY})));
    for _ in 0..10 {
        teach(&mut worker, "a", "m", 20, &usage(120, 1));
        assert_eq!(count(&mut worker, "m"), 120);
    }
}

#[test]
fn what_is_exact_or_not_reported_teaches_nothing() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config(json!({"input_tpm": PLENTY})));
    teach(&mut worker, "a", "gpt-4o", 40, &usage(130, 1));
    assert_eq!(count(&mut worker, "gpt-4o"), BY_RULES);
    teach(&mut worker, "a", "m", 40, br#"{"choices":[{"message":{"content":"hello"}}]}"#);
    teach(&mut worker, "a", "m", 40, br#"{"choices":[],"usage":{"completion_tokens":3}}"#);
    teach(&mut worker, "a", "m", 40, br#"{"error":{"message":"no"}}"#);
    assert_eq!(count(&mut worker, "m"), BY_RULES);
}

#[test]
fn by_the_rules_alone_nothing_is_read_or_written() {
    let memory = Memory::default();
    let rules = json!({"prompt_estimates": "rules", "default": {"input_tpm": PLENTY}});
    let mut worker = worker(&memory, &rules);
    teach(&mut worker, "a", "m", 40, &usage(130, 1));
    memory.take_calls();
    worker.ticks(NOW + 60_000);
    assert_eq!((memory.take_calls(), count(&mut worker, "m")), ((0, 0), BY_RULES));
}

#[test]
fn what_is_learned_never_refuses_for_good_what_the_rules_admit() {
    for (limit, most) in [(120, 120), (100, 100), (PLENTY, 150)] {
        let memory = Memory::default();
        let mut worker = worker(
            &memory,
            &config(json!({"windows": [
            {"metric": "input_tokens", "limit": limit, "window": "1m"}]})),
        );
        for sender in 0..20 {
            teach(&mut worker, &sender.to_string(), "m", 1, &usage(200, 1));
        }
        let (logged, directive) = begin(&mut worker, 900, "new", "m");
        assert_eq!((logged, directive), (Some(150), Directive::Continue), "{limit}");
        let edits = worker.response_headers(900, OK, false, NOW);
        let value =
            |name: &str| edits.set.iter().find(|(n, _)| *n == name).unwrap().1.parse::<u64>().unwrap();
        assert_eq!(value("x-ratelimit-limit") - value("x-ratelimit-remaining"), most);
    }
}

#[test]
fn a_settlement_replaces_what_was_learned() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config(json!({"input_tpm": PLENTY})));
    for sender in 0..20 {
        teach(&mut worker, &sender.to_string(), "m", 1, &usage(130, 1));
    }
    teach(&mut worker, "key", "m", 1, &usage(117, 1));
    assert_eq!(used(&mut worker, 901), 117 + PROMPT);
}

#[test]
fn redis_gets_a_lesson_with_a_settlement_once_the_sidecar_knows_them() {
    let memory = Memory::default();
    let mut config = redis("deny", json!({"input_tpm": PLENTY}));
    config["prompt_estimates"] = json!("learned");
    let mut worker = worker(&memory, &config);
    let settled = |worker: &mut Driver<'_>, stream: u32| -> Settle {
        begin(worker, stream, "a", "m");
        let reserve = worker.turn(NOW).callouts.remove(0);
        assert!(!String::from_utf8(reserve.body.clone()).unwrap().contains("lesson"));
        answer(worker, &reserve, true);
        worker.response_headers(stream, OK, false, NOW);
        worker.response_body(stream, &usage(130, 1), true, NOW);
        let settle = worker.turn(NOW).callouts.remove(0);
        let element = serde_json::from_slice::<Vec<Settle>>(&settle.body).unwrap().remove(0);
        worker.callout_ended(settle.kind, Ok(br#"[{"settled":true}]"#), NOW);
        element
    };
    assert_eq!(settled(&mut worker, 1).lesson, None, "it may be an older one");
    assert_eq!(worker.worker.asks_for_corrections().as_deref(), Some("0"));
    let cell = Cell::new("m", PromptKind::Plain);
    let factors: Factors = [(cell, Factor::from_permille(1_250))].into_iter().collect();
    let told = Told::to("0", &factors).to_string();
    worker.worker.hear_of_corrections(Kind::Probe, Some(&told));
    worker.worker.hear_of_corrections(Kind::Background, None);
    let lesson = settled(&mut worker, 2).lesson.unwrap();
    assert_eq!((lesson.cell, lesson.permille), (cell, 1_300));
    assert_eq!(count(&mut worker, "m"), 125);
}
