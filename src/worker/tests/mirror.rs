//! Redis stops to answer, and this Envoy counts on from what it has admitted.

use super::*;

/// A configuration with Redis, and this Envoy's share meanwhile.
fn config(limits: Value) -> Value {
    redis("local", limits)
}

/// Sends a request and answers its reservation: `Ok` admits it, and `Err` is no answer. Returns its status.
fn ask(worker: &mut Driver<'_>, stream: u32, max_tokens: u64, answers: bool) -> u32 {
    send(worker, stream, max_tokens);
    let callouts = worker.turn(NOW).callouts;
    let callout = callouts.iter().find(|callout| matches!(callout.kind, Kind::Reserve(_))).unwrap();
    let turn = if answers {
        answer(worker, callout, true)
    } else {
        worker.callout_ended(callout.kind, Err("no answer".into()), NOW)
    };
    turn.directives.iter().find(|(of, _)| *of == stream).map(|(_, directive)| status(directive)).unwrap()
}

fn tick(worker: &mut Driver<'_>, after: u64) {
    worker.worker.tick(&|_, _| Vec::new(), &clock(NOW + after));
}

/// Ends the request of `stream` with this usage.
fn end(worker: &mut Driver<'_>, stream: u32, output: u64) {
    worker.response_headers(stream, OK, false, NOW);
    worker.response_body(stream, &usage(PROMPT, output), true, NOW);
    worker.stream_done(stream, NOW);
}

#[test]
fn alone_this_envoy_goes_on_from_what_redis_has_admitted() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config(json!({"rpm": 5})));
    for stream in 0..3 {
        assert_eq!(ask(&mut worker, stream, 1, true), 200);
    }
    let alone: Vec<u32> = (3..7).map(|stream| ask(&mut worker, stream, 1, false)).collect();
    assert_eq!(alone, [200, 200, 429, 429]);
}

#[test]
fn workers_know_what_the_others_have_admitted() {
    let memory = Memory::default();
    let limits = config(json!({"rpm": 5}));
    let mut workers = [worker(&memory, &limits), worker(&memory, &limits)];
    for stream in 0..4 {
        assert_eq!(ask(&mut workers[0], stream, 1, true), 200);
    }
    tick(&mut workers[0], 50);
    let alone: Vec<u32> = (4..7).map(|stream| ask(&mut workers[1], stream, 1, false)).collect();
    assert_eq!(alone, [200, 429, 429]);
}

#[test]
fn what_a_request_did_not_use_is_given_back() {
    for is_written in [false, true] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &config(json!({"output_tpm": 100})));
        assert_eq!(ask(&mut worker, 1, 90, true), 200);
        if is_written {
            tick(&mut worker, 50);
        }
        assert_eq!(ask(&mut worker, 2, 20, false), 429, "90 of 100 are reserved");
        end(&mut worker, 1, 30);
        assert_eq!(ask(&mut worker, 3, 71, false), 429, "30 of 100 are used");
        assert_eq!(ask(&mut worker, 4, 70, false), 200);
    }
}

#[test]
fn a_slot_that_redis_has_given_is_taken_until_its_request_is_over() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config(json!({"max_concurrency": 2})));
    assert_eq!(ask(&mut worker, 1, 1, true), 200);
    tick(&mut worker, 50);
    assert_eq!([2, 3].map(|stream| ask(&mut worker, stream, 1, false)), [200, 429]);
    end(&mut worker, 1, 1);
    assert_eq!([4, 5].map(|stream| ask(&mut worker, stream, 1, false)), [200, 429]);
}

#[test]
fn a_client_that_left_before_the_answer_costs_nothing() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config(json!({"rpm": 1})));
    worker.request_headers(1, &chat(), true, NOW);
    let callouts = worker.turn(NOW).callouts;
    worker.stream_done(1, NOW);
    answer(&mut worker, &callouts[0], true);
    assert_eq!(ask(&mut worker, 2, 1, false), 200);
}

