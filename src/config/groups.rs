//! Groups, checked: limits that keys share, and groups in groups.

use super::error::{Path, Problems, quoted};
use super::grants::own_limits;
use super::raw;
use crate::policy::Group;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest name of a group: it becomes part of the names of counters.
const MAX_NAME_BYTES: usize = 64;

/// The most groups in one another: a request is charged to each.
const MAX_LEVELS: usize = 4;

/// Checks the groups at `path`.
pub(super) fn groups(
    raw: &BTreeMap<String, raw::Group>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> BTreeMap<Arc<str>, Arc<Group>> {
    for (name, group) in raw {
        check_name(name, &path.member(name), problems);
        check_parents(name, group, raw, &path.member(name), problems);
    }
    let mut built = BTreeMap::new();
    for name in raw.keys() {
        build(name, raw, path, MAX_LEVELS, &mut built, problems);
    }
    built
}

fn check_name(name: &str, path: &Path<'_>, problems: &mut Problems) {
    let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !is_plain || !(1..=MAX_NAME_BYTES).contains(&name.len()) {
        let expected =
            format!("a group's name of 1 to {MAX_NAME_BYTES} letters, digits, \".\", \"_\" and \"-\"");
        problems.expected(path, expected, quoted(name));
    }
}

/// Checks the groups that the group `name` at `path` is in.
fn check_parents(
    name: &str,
    group: &raw::Group,
    raw: &BTreeMap<String, raw::Group>,
    path: &Path<'_>,
    problems: &mut Problems,
) {
    let path = path.member("group");
    let Some(parent) = &group.group else { return };
    if !raw.contains_key(parent) {
        return problems.expected(&path, "the name of a group in \"groups\"", quoted(parent));
    }
    let mut levels = 1;
    let mut next = Some(parent);
    while let Some(above) = next {
        if above == name {
            return problems.expected(&path, "a group that is not in this one", quoted(parent));
        }
        levels += 1;
        if levels > raw.len() {
            // A cycle above it, which is reported where it is.
            return;
        }
        next = raw.get(above).and_then(|group| group.group.as_ref());
    }
    if levels > MAX_LEVELS {
        problems.expected(&path, format!("at most {MAX_LEVELS} groups in one another"), levels);
    }
}

/// Builds the group `name` after those that it is in, unless it has been built. None if there is no such group, or if
/// it is in more than `levels`.
fn build(
    name: &str,
    raw: &BTreeMap<String, raw::Group>,
    path: &Path<'_>,
    levels: usize,
    built: &mut BTreeMap<Arc<str>, Arc<Group>>,
    problems: &mut Problems,
) -> Option<Arc<Group>> {
    if let Some(group) = built.get(name) {
        return Some(Arc::clone(group));
    }
    let group = raw.get(name).filter(|_| levels > 0)?;
    let parent =
        group.group.as_deref().and_then(|above| build(above, raw, path, levels - 1, built, problems));
    // A group above may be in this one.
    if let Some(group) = built.get(name) {
        return Some(Arc::clone(group));
    }
    let is_in_group = group.group.is_some();
    let set = own_limits(group.limits(), group.terms(), is_in_group, &path.member(name), problems);
    let group = Arc::new(Group::new(name, set, parent));
    built.insert(name.into(), Arc::clone(&group));
    Some(group)
}
