//! Plans, groups, keys and the default, checked: they become grants, the rights of each identity.

use super::claims::Chosen;
use super::document::Number;
use super::error::{Path, Problems, quoted};
use super::groups;
use super::limit_set::{limit_set, shared};
use super::policies::{self, Own};
use super::raw;
use super::secret::Secret;
use super::store::Store;
use crate::identity::Identity;
use crate::policy::limit::{Enforcement, Metric};
use crate::policy::on_limit::Continuation;
use crate::policy::{Grant, Group, LimitSet, Name, Named, Policy, Shared};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The largest value of `max_new_identities_per_second`: more than Redis makes in a second.
const MAX_NEW_IDENTITIES: u64 = 1_000_000;

/// The plans, groups and shared limits that keys and the default refer to.
pub(super) struct Catalogue {
    /// Plans by name.
    pub(super) plans: Named<LimitSet>,
    /// Groups by name.
    pub(super) groups: Named<Group>,
    /// The limits on all requests.
    pub(super) shared: Arc<Shared>,
}

impl Catalogue {
    /// Checks plans, groups and the limits on all requests.
    #[inline(never)]
    pub(super) fn new(raw: &raw::Root, root: &Path<'_>, problems: &mut Problems) -> Self {
        Self {
            plans: Arc::new(plans(&raw.plans, &root.member("plans"), problems)),
            groups: Arc::new(groups::groups(&raw.groups, &root.member("groups"), problems)),
            shared: Arc::new(Shared::new(shared(&raw.global, &raw.models, root, problems))),
        }
    }

    /// Whether there is a limit on `metric`.
    pub(super) fn limits(&self, metric: Metric) -> bool {
        let of_plans = self.plans.values().map(|plan| &**plan);
        let of_groups = self.groups.values().map(|group| group.limit_set());
        let mut sets = of_plans.chain(of_groups).chain([self.shared.limit_set()]);
        sets.any(|set| set.limits(|found| found == metric))
    }

    /// How requests go on that are over a limit of a plan, of a group or of all requests.
    pub(super) fn continuations(&self) -> impl Iterator<Item = &Arc<Continuation>> {
        let of_plans = self.plans.values().map(|plan| &**plan);
        let of_groups = self.groups.values().map(|group| group.limit_set());
        of_plans.chain(of_groups).chain([self.shared.limit_set()]).flat_map(LimitSet::continuations)
    }

    /// The plan that is `chosen` by the configuration at `path`, with its name, or a plan without limits if none is.
    /// None if there is no such plan, which is reported as a problem.
    pub(super) fn plan(
        &self,
        chosen: &Chosen<'_>,
        path: &Path<'_>,
        problems: &mut Problems,
    ) -> Option<(Option<Arc<str>>, Arc<LimitSet>)> {
        let Some(word) = chosen.word else { return Some((None, Arc::default())) };
        let plan = self.plans.get_key_value(word);
        if plan.is_none() {
            chosen.expected(path, "the name of a plan in \"plans\"", word, problems);
        }
        plan.map(|(name, plan)| (Some(Arc::clone(name)), Arc::clone(plan)))
    }

    /// The group that is `chosen` by the configuration at `path`, if one is. None if there is no such group, which is
    /// reported as a problem.
    pub(super) fn group(
        &self,
        chosen: &Chosen<'_>,
        path: &Path<'_>,
        problems: &mut Problems,
    ) -> Option<Option<Arc<Group>>> {
        let Some(word) = chosen.word else { return Some(None) };
        let group = self.groups.get(word);
        if group.is_none() {
            chosen.expected(path, "the name of a group in \"groups\"", word, problems);
        }
        group.cloned().map(Some)
    }
}

