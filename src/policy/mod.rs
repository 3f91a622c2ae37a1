//! What an identity may do: the limits that apply to its requests.
//!
//! Limits are built once, when the configuration is read, and shared from then on, so that a request that is under
//! way keeps those it began with when the configuration changes. Whether a request fits them is the store's business.

use crate::identity::{ANONYMOUS, Identity};
use crate::limits::{Limit, Metric};
use crate::pattern::Pattern;
use std::sync::Arc;

/// Whether a request is limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Forward it and touch nothing.
    Unlimited,
    /// Answer 401: its sender is not known.
    Rejected,
    /// Ask the store.
    Limited(Subject),
}

/// Somebody whose requests are limited: an identity and its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    id: Arc<str>,
    policy: Arc<Policy>,
}

impl Subject {
    /// Whose counters are charged: [`Identity::id`], or [`ANONYMOUS`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The hash tag of the counters: whatever shares it is charged in one atomic step.
    pub fn scope(&self) -> &str {
        &self.id
    }

    /// What the configuration calls it.
    pub fn name(&self) -> Option<&str> {
        self.policy.name.as_deref()
    }

    /// Whether the body must be read to know which limits apply or what the request costs.
    pub fn needs_body(&self) -> bool {
        self.policy.limits.needs_tokens() || !self.policy.limits.models.is_empty()
    }

    /// The limits that apply to a request for `model`: those for any model, then those of every pattern that
    /// matches. A request that names no model matches `*` only.
    pub fn limits(&self, model: Option<&str>) -> impl Iterator<Item = &Arc<Limit>> {
        let of_models = self.policy.limits.models.iter().filter(move |limits| match model {
            Some(model) => limits.pattern.matches(model),
            None => limits.pattern.matches_all(),
        });
        self.policy.limits.general.iter().chain(of_models.flat_map(|limits| &limits.limits))
    }
}

/// What a configuration allows an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Anything.
    Unlimited,
    /// Nothing.
    Rejected,
    /// What these limits allow.
    Limited(Arc<Policy>),
}

impl Grant {
    /// What it means for a request of `identity`.
    pub(crate) fn access(&self, identity: Option<&Identity>) -> Access {
        match self {
            Self::Unlimited => Access::Unlimited,
            Self::Rejected => Access::Rejected,
            Self::Limited(policy) => Access::Limited(Subject {
                id: identity.map_or_else(|| ANONYMOUS.into(), |identity| Arc::clone(identity.id())),
                policy: Arc::clone(policy),
            }),
        }
    }

    /// Whether it limits tokens.
    pub(crate) fn needs_tokens(&self) -> bool {
        matches!(self, Self::Limited(policy) if policy.limits.needs_tokens())
    }
}

/// Limits with the name of those that have them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// For messages.
    pub(crate) name: Option<String>,
    /// Shared by all that are on the same plan.
    pub(crate) limits: Arc<LimitSet>,
}

/// The limits of a plan, of a key or of both together. In each list no two have the same metric and length of window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LimitSet {
    /// Those for any model.
    pub(crate) general: Vec<Arc<Limit>>,
    /// Those for some models, one element per pattern.
    pub(crate) models: Vec<ModelLimits>,
}

/// The limits of the models that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelLimits {
    pub(crate) pattern: Pattern,
    pub(crate) limits: Vec<Arc<Limit>>,
}

impl LimitSet {
    /// These limits with `own` over them: `own` replaces what has the same metric, length of window and pattern.
    pub(crate) fn overridden_by(&self, own: &Self) -> Self {
        let mut models = self.models.clone();
        for own in &own.models {
            match models.iter_mut().find(|limits| limits.pattern == own.pattern) {
                Some(limits) => limits.limits = overridden(&limits.limits, &own.limits),
                None => models.push(own.clone()),
            }
        }
        Self { general: overridden(&self.general, &own.general), models }
    }

    /// Whether any of the limits is on tokens.
    pub(crate) fn needs_tokens(&self) -> bool {
        let all = self.general.iter().chain(self.models.iter().flat_map(|limits| &limits.limits));
        all.into_iter().any(|limit| limit.metric != Metric::Requests)
    }
}

