//! Limits, checked and built: shorthands and windows, for any model and for patterns of models.

use super::document::Number;
use super::error::{Path, Problems};
use super::on_limit::on_limit;
use super::pattern;
use super::raw;
use super::windows::{self, Bound};
use crate::policy::limit::{Enforcement, Limit, Metric, Part};
use crate::policy::on_limit::OnLimit;
use crate::policy::{LimitSet, ModelAccess, ModelLimits, OutputCap, Slot};
use crate::quantity::{MAX_EXACT, MILLION, Millis};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

/// The longest wait: a client that waits longer has given up.
const MAX_WAIT: Millis = Millis::MINUTE;

impl raw::Terms<'_> {
    /// Whether none are given.
    pub(super) fn are_none(&self) -> bool {
        self.models.is_empty()
            && self.allow_models.is_none()
            && self.deny_models.is_empty()
            && self.max_output_tokens.is_none()
            && self.clamp.is_none()
    }
}

impl raw::Limits<'_> {
    /// Whether no limit is given.
    pub(super) fn are_none(&self) -> bool {
        self.windows.is_empty()
            && self.max_concurrency.is_none()
            && self.shorthands.iter().all(Option::is_none)
    }
}

/// Builds the limits of the plan, group, key or default at `path`. Limits that set no enforcement inherit `outer`.
pub(super) fn limit_set(
    general: raw::Limits<'_>,
    terms: raw::Terms<'_>,
    outer: &Enforcement,
    path: &Path<'_>,
    problems: &mut Problems,
) -> LimitSet {
    let enforcement = OwnEnforcement::of(general, path, problems).within(outer, path, problems);
    let general = limits(general, &enforcement, None, path, problems);
    let models =
        model_limits(terms.models, &enforcement, Naming::WithPattern, &path.member("models"), problems);
    let (access, output) = (model_access(terms, path, problems), output_cap(terms, path, problems));
    LimitSet { general, models, access, output, enforcement }
}

/// Builds what the plan, group, key or default at `path` says of the models that requests may name.
fn model_access(given: raw::Terms<'_>, path: &Path<'_>, problems: &mut Problems) -> ModelAccess {
    let mut patterns = |texts: &[String], path: &Path<'_>| {
        let pattern =
            |(index, text): (usize, &String)| pattern::of_models(text, &path.element(index), problems);
        texts.iter().enumerate().map(pattern).collect::<Vec<_>>()
    };
    let allowed_path = path.member("allow_models");
    let allowed = given.allow_models.map(|texts| patterns(texts, &allowed_path));
    let denied = patterns(given.deny_models, &path.member("deny_models"));
    if allowed.as_ref().is_some_and(Vec::is_empty) {
        problems.expected(&allowed_path, "at least one pattern of model names", "none");
    }
    ModelAccess::new(allowed, denied)
}

/// Builds the most output tokens of an answer, as the plan, group, key or default at `path` has it.
fn output_cap(given: raw::Terms<'_>, path: &Path<'_>, problems: &mut Problems) -> OutputCap {
    let path = path.member("max_output_tokens");
    let most = given.max_output_tokens.and_then(|most| problems.whole(&path, most, 1..=MAX_EXACT));
    OutputCap { most: most.and_then(NonZeroU64::new), clamp: given.clamp }
}

/// Builds the limits on all requests, from `models` and `global` in `root`.
pub(super) fn shared(
    global: &raw::GlobalLimits,
    models: &BTreeMap<String, raw::ModelLimits>,
    root: &Path<'_>,
    problems: &mut Problems,
) -> LimitSet {
    let models =
        model_limits(models, &Enforcement::default(), Naming::ByMetric, &root.member("models"), problems);
    let global_path = root.member("global");
    let own = OwnEnforcement::of(global.limits(), &global_path, problems);
    let enforcement = own.within(&Enforcement::default(), &global_path, problems);
    let general = limits(global.limits(), &enforcement, None, &global_path, problems);
    LimitSet { general, models, enforcement, ..LimitSet::default() }
}

/// The enforcement that limits set themselves.
pub(super) struct OwnEnforcement {
    dry_run: Option<bool>,
    max_wait: Option<Millis>,
    on_limit: Option<OnLimit>,
    warn_at: Option<Part>,
}

impl OwnEnforcement {
    /// The enforcement of the limits at `path`.
    pub(super) fn of(given: raw::Limits<'_>, path: &Path<'_>, problems: &mut Problems) -> Self {
        let max_wait = given
            .max_wait_ms
            .and_then(|number| problems.whole(&path.member("max_wait_ms"), number, 0..=MAX_WAIT.get()));
        let warn_at = warn_at(given.warn_at, path, problems);
        let on_limit = on_limit(given.on_limit, path, problems);
        Self { dry_run: given.dry_run, max_wait: max_wait.map(Millis::new), on_limit, warn_at }
    }

