//! Charges for the tests of this crate.

use llm_rate_limit::quantity::{NonZeroMillis, Units};
use llm_rate_limit::store::wire::{Charge, ScopeCharges};
use llm_rate_limit::window::Window;

/// A charge of one unit of 100, in a window of a minute, of the identity `key` under the limit `name`.
pub(crate) fn charge(name: &str) -> Charge {
    Charge {
        identity: "key".into(),
        name: name.into(),
        window: Window::sliding(NonZeroMillis::MINUTE),
        limit: Units::new(100),
        cost: Units::new(1),
        enforced: true,
        warn_at: None,
    }
}

/// `charges` in one scope.
pub(crate) fn in_scope(scope: &str, charges: &[Charge]) -> ScopeCharges {
    ScopeCharges { scope: scope.into(), charges: charges.to_vec() }
}
