//! A worker sees whether its store answers, and says so in its gauges.

use super::*;
use crate::store::Standing;
use crate::store::roll::Vm;
use crate::store::wire::IfAbsent;
use std::rc::Rc;

const YES: &[u8] = br#"[{"admitted":true,"windows":[]}]"#;

fn asks(turn: &Turn) -> bool {
    turn.callouts.iter().any(|callout| callout.kind == Kind::Probe)
}

/// The streams that a turn resumes, with the status that each got.
fn statuses(turn: Resumed) -> Vec<(u32, u32)> {
    turn.directives.into_iter().map(|(stream, directive)| (stream, status(&directive))).collect()
}

/// The probe among the callouts of a tick.
fn probe(worker: &mut Driver<'_>, now: u64) -> Option<Callout> {
    let turn = worker.worker.tick(&|_, _| Vec::new(), &clock(now));
    turn.callouts.into_iter().find(|callout| callout.kind == Kind::Probe)
}

fn probe_ended(worker: &mut Driver<'_>, answer: Result<&[u8], Failure>, now: u64) {
    worker.worker.callout_ended(Kind::Probe, answer, Millis::new(now));
}

fn standing(worker: &Driver<'_>) -> Standing {
    worker.worker.stores.standing()
}

#[test]
fn the_store_is_probed_at_the_first_tick_and_until_it_answers() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &redis("deny", json!({"rpm": 1})));
    assert_eq!(worker.worker.turn(Millis::new(NOW)).callouts, []);
    for now in [NOW, NOW + 100] {
        let callout = probe(&mut worker, now).unwrap();
        assert_eq!(callout.body, br#"[{"id":"probe","charges":[]}]"#);
        probe_ended(&mut worker, Err("Envoy has no cluster \"s\"".into()), now);
    }
    assert_eq!(standing(&worker), Standing::Down);
    assert_eq!(probe(&mut worker, NOW + 250), None);
    assert!(worker.worker.is_idle(), "a probe holds nobody up");
    probe(&mut worker, NOW + 300).unwrap();
    probe_ended(&mut worker, Ok(YES), NOW + 300);
    assert_eq!((standing(&worker), probe(&mut worker, NOW + 90_000)), (Standing::Up, None));
}

#[test]
fn a_local_store_is_not_probed() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"rpm": 1})));
    assert_eq!((probe(&mut worker, NOW), standing(&worker)), (None, Standing::Absent));
}

/// A worker that has seen its store.
fn informed(memory: &Memory) -> Driver<'_> {
    let mut config = redis("deny", json!({"rpm": 1}));
    // So that every request is settled.
    config["refund_requests_on_error"] = json!(true);
    let mut worker = worker(memory, &config);
    probe(&mut worker, NOW - 1_000).unwrap();
    probe_ended(&mut worker, Ok(YES), NOW - 1_000);
    worker
}

