//! Charges: the counters of a request, by scope, with the units that it takes from each.

use super::keys;
use crate::quantity::Units;
use crate::window::Window;
use std::sync::Arc;

/// One counter that a request is charged to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The owner of the counter.
    pub identity: Arc<str>,
    /// The limit's name.
    pub name: Arc<str>,
    /// Its window.
    pub window: Window,
    /// The most that the window admits. Not used by a settlement.
    pub limit: Units,
    /// To reserve; in a settlement, the real cost.
    pub cost: Units,
    /// False for limits in a dry run: the cost is charged whether or not it fits, and the answer reports which.
    pub enforced: bool,
}

/// The charges of one scope, which are one atomic step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeCharges {
    /// The hash tag of their keys.
    pub scope: Arc<str>,
    /// The charges.
    pub charges: Vec<Charge>,
}

impl ScopeCharges {
    /// `charges`, each with its scope, in their order: neighbours in one scope are charged together.
    pub fn group<S: AsRef<str> + Into<Arc<str>>>(
        charges: impl IntoIterator<Item = (S, Charge)>,
    ) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for (scope, charge) in charges {
            match groups.last_mut() {
                Some(last) if *last.scope == *scope.as_ref() => last.charges.push(charge),
                _ => groups.push(Self { scope: scope.into(), charges: vec![charge] }),
            }
        }
        groups
    }

    /// All charges of `scopes`, in their order.
    pub fn flat(scopes: &[Self]) -> impl Iterator<Item = &Charge> {
        scopes.iter().flat_map(|scope| &scope.charges)
    }

    /// The charges of `scopes`, each with the change that `change` makes to it.
    #[must_use]
    pub fn changed(scopes: &[Self], mut change: impl FnMut(&mut Charge)) -> Vec<Self> {
        let mut changed = scopes.to_vec();
        changed.iter_mut().flat_map(|scope| &mut scope.charges).for_each(&mut change);
        changed
    }

    /// The key of each charge's counter in Redis.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        self.charges
            .iter()
            .map(|charge| keys::counter(&self.scope, &charge.identity, &charge.name, &charge.window))
    }
}
