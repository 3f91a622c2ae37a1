//! Caps, weights, prices and reports of any size: what goes to the sidecar, and what is refused whatever it answers.

use super::*;
use crate::quantity::MAX_EXACT;
use crate::store::Failure;

/// A chat with these members.
fn chat_with(members: Value) -> Vec<u8> {
    let mut chat = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]});
    chat.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    chat.to_string().into_bytes()
}

fn begin(worker: &mut Driver<'_>, stream: u32, members: Value) -> Directive {
    worker.request_headers(stream, &chat(), false, NOW);
    worker.request_body(stream, true, || chat_with(members.clone()), NOW).directive
}

fn costs(charges: &[ScopeCharges]) -> Vec<u64> {
    ScopeCharges::flat(charges).map(|charge| charge.cost.get()).collect()
}

fn sent(callout: &Callout) -> Vec<u64> {
    let calls: Vec<Value> = serde_json::from_slice(&callout.body).unwrap();
    let charges = calls.iter().flat_map(|call| call["charges"].as_array().unwrap());
    charges.map(|charge| charge["cost"].as_u64().unwrap()).collect()
}

fn reply(turn: &Resumed) -> &crate::answer::Reply {
    match &turn.directives[0].1 {
        Directive::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

/// Requests with the largest numbers, under limits of every metric.
fn largest() -> Vec<Value> {
    vec![
        json!({"max_tokens": MAX_EXACT}),
        json!({"max_tokens": MAX_EXACT - 1, "n": MAX_EXACT}),
        json!({"max_completion_tokens": "18446744073709551616", "n": 128}),
        json!({"max_tokens": 1e300}),
    ]
}

fn everything(on_error: &str, limit: u64) -> Value {
    let dollars = json!({"metric": "cost_usd", "limit": 5, "window": "1d"});
    let mut config = redis(on_error, json!({"output_tpm": limit, "tpm": limit, "windows": [dollars]}));
    config["weights"] = json!({"models": {"gpt-4o": 1000}});
    config["prices"] = json!({"gpt-4o": {"input": 1_000_000, "output": 1_000_000}});
    config
}

#[test]
fn what_never_fits_is_refused_whatever_the_store_answers() {
    for (on_error, members, failure) in ["allow", "deny", "local"].into_iter().flat_map(|on_error| {
        largest().into_iter().flat_map(move |members| {
            let failures = [Failure::from("no answer"), Failure::of_status(Some("400"), b"no")];
            failures.map(|failure| (on_error, members.clone(), failure))
        })
    }) {
        let memory = Memory::default();
        let mut worker = worker(&memory, &everything(on_error, 1_000));
        assert_eq!(begin(&mut worker, 1, members.clone()), Directive::Pause);
        let callouts = worker.turn(NOW).callouts;
        assert!(sent(&callouts[0]).iter().all(|cost| *cost <= MAX_EXACT), "{callouts:?}");
        let turn = worker.callout_ended(callouts[0].kind, Err(failure), NOW);
        let reply = reply(&turn);
        assert_eq!(reply.status, 429, "{on_error} {members}");
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("can never be admitted"), "{message}");
        assert!(reply.headers.contains(&("x-should-retry", "false".into())));
        let shows_counters = reply.headers.iter().any(|(name, _)| name.starts_with("x-ratelimit-limit"));
        assert_eq!(shows_counters, on_error == "local", "only a store knows what is left");
        assert!(!worker.knows(1));
    }
}

#[test]
fn a_sidecar_that_admits_what_never_fits_is_not_believed() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("allow", json!({"tpm": MAX_EXACT})));
    begin(&mut worker, 1, json!({"max_tokens": MAX_EXACT}));
    let callouts = worker.turn(NOW).callouts;
    assert_eq!(sent(&callouts[0]), [MAX_EXACT]);
    let turn = answer(&mut worker, &callouts[0], true);
    assert_eq!(reply(&turn).status, 429);
    assert_eq!(sent(&turn.callouts[0]), [0], "it is given back");
}

