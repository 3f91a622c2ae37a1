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