#[test]
fn answers_to_requests_are_heard() {
    let memory = Memory::default();
    let mut worker = informed(&memory);
    worker.request_headers(1, &chat(), true, NOW);
    let callouts = worker.turn(NOW).callouts;
    answer(&mut worker, &callouts[0], true);
    assert_eq!((standing(&worker), probe(&mut worker, NOW)), (Standing::Up, None));

    // A refused request is an answer too, and so is a call that the sidecar does not take for what it is.
    for refusal in
        [Ok(&br#"[{"error":"charges[0]: cost"}]"#[..]), Err(Failure::of_status(Some("400"), b"no"))]
    {
        worker.request_headers(2, &chat(), true, NOW);
        let callouts = worker.turn(NOW).callouts;
        worker.callout_ended(callouts[0].kind, refusal, NOW);
        assert_eq!((standing(&worker), probe(&mut worker, NOW + 1_000)), (Standing::Up, None));
    }

    let failures = [
        Err("no answer".into()),
        Err(Failure::of_status(Some("503"), b"")),
        Err(Failure::of_status(Some("401"), b"")),
        Ok(&br#"[{"error":"Redis: OOM","unavailable":true}]"#[..]),
        Ok(&b"[]"[..]),
    ];
    for (failure, now) in failures.into_iter().zip((NOW + 1_000..).step_by(1_000)) {
        worker.request_headers(3, &chat(), true, now);
        let callouts = worker.turn(now).callouts;
        let turn = worker.worker.callout_ended(callouts[0].kind, failure, Millis::new(now));
        assert!(asks(&turn), "it is in doubt");
        assert_eq!(statuses(worker.resumed(turn)), [(3, 503)]);
        probe_ended(&mut worker, Ok(YES), now);
    }
}

#[test]
fn answers_to_settlements_are_heard() {
    let memory = Memory::default();
    let mut worker = informed(&memory);
    let settle = |worker: &mut Driver<'_>, stream, settled: Result<&[u8], Failure>| {
        worker.request_headers(stream, &chat(), true, NOW);
        let callouts = worker.turn(NOW).callouts;
        answer(worker, &callouts[0], true);
        worker.stream_done(stream, NOW);
        let callouts = worker.turn(NOW).callouts;
        let settles: Vec<Settle> = serde_json::from_slice(&callouts[0].body).unwrap();
        assert_eq!(settles[0].if_absent, None::<IfAbsent>);
        worker.worker.callout_ended(callouts[0].kind, settled, Millis::new(NOW))
    };
    for (stream, settled) in [&br#"[{"settled":true}]"#[..], br#"[{"error":"WRONGTYPE","permanent":true}]"#]
        .into_iter()
        .enumerate()
    {
        let turn = settle(&mut worker, u32::try_from(stream).unwrap(), Ok(settled));
        assert_eq!((standing(&worker), asks(&turn)), (Standing::Up, false));
    }
    assert!(asks(&settle(&mut worker, 9, Ok(br#"[{"error":"Redis: OOM"}]"#))), "it is in doubt");
}

/// What the gauges of an Envoy show, by the changes of its workers.
fn shown(turns: &[Turn]) -> HashMap<Gauge, i64> {
    let mut shown = HashMap::new();
    for (gauge, change) in turns.iter().flat_map(|turn| &turn.gauges) {
        *shown.entry(*gauge).or_default() += change;
    }
    shown.retain(|gauge, _| matches!(gauge, Gauge::StoreUp | Gauge::WorkersWithoutStore));
    shown
}

#[test]
fn the_gauges_count_the_workers_and_neither_the_main_thread_nor_a_retired_configuration() {
    let memory = Memory::default();
    let config = redis("deny", json!({"rpm": 1}));
    let vms = [0, 1, 2].map(|id| Rc::new(Vm::new(id, Millis::new(id))));
    let start = |vm: &Rc<Vm>| {
        let mut driver = worker(&memory, &config);
        driver.worker = driver.worker.on_roll(&memory, vm.enrol("limits"), Fingerprint::default());
        driver
    };
    let mut turns = Vec::new();
    let mut tick = |workers: &mut [Driver<'_>; 3], now: u64, answer: Result<&[u8], Failure>| {
        for worker in workers {
            let turn = worker.worker.tick(&|_, _| Vec::new(), &clock(now));
            let is_asked = asks(&turn);
            turns.push(turn);
            if is_asked {
                probe_ended(worker, answer.clone(), now);
            }
        }
        shown(&turns)
    };
    let mut workers = vms.each_ref().map(start);
    for now in [0, 50, 150, 200] {
        tick(&mut workers, NOW + now, Err("no answer".into()));
    }
    assert_eq!(
        tick(&mut workers, NOW + 250, Err("no answer".into())),
        [(Gauge::WorkersWithoutStore, 2)].into()
    );
    let mut new = vms.each_ref().map(start);
    for now in [300, 350, 400] {
        tick(&mut new, NOW + now, Ok(YES));
    }
    for now in [500, 3_000] {
        let gauges = tick(&mut workers, NOW + now, Ok(YES));
        assert_eq!(gauges, [(Gauge::WorkersWithoutStore, 0), (Gauge::StoreUp, 2)].into());
    }
    let left: Vec<_> = workers
        .iter_mut()
        .chain(&mut new)
        .flat_map(|it| it.worker.retire(Millis::new(NOW + 3_100)))
        .collect();
    let one = [(Gauge::StoreUp, -1), (Gauge::ConfigInfo { hash: Fingerprint::default() }, -1)];
    assert_eq!(left, [one, one].concat());
    assert_eq!(probe(&mut new[1], NOW + 9_000), None, "a retired configuration asks nothing");
}
