//! Requests that wait for the store's answer.

use super::*;
use crate::store::wire::IfAbsent;

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
            let callouts = worker.turn(NOW).callouts;
            let turn = worker.callout_ended(callouts[0].kind, Err("no answer".into()), NOW);
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

/// A worker that waits 50 ms for the store.
fn impatient<'a>(memory: &'a Memory, on_error: &str) -> Driver<'a> {
    let mut config = redis(on_error, json!({"rpm": 9, "max_concurrency": 3}));
    config["store"]["timeout_ms"] = json!(50);
    worker(memory, &config)
}

/// The streams that were resumed, with the status that each got.
fn statuses(turn: &Resumed) -> Vec<(u32, u32)> {
    turn.directives.iter().map(|(stream, directive)| (*stream, status(directive))).collect()
}

fn settles(callout: &Callout) -> Vec<Settle> {
    serde_json::from_slice(&callout.body).unwrap()
}

#[test]
fn a_request_waits_for_its_own_deadline_and_a_callout_has_the_whole_timeout() {
    let memory = Memory::default();
    let mut worker = impatient(&memory, "deny");
    worker.request_headers(1, &chat(), true, NOW);
    let first = worker.turn(NOW).callouts;
    assert_eq!(first.len(), 1);
    worker.request_headers(2, &chat(), true, NOW + 5);
    assert_eq!(worker.turn(NOW + 11), Resumed::default(), "the newest callout is young");
    assert_eq!(worker.worker.next_due(), Some(Millis::new(NOW + 12)));
    let second = worker.turn(NOW + 12).callouts;
    assert_eq!(second[0].timeout.as_millis(), 50);
    assert_eq!(worker.worker.next_due(), Some(Millis::new(NOW + 50)), "the first request's deadline");
    assert_eq!(
        worker.turn(NOW + 50),
        Resumed::default(),
        "its answer may have come, and is read before the tick"
    );
    assert_eq!(statuses(&worker.ticks(NOW + 51)), [(1, 503)]);
    assert_eq!(worker.worker.next_due(), Some(Millis::new(NOW + 55)), "the second one's");
    let turn = worker.callout_ended(second[0].kind, Ok(&decided(&second[0], true)), NOW + 54);
    assert_eq!(statuses(&turn), [(2, 200)]);
}

#[test]
fn a_busy_worker_takes_answers_that_have_come_before_it_gives_them_up() {
    let memory = Memory::default();
    let mut worker = impatient(&memory, "deny");
    worker.request_headers(1, &chat(), true, NOW);
    let callouts = worker.turn(NOW).callouts;
    let late = worker.worker.tick(&|_, _| Vec::new(), &clock(NOW + 900));
    assert!(late.effects.is_empty());
    let turn = worker.callout_ended(callouts[0].kind, Ok(&decided(&callouts[0], true)), NOW + 900);
    assert_eq!(statuses(&turn), [(1, 200)]);
}

#[test]
fn a_late_admission_is_cancelled_if_its_request_was_refused() {
    let memory = Memory::default();
    let mut worker = impatient(&memory, "deny");
    worker.request_headers(1, &chat(), true, NOW);
    let callouts = worker.turn(NOW).callouts;
    let turn = worker.ticks(NOW + 50);
    assert_eq!(statuses(&turn), [(1, 503)]);
    let cancel = settles(&turn.callouts[0]);
    assert_eq!(
        (cancel[0].if_absent, cancel[0].charges[0].charges[0].cost.get()),
        (Some(IfAbsent::Charge), 0)
    );
    let turn = worker.callout_ended(callouts[0].kind, Ok(&decided(&callouts[0], true)), NOW + 60);
    assert_eq!(turn, Resumed::default());
    assert!(!worker.knows(1));
}

