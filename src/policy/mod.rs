//! The limits that apply to the requests of an identity, and the owners of their counters.
//!
//! A request is charged to its key, to the key's group, to the model patterns that match, and to the limits on all
//! requests. The configuration builds limits once and shares them, so that a running request keeps its limits when the
//! configuration changes. Stores decide whether a request fits ([`crate::store`]).

mod candidates;
mod claims;
pub mod endpoints;
pub mod limit;
mod limit_set;
mod model_access;
pub mod on_limit;
mod output_cap;
pub mod pattern;
pub mod status;

pub use candidates::Candidates;
pub use claims::{Claims, Finding, Part};
pub use model_access::{Forbidden, ForbiddenModel};
pub use output_cap::{OutputRule, OutputVerdict};

pub(crate) use claims::{Choices, Name, Named};
pub(crate) use limit_set::{LimitSet, ModelLimits, Slot};
pub(crate) use model_access::ModelAccess;
pub(crate) use output_cap::OutputCap;

use crate::identity::{ANONYMOUS, Claim, RequestView};
use crate::policy::limit::{Limit, Metric};
use crate::policy::on_limit::Continuation;
use crate::policy::pattern::Pattern;
use crate::telemetry::series::SenderLabels;
use crate::usage::learned_output::Sender;
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The scope and the identity of the counters that all requests share.
pub const GLOBAL: &str = "global";

/// The scope and the identity of the counters that new identities share where too many come at once. No identity has
/// this id.
pub const NEW_IDENTITIES: &str = "new-identities";

/// What the scope of a group begins with, and no identity's id.
const GROUP: &str = "group-";

/// What the scope of a pattern of models begins with, and no identity's id.
const MODEL: &str = "model-";

/// Whether `scope` is that of a group, of models or of all requests: the configuration names it, and no client can.
pub fn is_shared(scope: &str) -> bool {
    scope == GLOBAL || scope.starts_with(GROUP) || scope.starts_with(MODEL)
}

/// The identity of the counters that the keys of a group share, and their scope unless the group is in another.
pub fn group_scope(group: &str) -> String {
    format!("{GROUP}{group}")
}

/// The scope and the identity of the counters that all requests for the models of a pattern share.
pub fn model_scope(pattern: &str) -> String {
    format!("{MODEL}{pattern}")
}

/// Whether a request is limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Forward the request unchanged.
    Unlimited,
    /// Answer 401: the identity is unknown.
    Rejected,
    /// Enforce the limits of this subject.
    Limited(Subject),
}

/// A limit that applies to a request, with its counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The counter's hash tag: a store charges all counters of one scope in one atomic step.
    pub scope: Arc<str>,
    /// The owner of the counter, in the store.
    pub identity: Arc<str>,
    /// The owner of the limit, in messages.
    pub owner: Owner,
    /// The models that the limit is for; none if it is for all.
    pub models: Option<Pattern>,
    /// The limit.
    pub limit: Arc<Limit>,
    /// Whether the limit refuses nothing, because it or the whole configuration is in a dry run.
    pub dry_run: bool,
}

impl Applied {
    fn new(
        scope: &Arc<str>,
        identity: &Arc<str>,
        owner: Owner,
        (models, limit): (Option<&Pattern>, &Arc<Limit>),
    ) -> Self {
        Self {
            scope: Arc::clone(scope),
            identity: Arc::clone(identity),
            owner,
            models: models.cloned(),
            limit: Arc::clone(limit),
            dry_run: limit.enforcement.dry_run,
        }
    }

    /// How a request goes on that does not fit under the limit; none if it does not, or the limit is in a dry run.
    pub fn continues(&self) -> Option<&Arc<Continuation>> {
        self.limit.enforcement.continues().filter(|_| !self.dry_run)
    }

    /// Whether the limit admits no request that does not fit under it.
    pub fn refuses(&self) -> bool {
        !self.dry_run && self.continues().is_none()
    }
}

