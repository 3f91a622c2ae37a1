//! The models that requests may name: a list of those that are allowed, and one of those that are denied.
//!
//! Who may use some models only must not get others by naming several, of which the upstream chooses, or none, so that
//! the upstream takes its default. So every name must pass, and what cannot be known does not.

use super::candidates::Candidates;
use super::pattern::Pattern;

/// The models that requests may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelAccess {
    /// Those that are allowed; none if all are.
    allowed: Option<Vec<Pattern>>,
    /// Those that are denied, whether they are allowed or not.
    denied: Vec<Pattern>,
}

/// A model that a request may not be for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// It has this name.
    Named(String),
    /// Nobody can tell what the upstream will choose.
    Unknown,
}

/// The same, and whether that is enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForbiddenModel {
    /// The model.
    pub model: Forbidden,
    /// Whether the request passes all the same, because nothing is refused in a dry run.
    pub dry_run: bool,
}

impl ModelAccess {
    /// Access to the models that match one of `allowed`, if that is given, and none of `denied`.
    pub(crate) const fn new(allowed: Option<Vec<Pattern>>, denied: Vec<Pattern>) -> Self {
        Self { allowed, denied }
    }

    /// Whether every model may be named.
    pub(crate) const fn is_open(&self) -> bool {
        self.allowed.is_none() && self.denied.is_empty()
    }

    /// This access, overridden by `own`: its list of allowed models replaces the other, and the denied ones add up.
    pub(crate) fn overridden_by(&self, own: &Self) -> Self {
        let allowed = own.allowed.as_ref().or(self.allowed.as_ref()).cloned();
        Self { allowed, denied: self.denied.iter().chain(&own.denied).cloned().collect() }
    }

    /// The first of `models` that a request may not be for.
    pub(crate) fn forbidden(&self, models: &Candidates) -> Option<Forbidden> {
        if self.is_open() {
            return None;
        }
        let named = models.names().iter().find(|name| !self.allows(name)).cloned().map(Forbidden::Named);
        named.or_else(|| matches!(models, Candidates::Any(_)).then_some(Forbidden::Unknown))
    }

    fn allows(&self, model: &str) -> bool {
        let matches = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches_model(model));
        !matches(&self.denied) && self.allowed.as_deref().is_none_or(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::new(*text)).collect()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_name_must_be_allowed_and_none_denied() {
        let access = ModelAccess::new(Some(patterns(&["gpt-4o*", "o3"])), patterns(&["*-audio"]));
        let forbidden = |models: Candidates| access.forbidden(&models);
        let named = |name: &str| Some(Forbidden::Named(name.to_owned()));
        for allowed in ["gpt-4o", "GPT-4o-mini", "openai/gpt-4o", "o3"] {
            assert_eq!(forbidden(Candidates::One(allowed.to_owned())), None, "{allowed}");
        }
        for other in ["gpt-4", "o3-mini", "gpt-4o-audio", "x", " gpt-4o"] {
            assert_eq!(forbidden(Candidates::One(other.to_owned())), named(other), "{other}");
        }
        assert_eq!(forbidden(Candidates::of(names(&["o3", "gpt-4o"]))), None);
        assert_eq!(forbidden(Candidates::of(names(&["o3", "o4", "gpt-4o"]))), named("o4"));
        assert_eq!(
            forbidden(Candidates::Any(names(&["o3"]))),
            Some(Forbidden::Unknown),
            "the upstream may choose another"
        );
        assert_eq!(forbidden(Candidates::UNKNOWN), Some(Forbidden::Unknown));
        assert_eq!(forbidden(Candidates::NONE), None, "it needs no model");
    }

    #[test]
    fn without_lists_every_model_may_be_named_and_none() {
        let open = ModelAccess::default();
        assert_eq!(open.forbidden(&Candidates::UNKNOWN), None);
        assert!(open.is_open());
        let denies = ModelAccess::new(None, patterns(&["o3*"]));
        assert_eq!(denies.forbidden(&Candidates::One("gpt-4o".to_owned())), None);
        assert_eq!(
            denies.forbidden(&Candidates::UNKNOWN),
            Some(Forbidden::Unknown),
            "it may be a denied one"
        );
    }

    #[test]
    fn own_lists_allow_others_and_deny_more() {
        let plan = ModelAccess::new(Some(patterns(&["gpt-4o*"])), patterns(&["gpt-4o-audio*"]));
        let own = ModelAccess::new(Some(patterns(&["*"])), patterns(&["o3"]));
        let of = |access: &ModelAccess, name: &str| access.forbidden(&Some(name).into()).is_none();
        let both = plan.overridden_by(&own);
        assert!(of(&both, "claude-sonnet-5") && !of(&both, "o3") && !of(&both, "gpt-4o-audio-preview"));
        let inherited = plan.overridden_by(&ModelAccess::default());
        assert_eq!(inherited, plan);
    }
}
