//! Requests that wait until they fit.

use super::*;

/// A limit of one request a second, under which a request may wait for five seconds.
fn one_per_second() -> Value {
    let window = json!({"metric": "requests", "limit": 1, "window": "1s", "segments": 1});
    json!({"default": {"windows": [window], "max_wait_ms": 5_000}, "max_waiting": 3})
}

#[test]
fn a_request_that_fits_soon_waits_in_its_turn() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &one_per_second());
    let mut arrive = |stream| worker.request_headers(stream, &chat(), true, NOW).directive;
    let arrivals: Vec<_> = (1..=5).map(&mut arrive).collect();
    assert_eq!(arrivals[0], Directive::Continue);
    assert_eq!(arrivals[1..4], [Directive::Pause, Directive::Pause, Directive::Pause]);
    assert_eq!(status(&arrivals[4]), 429, "the room is full");

    assert_eq!(worker.turn(NOW + 1_999).directives, []);
    let turn = worker.turn(NOW + 2_000);
    assert_eq!(turn.directives, [(2, Directive::Continue)], "the first to arrive goes first, and alone");
    let edits = worker.response_headers(2, OK, true, NOW + 2_000);
    assert!(edits.set.contains(&("x-ratelimit-waited-ms", "2000".to_owned())), "{edits:?}");

    worker.stream_done(3, NOW + 2_500);
    assert_eq!(
        worker.turn(NOW + 4_000).directives,
        [(4, Directive::Continue)],
        "the next in the queue takes the place of one that left"
    );
    assert_eq!(worker.request_headers(6, &chat(), true, NOW + 4_000).directive, Directive::Pause);
    assert_eq!(worker.request_headers(7, &chat(), true, NOW + 4_000).directive, Directive::Pause);
    assert_eq!(worker.turn(NOW + 6_000).directives, [(6, Directive::Continue)]);
    assert_eq!(worker.turn(NOW + 8_000).directives, [(7, Directive::Continue)]);
    assert!(!worker.worker.shared.has_waiting("anonymous") && worker.turn(NOW + 9_000).directives.is_empty());
}

#[test]
fn a_wait_that_is_too_long_ends_with_a_refusal() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &one_per_second());
    for stream in 1..=4 {
        worker.request_headers(stream, &chat(), true, NOW);
    }
    let statuses = |turn: Resumed| turn.directives.iter().map(|(s, d)| (*s, status(d))).collect::<Vec<_>>();
    assert_eq!(statuses(worker.turn(NOW + 2_000)), [(2, 200)]);
    let last = statuses(worker.turn(NOW + 4_000));
    assert_eq!(last, [(3, 200), (4, 429)], "the last would fit after six seconds and may wait for five");
    assert_eq!(worker.worker.sessions.len(), 3);
}

#[test]
fn requests_that_wait_reserve_again_at_the_sidecar() {
    let memory = Memory::default();
    let mut config = redis("deny", json!({"rpm": 1, "max_wait_ms": 5_000}));
    config["store"]["timeout_ms"] = json!(50);
    let mut worker = worker(&memory, &config);
    assert_eq!(worker.request_headers(1, &chat(), true, NOW).directive, Directive::Pause);
    let callouts = worker.turn(NOW).callouts;
    assert_eq!(answer(&mut worker, &callouts[0], false).directives, []);
    assert_eq!(worker.turn(NOW + 999), Resumed::default());
    let callouts = worker.turn(NOW + 1_000).callouts;
    assert_eq!(callouts.len(), 1, "it reserves again when it should fit");
    assert_eq!(answer(&mut worker, &callouts[0], true).directives, [(1, Directive::Continue)]);

    worker.request_headers(2, &chat(), true, NOW);
    let callouts = worker.turn(NOW).callouts;
    worker.callout_ended(callouts[0].kind, Ok(&decided(&callouts[0], true)), NOW + 30);
    let edits = worker.response_headers(2, OK, true, NOW + 30);
    assert!(
        edits.set.iter().all(|(name, _)| *name != "x-ratelimit-waited-ms"),
        "the time that the sidecar takes is no wait"
    );
}

#[test]
fn a_wait_that_ends_before_the_sidecar_answers_stalls_nobody() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("deny", json!({"rpm": 1, "max_wait_ms": 1_500})));
    worker.request_headers(1, &chat(), true, NOW);
    let callouts = worker.turn(NOW).callouts;
    answer(&mut worker, &callouts[0], false);
    worker.request_headers(2, &chat(), true, NOW);
    let callouts = worker.turn(NOW + 1_500).callouts;
    let turn = answer(&mut worker, &callouts[0], false);
    let refused: Vec<_> = turn.directives.iter().map(|(stream, d)| (*stream, status(d))).collect();
    assert_eq!(refused, [(1, 429), (2, 429)]);
    assert!(worker.worker.sessions.is_empty());
}

#[test]
fn bodies_of_requests_that_wait_are_bounded_together() {
    let memory = Memory::default();
    let mut config = one_per_second();
    config["default"]["input_tpm"] = json!(1_000_000);
    let size = body(10).len();
    config["max_waiting_bytes"] = json!(2 * size);
    let mut worker = worker(&memory, &config);
    let mut arrive = |stream| {
        worker.request_headers(stream, &chat(), false, NOW);
        worker.request_body(stream, true, || body(10), NOW).directive
    };
    assert_eq!([arrive(1), arrive(2), arrive(3)], [Directive::Continue, Directive::Pause, Directive::Pause]);
    assert_eq!(status(&arrive(4)), 429, "there is room for two bodies");
    worker.stream_done(3, NOW);
    worker.request_headers(5, &chat(), false, NOW);
    assert_eq!(worker.request_body(5, true, || body(10), NOW).directive, Directive::Pause);
}

/// By the old clock, their deadlines would be an hour away.
#[test]
fn a_clock_that_is_set_back_leaves_nobody_waiting() {
    const EARLIER: u64 = NOW - 3_600_000;
    let memory = Memory::default();
    let mut of_sidecar = worker(&memory, &redis("deny", json!({"rpm": 1})));
    of_sidecar.ticks(NOW);
    assert_eq!(of_sidecar.request_headers(1, &chat(), true, NOW + 2).directive, Directive::Pause);
    let ends = of_sidecar.ticks(EARLIER).directives;
    assert_eq!(ends.iter().map(|(stream, end)| (*stream, status(end))).collect::<Vec<_>>(), [(1, 503)]);

    // One that waits reserves again, and that is no outage.
    let memory = Memory::default();
    let mut of_both = worker(&memory, &redis("deny", json!({"rpm": 1, "max_wait_ms": 60_000})));
    of_both.ticks(NOW);
    of_both.request_headers(1, &chat(), true, NOW + 2);
    let reserve = of_both.turn(NOW + 2).callouts.remove(0);
    assert_eq!(answer(&mut of_both, &reserve, false).directives, []);
    assert_eq!(of_both.ticks(EARLIER).directives, []);

    let memory = Memory::default();
    let mut in_room = worker(&memory, &one_per_second());
    in_room.ticks(NOW);
    assert_eq!(in_room.request_headers(1, &chat(), true, NOW + 2).directive, Directive::Continue);
    assert_eq!(in_room.request_headers(2, &chat(), true, NOW + 2).directive, Directive::Pause);
    let mut ends = in_room.ticks(EARLIER).directives;
    for now in (EARLIER..EARLIER + 5_100).step_by(50) {
        ends.extend(in_room.ticks(now + 50).directives);
    }
    assert_eq!(ends.iter().map(|(stream, _)| *stream).collect::<Vec<_>>(), [2], "{ends:?}");
}