/// The owner of a limit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The key, or another identity of the request.
    Key,
    /// The key's group, by its name.
    Group(Arc<str>),
    /// All requests for some models, by the pattern of their names.
    Model(Arc<str>),
    /// All requests.
    Global,
}

impl Owner {
    /// Its kind in metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Group(_) => "group",
            Self::Model(_) => "model",
            Self::Global => "global",
        }
    }

    /// The owner in the access log: `key`, `group team-a`, `model gpt-4*` or `global`.
    pub fn label(&self) -> Cow<'static, str> {
        match self {
            Self::Key => Cow::Borrowed("key"),
            Self::Group(name) => Cow::Owned(format!("group {name}")),
            Self::Model(pattern) => Cow::Owned(format!("model {pattern}")),
            Self::Global => Cow::Borrowed("global"),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("this key"),
            Self::Group(name) => write!(f, "group {name}"),
            Self::Model(pattern) => write!(f, "model {pattern}"),
            Self::Global => f.write_str("all requests (global)"),
        }
    }
}

/// An identity whose requests are counted, with its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    id: Arc<str>,
    /// Whether it is one of the combinations with a key, of which whoever has the key may invent any number.
    is_combination: bool,
    policy: Arc<Policy>,
    /// What the request has said of its limits; none if it is not asked.
    claims: Option<Arc<Claims>>,
    /// Whether the whole configuration is in a dry run.
    dry_run: bool,
    /// Whether the configuration exempts it from all limits.
    is_exempt: bool,
}

impl Subject {
    /// The identity with this `id`, to which no limit applies.
    pub(crate) fn unlimited(id: Option<Arc<str>>, policy: &Arc<Policy>) -> Self {
        Self {
            id: id.unwrap_or_else(|| ANONYMOUS.into()),
            is_combination: false,
            policy: Arc::clone(policy),
            claims: None,
            dry_run: false,
            is_exempt: true,
        }
    }

    /// The same identity, with the plan, the group, the name and the amounts that `request` says.
    #[must_use]
    pub(crate) fn claiming(self, request: &dyn RequestView) -> Self {
        let mut claims = Claims::default();
        let policy = Policy::claimed(self.policy, request, &mut claims);
        let claims = (!claims.is_empty()).then(|| Arc::new(claims));
        Self { policy, claims, ..self }
    }