#[test]
fn only_ticks_touch_shared_data_and_no_more_often_than_scopes_and_ticks() {
    for (on_error, expected) in [("local", (2, 2)), ("deny", (0, 0)), ("allow", (0, 0))] {
        let memory = Memory::default();
        let mut config = redis(on_error, json!({"rpm": 500, "tpm": 100_000}));
        config["global"] = json!({"rpm": 1_000});
        let mut worker = worker(&memory, &config);
        memory.take_calls();
        for round in 0..3 {
            for stream in 0..20 {
                assert_eq!(ask(&mut worker, stream, 10, true), 200);
                end(&mut worker, stream, 3);
            }
            assert_eq!(memory.take_calls(), (0, 0), "{on_error}: requests do not");
            tick(&mut worker, 100 + 50 * round);
            assert_eq!(memory.take_calls(), expected, "{on_error}: one read and one write for each scope");
            tick(&mut worker, 101 + 50 * round);
            assert_eq!(memory.take_calls(), (0, 0), "{on_error}: nothing is left");
        }
    }
}

#[test]
fn a_tick_is_due_while_something_is_to_be_written_and_not_otherwise() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config(json!({"rpm": 5})));
    assert_eq!(ask(&mut worker, 1, 1, true), 200);
    assert_eq!(worker.worker.next_due(), Some(Millis::new(NOW + 50)));
    assert!(!worker.worker.is_idle(), "a configuration that is replaced writes it before it goes");
    tick(&mut worker, 50);
    assert_eq!((worker.worker.next_due(), worker.worker.is_idle()), (None, true));
}

#[test]
fn a_request_that_outlives_its_configuration_is_counted_once() {
    let memory = Memory::default();
    let limits = config(json!({"output_tpm": 100}));
    let mut old = worker(&memory, &limits);
    assert_eq!(ask(&mut old, 1, 60, true), 200);
    tick(&mut old, 50);
    let mut new = worker(&memory, &limits);
    assert_eq!(ask(&mut new, 1, 41, false), 429, "60 of 100 are reserved");
    end(&mut old, 1, 50);
    tick(&mut old, 100);
    assert_eq!(ask(&mut new, 2, 51, false), 429);
    assert_eq!(ask(&mut new, 3, 50, false), 200);
}

/// The settlements and extensions of `turn`.
fn told(turn: &Resumed) -> Vec<Settle> {
    let callouts = turn.callouts.iter().filter(|callout| callout.kind == Kind::Settle);
    callouts.flat_map(|callout| serde_json::from_slice::<Vec<Settle>>(&callout.body).unwrap()).collect()
}

/// A request that Redis admits, and the turn after its answer.
fn back(worker: &mut Driver<'_>, stream: u32, now: u64) -> Resumed {
    worker.request_headers(stream, &chat(), true, now);
    let callouts = worker.turn(now).callouts;
    let callout = callouts.iter().find(|callout| matches!(callout.kind, Kind::Reserve(_))).unwrap();
    worker.callout_ended(callout.kind, Ok(&decided(callout, true)), now)
}

fn costs(settles: &[Settle]) -> Vec<u64> {
    settles.iter().flat_map(|settle| ScopeCharges::flat(&settle.charges)).map(|it| it.cost.get()).collect()
}

