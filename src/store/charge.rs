//! Charges: the counters of a request, by scope, with the units that the request takes from each.

use super::keys::Keyspace;
use crate::quantity::Units;
use crate::window::Window;
use std::sync::Arc;

/// A charge to one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The owner of the counter.
    pub identity: Arc<str>,
    /// The limit's name.
    pub name: Arc<str>,
    /// The limit's window.
    pub window: Window,
    /// The most that the window admits. A settlement ignores it.
    pub limit: Units,
    /// The units to reserve; in a settlement, the real cost.
    pub cost: Units,
    /// False for a limit in a dry run: the store charges the cost whether or not it fits, and reports whether it does.
    pub enforced: bool,
    /// The use of the counter that Redis's sidecar reports to the webhook.
    pub warn_at: Option<Units>,
}

/// The charges of one scope, which a store makes in one atomic step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeCharges {
    /// The hash tag of the counters' keys.
    pub scope: Arc<str>,
    /// The charges.
    pub charges: Vec<Charge>,
}

impl ScopeCharges {
    /// Groups `charges`, each with its scope, and keeps their order: neighbours in one scope form a group.
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

    /// The number of charges of `scopes`.
    pub fn count(scopes: &[Self]) -> usize {
        scopes.iter().map(|scope| scope.charges.len()).sum()
    }

    /// A copy of `scopes` in which `change` has changed each charge.
    #[must_use]
    pub fn changed(scopes: &[Self], mut change: impl FnMut(&mut Charge)) -> Vec<Self> {
        let mut changed = scopes.to_vec();
        changed.iter_mut().flat_map(|scope| &mut scope.charges).for_each(&mut change);
        changed
    }

    /// The key of each charge's counter in Redis.
    pub fn keys(&self, space: Keyspace<'_>) -> impl Iterator<Item = String> {
        self.charges
            .iter()
            .map(move |charge| space.counter(&self.scope, &charge.identity, &charge.name, &charge.window))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::quantity::NonZeroMillis;

    /// A charge to the counter of `identity` in a sliding window of a minute, for all tests of the stores.
    pub(crate) fn charge(identity: &str, limit: u64, cost: u64) -> Charge {
        Charge {
            identity: identity.into(),
            name: "requests".into(),
            window: Window::sliding(NonZeroMillis::MINUTE),
            limit: Units::new(limit),
            cost: Units::new(cost),
            enforced: true,
            warn_at: None,
        }
    }
}
