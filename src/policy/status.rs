//! The status of a limit for one request: the request's cost, and the counter after the decision.

use super::Owner;
use super::limit::{Limit, Metric};
use crate::quantity::{Millis, Units};
use crate::window::{Fit, WindowState};
use std::sync::Arc;

/// The wait to suggest to a request that found no free slot. Most requests end long before their leases do, so an early
/// retry is worth it.
const RETRY_SLOT: Millis = Millis::SECOND;

/// A limit that applies to a request, the request's cost under it, and the state of its counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitStatus {
    /// The limit.
    pub limit: Arc<Limit>,
    /// The limit's owner.
    pub owner: Owner,
    /// The units that the request costs under the limit.
    pub cost: Units,
    /// The counter after the decision.
    pub state: WindowState,
}

impl LimitStatus {
    /// The most that fits at once, with what is granted.
    pub fn capacity(&self) -> Units {
        self.limit.window.capacity(self.limit.amount) + self.state.granted
    }

    /// Units that are left.
    pub fn remaining(&self) -> Units {
        self.capacity() - self.state.used
    }

    /// Whether so much of the limit is used that it is worth a warning.
    pub fn is_nearly_used(&self) -> bool {
        self.limit.enforcement.warn_at.is_some_and(|part| self.state.used >= part.of(self.capacity()))
    }

    /// The duration until the request fits; zero if it fits now, none if it never does.
    pub fn wait(&self) -> Option<Millis> {
        match self.state.fit {
            Fit::Now => Some(Millis::ZERO),
            Fit::After(_) if self.limit.metric == Metric::Concurrency => Some(RETRY_SLOT),
            Fit::After(wait) => Some(wait.get()),
            Fit::Never => None,
        }
    }

    /// The limit in the access log: its owner, its name and its window, such as `group team-a/requests/1m`.
    pub fn label(&self) -> String {
        format!("{}/{}/{}", self.owner.label(), self.limit.name, self.limit.window.label())
    }

    /// Whether a smaller part of this limit is left than of `other`. Of two limits with equal parts left, the one that
    /// resets later is closer.
    fn is_closer_than(&self, other: &Self) -> bool {
        // 64 bits times 64 bits fit 128.
        let left =
            |a: &Self, b: &Self| u128::from(a.remaining().get()) * u128::from(b.capacity().get().max(1));
        let (mine, theirs) = (left(self, other), left(other, self));
        mine < theirs || (mine == theirs && self.state.reset > other.state.reset)
    }
}

/// The limit that is closest to being reached, among the metrics that `which` picks.
pub fn closest(statuses: &[LimitStatus], which: impl Fn(Metric) -> bool) -> Option<&LimitStatus> {
    statuses
        .iter()
        .filter(|status| which(status.limit.metric))
        .reduce(|closest, next| if next.is_closer_than(closest) { next } else { closest })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::policy::limit::Enforcement;
    use crate::quantity::NonZeroMillis;
    use crate::window::Window;

    /// The status of a limit over one minute. `state` is the units used, and the reset and the wait in milliseconds; a
    /// wait of -1 is never.
    pub(crate) fn status(metric: Metric, amount: u64, cost: u64, state: (u64, u64, i64)) -> LimitStatus {
        let limit = Arc::new(Limit {
            name: metric.name().into(),
            metric,
            amount: Units::new(amount),
            window: Window::sliding(NonZeroMillis::MINUTE),
            enforcement: Enforcement::default(),
            allowance: None,
        });
        let (used, reset, wait) = state;
        let fit = match u64::try_from(wait) {
            Ok(wait) => NonZeroMillis::new(wait).map_or(Fit::Now, Fit::After),
            Err(_) => Fit::Never,
        };
        let state =
            WindowState { used: Units::new(used), reset: Millis::new(reset), fit, granted: Units::ZERO };
        LimitStatus { limit, owner: Owner::Key, cost: Units::new(cost), state }
    }

    #[test]
    fn the_closest_limit_has_the_smallest_part_left() {
        let statuses = [
            status(Metric::Requests, 10, 1, (5, 1_000, 0)),
            status(Metric::TotalTokens, 1_000_000, 1, (900_000, 1_000, 0)),
            status(Metric::InputTokens, 0, 0, (0, 0, 0)),
        ];
        let closest = |which: fn(Metric) -> bool| closest(&statuses, which).map(|s| s.limit.metric);
        assert_eq!(closest(|m| m != Metric::InputTokens), Some(Metric::TotalTokens));
        assert_eq!(closest(|_| true), Some(Metric::InputTokens), "a limit of zero is always reached");
        assert_eq!(closest(|m| m == Metric::OutputTokens), None);
    }
}
