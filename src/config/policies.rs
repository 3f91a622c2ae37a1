//! The policy of a key or of the default, checked: a plan with what overrides it, a group and a name, each written or
//! left to a claim of the request.

use super::claims::Chosen;
use super::error::{Path, Problems};
use super::grants::{Catalogue, check_clamp};
use super::limit_set::{OwnEnforcement, limit_set};
use super::raw;
use crate::policy::limit::Enforcement;
use crate::policy::{Choices, LimitSet, Name, Named, Policy};
use crate::sort;
use std::sync::Arc;

/// What a key or the default has of its own.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) plan: Option<&'a raw::Word<raw::ClaimedWord>>,
    pub(super) group: Option<&'a raw::Word<raw::ClaimedWord>>,
    pub(super) limits: raw::Limits<'a>,
    pub(super) terms: raw::Terms<'a>,
}

impl Own<'_> {
    /// Whether it has neither a plan, nor a group, nor limits.
    pub(super) fn is_nothing(&self) -> bool {
        self.plan.is_none() && self.group.is_none() && self.limits.are_none() && self.terms.are_none()
    }
}

/// Builds the policy of the key or the default at `path`, which is called `name`. None if its plan or its group is not
/// in the configuration, or has been found wrong.
pub(super) fn policy(
    own: Own<'_>,
    name: Chosen<'_>,
    catalogue: &Catalogue,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<Policy> {
    let plan_path = path.member("plan");
    let chosen_plan = Chosen::word(own.plan, &plan_path, problems);
    let plan = catalogue.plan(&chosen_plan, &plan_path, problems);
    let outer = plan.as_ref().map_or_else(Enforcement::default, |(_, plan)| plan.enforcement.clone());
    // Without the plan, they are checked all the same.
    let limits = limit_set(own.limits, own.terms, &outer, path, problems);
    let plan = plan.map(|(name, plan)| (name, combined(plan, &limits, own, path)));
    let plans = chosen_plan.claim.map(|claim| (claim, combined_plans(&catalogue.plans, own, path)));
    let of_plans = plans.iter().flat_map(|(_, plans)| plans.values());
    let mut sets = plan.iter().map(|(_, set)| set).chain(of_plans);
    let is_capped = plan.is_none() || sets.any(|set| set.output.most.is_some());
    check_clamp(own.terms, is_capped, path, problems);
    let group_path = path.member("group");
    let chosen_group = Chosen::word(own.group, &group_path, problems);
    let group = catalogue.group(&chosen_group, &group_path, problems);
    let groups = chosen_group.claim.map(|claim| (claim, Arc::clone(&catalogue.groups)));
    let is_apart = groups.is_some();
    let choices = Choices { plan: plans, group: groups, name: name.claim };
    let (plan, own) = plan?;
    Some(Policy {
        name: name.word.map(|name| Name::Configured(name.into())),
        plan,
        own,
        group: group?,
        shared: Arc::clone(&catalogue.shared),
        max_new_identities: None,
        is_apart,
        choices: (!choices.are_none()).then(|| Arc::new(choices)),
    })
}

/// Every plan with what the key or the default at `path` has of its own; the plans themselves if that is nothing.
fn combined_plans(plans: &Named<LimitSet>, own: Own<'_>, path: &Path<'_>) -> Named<LimitSet> {
    // Its problems have been reported.
    let unheard = &mut Problems::default();
    let sets_nothing = OwnEnforcement::of(own.limits, path, unheard).is_none();
    if own.limits.are_none() && own.terms.are_none() && sets_nothing {
        return Arc::clone(plans);
    }
    let each = plans.iter().map(|(name, plan)| {
        let limits = limit_set(own.limits, own.terms, &plan.enforcement, path, &mut Problems::default());
        (Arc::clone(name), combined(Arc::clone(plan), &limits, own, path))
    });
    Arc::new(sort::collected(each))
}

/// The `plan`, overridden by the `limits` of the key or the default at `path`, and with the enforcement set there. If
/// nothing is set there, this is the plan itself, which is then shared.
fn combined(plan: Arc<LimitSet>, limits: &LimitSet, own: Own<'_>, path: &Path<'_>) -> Arc<LimitSet> {
    // Its problems have been reported.
    let enforcement = OwnEnforcement::of(own.limits, path, &mut Problems::default());
    let plan = if enforcement.is_none() {
        plan
    } else {
        Arc::new(plan.with_enforcement(|of_plan| enforcement.over(of_plan)))
    };
    if limits.is_empty() { plan } else { Arc::new(plan.overridden_by(limits)) }
}
