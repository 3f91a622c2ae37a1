//! Shards of the local store: no bytes and no calls may cause a panic, what a shard writes it reads again, a shard that
//! began empty stays within its bytes, and no scope is ever admitted more than its limit.
//!
//! The first byte is the number of calls, each of five bytes, and the second the number of patches to what they leave,
//! each of three; what follows are further calls. If the first is zero, the second is the number of calls, and what
//! follows them is the shard.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm_rate_limit::quantity::{Millis, NonZeroMillis, Units};
use llm_rate_limit::store::shard::{Held, MAX_BYTES, Shard};
use llm_rate_limit::store::wire::{Charge, ScopeCharges};
use llm_rate_limit::window::{Algorithm, Fit, Window};
use std::num::NonZeroU32;

const LIMIT: u64 = 5_000;
const MINUTE: u64 = 60_000;
const BEGIN: u64 = 1_700_000_000_000;

/// A window of each algorithm. The first is the one that the law is about.
fn windows() -> [Window; 4] {
    let length = |ms| NonZeroMillis::new(ms).unwrap();
    let segments = NonZeroU32::new(1_000).unwrap();
    [
        Window::sliding(length(MINUTE)),
        Window { length: length(3_600_000), algorithm: Algorithm::SlidingWindow { segments } },
        Window::token_bucket(length(MINUTE), Units::new(LIMIT)),
        Window::concurrency(length(600_000)),
    ]
}

/// The charges of a scope: to the first window alone, or to all, of which the others are not enforced.
fn charges(who: u8, cost: u64, is_busy: bool) -> ScopeCharges {
    let scope = format!("scope-{who}");
    let windows = windows().into_iter().enumerate().take(if is_busy { 4 } else { 1 });
    let charges = windows.map(|(n, window)| Charge {
        identity: scope.as_str().into(),
        name: "tokens".into(),
        window,
        limit: Units::new(LIMIT),
        cost: Units::new(cost << (8 * n)),
        enforced: n == 0,
        warn_at: None,
    });
    ScopeCharges { charges: charges.collect(), scope: scope.as_str().into() }
}

/// An admitted reservation.
struct Admitted {
    who: u8,
    is_busy: bool,
    /// In real time, which does not step back.
    at: u64,
    cost: u64,
    held: Option<Held>,
}

/// A shard and what it has admitted, as calls come.
struct Run {
    bytes: Vec<u8>,
    /// Whether all of its bytes are its own.
    is_own: bool,
    clock: u64,
    real: u64,
    admitted: Vec<Admitted>,
}

impl Run {
    fn call(&mut self, call: [u8; 5]) {
        let [kind, who, cost, more, pause] = call;
        let passed = u64::from(pause) * u64::from(pause) * 2;
        self.clock += passed;
        self.real += passed;
        if kind >= 250 {
            self.clock -= 3_600_000;
        }
        let now = Millis::new(self.clock);
        let (who, cost) = (who % 48, u64::from(cost) * u64::from(more));
        let (is_busy, grows) = (kind & 8 != 0, kind & 48 == 48 && !self.is_own);
        let mut shard = Shard::decode(&self.bytes).growing(grows);
        let open = self.admitted.iter_mut().rev().find(|one| one.held.is_some() && one.who == who);
        match (kind % 8, open) {
            (0, Some(one)) => {
                let charges = charges(who, cost, one.is_busy);
                one.held = Some(shard.extend(&charges, one.held.as_ref().unwrap(), now).0);
            }
            (1, Some(one)) => {
                let charges = charges(who, cost, one.is_busy);
                one.held = Some(shard.detach(&charges, one.held.as_ref().unwrap(), now));
            }
            (2, Some(one)) => {
                shard.settle(&charges(who, cost, one.is_busy), &one.held.take().unwrap(), now);
                one.cost = one.cost.min(cost);
            }
            (3, Some(one)) => {
                shard.release(&charges(who, 0, one.is_busy), &one.held.take().unwrap(), now);
                one.cost = 0;
            }
            (4, _) => {
                let states = shard.peek(&charges(who, cost, is_busy), now);
                assert!(states[0].fit != Fit::Now || states[0].used + Units::new(cost) <= Units::new(LIMIT));
            }
            _ => {
                let attempt = shard.reserve(&charges(who, cost, is_busy), now);
                assert_eq!(attempt.states.len(), if is_busy { 4 } else { 1 });
                if let Some(held) = attempt.held {
                    assert!(attempt.states[0].used <= Units::new(LIMIT), "{:?}", attempt.states);
                    self.admitted.push(Admitted { who, is_busy, at: self.real, cost, held: Some(held) });
                }
            }
        }
        let encoded = shard.encode();
        assert!(!encoded.is_empty());
        assert_eq!(Shard::decode(&encoded).encode(), encoded);
        self.bytes = encoded;
        if self.is_own {
            assert!(self.bytes.len() <= MAX_BYTES, "{} bytes", self.bytes.len());
            let counts = self.admitted.iter().filter(|one| one.who == who && one.at + MINUTE > self.real);
            let sum: u64 = counts.map(|one| one.cost).sum();
            assert!(sum <= LIMIT, "{sum} of {LIMIT} for {who} at {}", self.clock);
        }
    }

    fn calls(&mut self, calls: &[u8]) {
        calls.chunks_exact(5).for_each(|call| self.call(call.try_into().unwrap()));
    }
}

/// Splits after `number` elements of `size` bytes, or at the end.
fn split(bytes: &[u8], number: u8, size: usize) -> (&[u8], &[u8]) {
    bytes.split_at((usize::from(number) * size).min(bytes.len()))
}

fuzz_target!(|data: &[u8]| {
    let [before, number, rest @ ..] = data else { return };
    let mut run = Run { bytes: vec![0], is_own: true, clock: BEGIN, real: 0, admitted: Vec::new() };
    if *before == 0 {
        let (calls, shard) = split(rest, *number, 5);
        run.bytes = shard.to_vec();
        run.is_own = false;
        return run.calls(calls);
    }
    let (before, rest) = split(rest, *before, 5);
    let (patches, after) = split(rest, *number, 3);
    run.calls(before);
    for patch in patches.chunks_exact(3) {
        let at = usize::from(patch[0]) * 256 + usize::from(patch[1]);
        let len = run.bytes.len();
        run.bytes[at % len] = patch[2];
        run.is_own = false;
    }
    run.calls(after);
});
