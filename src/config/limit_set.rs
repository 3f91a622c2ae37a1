//! Limits, checked and built: shorthands and windows, for any model and for patterns of models.

use super::error::{Path, Problems, quoted};
use super::length;
use super::number::MAX_AMOUNT;
use super::pattern;
use super::raw;
use crate::limits::{Limit, Metric};
use crate::policy::{LimitSet, ModelLimits};
use crate::window::{Algorithm, DEFAULT_SEGMENTS, Window};
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

/// The longest window, in milliseconds: 31 days, which is any month. A counter lives as long as its window.
const MAX_WINDOW_MS: u64 = 31 * 86_400_000;
/// Segments are a counter's size in the store, so they are few.
const MAX_SEGMENTS: u64 = 1000;

impl raw::Limits<'_> {
    /// Whether no limit is given.
    pub(super) fn are_none(&self) -> bool {
        self.windows.is_empty() && self.shorthands.iter().all(|(.., amount)| amount.is_none())
    }
}

/// Builds the limits of whatever is at `path`.
pub(super) fn limit_set(
    general: raw::Limits<'_>,
    models: &BTreeMap<String, raw::ModelLimits>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> LimitSet {
    let general = limits(general, None, path, problems);
    let models = model_limits(models, Naming::WithPattern, &path.member("models"), problems);
    LimitSet { general, models }
}

/// Builds the limits of all requests: those of `models` and `global` in `root`.
pub(super) fn shared(
    global: &raw::GlobalLimits,
    models: &BTreeMap<String, raw::ModelLimits>,
    root: &Path<'_>,
    problems: &mut Problems,
) -> LimitSet {
    let models = model_limits(models, Naming::ByMetric, &root.member("models"), problems);
    let general = limits(global.limits(), None, &root.member("global"), problems);
    LimitSet { general, models }
}

/// How the limits of a model are called in the store and in messages.
#[derive(Clone, Copy)]
enum Naming {
    /// With the pattern: they stand among others of their owner.
    WithPattern,
    /// By the metric alone: the pattern is their owner.
    ByMetric,
}

fn model_limits(
    models: &BTreeMap<String, raw::ModelLimits>,
    naming: Naming,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Vec<ModelLimits> {
    let of_pattern = |(text, of_model): (&String, &raw::ModelLimits)| {
        let path = path.member(text);
        let pattern = pattern::of_models(text, &path, problems);
        if of_model.limits().are_none() {
            problems.expected(&path, "at least one limit", "none");
        }
        let prefix = match naming {
            Naming::WithPattern => Some(text.as_str()),
            Naming::ByMetric => None,
        };
        ModelLimits { pattern, limits: limits(of_model.limits(), prefix, &path, problems) }
    };
    models.iter().map(of_pattern).collect()
}

/// Builds one list of limits; no two may have the same metric and length of window.
fn limits(
    given: raw::Limits<'_>,
    pattern: Option<&str>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Vec<Arc<Limit>> {
    let mut limits = Vec::new();
    let mut places: BTreeMap<(Metric, NonZeroU64), String> = BTreeMap::new();
    let mut add = |metric, amount, window: Window, path: &Path<'_>, problems: &mut Problems| {
        if let Some(first) = places.get(&(metric, window.length_ms)) {
            problems.add(path, format!("the same metric and window as {first}, expected one limit for both"));
            return;
        }
        places.insert((metric, window.length_ms), path.to_string());
        let name = pattern.map_or_else(|| metric.name().to_owned(), |p| format!("{p}/{}", metric.name()));
        limits.push(Arc::new(Limit { name, metric, amount, window }));
    };
    for (field, metric, length_ms, number) in given.shorthands {
        let path = path.member(field);
        let Some(number) = number else { continue };
        let amount = problems.whole(&path, number, 0..=MAX_AMOUNT);
        if let (Some(amount), Some(length_ms)) = (amount, NonZeroU64::new(length_ms)) {
            add(metric, amount, Window::sliding(length_ms), &path, problems);
        }
    }
    let windows_path = path.member("windows");
    for (index, raw) in given.windows.iter().enumerate() {
        let path = windows_path.element(index);
        let amount = problems.whole(&path.member("limit"), raw.limit, 0..=MAX_AMOUNT);
        let window = window(raw, &path, problems);
        if let (Some(amount), Some(window)) = (amount, window) {
            add(raw.metric, amount, window, &path, problems);
        }
    }
    limits
}

fn window(raw: &raw::Window, path: &Path<'_>, problems: &mut Problems) -> Option<Window> {
    let length_ms = window_ms(&raw.window, &path.member("window"), problems);
    let raw::Algorithm::SlidingWindow = raw.algorithm;
    // A segment is a millisecond or more, which a very short window has fewer of than the default.
    let most = MAX_SEGMENTS.min(length_ms.map_or(MAX_SEGMENTS, NonZeroU64::get));
    let default = u64::from(DEFAULT_SEGMENTS.get()).min(most);
    let segments = problems.whole_or(&path.member("segments"), raw.segments, 1..=most, default)?;
    let segments = u32::try_from(segments).ok().and_then(NonZeroU32::new)?;
    Some(Window { length_ms: length_ms?, algorithm: Algorithm::SlidingWindow { segments } })
}

fn window_ms(text: &str, path: &Path<'_>, problems: &mut Problems) -> Option<NonZeroU64> {
    let Some(length_ms) = length::parse_ms(text) else {
        problems.expected(path, "a length of time such as \"10s\", \"1m\" or \"1d\"", quoted(text));
        return None;
    };
    let within = Some(length_ms).filter(|length_ms| *length_ms <= MAX_WINDOW_MS).and_then(NonZeroU64::new);
    if within.is_none() {
        problems.expected(path, "a length of time from \"1ms\" to \"31d\"", quoted(text));
    }
    within
}