    /// What the request has said of its limits; none if the configuration asks for nothing.
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_deref()
    }

    /// Whether the configuration exempts it from all limits.
    pub const fn is_exempt(&self) -> bool {
        self.is_exempt
    }

    /// The owner of its own counters: [`Identity::id`](crate::identity::Identity::id), hashed with the secret if there
    /// is one, or [`ANONYMOUS`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The hash tag of its own counters: that of its key's outermost group, so that a store charges all in one atomic
    /// step, or else its id. That of a combination, or of whom the configuration does not name, is its id in any case:
    /// the counters of a group are no more than the configuration names. So is that of a key whose requests say their
    /// group: its counters are the same in whatever group.
    pub fn scope(&self) -> &str {
        self.own_scope()
    }

    /// The configuration's name for it, or a bounded line of its own.
    pub fn name(&self) -> Option<&str> {
        self.policy.name.as_ref().map(Name::text)
    }

    /// How many identities like it may get counters of their own in a second, if that is bounded.
    pub fn max_new_identities(&self) -> Option<NonZeroU32> {
        self.policy.max_new_identities
    }

    /// The sender of its requests, for what is learned of their answers.
    pub fn sender(&self) -> Sender {
        Sender { id: Arc::clone(&self.id), plan: self.policy.plan.clone() }
    }

    /// What metrics say of it: its plan and its group, and its name if `by_name`, unless only the request says that.
    pub fn labels(&self, by_name: bool) -> SenderLabels {
        SenderLabels {
            plan: self.policy.plan.clone(),
            group: self.policy.group.as_ref().map(|group| Arc::clone(&group.name)),
            key_name: self.policy.name.as_ref().filter(|_| by_name).and_then(Name::label),
        }
    }

    /// The name of its plan.
    pub fn plan(&self) -> Option<&str> {
        self.policy.plan.as_deref()
    }

    /// The name of its group.
    pub fn group(&self) -> Option<&str> {
        self.policy.group.as_ref().map(|group| &*group.name)
    }

    /// Whether the limits that apply, or the cost under them, depend on the body.
    pub fn needs_body(&self) -> bool {
        self.policy.limit_sets().any(LimitSet::needs_body)
    }

    /// The first of `models` that its requests may not name, by itself or by its groups. What is enforced comes before
    /// what is in a dry run.
    pub fn forbidden(&self, models: &Candidates) -> Option<ForbiddenModel> {
        let forbidden = self.policy.limit_sets().filter_map(|set| set.forbidden(models));
        let forbidden = forbidden.map(|it| ForbiddenModel { dry_run: it.dry_run || self.dry_run, ..it });
        forbidden.reduce(|first, next| if first.dry_run && !next.dry_run { next } else { first })
    }

    /// The maxima of output tokens for its answers: its own, and its groups'.
    pub fn output_rules(&self) -> impl Iterator<Item = OutputRule> {
        let rules = self.policy.limit_sets().filter_map(LimitSet::output_rule);
        rules.map(|rule| OutputRule { dry_run: rule.dry_run || self.dry_run, ..rule })
    }

    /// Whether any limit may apply to its requests, whatever they are for, or they may not ask for everything.
    pub fn is_limited(&self) -> bool {
        self.policy.limit_sets().any(|set| !set.is_empty())
    }

    /// Whether any of those limits is enforced, and not only counted in a dry run.
    pub fn is_enforced(&self) -> bool {
        !self.dry_run && self.policy.limit_sets().any(LimitSet::enforces)
    }

    /// Whether a limit that depends on the body is enforced, and not only counted in a dry run.
    pub fn enforces_by_body(&self) -> bool {
        !self.dry_run && self.policy.limit_sets().any(LimitSet::enforces_by_body)
    }

    /// The limits that apply to a request for one of `models`: the key's, its groups', the models', and the global
    /// ones. Limits of one scope are neighbours. Each owner's general limits come first, then those of every pattern
    /// that one of the models matches, or may match.
    pub fn limits(&self, models: &Candidates) -> impl Iterator<Item = Applied> {
        let scope = self.own_scope();
        let own = self.policy.own.of(models).map(|limit| Applied::new(scope, &self.id, Owner::Key, limit));
        let of_groups = self.policy.groups().flat_map(move |group| {
            let owner = Owner::Group(Arc::clone(&group.name));
            let (scope, identity) = (&group.scope, &group.identity);
            group.limits.of(models).map(move |limit| Applied::new(scope, identity, owner.clone(), limit))
        });
        own.chain(of_groups).chain(self.policy.shared.limits(models)).map(|applied| self.applied(applied))
    }

    /// The other models for which requests for one of `models` may go on, each once.
    pub fn other_models(&self, models: &Candidates) -> Vec<Arc<str>> {
        let mut others = Vec::new();
        for applied in self.limits(models) {
            let model = applied.continues().and_then(|how| how.model.as_ref());
            if let Some(model) = model.filter(|model| !others.contains(*model)) {
                others.push(Arc::clone(model));
            }
        }
        others
    }

    fn applied(&self, applied: Applied) -> Applied {
        let limit = match &self.claims {
            Some(claims) => claims.applied(applied.limit),
            None => applied.limit,
        };
        Applied { limit, dry_run: applied.dry_run || self.dry_run, ..applied }
    }

    fn own_scope(&self) -> &Arc<str> {
        let is_apart = self.is_combination || self.policy.is_apart;
        let group = self.policy.group.as_ref().filter(|_| !is_apart);
        group.map_or(&self.id, |group| &group.scope)
    }
}

/// The rights that a configuration grants an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Everything, to a key whose name this policy without limits has, if it has a name.
    Unlimited(Option<Arc<Policy>>),
    /// Nothing.
    Rejected,
    /// Requests within these limits.
    Limited(Arc<Policy>),
}

