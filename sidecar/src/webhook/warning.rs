//! What a warning says.

use crate::store::Ended;
use llm_rate_limit::policy::limit::Metric;
use llm_rate_limit::quantity::{MILLION, Units};
use llm_rate_limit::store::keys::Keyspace;
use llm_rate_limit::store::wire::{Charge, Reserve, Reserved, ScopeCharges, Settle};
use llm_rate_limit::window::{Algorithm, Fit, Window, WindowState};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A limit that is nearly used.
#[derive(Clone, Debug)]
pub struct Warning {
    namespace: Arc<str>,
    scope: Arc<str>,
    charge: Charge,
    warn_at: Units,
    state: WindowState,
    /// Whether it may only be nearly reserved.
    is_reserved: bool,
}

/// The warnings in the answers to a batch of reservations. A cost that is known from the start counts as used at once.
/// Tokens and dollars count when they are settled ([`settled`]), since an answer may use a small part of what it
/// reserves; but a limit that refuses a request is worth a warning of its own.
pub fn reserved(batch: &[Reserve], answers: &[Reserved]) -> impl Iterator<Item = Warning> {
    batch.iter().zip(answers).flat_map(|(one, answer)| {
        let (states, admitted) = match answer {
            Reserved::Decided { windows, admitted } => (windows.as_slice(), *admitted),
            Reserved::Failed { .. } => (Default::default(), true),
        };
        let found = warnings(&one.namespace, &one.charges, states);
        found.filter_map(move |warning| {
            let is_reserved = !one.is_final && warning.is_of_estimates();
            let is_refused = !admitted && warning.state.fit != Fit::Now;
            (!is_reserved || is_refused).then_some(Warning { is_reserved, ..warning })
        })
    })
}

/// The warnings after a batch of settlements, of requests that have ended.
pub fn settled(batch: &[Settle], ended: &[Ended]) -> impl Iterator<Item = Warning> {
    let over = batch.iter().zip(ended).filter(|(one, ended)| ended.is_final(one));
    over.flat_map(|(one, ended)| warnings(&one.namespace, &one.charges, &ended.windows))
}

/// The warnings that `states` of the windows of `scopes` are worth.
fn warnings(
    namespace: &Arc<str>,
    scopes: &[ScopeCharges],
    states: &[WindowState],
) -> impl Iterator<Item = Warning> {
    charges(scopes).zip(states).filter_map(|((scope, charge), state)| {
        let warn_at = charge.warn_at.filter(|warn_at| state.used >= *warn_at)?;
        Some(Warning {
            namespace: Arc::clone(namespace),
            scope: Arc::clone(scope),
            charge: charge.clone(),
            warn_at,
            state: *state,
            is_reserved: false,
        })
    })
}

/// All charges, each with its scope.
fn charges(scopes: &[ScopeCharges]) -> impl Iterator<Item = (&Arc<str>, &Charge)> {
    scopes.iter().flat_map(|ScopeCharges { scope, charges }| charges.iter().map(move |one| (scope, one)))
}

impl Warning {
    /// The key in Redis that says that the warning is reported.
    pub fn key(&self) -> String {
        if self.is_reserved { self.key_of(Keyspace::warned_reserved) } else { self.key_of(Keyspace::warned) }
    }

    /// The key of the warning that this one makes needless: of what is used, that of what is reserved.
    pub fn needless_key(&self) -> Option<String> {
        (!self.is_reserved).then(|| self.key_of(Keyspace::warned_reserved))
    }

    fn key_of<'a>(&'a self, key: fn(Keyspace<'a>, &str, &str, &str, &Window) -> String) -> String {
        let Charge { identity, name, window, .. } = &self.charge;
        key(Keyspace::new(&self.namespace), &self.scope, identity, name, window)
    }

    /// Whether requests reserve an estimate of what counts.
    fn is_of_estimates(&self) -> bool {
        Metric::of_limit(&self.charge.name).is_none_or(Metric::needs_tokens)
    }

    /// How long a report holds: the window's duration; of requests in flight, that of a lease.
    pub fn lasts(&self) -> Duration {
        Duration::from_millis(self.charge.window.length.get().get())
    }

    /// What the webhook gets, with the `time` in RFC 3339. Dollars are a decimal number, everything else an integer.
    pub fn payload(&self, time: &str) -> Value {
        let Charge { identity, name, window, limit, .. } = &self.charge;
        let amount = |units: Units| self.amount(units);
        json!({
            "type": "rate_limit.warning",
            "timestamp": time,
            "data": {
                "namespace": *self.namespace,
                "scope": *self.scope,
                "identity": **identity,
                "limit": **name,
                "window": match window.algorithm {
                    Algorithm::Concurrency => Value::Null,
                    _ => window.label().into(),
                },
                "used": amount(self.state.used),
                "reserved": self.is_reserved,
                "limit_amount": amount(window.capacity(*limit) + self.state.granted),
                "warn_at": amount(self.warn_at),
                "reset_ms": self.state.reset.get(),
            },
        })
    }