#[test]
fn redis_learns_at_once_of_requests_that_still_run_when_it_answers_again() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config(json!({"rpm": 500})));
    assert_eq!(ask(&mut worker, 1, 1, false), 200);
    assert_eq!(worker.turn(NOW), Resumed::default(), "nobody listens");
    let told_of = told(&back(&mut worker, 2, NOW + 7_000));
    assert_eq!(told_of.len(), 1);
    assert_eq!((told_of[0].extend, told_of[0].if_absent), (true, Some(wire::IfAbsent::Charge)));
    assert_eq!(costs(&told_of), [1]);
    worker.callout_ended(Kind::Settle, Ok(br#"[{"settled":true}]"#), NOW + 7_000);
    assert_eq!(told(&back(&mut worker, 3, NOW + 7_000)), [], "once");
    worker.stream_done(1, NOW + 7_000);
    let settled = told(&worker.turn(NOW + 7_000));
    assert_eq!((settled[0].id.clone(), settled[0].extend), (told_of[0].id.clone(), false));
}

#[test]
fn redis_learns_at_once_of_requests_that_are_over_when_it_answers_again() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config(json!({"rpm": 500})));
    for stream in 0..3 {
        assert_eq!(ask(&mut worker, stream, 1, false), 200);
    }
    for stream in 0..3 {
        worker.stream_done(stream, NOW);
    }
    assert_eq!(told(&worker.turn(NOW)).len(), 3);
    let failed = format!("[{}]", [r#"{"error":"Redis: gone"}"#; 3].join(","));
    worker.callout_ended(Kind::Settle, Ok(failed.as_bytes()), NOW);
    assert_eq!(told(&worker.turn(NOW + 90)), [], "they rest");
    assert_eq!(costs(&told(&back(&mut worker, 9, NOW + 90))), [1, 1, 1]);
}

#[test]
fn a_part_of_redis_that_answers_now_and_then_does_not_hasten_the_rest_again_and_again() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config(json!({"rpm": 500})));
    assert_eq!(ask(&mut worker, 0, 1, false), 200);
    worker.stream_done(0, NOW);
    let mut attempts = Vec::new();
    for stream in 1..100 {
        let now = NOW + 50 * u64::from(stream);
        let mut turn = worker.turn(now);
        // Each has a key of its own: a refusal is remembered.
        worker.request_headers(stream, &post("/v1/chat/completions", &stream.to_string()), true, now);
        let callouts = worker.turn(now).callouts;
        let reserve = callouts.iter().find(|callout| matches!(callout.kind, Kind::Reserve(_))).unwrap();
        let answer = decided(reserve, false);
        let answer = if stream % 2 == 0 { Ok(&*answer) } else { Err("no answer".into()) };
        let after = worker.callout_ended(reserve.kind, answer, now);
        turn.callouts.extend(callouts.into_iter().chain(after.callouts));
        // Requests that went on alone end now, so that only the first settlement is looked at.
        worker.stream_done(stream, now);
        turn.callouts.extend(worker.turn(now).callouts);
        let mut settles = turn.callouts;
        while let Some(callout) = settles.pop() {
            if callout.kind != Kind::Settle {
                continue;
            }
            let sent: Vec<Settle> = serde_json::from_slice(&callout.body).unwrap();
            attempts.extend(sent.iter().filter(|settle| settle.id.ends_with("-0")).map(|_| now - NOW));
            let gone = vec![r#"{"error":"Redis: gone"}"#; sent.len()].join(",");
            settles
                .extend(worker.callout_ended(Kind::Settle, Ok(format!("[{gone}]").as_bytes()), now).callouts);
        }
    }
    assert!(attempts.len() < 12, "{attempts:?}");
}

#[test]
fn redis_does_not_charge_what_has_left_its_window_when_it_answers_again() {
    for (after, expected) in [(10_000, [1, 1]), (60_000, [0, 1]), (120_000, [0, 0])] {
        let memory = Memory::default();
        let seconds = |window| json!({"metric": "requests", "limit": 100, "window": window});
        let mut worker = worker(&memory, &config(json!({"windows": [seconds("30s"), seconds("90s")]})));
        assert_eq!(ask(&mut worker, 1, 1, false), 200);
        assert_eq!(costs(&told(&back(&mut worker, 2, NOW + after))), expected);
        let gone = r#"[{"error":"Redis: gone"}]"#;
        worker.callout_ended(Kind::Settle, Ok(gone.as_bytes()), NOW + after);
        worker.stream_done(1, NOW + after);
        assert_eq!(costs(&told(&worker.turn(NOW + after))), expected);
    }
}

#[test]
fn a_slot_that_was_given_alone_is_taken_from_the_fleet_when_redis_answers_again() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &config(json!({"max_concurrency": 2})));
    assert_eq!(ask(&mut worker, 1, 1, false), 200);
    let renewal = worker.worker.next_due().unwrap();
    // Nothing else has shown so far whether Redis answers.
    let told_of = told(&worker.turn(renewal.get()));
    assert_eq!((told_of.len(), told_of[0].extend, costs(&told_of)), (1, true, vec![1]));
}

#[test]
fn the_configuration_that_replaces_another_tells_redis_what_that_had_to() {
    let memory = Memory::default();
    let limits = config(json!({"rpm": 500}));
    let [mut old, mut new] = [worker(&memory, &limits), worker(&memory, &limits)];
    for stream in 0..3 {
        assert_eq!(ask(&mut old, stream, 1, false), 200);
        old.stream_done(stream, NOW);
    }
    // The first settlement is under way, and gets no answer.
    assert!(!old.worker.is_idle());
    assert!(!new.worker.take_over(&mut worker(&memory, &local(json!({"rpm": 1}))).worker, Millis::new(NOW)));
    assert!(new.worker.take_over(&mut old.worker, Millis::new(NOW)));
    assert!(old.worker.is_idle() && !new.worker.is_idle());
    assert_eq!(costs(&told(&new.turn(NOW))), [1, 1, 1]);
    old.worker.retire(Millis::new(NOW));
    assert!(!old.worker.take_over(&mut new.worker, Millis::new(NOW)), "nobody would bring it");
}
