//! Sets of limits, for any model and for patterns of models, and how one set overrides another.

use crate::policy::limit::{Enforcement, Limit, Metric};
use crate::policy::pattern::Pattern;
use crate::quantity::NonZeroMillis;
use crate::window::Algorithm;
use std::sync::Arc;

/// The limits of a plan, a key, a key on a plan, a group, or all requests. No two limits in one list have the same
/// [`Slot`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitSet {
    /// The limits for any model.
    pub(crate) general: Vec<Arc<Limit>>,
    /// The limits for some models, one element per pattern.
    pub(crate) models: Vec<ModelLimits>,
    /// The enforcement of limits that set none of their own, in this set and in sets that override it.
    pub(crate) enforcement: Enforcement,
}

/// The limits of the models that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelLimits {
    pub(crate) pattern: Pattern,
    pub(crate) limits: Vec<Arc<Limit>>,
}

impl ModelLimits {
    /// Whether they apply to a request for `model`. A request that names no model matches only `*`.
    pub(crate) fn applies_to(&self, model: Option<&str>) -> bool {
        self.pattern.matches_request(model)
    }
}

impl LimitSet {
    /// Whether there are no limits.
    pub(crate) fn is_empty(&self) -> bool {
        self.general.is_empty() && self.models.is_empty()
    }

    /// The limits that apply to a request for `model`.
    pub(crate) fn of(&self, model: Option<&str>) -> impl Iterator<Item = &Arc<Limit>> {
        let of_models = self.models.iter().filter(move |limits| limits.applies_to(model));
        self.general.iter().chain(of_models.flat_map(|limits| &limits.limits))
    }

    /// These limits, with each enforcement changed by `change`.
    pub(crate) fn with_enforcement(&self, change: impl Fn(Enforcement) -> Enforcement) -> Self {
        let changed = |limits: &[Arc<Limit>]| {
            let changed =
                |limit: &Arc<Limit>| Limit { enforcement: change(limit.enforcement), ..Limit::clone(limit) };
            limits.iter().map(changed).map(Arc::new).collect()
        };
        let of_model = |of_model: &ModelLimits| ModelLimits {
            pattern: of_model.pattern.clone(),
            limits: changed(&of_model.limits),
        };
        Self {
            general: changed(&self.general),
            models: self.models.iter().map(of_model).collect(),
            enforcement: change(self.enforcement),
        }
    }

    /// These limits, overridden by `own`: a limit in `own` replaces the one with the same slot and pattern.
    pub(crate) fn overridden_by(&self, own: &Self) -> Self {
        let mut models = self.models.clone();
        for own in &own.models {
            match models.iter_mut().find(|limits| limits.pattern == own.pattern) {
                Some(limits) => limits.limits = overridden(&limits.limits, &own.limits),
                None => models.push(own.clone()),
            }
        }
        Self { general: overridden(&self.general, &own.general), models, enforcement: own.enforcement }
    }

    /// Whether any limit is on a metric that `which` picks.
    pub(crate) fn limits(&self, which: impl Fn(Metric) -> bool) -> bool {
        let all = self.general.iter().chain(self.models.iter().flat_map(|limits| &limits.limits));
        all.into_iter().any(|limit| which(limit.metric))
    }
}

/// The place of a limit in a list: a metric over a duration, a metric over a calendar month, or the requests in flight,
/// however long their leases are. A list has at most one limit per slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    Length(Metric, NonZeroMillis),
    Month(Metric),
    Concurrency,
}

impl Slot {
    /// The slot of `limit`.
    pub(crate) const fn of(limit: &Limit) -> Self {
        match limit.window.algorithm {
            Algorithm::Concurrency => Self::Concurrency,
            Algorithm::CalendarMonth => Self::Month(limit.metric),
            Algorithm::SlidingWindow { .. } | Algorithm::FixedWindow | Algorithm::TokenBucket { .. } => {
                Self::Length(limit.metric, limit.window.length)
            }
        }
    }
}

/// `limits`, overridden by `own`. A replaced limit keeps its place in the list.
fn overridden(limits: &[Arc<Limit>], own: &[Arc<Limit>]) -> Vec<Arc<Limit>> {
    let same = |a: &Limit, b: &Limit| Slot::of(a) == Slot::of(b);
    let replaced = limits.iter().map(|limit| own.iter().find(|own| same(own, limit)).unwrap_or(limit));
    let added = own.iter().filter(|own| !limits.iter().any(|limit| same(own, limit)));
    replaced.chain(added).cloned().collect()
}