    fn amount(&self, units: Units) -> Value {
        let is_dollars = Metric::of_limit(&self.charge.name) == Some(Metric::CostUsd);
        // Both are exact to 2^53, and a budget ends at 2^50 millionths.
        if is_dollars { (units.get() as f64 / MILLION as f64).into() } else { units.get().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{self, in_scope};
    use llm_rate_limit::quantity::Millis;
    use llm_rate_limit::store::wire::Settled;

    fn charge(name: &str, warn_at: Option<u64>) -> Charge {
        Charge {
            identity: "me".into(),
            limit: Units::new(10_000_000),
            warn_at: warn_at.map(Units::new),
            ..examples::charge(name)
        }
    }

    fn state(used: u64) -> WindowState {
        WindowState { used: Units::new(used), reset: Millis::new(1_500), fit: Fit::Now, granted: Units::ZERO }
    }

    /// The keys of what is found, each without the part that all have.
    fn keys(found: impl Iterator<Item = Warning>) -> Vec<String> {
        let keys = found.map(|warning| warning.key());
        keys.map(|key| key.replace("llmrl:3:eu:", "")).collect()
    }

    #[test]
    fn requests_count_at_once_and_tokens_when_they_are_used_or_refuse() {
        let charges = || {
            vec![
                in_scope("team", &[charge("requests", Some(8)), charge("input_tokens", None)]),
                in_scope("me", &[charge("gpt-4*/cost_usd", Some(7_500_000))]),
            ]
        };
        let one = || Reserve { namespace: "eu".into(), charges: charges(), ..Reserve::default() };
        let answered = |admitted, used: [u64; 3], fit| {
            let mut windows = used.map(state).to_vec();
            windows[2].fit = fit;
            Reserved::Decided { admitted, windows }
        };
        let (requests, dollars) = ("{team}:me:requests:1m:warned", "{me}:me:gpt-4*/cost_usd:1m:warned");
        let after = || Fit::After(llm_rate_limit::quantity::NonZeroMillis::MINUTE);
        for (answer, expected) in [
            (answered(true, [7, 9_000_000, 7_000_000], Fit::Now), vec![]),
            (answered(true, [8, 9_000_000, 8_250_000], Fit::Now), vec![requests]),
            (answered(false, [7, 9_000_000, 8_250_000], Fit::Now), vec![]),
            (answered(false, [7, 9_000_000, 7_000_000], after()), vec![]),
            (
                answered(false, [7, 9_000_000, 8_250_000], after()),
                vec!["{me}:me:gpt-4*/cost_usd:1m:warned-reserved"],
            ),
            (Reserved::Failed { error: "no".into(), unavailable: true }, vec![]),
        ] {
            assert_eq!(keys(reserved(&[one()], std::slice::from_ref(&answer))), expected, "{answer:?}");
        }
        let is_final = Reserve { is_final: true, ..one() };
        let answer = answered(true, [7, 0, 8_250_000], Fit::Now);
        assert_eq!(keys(reserved(&[is_final], &[answer])), [dollars]);
        let settle =
            |extend| Settle { namespace: "eu".into(), charges: charges(), extend, ..Settle::default() };
        let done = || Ended {
            answer: Settled::Done { settled: true, over: false },
            windows: [7, 9_000_000, 8_250_000].map(state).to_vec(),
        };
        assert_eq!(keys(settled(&[settle(true), settle(false)], &[done(), done()])), [dollars]);
    }

    #[test]
    fn a_warning_says_what_is_used_of_what() {
        let charges = vec![in_scope("me", &[charge("gpt-4*/cost_usd", Some(7_500_000))])];
        let one = Settle { namespace: "eu".into(), charges, ..Settle::default() };
        let answer = Settled::Done { settled: true, over: false };
        let found: Vec<_> = settled(&[one], &[Ended { answer, windows: vec![state(8_250_000)] }]).collect();
        assert_eq!(
            found[0].payload("2026-01-01T00:00:00Z"),
            json!({
                "type": "rate_limit.warning",
                "timestamp": "2026-01-01T00:00:00Z",
                "data": {
                    "namespace": "eu", "scope": "me", "identity": "me", "limit": "gpt-4*/cost_usd", "window": "1m",
                    "used": 8.25, "reserved": false, "limit_amount": 10.0, "warn_at": 7.5, "reset_ms": 1500,
                },
            })
        );
    }
}
