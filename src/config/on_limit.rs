//! What becomes of requests that do not fit under a limit, checked.

use super::error::{Path, Problems, quoted};
use super::{raw, sources};
use crate::identity::{Claim, Place, Source};
use crate::policy::on_limit::{Continuation, OnLimit, RouteHeader};
use std::sync::Arc;

/// The most bytes of a header's value, and of a model's name.
const MAX_BYTES: usize = 256;

/// Headers that mean something to Envoy or to the upstream, so that no client may lose them.
const RESERVED: [&str; 12] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// Builds what becomes of requests that do not fit, if the limits or the window at `path` say so.
pub(super) fn on_limit(
    given: Option<&raw::OnLimit>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<OnLimit> {
    let path = path.member("on_limit");
    Some(match given? {
        raw::OnLimit::Refuse => OnLimit::Refuse,
        raw::OnLimit::Wait => OnLimit::Wait,
        raw::OnLimit::Continue(given) => OnLimit::Continue(Arc::new(continuation(given, &path, problems))),
    })
}

fn continuation(given: &raw::Continue, path: &Path<'_>, problems: &mut Problems) -> Continuation {
    if !given.goes_on {
        problems.expected(&path.member("continue"), "true, or \"refuse\" in the object's place", "false");
    }
    let header = given.header.as_ref().map(|header| route_header(header, &path.member("header"), problems));
    let model = given.model.as_deref().map(|model| {
        if model.is_empty() || model.len() > MAX_BYTES || model.trim() != model {
            let expected = format!("the name of a model, of 1 to {MAX_BYTES} bytes");
            problems.expected(&path.member("model"), expected, quoted(model));
        }
        model.into()
    });
    Continuation { header, model }
}

fn route_header(given: &raw::RouteHeader, path: &Path<'_>, problems: &mut Problems) -> RouteHeader {
    let name_path = path.member("name");
    let name = sources::header(given.name.clone(), &name_path, problems);
    if RESERVED.contains(&&*name) {
        problems.expected(&name_path, "a header that has no other meaning", quoted(&given.name));
    }
    let is_printable = given.value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let is_value = is_printable && (1..=MAX_BYTES).contains(&given.value.len());
    if !is_value || given.value.trim() != given.value {
        let expected = format!("1 to {MAX_BYTES} printable characters of ASCII");
        problems.expected(&path.member("value"), expected, quoted(&given.value));
    }
    RouteHeader { name: name.into(), value: given.value.as_str().into() }
}

/// The headers of `all` by which Envoy chooses routes, each once. None of them may be one by which the filter knows
/// senders or their limits: it is removed from what clients send.
pub(super) fn route_headers<'c>(
    all: impl Iterator<Item = &'c Continuation>,
    sources: &[Source],
    claims: &[&Claim],
    problems: &mut Problems,
) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = Vec::new();
    for header in all.filter_map(|it| it.header.as_ref()) {
        if !names.contains(&header.name) {
            names.push(Arc::clone(&header.name));
        }
    }
    for name in &names {
        let is_source = sources.iter().any(|source| is_in(name, &source.place));
        let is_claim = claims.iter().any(|claim| matches!(claim, Claim::Header(it) if **it == **name));
        if is_source || is_claim {
            let path = if is_source { Path::Root.member("identity") } else { Path::Root };
            let what = format!(
                "the header {} says who sends a request or what its limits are, and an \"on_limit\" removes it from \
                 what clients send, expected another header there",
                quoted(name)
            );
            problems.add(&path, what);
        }
    }
    names
}

/// Whether the value in `place` is that of the header `name`.
fn is_in(name: &str, place: &Place) -> bool {
    match place {
        Place::Header(header) => header == name,
        Place::All(parts) => parts.iter().any(|part| is_in(name, part)),
        _ => false,
    }
}
