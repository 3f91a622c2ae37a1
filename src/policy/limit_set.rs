//! Sets of limits, for any model and for patterns of models, and how one set overrides another.

use crate::policy::candidates::Candidates;
use crate::policy::limit::{Allowance, Enforcement, Limit, Metric};
use crate::policy::model_access::{ForbiddenModel, ModelAccess};
use crate::policy::on_limit::{Continuation, OnLimit};
use crate::policy::output_cap::{OutputCap, OutputRule};
use crate::policy::pattern::Pattern;
use crate::quantity::NonZeroMillis;
use crate::window::Algorithm;
use crate::window::calendar::CalendarName;
use std::sync::Arc;

/// The limits of a plan, a key, a key on a plan, a group, or all requests. No two limits in one list have the same
/// [`Slot`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitSet {
    /// The limits for any model.
    pub(crate) general: Vec<Arc<Limit>>,
    /// The limits for some models, one element per pattern.
    pub(crate) models: Vec<ModelLimits>,
    /// The models that requests may name.
    pub(crate) access: ModelAccess,
    /// The most output tokens of an answer.
    pub(crate) output: OutputCap,
    /// The enforcement of limits that set none of their own, in this set and in sets that override it.
    pub(crate) enforcement: Enforcement,
}

/// The limits of the models that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelLimits {
    pub(crate) pattern: Pattern,
    pub(crate) limits: Vec<Arc<Limit>>,
}

impl LimitSet {
    /// Whether there are no limits, and requests may ask for anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.general.is_empty() && self.models.is_empty() && !self.has_terms() && self.output.clamp.is_none()
    }

    /// Whether requests may not ask for everything.
    const fn has_terms(&self) -> bool {
        !self.access.is_open() || self.output.most.is_some()
    }

    /// The most output tokens of an answer, if there is a maximum.
    pub(crate) fn output_rule(&self) -> Option<OutputRule> {
        self.output.rule(self.enforcement.dry_run)
    }

    /// The first of `models` that a request may not name.
    pub(crate) fn forbidden(&self, models: &Candidates) -> Option<ForbiddenModel> {
        let model = self.access.forbidden(models)?;
        Some(ForbiddenModel { model, dry_run: self.enforcement.dry_run })
    }

    /// The limits that apply to a request for one of `models`, each with the pattern of the models that it is for.
    pub(crate) fn of(&self, models: &Candidates) -> impl Iterator<Item = (Option<&Pattern>, &Arc<Limit>)> {
        let of_models = self.models.iter().filter(move |limits| models.may_match(&limits.pattern));
        let of_models = of_models
            .flat_map(|of_model| of_model.limits.iter().map(|limit| (Some(&of_model.pattern), limit)));
        self.general.iter().map(|limit| (None, limit)).chain(of_models)
    }

    /// These limits, with each enforcement changed by `change`.
    pub(crate) fn with_enforcement(&self, change: impl Fn(&Enforcement) -> Enforcement) -> Self {
        let changed = |limits: &[Arc<Limit>]| {
            let changed =
                |limit: &Arc<Limit>| Limit { enforcement: change(&limit.enforcement), ..Limit::clone(limit) };
            limits.iter().map(changed).map(Arc::new).collect()
        };
        let of_model = |of_model: &ModelLimits| ModelLimits {
            pattern: of_model.pattern.clone(),
            limits: changed(&of_model.limits),
        };
        Self {
            general: changed(&self.general),
            models: self.models.iter().map(of_model).collect(),
            access: self.access.clone(),
            output: self.output,
            enforcement: change(&self.enforcement),
        }
    }

    /// These limits, overridden by `own`: a limit in `own` replaces the one with the same slot and pattern, and a list
    /// of allowed models the other.
    pub(crate) fn overridden_by(&self, own: &Self) -> Self {
        let mut models = self.models.clone();
        for own in &own.models {
            match models.iter_mut().find(|limits| limits.pattern == own.pattern) {
                Some(limits) => limits.limits = overridden(&limits.limits, &own.limits),
                None => models.push(own.clone()),
            }
        }
        Self {
            general: overridden(&self.general, &own.general),
            models,
            access: self.access.overridden_by(&own.access),
            output: self.output.overridden_by(own.output),
            enforcement: own.enforcement.clone(),
        }
    }

    /// Whether anything is enforced, and not only counted in a dry run.
    pub(crate) fn enforces(&self) -> bool {
        self.enforces_terms() || self.all().any(|limit| !limit.enforcement.dry_run)
    }

    /// Whether the body of a request decides which limits apply to it, what it costs under them, or whether it may be;
    /// or may have to name another model.
    pub(crate) fn needs_body(&self) -> bool {
        let names_model = |how: &Arc<Continuation>| how.model.is_some();
        !self.models.is_empty()
            || self.has_terms()
            || self.limits(Metric::needs_tokens)
            || self.all().filter_map(|limit| limit.enforcement.continues()).any(names_model)
    }

    /// Whether any limit is on a metric that `which` picks.
    pub(crate) fn limits(&self, which: impl Fn(Metric) -> bool) -> bool {
        self.all().any(|limit| which(limit.metric))
    }

    /// What requests may say of the amounts of its limits.
    pub(crate) fn allowances(&self) -> impl Iterator<Item = &Arc<Allowance>> {
        self.all().filter_map(|limit| limit.allowance.as_ref())
    }

    /// How requests go on that are over one of its limits, also where that is in a dry run: no client may set its
    /// header.
    pub(crate) fn continuations(&self) -> impl Iterator<Item = &Arc<Continuation>> {
        self.all().filter_map(|limit| match &limit.enforcement.on_limit {
            OnLimit::Continue(how) => Some(how),
            OnLimit::Refuse | OnLimit::Wait => None,
        })
    }

    /// Whether something is enforced that the body of a request decides on: what it costs, or whether it applies.
    pub(crate) fn enforces_by_body(&self) -> bool {
        let is_enforced = |limit: &Arc<Limit>| !limit.enforcement.dry_run;
        let of_models = self.models.iter().flat_map(|of_model| &of_model.limits);
        let by_tokens = self.general.iter().filter(|limit| limit.metric.needs_tokens());
        self.enforces_terms() || by_tokens.chain(of_models).any(is_enforced)
    }

    const fn enforces_terms(&self) -> bool {
        self.has_terms() && !self.enforcement.dry_run
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.general.iter().chain(self.models.iter().flat_map(|limits| &limits.limits))
    }
}

/// The place of a limit in a list: a metric over a duration, a metric over a calendar month or the periods of another
/// calendar, or the requests in flight, however long their leases are. A list has at most one limit per slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    Length(Metric, NonZeroMillis),
    Month(Metric),
    Calendar(Metric, CalendarName),
    Concurrency,
}

impl Slot {
    /// The slot of `limit`.
    pub(crate) const fn of(limit: &Limit) -> Self {
        match limit.window.algorithm {
            Algorithm::Concurrency => Self::Concurrency,
            Algorithm::CalendarMonth => Self::Month(limit.metric),
            Algorithm::CalendarWindow(calendar) => Self::Calendar(limit.metric, calendar.name),
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
