//! The charges that tests make, in one place for all of them.

use llm_rate_limit::quantity::{Millis, Units};
use llm_rate_limit::store::wire::{Charge, ScopeCharges};
use llm_rate_limit::window::Window;

/// A charge to the counter of `owner`, which is both the scope and the identity.
pub fn charge(owner: &str, name: &str, window: Window, limit: u64, cost: u64) -> ScopeCharges {
    ScopeCharges { scope: owner.into(), charges: vec![of(owner, name, window, limit, cost)] }
}

/// A charge to the counter of `owner` in a sliding window of an hour, from which nothing leaves during a test.
pub fn hourly(owner: &str, name: &str, limit: u64, cost: u64) -> ScopeCharges {
    charge(owner, name, Window::sliding(Millis::HOUR.at_least_one()), limit, cost)
}

/// A charge to the counter of the identity `key`, which shares the scope `team` with others.
pub fn team_charge(name: &str, window: Window, limit: u64, cost: u64) -> Charge {
    of("key", name, window, limit, cost)
}

fn of(identity: &str, name: &str, window: Window, limit: u64, cost: u64) -> Charge {
    Charge {
        identity: identity.into(),
        name: name.into(),
        window,
        limit: Units::new(limit),
        cost: Units::new(cost),
        enforced: true,
        warn_at: None,
    }
}