#[test]
fn a_late_admission_stands_if_its_request_was_forwarded() {
    for is_over in [false, true] {
        let memory = Memory::default();
        let mut worker = impatient(&memory, "allow");
        worker.request_headers(1, &chat(), true, NOW);
        let callouts = worker.turn(NOW).callouts;
        let turn = worker.ticks(NOW + 50);
        assert_eq!((statuses(&turn), turn.callouts), (vec![(1, 200)], vec![]), "nothing is cancelled");
        if is_over {
            worker.stream_done(1, NOW + 55);
            assert_eq!(worker.turn(NOW + 55).callouts, [], "the settlement waits for the reservation");
            assert!(!worker.worker.is_idle());
        }
        let turn = worker.callout_ended(callouts[0].kind, Ok(&decided(&callouts[0], true)), NOW + 60);
        let settled = if is_over {
            turn.callouts
        } else {
            // The request has its lease after all, and renews it.
            let due = worker.worker.next_due().unwrap();
            let extension = settles(&worker.turn(due.get()).callouts[0]);
            assert!(extension[0].extend);
            worker.callout_ended(Kind::Settle, Ok(br#"[{"settled":true}]"#), NOW + 60);
            worker.stream_done(1, NOW + 70);
            worker.turn(NOW + 70).callouts
        };
        let settle = settles(&settled[0]);
        let if_absent = is_over.then_some(IfAbsent::Mark);
        assert_eq!((settle.len(), settle[0].if_absent, settle[0].extend), (1, if_absent, false));
        assert_eq!(settle[0].charges[0].charges[0].cost.get(), 1);
    }
}

#[test]
fn a_request_that_leaves_while_it_waits_cancels_what_redis_may_have_charged() {
    let window = json!({"metric": "requests", "limit": 1, "window": "10s"});
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("local", json!({"windows": [window], "max_wait_ms": 60_000})));
    for stream in [1, 2] {
        worker.request_headers(stream, &chat(), true, NOW);
        let callouts = worker.turn(NOW).callouts;
        worker.callout_ended(callouts[0].kind, Err("no answer".into()), NOW);
    }
    assert_eq!(worker.turn(NOW), Resumed::default(), "the second waits, and may have been charged");
    worker.stream_done(2, NOW);
    let cancel = settles(&worker.turn(NOW).callouts[0]).remove(0);
    assert_eq!((cancel.if_absent, cancel.may_share), (Some(IfAbsent::Charge), false));
}

#[test]
fn only_identities_of_the_default_are_bounded_when_they_are_new() {
    let config = json!({
        "store": {"type": "redis", "cluster": "s"},
        "keys": [{"key": "named", "rpm": 5}],
        "default": {"rpm": 5, "tpm": 100_000, "max_new_identities_per_second": 20},
    });
    let memory = Memory::default();
    let mut worker = worker(&memory, &config);
    for (stream, key, path, expected) in [
        (1, "named", "/v1/chat/completions", None),
        (2, "a stranger", "/v1/chat/completions", Some(20)),
        (3, "a stranger", "/v1/files", Some(20)),
    ] {
        worker.request_headers(stream, &post(path, key), true, NOW);
        if worker.knows(stream) {
            worker.request_body(stream, true, || body(1), NOW);
        }
        let callouts = worker.turn(NOW).callouts;
        let reserves: Vec<Reserve> = serde_json::from_slice(&callouts[0].body).unwrap();
        let sent = reserves[0].max_new_identities_per_second.map(std::num::NonZeroU32::get);
        assert_eq!(sent, expected, "{key} {path}");
        answer(&mut worker, &callouts[0], true);
    }
}

#[test]
fn a_settlement_says_whether_an_answer_was_lost_that_new_identities_may_share() {
    let window = json!({"metric": "requests", "limit": 1, "window": "10s"});
    for (max, refunds) in [(None, true), (Some(20), true), (Some(20), false)] {
        let mut limits = json!({"windows": [window], "max_wait_ms": 60_000});
        if let Some(max) = max {
            limits["max_new_identities_per_second"] = json!(max);
        }
        let is_bounded = max.is_some();
        let memory = Memory::default();
        let mut config = redis("local", limits);
        config["refund_requests_on_error"] = json!(refunds);
        let mut worker = worker(&memory, &config);
        let reserve = |worker: &mut Driver<'_>, stream, answer: bool| {
            worker.request_headers(stream, &chat(), true, NOW);
            let callouts = worker.turn(NOW).callouts;
            let decided = decided(&callouts[0], true);
            let answer = if answer { Ok(&*decided) } else { Err("no answer".into()) };
            worker.callout_ended(callouts[0].kind, answer, NOW).callouts
        };
        let end = |worker: &mut Driver<'_>, stream, now| {
            worker.response_headers(stream, OK, true, now);
            worker.stream_done(stream, now);
            let callouts = worker.turn(now).callouts;
            let callout = callouts.iter().find(|callout| callout.kind == Kind::Settle)?;
            let settle = settles(callout).remove(0);
            worker.callout_ended(Kind::Settle, Ok(br#"[{"settled":true}]"#), now);
            Some((settle.if_absent, settle.may_share))
        };
        reserve(&mut worker, 1, true);
        let expected = refunds.then_some((None, false));
        assert_eq!(end(&mut worker, 1, NOW), expected, "its answer has come");
        // The mirror counts the first: this one waits, and reserves again.
        reserve(&mut worker, 2, false);
        assert!(worker.knows(2));
        let now = NOW + 30_000;
        let callouts = worker.turn(now).callouts;
        let again = callouts.iter().find(|callout| matches!(callout.kind, Kind::Reserve(_))).unwrap();
        let turn = worker.callout_ended(again.kind, Ok(&decided(again, true)), now);
        assert_eq!(statuses(&turn), [(2, 200)]);
        assert_eq!(end(&mut worker, 2, now), Some((None, is_bounded)), "the first answer was lost");
    }
}

#[test]
fn what_a_request_costs_is_not_said_again_where_it_cannot_change() {
    let requests = json!({"rpm": 5, "rpd": 50});
    for (limits, refunds, status, expected) in [
        (requests.clone(), false, 200, (true, 0)),
        // What the upstream answers changes nothing.
        (requests.clone(), false, 500, (true, 0)),
        (requests.clone(), true, 200, (false, 1)),
        (requests.clone(), true, 500, (false, 1)),
        (json!({"rpm": 5, "tpm": 100_000}), false, 200, (false, 1)),
        // A slot is given back.
        (json!({"rpm": 5, "max_concurrency": 5}), false, 200, (false, 1)),
    ] {
        let mut config = redis("local", limits.clone());
        config["refund_requests_on_error"] = json!(refunds);
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        send(&mut worker, 1, 5);
        let reserve = worker.turn(NOW).callouts.remove(0);
        let sent: Vec<Reserve> = serde_json::from_slice(&reserve.body).unwrap();
        answer(&mut worker, &reserve, true);
        worker.response_headers(1, ResponseHead { status, ..OK }, false, NOW);
        worker.response_body(1, &usage(8, 5), true, NOW);
        worker.stream_done(1, NOW);
        let seen = (sent[0].is_final, worker.turn(NOW).callouts.len());
        assert_eq!(seen, expected, "{limits} {refunds} {status}");
    }
}

#[test]
fn a_request_that_is_not_served_gives_back_what_was_final() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("allow", json!({"rpm": 5})));
    worker.request_headers(1, &chat(), true, NOW);
    let reserve = worker.turn(NOW).callouts.remove(0);
    worker.stream_done(1, NOW);
    let settles = settles(&answer(&mut worker, &reserve, true).callouts[0]);
    assert_eq!(settles[0].charges[0].charges[0].cost, 0);
}

