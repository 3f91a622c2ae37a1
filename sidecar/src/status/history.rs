//! What this sidecar has decided in the last hour, minute by minute.

use crate::store::Ended;
use llm_rate_limit::policy::limit::Metric;
use llm_rate_limit::store::wire::{Charge, Reserve, Reserved, ScopeCharges, Settle};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The minutes of an hour.
pub const MINUTES: usize = 60;

/// The counts of each minute of the last hour.
#[derive(Debug)]
pub struct History {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since the beginning, the minute that is the last of `minutes`.
    current: u64,
    minutes: VecDeque<Minute>,
}

/// What was decided in a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// Requests that were admitted.
    pub admitted: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Tokens of the settlements, as far as anybody has measured them.
    pub tokens: u64,
    /// Whether anybody has.
    pub has_tokens: bool,
}

impl History {
    /// No counts, at `now`.
    pub fn new(now: Instant) -> Self {
        Self { began: now, state: Mutex::default() }
    }

    /// Counts the answers to a batch of reservations.
    pub fn reserved(&self, batch: &[Reserve], answers: &[Reserved], now: Instant) {
        let (mut admitted, mut refused) = (0, 0);
        for (one, answer) in batch.iter().zip(answers) {
            refused += unasked(one);
            match answer {
                // A request that is charged to nothing is a probe.
                Reserved::Decided { .. } if one.charges.is_empty() => {}
                Reserved::Decided { admitted: true, .. } => admitted += 1,
                Reserved::Decided { admitted: false, .. } => refused += 1,
                Reserved::Failed { .. } => {}
            }
        }
        let mut state = self.at(now);
        if let Some(minute) = state.minutes.back_mut() {
            minute.admitted += admitted;
            minute.refused += refused;
        }
    }

    /// Counts the answers to a batch of settlements.
    pub fn settled(&self, batch: &[Settle], ended: &[Ended], now: Instant) {
        let settled = batch.iter().zip(ended).filter(|(one, ended)| ended.is_final(one));
        let measured: Vec<u64> = settled.filter_map(|(one, _)| tokens(one)).collect();
        let mut state = self.at(now);
        if let Some(minute) = state.minutes.back_mut() {
            minute.tokens = measured.iter().copied().fold(minute.tokens, u64::saturating_add);
            minute.has_tokens |= !measured.is_empty();
        }
    }

    /// The last sixty minutes, the current one last. Those before the beginning are empty.
    pub fn minutes(&self, now: Instant) -> [Minute; MINUTES] {
        let state = self.at(now);
        let mut minutes = [Minute::default(); MINUTES];
        for (place, minute) in minutes.iter_mut().rev().zip(state.minutes.iter().rev()) {
            *place = *minute;
        }
        minutes
    }

    /// The state, with the minute of `now` last. A panic cannot leave it half changed.
    fn at(&self, now: Instant) -> MutexGuard<'_, State> {
        let minute = now.saturating_duration_since(self.began).as_secs() / 60;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.minutes.is_empty() {
            state.minutes.push_back(Minute::default());
        }
        let passed = minute.saturating_sub(state.current);
        state.current += passed;
        for _ in 0..passed.min(60) {
            state.minutes.push_back(Minute::default());
            if state.minutes.len() > MINUTES {
                state.minutes.pop_front();
            }
        }
        state
    }
}

/// The requests that were refused from memory since one asked, of the first owner of counters: others of its group
/// bring their own.
fn unasked(one: &Reserve) -> u64 {
    let charges = one.charges.first().map(|scope| scope.charges.as_slice()).unwrap_or_default();
    let own = charges.chunk_by(|a, b| a.identity == b.identity).next().map_or(0, <[Charge]>::len);
    u64::from(one.refused_unasked.iter().take(own).copied().max().unwrap_or_default())
}

