//! Large bodies, which are read in steps between which the worker serves others.

use super::*;
use crate::request::steps::PIECE;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::cell::RefCell;
use std::io::Write as _;

fn prompt(words: usize) -> Vec<u8> {
    json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "word ".repeat(words)}]})
        .to_string()
        .into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Envoy's buffers of the bodies of some streams, and what was read of them.
#[derive(Default)]
struct Buffers {
    bodies: HashMap<u32, Vec<u8>>,
    reads: RefCell<Vec<(u32, Range<usize>)>>,
}

impl Buffers {
    fn begin(&mut self, worker: &mut Driver<'_>, stream: u32, request: &Request, body: &[u8]) -> Verdict {
        assert_eq!(worker.request_headers(stream, request, false, NOW).directive, Directive::Pause);
        self.bodies.insert(stream, body.to_vec());
        let read = |range: Range<usize>| self.read(stream, range);
        worker.body(stream, &read, Some(body.len()), true, NOW)
    }

    fn read(&self, stream: u32, range: Range<usize>) -> Vec<u8> {
        self.reads.borrow_mut().push((stream, range.clone()));
        self.bodies[&stream].get(range).unwrap_or_default().to_vec()
    }

    /// Takes one tick, and returns what became of streams that were not only paused.
    fn tick(&self, worker: &mut Driver<'_>) -> Vec<(u32, Verdict)> {
        let read = |stream: u32, range: Range<usize>| self.read(stream, range);
        let turn = worker.worker.tick(&read, &clock(NOW));
        let verdict = |(stream, effects): (u32, Effects)| {
            worker.log.entry(stream).or_default().push(effects.log);
            let directive = effects.directive.filter(|directive| *directive != Directive::Pause)?;
            Some((stream, Verdict { directive, body: effects.body, edits: effects.headers }))
        };
        turn.effects.into_iter().filter_map(verdict).collect()
    }

    /// Ticks until the first stream is decided. Returns how many ticks that took, too.
    fn decide(&self, worker: &mut Driver<'_>) -> (usize, u32, Verdict) {
        for ticks in 1..5_000 {
            if let Some((stream, verdict)) = self.tick(worker).into_iter().next() {
                return (ticks, stream, verdict);
            }
        }
        panic!("it never ends");
    }
}

#[test]
fn a_large_body_is_read_in_steps_and_others_are_served_between_them() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"input_tpm": 10_000_000})));
    let mut buffers = Buffers::default();
    let paused = buffers.begin(&mut worker, 1, &chat(), &prompt(400_000));
    assert_eq!(paused.directive, Directive::Pause);
    assert!(worker.take_wake(), "the root context takes a turn soon");
    assert_eq!(worker.worker.next_due(), Some(Millis::ZERO));
    assert!(buffers.reads.borrow().len() <= 2, "little is read in the body's own callback");
    let mut others = 0;
    loop {
        assert_eq!(send(&mut worker, 100 + others, 1), Directive::Continue);
        others += 1;
        let done = buffers.tick(&mut worker);
        if let Some((stream, verdict)) = done.into_iter().next() {
            assert_eq!((stream, verdict.directive), (1, Directive::Continue));
            break;
        }
    }
    assert!(others > 20, "2 MB are counted in many turns: {others}");
    let reads = buffers.reads.borrow();
    assert!(reads.iter().all(|(_, range)| range.len() <= PIECE));
    // Once the first ones have shown that it is in no coding, every byte is read once, in order, up to the end.
    let mut at = 0;
    assert_eq!(reads[0].1, 0..4);
    for (_, range) in &reads[1..] {
        assert_eq!(range.start, at);
        at = range.end;
    }
    assert_eq!((at, worker.worker.next_due()), (buffers.bodies[&1].len(), None));
    let log = worker.take_log(1);
    assert!(log.contains(&(Field::EstimatedInputTokens, (400_000 + 8).to_string())), "{log:?}");
}

#[test]
fn a_small_body_is_decided_at_once() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"input_tpm": 10_000_000})));
    let mut buffers = Buffers::default();
    let verdict = buffers.begin(&mut worker, 1, &chat(), &prompt(10_000));
    assert_eq!((verdict.directive, worker.take_wake()), (Directive::Continue, false));
    assert_eq!(worker.worker.next_due(), None);
}

#[test]
fn a_prompt_that_no_limit_admits_is_refused_early() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"input_tpm": 1_000})));
    let mut buffers = Buffers::default();
    buffers.begin(&mut worker, 1, &chat(), &prompt(400_000));
    let (ticks, _, verdict) = buffers.decide(&mut worker);
    assert_eq!(status(&verdict.directive), 429);
    assert!(!worker.knows(1));
    let mut admits = self::worker(&memory, &local(json!({"input_tpm": 10_000_000})));
    buffers.begin(&mut admits, 1, &chat(), &prompt(400_000));
    let (whole, _, verdict) = buffers.decide(&mut admits);
    assert_eq!(verdict.directive, Directive::Continue);
    assert!(ticks * 3 < whole * 2, "{ticks} turns, {whole} when the text is counted too");
}

#[test]
fn whoever_has_less_to_be_read_is_done_first() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"input_tpm": 10_000_000})));
    let mut buffers = Buffers::default();
    buffers.begin(&mut worker, 1, &chat(), &prompt(400_000));
    buffers.begin(&mut worker, 2, &chat(), &prompt(20_000));
    buffers.begin(&mut worker, 3, &chat(), &prompt(100_000));
    let order: Vec<_> = (0..3).map(|_| buffers.decide(&mut worker).1).collect();
    assert_eq!(order, [2, 3, 1]);
}