    /// Whether it sets nothing.
    pub(super) const fn is_none(&self) -> bool {
        self.dry_run.is_none() && self.max_wait.is_none() && self.on_limit.is_none() && self.warn_at.is_none()
    }

    /// The enforcement in effect: `outer` where these limits set none.
    pub(super) fn over(&self, outer: &Enforcement) -> Enforcement {
        Enforcement {
            dry_run: self.dry_run.unwrap_or(outer.dry_run),
            max_wait: self.max_wait.unwrap_or(outer.max_wait),
            on_limit: self.on_limit.clone().unwrap_or_else(|| outer.on_limit.clone()),
            warn_at: self.warn_at.or(outer.warn_at),
        }
    }

    /// The same, of the limits or the window at `path`: whoever says that requests wait says how long.
    fn within(&self, outer: &Enforcement, path: &Path<'_>, problems: &mut Problems) -> Enforcement {
        let enforcement = self.over(outer);
        if self.on_limit == Some(OnLimit::Wait) && enforcement.max_wait.is_zero() {
            let expected = "\"max_wait_ms\" beside it, or in what it belongs to";
            problems.expected(&path.member("on_limit"), expected, "none");
        }
        enforcement
    }
}

/// The part of a limit from which on its use is worth a warning, if the limits or the window at `path` give one.
fn warn_at(given: Option<Number>, path: &Path<'_>, problems: &mut Problems) -> Option<Part> {
    problems.millionths(&path.member("warn_at"), given?, 1..=MILLION).map(Part::of_millionths)
}

/// The names of a model's limits in the store and in messages.
#[derive(Clone, Copy)]
enum Naming {
    /// The pattern and the metric, if the owner has other limits too.
    WithPattern,
    /// The metric alone, if the pattern is the owner.
    ByMetric,
}

fn model_limits(
    models: &BTreeMap<String, raw::ModelLimits>,
    outer: &Enforcement,
    naming: Naming,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Vec<ModelLimits> {
    let of_pattern = |(text, of_model): (&String, &raw::ModelLimits)| {
        let path = path.member(text);
        let pattern = pattern::of_models(text, &path, problems);
        let given = of_model.limits();
        if given.are_none() {
            problems.expected(&path, "at least one limit", "none");
        }
        let prefix = match naming {
            Naming::WithPattern => Some(text.as_str()),
            Naming::ByMetric => None,
        };
        let enforcement = OwnEnforcement::of(given, &path, problems).within(outer, &path, problems);
        ModelLimits { pattern, limits: limits(given, &enforcement, prefix, &path, problems) }
    };
    models.iter().map(of_pattern).collect()
}

/// Builds one list of limits. No two may limit the same metric over the same window.
fn limits(
    given: raw::Limits<'_>,
    enforcement: &Enforcement,
    pattern: Option<&str>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Vec<Arc<Limit>> {
    let mut limits: Vec<Arc<Limit>> = Vec::new();
    let mut places: BTreeMap<Slot, String> = BTreeMap::new();
    let mut add = |metric: Metric, bound: Bound, enforcement, path: &Path<'_>, problems: &mut Problems| {
        let Bound { amount, window, allowance } = bound;
        let name = metric.name();
        let name = pattern.map_or_else(|| name.to_owned(), |pattern| format!("{pattern}/{name}"));
        let limit = Limit { name: name.into(), metric, amount, window, enforcement, allowance };
        if let Some(first) = places.get(&Slot::of(&limit)) {
            problems.add(path, format!("the same metric and window as {first}, expected one limit for both"));
            return;
        }
        places.insert(Slot::of(&limit), path.to_string());
        limits.push(Arc::new(limit));
    };
    for ((field, metric, length), amount) in raw::SHORTHANDS.into_iter().zip(given.shorthands) {
        let path = path.member(field);
        let bound = amount.and_then(|amount| windows::shorthand(amount, length, &path, problems));
        if let Some(bound) = bound {
            add(metric, bound, enforcement.clone(), &path, problems);
        }
    }
    if let Some(bound) = windows::concurrency(given, path, problems) {
        let path = path.member("max_concurrency");
        add(Metric::Concurrency, bound, enforcement.clone(), &path, problems);
    }
    let windows_path = path.member("windows");
    for (index, raw) in given.windows.iter().enumerate() {
        let path = windows_path.element(index);
        let warn_at = warn_at(raw.warn_at, &path, problems);
        let on_limit = on_limit(raw.on_limit.as_ref(), &path, problems);
        let own = OwnEnforcement { dry_run: raw.dry_run, max_wait: None, on_limit, warn_at };
        let enforcement = own.within(enforcement, &path, problems);
        if let Some(bound) = windows::window(raw, &path, problems) {
            add(raw.metric.into(), bound, enforcement, &path, problems);
        }
    }
    limits
}
