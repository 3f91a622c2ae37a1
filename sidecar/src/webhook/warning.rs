//! What a warning says.

use llm_rate_limit::policy::limit::Metric;
use llm_rate_limit::quantity::{MILLION, Units};
use llm_rate_limit::store::keys::Keyspace;
use llm_rate_limit::store::wire::{Charge, Reserve, Reserved, ScopeCharges};
use llm_rate_limit::window::{Algorithm, WindowState};
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
}

/// The warnings in the `answers` to a batch, of requests that were admitted and of those that were not.
pub fn all(batch: &[Reserve], answers: &[Reserved]) -> impl Iterator<Item = Warning> {
    batch.iter().zip(answers).flat_map(|(one, answer)| {
        let states = match answer {
            Reserved::Decided { windows, .. } => windows.as_slice(),
            Reserved::Failed { .. } => &[],
        };
        charges(&one.charges).zip(states).filter_map(|((scope, charge), state)| {
            let warn_at = charge.warn_at.filter(|warn_at| state.used >= *warn_at)?;
            Some(Warning {
                namespace: Arc::clone(&one.namespace),
                scope: Arc::clone(scope),
                charge: charge.clone(),
                warn_at,
                state: *state,
            })
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
        let Charge { identity, name, window, .. } = &self.charge;
        Keyspace::new(&self.namespace).warned(&self.scope, identity, name, window)
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
                "limit_amount": amount(window.capacity(*limit)),
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
    use llm_rate_limit::window::Fit;

    fn charge(name: &str, warn_at: Option<u64>) -> Charge {
        Charge {
            identity: "me".into(),
            limit: Units::new(10_000_000),
            warn_at: warn_at.map(Units::new),
            ..examples::charge(name)
        }
    }

    fn state(used: u64) -> WindowState {
        WindowState { used: Units::new(used), reset: Millis::new(1_500), fit: Fit::Now }
    }

    #[test]
    fn only_limits_that_have_reached_their_threshold_warn() {
        let charges = vec![
            in_scope("team", &[charge("requests", Some(8)), charge("input_tokens", None)]),
            in_scope("me", &[charge("gpt-4*/cost_usd", Some(7_500_000))]),
        ];
        let one = Reserve { namespace: "eu".into(), charges, ..Reserve::default() };
        let decided =
            |used: [u64; 3]| Reserved::Decided { admitted: true, windows: used.map(state).to_vec() };
        let failed = Reserved::Failed { error: "no".into(), unavailable: true };
        let batch = [one.clone(), one.clone(), one];
        let found: Vec<_> =
            all(&batch, &[decided([7, 9_000_000, 0]), failed, decided([8, 9_000_000, 8_250_000])]).collect();
        let keys: Vec<_> = found.iter().map(Warning::key).collect();
        assert_eq!(
            keys,
            ["llmrl:3:eu:{team}:me:requests:1m:warned", "llmrl:3:eu:{me}:me:gpt-4*/cost_usd:1m:warned"]
        );
        assert_eq!(
            found[1].payload("2026-01-01T00:00:00Z"),
            json!({
                "type": "rate_limit.warning",
                "timestamp": "2026-01-01T00:00:00Z",
                "data": {
                    "namespace": "eu", "scope": "me", "identity": "me", "limit": "gpt-4*/cost_usd", "window": "1m",
                    "used": 8.25, "limit_amount": 10.0, "warn_at": 7.5, "reset_ms": 1500,
                },
            })
        );
    }
}