fn plans(
    raw: &BTreeMap<String, raw::Plan>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> BTreeMap<Arc<str>, Arc<LimitSet>> {
    let mut plans = BTreeMap::new();
    for (name, plan) in raw {
        let path = path.member(name);
        if name.trim().is_empty() {
            problems.expected(&path, "a plan with a name", quoted(name));
        }
        let set = own_limits(plan.limits(), plan.terms(), false, &path, problems);
        plans.insert(name.as_str().into(), Arc::new(set));
    }
    plans
}

/// Builds the limits of the plan or group at `path`, of which one must be given unless it is in a group that has some.
pub(super) fn own_limits(
    given: raw::Limits<'_>,
    terms: raw::Terms<'_>,
    is_in_group: bool,
    path: &Path<'_>,
    problems: &mut Problems,
) -> LimitSet {
    if given.are_none() && terms.are_none() && !is_in_group {
        problems.expected(path, "at least one limit", "none");
    }
    let set = limit_set(given, terms, &Enforcement::default(), path, problems);
    check_clamp(terms, set.output.most.is_some(), path, problems);
    set
}

/// Builds the grants of the keys at `path`, by the id of their identity.
#[inline(never)]
pub(super) fn keys(
    raw: &[raw::Key],
    catalogue: &Catalogue,
    path: &Path<'_>,
    problems: &mut Problems,
) -> BTreeMap<Arc<str>, Grant> {
    let mut grants = BTreeMap::new();
    let mut places: BTreeMap<Arc<str>, String> = BTreeMap::new();
    for (index, key) in raw.iter().enumerate() {
        let path = path.element(index);
        let grant = key_grant(key, catalogue, &path, problems);
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

/// Builds the grant of all identities that are not in `keys`.
#[inline(never)]
pub(super) fn default(
    raw: Option<&raw::Fallback>,
    catalogue: &Catalogue,
    store: Option<&Store>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<Grant> {
    let shared = Arc::clone(&catalogue.shared);
    let limits = match raw {
        None if shared.is_empty() => return Some(Grant::Unlimited(None)),
        None => return Some(Grant::Limited(Arc::new(Policy::shared(shared)))),
        Some(raw::Fallback::Unlimited) => return Some(Grant::Unlimited(None)),
        Some(raw::Fallback::Reject) => return Some(Grant::Rejected),
        Some(raw::Fallback::Limited(limits)) => limits,
    };
    let max_new_identities = max_new_identities(limits.max_new_identities_per_second, store, path, problems);
    let own = Own {
        plan: limits.plan.as_ref(),
        group: limits.group.as_ref(),
        limits: limits.limits(),
        terms: limits.terms(),
    };
    if own.is_nothing() {
        problems.expected(path, "a plan, a group or at least one limit", "none of them");
    }
    let name = Chosen::name(limits.name.as_ref(), &path.member("name"), problems);
    let policy = policies::policy(own, name, catalogue, path, problems)?;
    // There is any number of such identities, so their counters are not among those of a group.
    Some(Grant::Limited(Arc::new(Policy { max_new_identities, is_apart: true, ..policy })))
}

/// Checks `max_new_identities_per_second`. The local store needs none: it has room for `max_identities` at a time.
fn max_new_identities(
    given: Option<Number>,
    store: Option<&Store>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<NonZeroU32> {
    let path = path.member("max_new_identities_per_second");
    let most = problems.whole_or(&path, Some(given?), 1..=MAX_NEW_IDENTITIES, 1);
    if let Some(Store::Local(_)) = store {
        problems.add(
            &path,
            "expected none with the store \"local\", which has room for store.max_identities at a time",
        );
    }
    most.and_then(|most| u32::try_from(most).ok()).and_then(NonZeroU32::new)
}

fn key_grant(
    key: &raw::Key,
    catalogue: &Catalogue,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<Grant> {
    let own =
        Own { plan: key.plan.as_ref(), group: key.group.as_ref(), limits: key.limits(), terms: key.terms() };
    let name = Chosen::name(key.name.as_ref(), &path.member("name"), problems);
    let has_any = !own.is_nothing();
    match (key.unlimited, has_any) {
        (true, false) => {
            let named = name.word.map(|name| Arc::new(Policy::none(Some(Name::Configured(name.into())))));
            return Some(Grant::Unlimited(named));
        }
        (true, true) => {
            let expected = "no plan, no group and no limits beside it";
            problems.expected(&path.member("unlimited"), expected, "some");
        }
        (false, false) if catalogue.shared.is_empty() => {
            let expected = "a plan, a group, at least one limit or \"unlimited\": true";
            problems.expected(path, expected, "none of them");
        }
        (false, _) => {}
    }
    let policy = policies::policy(own, name, catalogue, path, problems)?;
    Some(Grant::Limited(Arc::new(policy)))
}

/// Reports `clamp` at `path` unless there is a maximum to clamp to.
pub(super) fn check_clamp(terms: raw::Terms<'_>, is_capped: bool, path: &Path<'_>, problems: &mut Problems) {
    if terms.clamp.is_some() && !is_capped {
        let expected = "\"max_output_tokens\" beside it, or in the plan";
        problems.expected(&path.member("clamp"), expected, "neither");
    }
}

/// The id of the identity that presents `key`, and the field that has it. Problems do not show the value of either
/// field: users may write the key where its digest belongs.
fn key_id(key: &raw::Key, path: &Path<'_>, problems: &mut Problems) -> Option<(Arc<str>, &'static str)> {
    match (&key.key, &key.key_sha256) {
        (Some(key), None) => {
            let text = key.expose();
            if let Some(problem) = key_problem(key) {
                problems.add(&path.member("key"), problem);
                return None;
            }
            Some((Arc::clone(Identity::of_key(text).id()), "key"))
        }
        (None, Some(digest)) => {
            let id = digest_id(digest);
            if id.is_none() {
                problems.add(&path.member("key_sha256"), "expected 64 hexadecimal digits");
            }
            if id.as_ref() == Some(Identity::of_key("").id()) {
                let problem =
                    "expected the digest of a key, found that of no text: the key was empty when it was made";
                problems.add(&path.member("key_sha256"), problem);
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

/// What is wrong with `text` as a key, without a word of it: no request could present it.
fn key_problem(key: &Secret) -> Option<&'static str> {
    let text = key.expose();
    let scheme = text.split_whitespace().next().unwrap_or_default();
    let is_quoted = ['"', '\'', '“', '‘'].iter().any(|mark| text.starts_with(*mark));
    let header = text.split_once(':').map(|(name, _)| name.to_ascii_lowercase());
    let is_header = header.is_some_and(|name| HEADERS.contains(&&*name));
    if text.is_empty() || text.trim() != text {
        Some("expected a key without white space around it")
    } else if text.contains(char::is_control) {
        Some("expected a key of one line, without control characters")
    } else if text.contains(is_invisible) {
        Some("expected a key without invisible characters")
    } else if scheme.eq_ignore_ascii_case("bearer") {
        Some("expected the key alone, without \"Bearer\" before it")
    } else if is_header {
        Some("expected the key alone, without the name of a header before it")
    } else if is_quoted {
        Some("expected a key without quotation marks around it")
    } else if key.is_placeholder() {
        Some(
            "expected a key, found a placeholder that nothing has filled in: write the key, or its \"key_sha256\"",
        )
    } else {
        None
    }
}

/// Headers that carry keys.
const HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Whether `c` is a mark of byte order, a joiner, or changes the direction of text: nobody means one in a key.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

fn digest_id(digest: &Secret) -> Option<Arc<str>> {
    let text = digest.expose();
    let well_formed = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    well_formed.then(|| text.to_ascii_lowercase().into())
}
