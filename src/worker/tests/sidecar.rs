//! Requests that wait for the store's answer.

use super::*;

#[test]
fn a_request_waits_for_the_sidecar_and_is_forwarded_or_refused() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("deny", json!({"rpm": 1})));
    for (stream, admitted) in [(1, true), (2, false)] {
        assert_eq!(worker.request_headers(stream, &chat(), false, NOW).directive, Directive::Pause);
        assert!(worker.take_wake());
        assert_eq!(worker.unread_body(stream, true, NOW).directive, Directive::Pause);
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

#[test]
fn a_reservation_that_cannot_be_sent_in_time_is_withdrawn_at_its_deadline() {
    let memory = Memory::default();
    let mut config = redis("deny", json!({"rpm": 9}));
    config["store"]["timeout_ms"] = json!(50);
    let mut worker = worker(&memory, &config);
    worker.request_headers(1, &chat(), true, NOW);
    assert_eq!(worker.turn(NOW).callouts.len(), 1);
    worker.request_headers(2, &chat(), true, NOW + 10);
    assert_eq!(worker.worker.next_due(), Some(Millis::new(NOW + 50)), "the first request's deadline");
    assert_eq!(worker.turn(NOW + 59), Resumed::default(), "one callout is in flight, so the second waits");
    assert_eq!(worker.worker.next_due(), Some(Millis::new(NOW + 60)));
    let turn = worker.turn(NOW + 60);
    let refused: Vec<_> = turn.directives.iter().map(|(stream, d)| (*stream, status(d))).collect();
    assert_eq!(refused, [(2, 503)], "the first is on its way, and its callout has a timeout of its own");
    assert_eq!(worker.worker.next_due(), None);
}