impl Grant {
    /// The access of the identity with this `id` in the store, which may be that of a combination. Without an id, the
    /// identity is [`ANONYMOUS`].
    pub(crate) fn access(&self, id: Option<Arc<str>>, is_combination: bool, dry_run: bool) -> Access {
        match self {
            Self::Unlimited(_) => Access::Unlimited,
            Self::Rejected => Access::Rejected,
            Self::Limited(policy) => Access::Limited(Subject {
                id: id.unwrap_or_else(|| ANONYMOUS.into()),
                is_combination,
                policy: Arc::clone(policy),
                claims: None,
                dry_run,
                is_exempt: false,
            }),
        }
    }

    /// Whether it grants everything.
    pub(crate) const fn is_unlimited(&self) -> bool {
        matches!(self, Self::Unlimited(_))
    }

    /// Whether it has a limit on any metric that `which` picks, or requests may choose one.
    fn has(&self, which: impl Fn(Metric) -> bool) -> bool {
        matches!(self, Self::Limited(policy) if policy.possible_sets().any(|set| set.limits(&which)))
    }

    /// Whether requests say a part of it.
    pub(crate) fn asks_requests(&self) -> bool {
        self.claims().next().is_some()
    }

    /// The places where requests say a part of it.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &Arc<Claim>> {
        let policy = match self {
            Self::Limited(policy) => Some(policy),
            Self::Unlimited(_) | Self::Rejected => None,
        };
        policy.into_iter().flat_map(|policy| policy.claims())
    }

    /// How requests go on that are over one of its limits.
    pub(crate) fn continuations(&self) -> impl Iterator<Item = &Arc<Continuation>> {
        let policy = match self {
            Self::Limited(policy) => Some(policy),
            Self::Unlimited(_) | Self::Rejected => None,
        };
        policy.into_iter().flat_map(|policy| policy.possible_sets()).flat_map(LimitSet::continuations)
    }

    /// Whether it limits `metric`.
    pub(crate) fn limits(&self, metric: Metric) -> bool {
        self.has(|found| found == metric)
    }

    /// Whether it limits any metric for which tokens must be counted.
    pub(crate) fn needs_tokens(&self) -> bool {
        self.has(Metric::needs_tokens)
    }
}

/// The limits of an identity, or of all identities on one plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The identity's name, for messages.
    pub(crate) name: Option<Name>,
    /// The name of the plan that it is on.
    pub(crate) plan: Option<Arc<str>>,
    /// The identity's own limits. All identities on one plan share this value.
    pub(crate) own: Arc<LimitSet>,
    /// The identity's group.
    pub(crate) group: Option<Arc<Group>>,
    /// The limits on all requests.
    pub(crate) shared: Arc<Shared>,
    /// How many identities of this policy may get counters of their own in a second. Only the default's is bounded.
    pub(crate) max_new_identities: Option<NonZeroU32>,
    /// Whether the counters of its identities are not among those of the group: because they are any number, or because
    /// each request says the group.
    pub(crate) is_apart: bool,
    /// What of it each request says.
    pub(crate) choices: Option<Arc<Choices>>,
}

impl Policy {
    /// No limits, for an identity with this name.
    pub(crate) fn none(name: Option<Name>) -> Self {
        let shared = Arc::new(Shared::new(LimitSet::default()));
        Self { name, ..Self::shared(shared) }
    }

    /// Only limits that all requests share.
    pub(crate) fn shared(shared: Arc<Shared>) -> Self {
        Self {
            name: None,
            plan: None,
            own: Arc::default(),
            group: None,
            shared,
            max_new_identities: None,
            is_apart: false,
            choices: None,
        }
    }

    /// This policy with what `request` says of it, which `claims` keeps. Without a choice, it is the same one.
    fn claimed(this: Arc<Self>, request: &dyn RequestView, claims: &mut Claims) -> Arc<Self> {
        let policy = match &this.choices {
            None => this,
            Some(choices) => {
                let mut policy = Self::clone(&this);
                if let Some((name, own)) = claims.plan(choices, request) {
                    (policy.plan, policy.own) = (Some(name), own);
                }
                policy.group = claims.group(choices, request).or(policy.group);
                policy.name = claims.name(choices, request).or(policy.name);
                Arc::new(policy)
            }
        };
        for set in policy.limit_sets() {
            claims.read_amounts(set, request);
        }
        policy
    }

