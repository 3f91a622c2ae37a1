//! Who may do what, checked: plans, keys and the default become grants.

use super::error::{Path, Problems, quoted};
use super::limit_set::limit_set;
use super::raw;
use super::secret::Secret;
use crate::identity::Identity;
use crate::policy::{Grant, LimitSet, Policy};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Plans by name.
pub(super) type Plans = BTreeMap<String, Arc<LimitSet>>;

/// Builds the plans at `path`.
pub(super) fn plans(raw: &BTreeMap<String, raw::Plan>, path: &Path<'_>, problems: &mut Problems) -> Plans {
    let mut plans = Plans::new();
    for (name, plan) in raw {
        let path = path.member(name);
        if name.trim().is_empty() {
            problems.expected(&path, "a plan with a name", quoted(name));
        }
        if plan.limits().are_none() && plan.models.is_empty() {
            problems.expected(&path, "at least one limit", "none");
        }
        plans.insert(name.clone(), Arc::new(limit_set(plan.limits(), &plan.models, &path, problems)));
    }
    plans
}

/// Builds what the keys at `path` may do, by the id of their identity.
pub(super) fn keys(
    raw: &[raw::Key],
    plans: &Plans,
    path: &Path<'_>,
    problems: &mut Problems,
) -> BTreeMap<Arc<str>, Grant> {
    let mut grants = BTreeMap::new();
    let mut places: BTreeMap<Arc<str>, String> = BTreeMap::new();
    for (index, key) in raw.iter().enumerate() {
        let path = path.element(index);
        let grant = key_grant(key, plans, &path, problems);
        let Some((id, field)) = key_id(key, &path, problems) else { continue };
        let path = path.member(field);
        if let Some(first) = places.get(&id) {
            problems.add(&path, format!("the same key as {first}, expected each key once"));
            continue;
        }
        places.insert(Arc::clone(&id), path.to_string());
        grants.extend(grant.map(|grant| (id, grant)));
    }
    grants
}

/// Builds what everybody else may do.
pub(super) fn default(
    raw: Option<&raw::Fallback>,
    plans: &Plans,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<Grant> {
    let limits = match raw {
        None | Some(raw::Fallback::Unlimited) => return Some(Grant::Unlimited),
        Some(raw::Fallback::Reject) => return Some(Grant::Rejected),
        Some(raw::Fallback::Limited(limits)) => limits,
    };
    let has_own = !limits.limits().are_none() || !limits.models.is_empty();
    let own = limit_set(limits.limits(), &limits.models, path, problems);
    if limits.plan.is_none() && !has_own {
        problems.expected(path, "a plan or at least one limit", "neither");
    }
    let plan = plan(limits.plan.as_deref(), plans, path, problems)?;
    Some(Grant::Limited(Arc::new(Policy { name: None, limits: combined(plan, own, has_own) })))
}

fn key_grant(key: &raw::Key, plans: &Plans, path: &Path<'_>, problems: &mut Problems) -> Option<Grant> {
    let has_own = !key.limits().are_none() || !key.models.is_empty();
    let own = limit_set(key.limits(), &key.models, path, problems);
    let name = key.name.clone();
    if let Some(name) =
        name.as_deref().filter(|name| name.trim().is_empty() || name.contains(char::is_control))
    {
        problems.expected(&path.member("name"), "a name of one line", quoted(name));
    }
    match (key.unlimited, key.plan.is_some() || has_own) {
        (true, false) => return Some(Grant::Unlimited),
        (true, true) => {
            problems.expected(&path.member("unlimited"), "neither a plan nor limits beside it", "both");
        }
        (false, false) => {
            problems.expected(path, "a plan, at least one limit or \"unlimited\": true", "none of them");
        }
        (false, true) => {}
    }
    let plan = plan(key.plan.as_deref(), plans, path, problems)?;
    Some(Grant::Limited(Arc::new(Policy { name, limits: combined(plan, own, has_own) })))
}

/// The plan called `name`; none given is a plan without limits. None if there is no such plan.
fn plan(
    name: Option<&str>,
    plans: &Plans,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<Arc<LimitSet>> {
    let Some(name) = name else { return Some(Arc::default()) };
    let plan = plans.get(name);
    if plan.is_none() {
        problems.expected(&path.member("plan"), "the name of a plan in \"plans\"", quoted(name));
    }
    plan.cloned()
}

/// The plan's limits with those of its own over them; the plan itself if there are none, so that it is shared.
fn combined(plan: Arc<LimitSet>, own: LimitSet, has_own: bool) -> Arc<LimitSet> {
    if has_own { Arc::new(plan.overridden_by(&own)) } else { plan }
}

/// The id of the identity that presents `key`, and the field that gave it. Problems say nothing about the value: what
/// stands in the place of a digest may be the key.
fn key_id(key: &raw::Key, path: &Path<'_>, problems: &mut Problems) -> Option<(Arc<str>, &'static str)> {
    match (&key.key, &key.key_sha256) {
        (Some(key), None) => {
            let text = key.expose();
            if text.is_empty() || text.trim() != text {
                problems.add(&path.member("key"), "expected a key without white space around it");
                return None;
            }
            Some((Arc::clone(Identity::of_key(text).id()), "key"))
        }
        (None, Some(digest)) => {
            let id = digest_id(digest);
            if id.is_none() {
                problems.add(&path.member("key_sha256"), "expected 64 hexadecimal digits");
            }
            Some((id?, "key_sha256"))
        }
        (given, _) => {
            let found = if given.is_some() { "both" } else { "neither" };
            problems.expected(path, "either \"key\" or \"key_sha256\"", found);
            None
        }
    }
}

fn digest_id(digest: &Secret) -> Option<Arc<str>> {
    let text = digest.expose();
    let well_formed = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    well_formed.then(|| text.to_ascii_lowercase().into())
}