#[test]
fn each_element_has_the_id_by_which_envoy_knows_its_request() {
    let long = "x".repeat(wire::MAX_REQUEST_ID + 1);
    for (sent, expected) in
        [(Some("r-1"), Some("r-1")), (Some("ä"), None), (Some(&*long), None), (None, None)]
    {
        let memory = Memory::default();
        let mut worker = worker(&memory, &redis("deny", json!({"tpm": 1_000})));
        let mut request = chat();
        request.0.extend(sent.map(|id| ("x-request-id", id.to_owned())));
        worker.request_headers(1, &request, false, NOW);
        worker.request_body(1, true, || body(5), NOW);
        let callouts = worker.turn(NOW).callouts;
        let reserve: Vec<Reserve> = serde_json::from_slice(&callouts[0].body).unwrap();
        assert_eq!(reserve[0].request_id.as_deref(), expected);
        answer(&mut worker, &callouts[0], true);
        worker.response_headers(1, OK, false, NOW);
        worker.response_body(1, &usage(9, 3), true, NOW);
        let settle: Vec<Settle> = serde_json::from_slice(&worker.turn(NOW).callouts[0].body).unwrap();
        assert_eq!(settle[0].request_id.as_deref(), expected);
    }
}

#[test]
fn calls_to_the_sidecar_and_decisions_without_it_are_in_the_metrics() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("local", json!({"rpm": 9})));
    for stream in [1, 2] {
        worker.request_headers(stream, &chat(), true, NOW);
    }
    let callouts = worker.turn(NOW).callouts;
    worker.callout_ended(callouts[0].kind, Err("no answer".into()), NOW + 7);
    let report = worker.take_report();
    let values: Vec<_> = report.values.iter().map(|(of, value)| (of.name(), *value)).collect();
    assert_eq!(
        values,
        [
            ("llm_rate_limit.call=.=reserve;.;batch_size".to_owned(), 2),
            ("llm_rate_limit.call=.=reserve;.;callout_ms".to_owned(), 7),
        ]
    );
    let counts: Vec<_> = report.counts.iter().map(|(count, n)| (count.name(), *n)).collect();
    for (name, count) in [("decision=.=admitted;.;requests", 2), ("decided_locally", 2), ("store_errors", 2)]
    {
        assert!(counts.contains(&(format!("llm_rate_limit.{name}"), count)), "{counts:?}");
    }
}

#[test]
fn the_next_call_has_the_number_of_those_that_were_refused_from_memory() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("deny", json!({"rpm": 1})));
    worker.request_headers(1, &chat(), true, NOW);
    let callouts = worker.turn(NOW).callouts;
    assert_eq!(callouts[0].unasked, None);
    answer(&mut worker, &callouts[0], false);
    for stream in 2..5 {
        assert_eq!(status(&worker.request_headers(stream, &chat(), true, NOW).directive), 429);
    }
    let later = NOW + 100;
    worker.request_headers(5, &chat(), true, later);
    assert_eq!(worker.turn(later).callouts[0].unasked.as_deref(), Some("0=3"));
}