#[test]
fn a_client_that_leaves_leaves_nothing() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"input_tpm": 10_000_000})));
    for ticks in [0, 1, 3, 30] {
        let mut buffers = Buffers::default();
        buffers.begin(&mut worker, 1, &chat(), &prompt(400_000));
        for _ in 0..ticks {
            assert!(buffers.tick(&mut worker).is_empty());
        }
        worker.stream_done(1, NOW);
        assert!(!worker.knows(1) && worker.worker.next_due().is_none());
        assert_eq!(worker.worker.shared.held(), 0);
        assert!(buffers.tick(&mut worker).is_empty());
    }
    assert_eq!(used(&mut worker, 2), PROMPT, "nothing was charged");
}

#[test]
fn bodies_that_are_read_hold_bounded_memory_and_all_have_their_turn() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"input_tpm": 1_000})));
    let mut buffers = Buffers::default();
    // Each needs a quarter of the memory, and the last one all of it.
    for stream in 0..9 {
        buffers.begin(&mut worker, stream, &chat(), &vec![b' '; 8 << 20]);
    }
    buffers.begin(&mut worker, 9, &chat(), &vec![b' '; 40 << 20]);
    let mut done = 0;
    for _ in 0..20_000 {
        done += buffers.tick(&mut worker).len();
        assert!(worker.worker.shared.held() <= 4 * (40 << 20));
        if done == 10 {
            break;
        }
    }
    assert_eq!((done, worker.worker.shared.held(), worker.worker.next_due()), (10, 0, None));
}

#[test]
fn a_coded_body_is_decoded_in_steps() {
    let config = local(json!({"input_tpm": 10_000_000}));
    let mut request = chat();
    request.0.push(("content-encoding", "gzip".to_owned()));
    for (body, expected) in [
        (gzip(&prompt(400_000)), (Directive::Continue, "400008")),
        // Every reader of gzip refuses it, so that it is charged as the most that it could be.
        (vec![b'x'; 100_000], (Directive::Continue, "10000000")),
    ] {
        let memory = Memory::default();
        let mut worker = worker(&memory, &config);
        let mut buffers = Buffers::default();
        let first = buffers.begin(&mut worker, 1, &request, &body);
        let verdict = if first.directive == Directive::Pause { buffers.decide(&mut worker).2 } else { first };
        assert_eq!(verdict.directive, expected.0);
        let log = worker.take_log(1);
        let tokens = log.iter().find(|(field, _)| *field == Field::EstimatedInputTokens);
        assert_eq!(tokens.map(|(_, tokens)| tokens.as_str()), Some(expected.1), "{log:?}");
    }
}

#[test]
fn a_bomb_is_refused() {
    let memory = Memory::default();
    let mut worker = worker(&memory, &local(json!({"input_tpm": 10_000_000})));
    let mut request = chat();
    request.0.push(("content-encoding", "gzip".to_owned()));
    let mut buffers = Buffers::default();
    let verdict = buffers.begin(&mut worker, 1, &request, &gzip(&vec![b' '; 40 << 20]));
    assert_eq!(verdict.directive, Directive::Pause);
    assert_eq!(status(&buffers.decide(&mut worker).2.directive), 413);
    assert_eq!((worker.worker.shared.held(), worker.worker.next_due()), (0, None));
}

#[test]
fn the_usage_of_a_large_stream_is_requested() {
    let memory = Memory::default();
    let config = json!({"default": {"input_tpm": 10_000_000}, "stream_usage": "inject"});
    let mut worker = worker(&memory, &config);
    let mut buffers = Buffers::default();
    let content = "word ".repeat(100_000);
    let body = json!({"model": "gpt-4o", "stream": true, "messages": [{"role": "user", "content": content}]});
    buffers.begin(&mut worker, 1, &chat(), body.to_string().as_bytes());
    let (_, _, verdict) = buffers.decide(&mut worker);
    assert_eq!(verdict.directive, Directive::Continue);
    assert_eq!(verdict.edits.set, [("accept-encoding", "identity".to_owned())]);
    let edit = verdict.body.unwrap();
    assert_eq!((edit.replaced, edit.with), (1, br#"{"stream_options":{"include_usage":true},"#.to_vec()));
}

#[test]
fn a_large_body_that_nobody_reads_is_charged_or_refused() {
    let memory = Memory::default();
    let body = [b"[{".as_slice(), &vec![b'"'; 3 << 20]].concat();
    let mut worker = worker(&memory, &local(json!({"input_tpm": 10_000_000})));
    let mut buffers = Buffers::default();
    buffers.begin(&mut worker, 1, &chat(), &body);
    assert_eq!(buffers.decide(&mut worker).2.directive, Directive::Continue);
    let log = worker.take_log(1);
    assert!(log.contains(&(Field::EstimatedInputTokens, body.len().to_string())), "{log:?}");
    let memory = Memory::default();
    let config = json!({"default": {"input_tpm": 10_000_000}, "on_unreadable": "refuse"});
    let mut worker = super::worker(&memory, &config);
    buffers.begin(&mut worker, 1, &chat(), &body);
    assert_eq!(status(&buffers.decide(&mut worker).2.directive), 400);
}