    fn limit_sets(&self) -> impl Iterator<Item = &LimitSet> {
        let of_groups = self.groups().map(|group| &group.limits);
        [&*self.own].into_iter().chain(of_groups).chain([&self.shared.limits])
    }

    /// The limits that it has, and those that requests may choose.
    fn possible_sets(&self) -> impl Iterator<Item = &LimitSet> {
        self.limit_sets().chain(self.choices.iter().flat_map(|choices| choices.limit_sets()))
    }

    /// The places where requests say a part of it.
    fn claims(&self) -> impl Iterator<Item = &Arc<Claim>> {
        let chosen = self.choices.iter().flat_map(|choices| choices.claims());
        let amounts = self.possible_sets().flat_map(LimitSet::allowances);
        chosen.chain(amounts.map(|allowance| &allowance.claim))
    }

    /// The group, and those that it is in, from the inside out.
    fn groups(&self) -> impl Iterator<Item = &Group> {
        self.group.iter().flat_map(|group| group.with_parents())
    }
}

/// A group: keys that share limits beside their own. It may be in another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group {
    name: Arc<str>,
    /// The owner of its counters, in the store.
    identity: Arc<str>,
    /// The hash tag of its counters: that of the outermost group, so that a store charges all of them in one atomic
    /// step.
    scope: Arc<str>,
    limits: LimitSet,
    parent: Option<Arc<Group>>,
}

impl Group {
    /// The group called `name`, which has no braces, in the group `parent` if there is one.
    pub(crate) fn new(name: &str, limits: LimitSet, parent: Option<Arc<Self>>) -> Self {
        let identity: Arc<str> = group_scope(name).into();
        let scope = Arc::clone(parent.as_ref().map_or(&identity, |parent| &parent.scope));
        Self { name: name.into(), identity, scope, limits, parent }
    }

    /// Its limits.
    pub(crate) const fn limit_set(&self) -> &LimitSet {
        &self.limits
    }

    /// It, and those that it is in, from the inside out.
    fn with_parents(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |group| group.parent.as_deref())
    }
}

/// The limits on all requests together. Each pattern of models has counters of its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shared {
    limits: LimitSet,
    /// The scope and the text of each pattern of models, in order.
    models: Vec<(Arc<str>, Arc<str>)>,
    scope: Arc<str>,
}

impl Shared {
    /// `limits` on all requests. Their patterns of models have no braces.
    pub(crate) fn new(limits: LimitSet) -> Self {
        let pattern = |limits: &ModelLimits| limits.pattern.as_str().to_owned();
        let models = limits.models.iter().map(pattern).map(|p| (model_scope(&p).into(), p.into()));
        Self { models: models.collect(), limits, scope: GLOBAL.into() }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// The limits.
    pub(crate) const fn limit_set(&self) -> &LimitSet {
        &self.limits
    }

    fn limits(&self, models: &Candidates) -> impl Iterator<Item = Applied> {
        let of_models = self.limits.models.iter().zip(&self.models);
        let of_models = of_models.filter(move |(limits, _)| models.may_match(&limits.pattern));
        let of_models = of_models.flat_map(|(of_model, (scope, pattern))| {
            let owner = Owner::Model(Arc::clone(pattern));
            let limits = of_model.limits.iter().map(|limit| (Some(&of_model.pattern), limit));
            limits.map(move |limit| Applied::new(scope, scope, owner.clone(), limit))
        });
        let scope = &self.scope;
        let global = self.limits.general.iter().map(|limit| (None, limit));
        let global = global.map(move |limit| Applied::new(scope, scope, Owner::Global, limit));
        of_models.chain(global)
    }
}

#[cfg(test)]
mod tests;
