//! What requests say of their own limits: the parts of a policy that a claim chooses, among what the configuration has.
//!
//! A request brings no limits: its plan and its group are those of the configuration, shared by all who have them, and
//! a number is the amount of a limit whose counter is the same whatever the number. So a claim makes no counters, no
//! scopes and no labels. Where it says nothing of use, the default holds, and [`Claims::misses`] says so.

use super::Group;
use super::limit::{Allowance, Limit};
use super::limit_set::LimitSet;
use crate::identity::{Claim, RequestView, plain_name};
use crate::quantity::Units;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The plans or groups that a claim may name.
pub(crate) type Named<T> = Arc<BTreeMap<Arc<str>, Arc<T>>>;

/// The parts of a policy that requests choose. What they choose when they say nothing is in the policy itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Choices {
    /// The plan, with the limits that each is for this owner.
    pub(crate) plan: Option<(Arc<Claim>, Named<LimitSet>)>,
    /// The group.
    pub(crate) group: Option<(Arc<Claim>, Named<Group>)>,
    /// The name, in messages and the access log.
    pub(crate) name: Option<Arc<Claim>>,
}

impl Choices {
    /// Whether there are none.
    pub(crate) const fn are_none(&self) -> bool {
        self.plan.is_none() && self.group.is_none() && self.name.is_none()
    }

    /// The places where requests choose.
    pub(super) fn claims(&self) -> impl Iterator<Item = &Arc<Claim>> {
        let plan = self.plan.iter().map(|(claim, _)| claim);
        let group = self.group.iter().map(|(claim, _)| claim);
        plan.chain(group).chain(&self.name)
    }

    /// All limits that a request may choose.
    pub(super) fn limit_sets(&self) -> impl Iterator<Item = &LimitSet> {
        let plans = self.plan.iter().flat_map(|(_, plans)| plans.values().map(|plan| &**plan));
        let groups = self.group.iter().flat_map(|(_, groups)| groups.values());
        let groups = groups.flat_map(|group| Group::with_parents(group)).map(|group| &group.limits);
        plans.chain(groups)
    }
}

/// The name of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// The configuration's.
    Configured(Arc<str>),
    /// The request's: a bounded line, and no label of metrics.
    Claimed(Arc<str>),
}

impl Name {
    /// Its text.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Configured(text) | Self::Claimed(text) => text,
        }
    }

    /// It as a label of metrics.
    pub(super) fn label(&self) -> Option<Arc<str>> {
        match self {
            Self::Configured(text) => Some(Arc::clone(text)),
            Self::Claimed(_) => None,
        }
    }
}

/// What one request has said of its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    findings: Vec<Finding>,
    amounts: Vec<(Arc<Allowance>, Units)>,
}

/// What one request has said in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it decides.
    pub part: Part,
    /// The place.
    pub claim: Arc<Claim>,
    /// Whether that decides; if not, the default does.
    pub is_used: bool,
}

/// What a claim decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The plan.
    Plan,
    /// The group.
    Group,
    /// The name.
    Name,
    /// The amount of a limit.
    Limit(Arc<Allowance>),
}

impl Claims {
    /// What has been found, in the order in which it was sought.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What decides the amount of `limit`, if a claim may.
    pub fn of_limit(&self, limit: &Limit) -> Option<&Finding> {
        let of = limit.allowance.as_ref()?;
        self.findings.iter().find(|found| matches!(&found.part, Part::Limit(it) if Arc::ptr_eq(it, of)))
    }

    /// Whether a default holds because the request did not say what decides its limits, or named nothing that there is.
    pub fn misses(&self) -> bool {
        self.findings.iter().any(|found| !found.is_used && found.part != Part::Name)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// The `limit` with the amount that the request has said.
    pub(super) fn applied(&self, limit: Arc<Limit>) -> Arc<Limit> {
        let Some(allowance) = &limit.allowance else { return limit };
        match self.amounts.iter().find(|(of, _)| Arc::ptr_eq(of, allowance)) {
            Some((_, amount)) if *amount != limit.amount => Arc::new(limit.with_amount(*amount)),
            _ => limit,
        }
    }

    /// The plan that `request` names.
    pub(super) fn plan(
        &mut self,
        choices: &Choices,
        request: &dyn RequestView,
    ) -> Option<(Arc<str>, Arc<LimitSet>)> {
        let (claim, plans) = choices.plan.as_ref()?;
        let found = named(claim, plans, request);
        self.note(Part::Plan, claim, found.is_some());
        found
    }

    /// The group that `request` names.
    pub(super) fn group(&mut self, choices: &Choices, request: &dyn RequestView) -> Option<Arc<Group>> {
        let (claim, groups) = choices.group.as_ref()?;
        let found = named(claim, groups, request);
        self.note(Part::Group, claim, found.is_some());
        found.map(|(_, group)| group)
    }

    /// The name that `request` brings.
    pub(super) fn name(&mut self, choices: &Choices, request: &dyn RequestView) -> Option<Name> {
        let claim = choices.name.as_ref()?;
        let found = claim.read(request).and_then(|claimed| claimed.word());
        self.note(Part::Name, claim, found.is_some());
        found.map(|word| Name::Claimed(plain_name(&word).into()))
    }

    /// Reads the amounts of the limits in `set` that `request` may say.
    pub(super) fn read_amounts(&mut self, set: &LimitSet, request: &dyn RequestView) {
        for allowance in set.allowances() {
            if self.amounts.iter().any(|(known, _)| Arc::ptr_eq(known, allowance)) {
                continue;
            }
            let amount = allowance.amount(request);
            self.note(Part::Limit(Arc::clone(allowance)), &allowance.claim, amount.is_some());
            self.amounts.extend(amount.map(|amount| (Arc::clone(allowance), amount)));
        }
    }

    fn note(&mut self, part: Part, claim: &Arc<Claim>, is_used: bool) {
        self.findings.push(Finding { part, claim: Arc::clone(claim), is_used });
    }
}

/// What `request` names among `all`, with its name.
fn named<T>(claim: &Claim, all: &Named<T>, request: &dyn RequestView) -> Option<(Arc<str>, Arc<T>)> {
    let word = claim.read(request)?.word()?;
    all.get_key_value(&*word).map(|(name, found)| (Arc::clone(name), Arc::clone(found)))
}