/// The tokens of a request that was settled: those that were measured, or else the most that any of the limits that it
/// is charged to says. None if neither says anything.
pub fn tokens(one: &Settle) -> Option<u64> {
    let most = |metric: Metric| {
        let is_of = |charge: &&Charge| Metric::of_limit(&charge.name) == Some(metric);
        ScopeCharges::flat(&one.charges).filter(is_of).map(|charge| charge.cost.get()).max()
    };
    let parts = match (most(Metric::InputTokens), most(Metric::OutputTokens)) {
        (None, None) => None,
        (input, output) => Some(input.unwrap_or_default().saturating_add(output.unwrap_or_default())),
    };
    one.tokens.or_else(|| most(Metric::TotalTokens).max(parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{charge, in_scope};
    use llm_rate_limit::quantity::Units;
    use llm_rate_limit::store::wire::Settled;
    use std::time::Duration;

    fn charges(costs: &[(&str, u64)]) -> Vec<ScopeCharges> {
        let charge = |(name, cost): &(&str, u64)| Charge { cost: Units::new(*cost), ..charge(name) };
        vec![in_scope("me", &costs.iter().map(charge).collect::<Vec<_>>())]
    }

    fn decided(admitted: bool) -> Reserved {
        Reserved::Decided { admitted, windows: Vec::new() }
    }

    #[test]
    fn an_hour_is_kept_minute_by_minute() {
        let start = Instant::now();
        let history = History::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let one = Reserve { charges: charges(&[("requests", 1)]), ..Reserve::default() };
        let after_others = Reserve { refused_unasked: vec![3, 9], ..one.clone() };
        let batch = [one, after_others, Reserve::default()];
        history.reserved(&batch, &[decided(true), decided(false), decided(true)], at(59));
        history.reserved(&batch, &[decided(true), decided(true), decided(true)], at(60));
        let minutes = history.minutes(at(179));
        assert_eq!(minutes[MINUTES - 3], Minute { admitted: 1, refused: 4, tokens: 0, has_tokens: false });
        assert_eq!(minutes[MINUTES - 2], Minute { admitted: 2, refused: 3, tokens: 0, has_tokens: false });
        assert_eq!(minutes[MINUTES - 1], Minute::default());
        assert_eq!(
            history.minutes(at(59 * 60))[0],
            Minute { admitted: 1, refused: 4, tokens: 0, has_tokens: false }
        );
        assert_eq!(
            history.minutes(at(60 * 60))[0],
            Minute { admitted: 2, refused: 3, tokens: 0, has_tokens: false }
        );
        assert_eq!(history.minutes(at(1_000_000)), [Minute::default(); MINUTES]);
    }

    #[test]
    fn the_tokens_of_a_request_count_once_when_it_ends() {
        let start = Instant::now();
        let history = History::new(start);
        let done = |settled| Ended::from(Settled::Done { settled, over: false });
        let settle = |costs: &[(&str, u64)]| Settle { charges: charges(costs), ..Settle::default() };
        let extension = Settle { extend: true, ..settle(&[("total_tokens", 1)]) };
        let batch = [
            settle(&[("total_tokens", 7), ("gpt-4*/total_tokens", 7), ("requests", 1)]),
            settle(&[("input_tokens", 5), ("output_tokens", 6)]),
            settle(&[("total_tokens", 100)]),
            extension,
        ];
        history.settled(&batch, &[done(true), done(true), done(false), done(true)], start);
        assert_eq!(history.minutes(start)[MINUTES - 1].tokens, 18);
        // Where dollars are limited, or only requests, the filter says what it has measured.
        let measured = Settle { tokens: Some(100), ..settle(&[("cost_usd", 9)]) };
        let batch = [measured, settle(&[("requests", 1)])];
        history.settled(&batch, &[done(true), done(true)], start);
        assert_eq!(history.minutes(start)[MINUTES - 1].tokens, 118);
    }

    #[test]
    fn tokens_that_nobody_has_measured_are_not_none() {
        let start = Instant::now();
        let history = History::new(start);
        let done = [Settled::Done { settled: true, over: false }.into()];
        let settle = |name| Settle { charges: charges(&[(name, 0)]), ..Settle::default() };
        history.settled(&[settle("requests")], &done, start);
        assert!(!history.minutes(start)[MINUTES - 1].has_tokens);
        history.settled(&[settle("total_tokens")], &done, start);
        assert!(history.minutes(start)[MINUTES - 1].has_tokens);
    }
}