#[test]
fn what_never_fits_does_not_wait_behind_others() {
    let memory = Memory::default();
    let limits = json!({"plans": {"p": {"output_tpm": 100, "max_wait_ms": 5_000}}, "default": {"plan": "p"}});
    let mut worker = worker(&memory, &limits);
    assert_eq!(begin(&mut worker, 1, json!({"max_tokens": 100})), Directive::Continue);
    assert_eq!(status(&begin(&mut worker, 2, json!({"max_tokens": 101}))), 429);
}

#[test]
fn a_limit_in_a_dry_run_refuses_no_cap() {
    for mut config in [everything("allow", 1_000), everything("deny", 1_000)] {
        config["dry_run"] = json!(true);
        for members in largest() {
            let memory = Memory::default();
            let mut worker = worker(&memory, &config);
            begin(&mut worker, 1, members);
            let callouts = worker.turn(NOW).callouts;
            assert!(sent(&callouts[0]).iter().all(|cost| *cost <= MAX_EXACT));
            let turn = answer(&mut worker, &callouts[0], true);
            assert_eq!(turn.directives[0].1, Directive::Continue);
            worker.response_headers(1, OK, false, NOW);
            worker.response_body(1, &usage(MAX_EXACT, MAX_EXACT), true, NOW);
            let settles = worker.turn(NOW).callouts;
            assert!(sent(&settles[0]).iter().all(|cost| *cost <= MAX_EXACT), "{settles:?}");
        }
    }
}

#[test]
fn a_call_that_the_sidecar_refuses_is_not_forwarded_uncounted() {
    for (answer, expected) in [
        (Err(Failure::of_status(Some("413"), b"too large")), 503),
        (Err(Failure::of_status(Some("401"), b"no")), 503),
        (Ok(&br#"[{"error":"charges[0]: no"}]"#[..]), 503),
        (Ok(&br#"[{"error":"Redis: OOM","unavailable":true}]"#[..]), 200),
        (Err(Failure::of_status(Some("503"), b"busy")), 200),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &redis("allow", json!({"rpm": 5})));
        worker.request_headers(1, &chat(), true, NOW);
        let callouts = worker.turn(NOW).callouts;
        let turn = worker.callout_ended(callouts[0].kind, answer.clone(), NOW);
        assert_eq!(status(&turn.directives[0].1), expected, "{answer:?}");
        assert_eq!(turn.callouts, [], "nothing was charged, so nothing is undone");
    }
}

#[test]
fn a_share_counts_calls_that_the_sidecar_refuses_and_tells_it_nothing() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("local", json!({"rpm": 1})));
    for (stream, expected) in [(1, 200), (2, 429)] {
        worker.request_headers(stream, &chat(), true, NOW);
        let callouts = worker.turn(NOW).callouts;
        let refusal = Failure::of_status(Some("400"), b"no");
        let turn = worker.callout_ended(callouts[0].kind, Err(refusal), NOW);
        assert_eq!(status(&turn.directives[0].1), expected);
        worker.stream_done(stream, NOW);
        assert_eq!(worker.turn(NOW).callouts, []);
    }
}

#[test]
fn every_charge_can_be_counted_exactly() {
    let reserve = |members: Value| {
        let memory = Memory::default();
        let mut worker = worker(&memory, &redis("deny", json!({"tpm": 1_000})));
        begin(&mut worker, 1, members);
        let callouts = worker.turn(NOW).callouts;
        let calls: Vec<Reserve> = serde_json::from_slice(&callouts[0].body).unwrap();
        costs(&calls[0].charges)
    };
    assert_eq!(reserve(json!({"max_tokens": MAX_EXACT - PROMPT})), [MAX_EXACT]);
    assert_eq!(reserve(json!({"max_tokens": MAX_EXACT - PROMPT - 1})), [MAX_EXACT - 1]);
    assert_eq!(reserve(json!({"max_tokens": MAX_EXACT})), [MAX_EXACT]);
}
