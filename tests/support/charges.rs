//! The charges that tests send to the scripts and to the sidecar, all of them enforced. A test changes other fields by
//! struct update.

use llm_rate_limit::store::wire::Charge;
use llm_rate_limit::window::Window;

/// A charge to `owner`, which has a scope of its own.
pub fn charge(owner: &str, name: &str, window: Window, limit: u64, cost: u64) -> Charge {
    Charge {
        scope: owner.to_owned(),
        identity: owner.to_owned(),
        name: name.to_owned(),
        window,
        limit,
        cost,
        enforced: true,
    }
}

/// A charge to the identity `key` in the scope `team`, to be charged together with others of that scope.
pub fn team_charge(name: &str, window: Window, limit: u64, cost: u64) -> Charge {
    Charge { scope: "team".to_owned(), ..charge("key", name, window, limit, cost) }
}
