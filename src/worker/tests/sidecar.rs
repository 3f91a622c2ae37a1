//! Requests that wait for the store's answer.

use super::*;

#[test]
fn a_request_waits_for_the_sidecar_and_is_forwarded_or_refused() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("deny", json!({"rpm": 1})));
    for (stream, admitted) in [(1, true), (2, false)] {
        assert_eq!(worker.request_headers(stream, &chat(), false, NOW).directive, Directive::Pause);
        assert!(worker.take_wake());
        assert_eq!(
            worker.request_body(stream, true, || panic!("not needed"), NOW).directive,
            Directive::Pause
        );
        let callouts = worker.turn(NOW).callouts;
        let turn = answer(&mut worker, &callouts[0], admitted);
        let (resumed, directive) = &turn.directives[0];
        assert_eq!((*resumed, status(directive)), (stream, if admitted { 200 } else { 429 }));
    }
}

#[test]
fn without_an_answer_on_error_decides() {
    for (on_error, expected) in [("allow", [200, 200]), ("deny", [503, 503]), ("local", [200, 429])] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &redis(on_error, json!({"rpm": 1})));
        for (stream, expected) in [1, 2].into_iter().zip(expected) {
            worker.request_headers(stream, &chat(), true, NOW);
            worker.turn(NOW);
            let turn = worker.callout_ended(Kind::Reserve, Err("no answer".into()), NOW);
            assert_eq!(status(&turn.directives[0].1), expected, "{on_error}");
        }
    }
}

#[test]
fn a_client_that_leaves_before_the_sidecar_answers_is_refunded() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("allow", json!({"rpm": 1})));
    worker.request_headers(1, &chat(), true, NOW);
    let callouts = worker.turn(NOW).callouts;
    worker.stream_done(1, NOW);
    let turn = answer(&mut worker, &callouts[0], true);
    assert_eq!(turn.directives, []);
    let settles: Vec<Settle> = serde_json::from_slice(&turn.callouts[0].body).unwrap();
    assert_eq!(settles[0].charges[0].charges[0].cost, 0);
    assert!(!worker.knows(1));

    worker.request_headers(2, &chat(), true, NOW);
    worker.stream_done(2, NOW);
    assert_eq!(worker.turn(NOW).callouts, [], "a withdrawn reservation is not sent");
}