/// `limits` with `own` over them, those that are replaced in their place.
fn overridden(limits: &[Arc<Limit>], own: &[Arc<Limit>]) -> Vec<Arc<Limit>> {
    let same = |a: &Limit, b: &Limit| (a.metric, a.window.length_ms) == (b.metric, b.window.length_ms);
    let replaced = limits.iter().map(|limit| own.iter().find(|own| same(own, limit)).unwrap_or(limit));
    let added = own.iter().filter(|own| !limits.iter().any(|limit| same(own, limit)));
    replaced.chain(added).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use serde_json::{Value, json};

    fn config(json: &Value) -> Config {
        Config::from_bytes(json.to_string().as_bytes()).unwrap()
    }

    /// What `key` may do under `json`.
    fn subject(json: &Value, key: &str) -> Subject {
        match config(json).access(Some(&Identity::of_key(key))) {
            Access::Limited(subject) => subject,
            other => panic!("{other:?}"),
        }
    }

    /// The limits on a request for `model`, as `name:window=amount`.
    fn limits(subject: &Subject, model: Option<&str>) -> Vec<String> {
        let written =
            |limit: &Arc<Limit>| format!("{}:{}={}", limit.name, limit.window.label(), limit.amount);
        subject.limits(model).map(written).collect()
    }

    #[test]
    fn shorthands_stand_for_windows() {
        let json = json!({"default": {
            "rpm": 1, "rpd": 2, "tpm": 3, "tpd": 4, "input_tpm": 5, "output_tpm": 6,
            "windows": [
                {"metric": "requests", "limit": 7, "window": "90s", "segments": 30},
                {"metric": "requests", "limit": 8, "window": "50ms"},
            ],
        }});
        let expected = [
            "requests:1m=1",
            "requests:1d=2",
            "total_tokens:1m=3",
            "total_tokens:1d=4",
            "input_tokens:1m=5",
            "output_tokens:1m=6",
            "requests:90s-30=7",
            "requests:50ms-50=8",
        ];
        assert_eq!(limits(&subject(&json, "any"), None), expected);
    }

    #[test]
    fn every_pattern_that_matches_has_its_own_counter() {
        let json = json!({"default": {
            "rpm": 9,
            "models": {"*": {"rpm": 5}, "gpt-4*": {"rpm": 3, "tpm": 100}, "gpt-4o": {"rpm": 1}},
        }});
        let subject = subject(&json, "any");
        assert_eq!(limits(&subject, None), ["requests:1m=9", "*/requests:1m=5"]);
        assert_eq!(limits(&subject, Some("o3")), ["requests:1m=9", "*/requests:1m=5"]);
        assert_eq!(
            limits(&subject, Some("gpt-4o")),
            [
                "requests:1m=9",
                "*/requests:1m=5",
                "gpt-4*/requests:1m=3",
                "gpt-4*/total_tokens:1m=100",
                "gpt-4o/requests:1m=1"
            ]
        );
    }

    #[test]
    fn limits_of_ones_own_replace_the_plans_or_add_to_them() {
        let json = json!({
            "plans": {"pro": {
                "rpm": 10, "tpm": 20,
                "models": {"a": {"rpm": 1, "tpm": 2}, "b": {"rpm": 3}},
                "windows": [{"metric": "requests", "limit": 30, "window": "10s"}],
            }},
            "keys": [{
                "key": "k", "plan": "pro", "rpd": 50,
                "models": {"a": {"rpm": 4}, "c": {"rpm": 5}},
                "windows": [
                    {"metric": "requests", "limit": 60, "window": "60s", "segments": 6},
                    {"metric": "total_tokens", "limit": 70, "window": "10s"},
                ],
            }],
        });
        let subject = subject(&json, "k");
        let general = [
            "requests:1m-6=60",
            "total_tokens:1m=20",
            "requests:10s=30",
            "requests:1d=50",
            "total_tokens:10s=70",
        ];
        assert_eq!(limits(&subject, None), general);
        let of_model = |model| limits(&subject, Some(model))[general.len()..].to_vec();
        assert_eq!(of_model("a"), ["a/requests:1m=4", "a/total_tokens:1m=2"]);
        assert_eq!(of_model("b"), ["b/requests:1m=3"]);
        assert_eq!(of_model("c"), ["c/requests:1m=5"]);
    }

    #[test]
    fn a_body_is_needed_for_tokens_and_models() {
        let needs_body = |limits: Value| subject(&json!({"default": limits}), "any").needs_body();
        assert!(!needs_body(json!({"rpm": 1, "rpd": 2})));
        assert!(needs_body(json!({"rpm": 1, "tpm": 2})));
        assert!(needs_body(json!({"models": {"gpt-4*": {"rpm": 2}}})));
    }

    #[test]
    fn strangers_are_counted_apart_and_the_nameless_together() {
        let config = config(&json!({"default": {"rpm": 1}}));
        let id = |identity: Option<&Identity>| match config.access(identity) {
            Access::Limited(subject) => (subject.id().to_owned(), subject.scope().to_owned()),
            other => panic!("{other:?}"),
        };
        let (a, b) = (Identity::of_key("a"), Identity::of_key("b"));
        assert_eq!(id(Some(&a)), (a.id().to_string(), a.id().to_string()));
        assert_ne!(id(Some(&a)), id(Some(&b)));
        assert_eq!(id(None).0, ANONYMOUS);
    }

    #[test]
    fn those_on_a_plan_share_its_limits() {
        let json = json!({"plans": {"p": {"rpm": 1}}, "keys": [{"key": "a", "plan": "p"}, {"key": "b", "plan": "p"}]});
        let config = config(&json);
        let limits = |key| match config.access(Some(&Identity::of_key(key))) {
            Access::Limited(subject) => Arc::clone(&subject.policy.limits),
            other => panic!("{other:?}"),
        };
        assert!(Arc::ptr_eq(&limits("a"), &limits("b")));
        assert_eq!(config.access(None), Access::Unlimited);
    }

    #[test]
    fn a_default_may_reject() {
        let config = config(&json!({"keys": [{"key": "a", "rpm": 1}], "default": "reject"}));
        assert_eq!(config.access(Some(&Identity::of_key("b"))), Access::Rejected);
        assert_eq!(config.access(None), Access::Rejected);
        assert!(matches!(config.access(Some(&Identity::of_key("a"))), Access::Limited(_)));
    }
}
