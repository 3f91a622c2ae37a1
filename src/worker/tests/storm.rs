//! Random sequences of events, so that requests end in every way: each reservation is settled once.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

/// A sidecar that knows the open reservations, and fails the test if one is settled twice.
#[derive(Default)]
struct Ledger {
    open: HashSet<String>,
    admitted: u64,
    settled: u64,
}

impl Ledger {
    fn answer(&mut self, callout: &Callout, admitted: bool) -> Vec<u8> {
        let answers = match callout.kind {
            Kind::Reserve(_) => {
                let calls: Vec<Reserve> = serde_json::from_slice(&callout.body).unwrap();
                let answers = calls.into_iter().map(|call| {
                    let fit = wire::fit(i64::from(!admitted));
                    let state =
                        WindowState { used: Units::new(1), reset: Millis::new(1), fit, granted: Units::ZERO };
                    if admitted {
                        assert!(self.open.insert(call.id), "a reservation id was used twice");
                        self.admitted += 1;
                    }
                    Reserved::Decided {
                        admitted,
                        windows: vec![state; ScopeCharges::flat(&call.charges).count()],
                    }
                });
                serde_json::to_vec(&answers.collect::<Vec<_>>())
            }
            Kind::Settle => {
                let calls: Vec<Settle> = serde_json::from_slice(&callout.body).unwrap();
                let answers = calls.into_iter().map(|call| {
                    let settled = self.open.remove(&call.id);
                    assert!(settled, "settled twice, or never reserved: {}", call.id);
                    self.settled += 1;
                    Settled::Done { settled, over: false }
                });
                serde_json::to_vec(&answers.collect::<Vec<_>>())
            }
            Kind::Probe => return br#"[{"admitted":true,"windows":[]}]"#.to_vec(),
            Kind::Background => panic!("no request here asks for that"),
        };
        answers.unwrap()
    }
}

/// An event, which a number beside it assigns to a stream.
#[derive(Clone, Debug)]
enum Event {
    Arrive,
    Body(bool),
    Answer(bool),
    Respond(u16),
    Chunk(bool, bool),
    Trailers,
    Leave,
}

fn event() -> impl Strategy<Value = (usize, Event)> {
    let event = prop_oneof![
        4 => Just(Event::Arrive),
        4 => any::<bool>().prop_map(Event::Body),
        4 => any::<bool>().prop_map(Event::Answer),
        3 => prop_oneof![Just(200), Just(429), Just(503)].prop_map(Event::Respond),
        3 => any::<(bool, bool)>().prop_map(|(usage, end)| Event::Chunk(usage, end)),
        1 => Just(Event::Trailers),
        2 => Just(Event::Leave),
    ];
    (any::<prop::sample::Index>(), event).prop_map(|(at, event)| (at.index(64), event))
}

proptest! {
    /// However requests end, each reservation that was made is settled once.
    #[test]
    fn every_ending_settles_exactly_once(events in proptest::collection::vec(event(), 1..200)) {
        let memory = Memory::default();
        let mut worker = worker(&memory, &redis("allow", json!({"tpm": 1_000})));
        let (mut ledger, mut streams, mut next) = (Ledger::default(), Vec::new(), 0u32);
        let mut under_way: Vec<Callout> = Vec::new();
        for (at, event) in events {
            let stream = streams.get(at % streams.len().max(1)).copied().unwrap_or(0);
            match event {
                Event::Arrive => {
                    next += 1;
                    streams.push(next);
                    worker.request_headers(next, &chat(), false, NOW);
                }
                Event::Body(end) => drop(worker.request_body(stream, end, || body(10), NOW).directive),
                Event::Answer(admitted) => {
                    for callout in std::mem::take(&mut under_way) {
                        let bytes = ledger.answer(&callout, admitted);
                        under_way.extend(worker.callout_ended(callout.kind, Ok(&bytes), NOW).callouts);
                    }
                }
                Event::Respond(status) => {
                    worker.response_headers(stream, ResponseHead { status, ..OK }, false, NOW);
                }
                Event::Chunk(with_usage, end) => {
                    let chunk = if with_usage { usage(8, 3) } else { b"{".to_vec() };
                    worker.response_body(stream, &chunk, end, NOW);
                }
                Event::Trailers => worker.response_trailers(stream, NOW),
                Event::Leave => {
                    worker.stream_done(stream, NOW);
                    streams.retain(|open| *open != stream);
                }
            }
            under_way.extend(worker.turn(NOW).callouts);
        }
        for stream in streams {
            worker.stream_done(stream, NOW);
        }
        under_way.extend(worker.turn(NOW).callouts);
        while let Some(callout) = under_way.pop() {
            let bytes = ledger.answer(&callout, true);
            under_way.extend(worker.callout_ended(callout.kind, Ok(&bytes), NOW).callouts);
        }
        prop_assert_eq!(ledger.admitted, ledger.settled);
        prop_assert!(ledger.open.is_empty() && worker.worker.sessions.is_empty() && worker.worker.is_idle());
    }
}
