//! The filter among the HTTP filters around it: whether any request comes to it, whether one comes to it twice, and
//! whether the filters that it relies on have run by then.

use super::Notes;
use super::beside;
use super::documents::Document;
use super::find::{Form, Found};
use super::routes::{Reach, reach};
use super::tree::{at, element, get, has_type, text};
use super::world::World;
use llm_rate_limit::config::Config;
use llm_rate_limit::identity::{Claim, Place};
use serde_json::Value;

/// Filters that set dynamic metadata, by the namespace of it and the end of their types.
const SETTERS: [(&str, &str); 2] = [
    ("envoy.filters.http.jwt_authn", ".jwt_authn.v3.JwtAuthentication"),
    ("envoy.filters.http.ext_authz", ".ext_authz.v3.ExtAuthz"),
];

/// The filters that a chain may end with: Envoy refuses every other chain.
const LAST: [(&str, &str); 2] = [
    ("envoy.filters.http.router", ".router.v3.Router"),
    ("envoy.filters.http.upstream_codec", ".upstream_codec.v3.UpstreamCodec"),
];

/// A list of HTTP filters.
#[derive(Clone, Debug)]
pub(in crate::command) struct Chain<'a> {
    pub(super) document: &'a Document,
    /// What has it: an `HttpConnectionManager`.
    pub(super) manager: &'a Value,
    pub(super) filters: &'a [Value],
    /// The place of the list.
    pub(super) place: String,
    /// The listener that has it.
    pub(in crate::command) listener: Option<&'a Value>,
}

impl Chain<'_> {
    /// The place of the filter at `index`.
    pub(super) fn at(&self, index: usize) -> String {
        element(&self.place, index)
    }

    /// The name of its listener.
    pub(in crate::command) fn name(&self) -> String {
        format!("{:?}", self.listener.map(|listener| text(listener, &["name"])).unwrap_or_default())
    }

    /// The port of its listener.
    pub(in crate::command) fn port(&self) -> Option<u64> {
        at(self.listener?, &["address", "socket_address", "port_value"])?.as_u64()
    }

    /// Whether clients' requests come to it, and not those of a cluster.
    pub(super) fn is_of_listener(&self) -> bool {
        ["route_config", "rds", "scoped_routes"].iter().any(|name| get(self.manager, name).is_some())
    }
}

/// The namespaces of metadata that `identity` or a claim uses, of filters that are known to set them, with their types.
pub(super) fn set_by_others(config: &Config) -> Vec<(&'static str, &'static str)> {
    let used = metadata(config);
    let is_used = |namespace: &str| used.iter().any(|path| path.first().is_some_and(|it| it == namespace));
    SETTERS.into_iter().filter(|(namespace, _)| is_used(namespace)).collect()
}

/// The paths of metadata that `identity` or a claim uses.
pub(super) fn metadata(config: &Config) -> Vec<&[String]> {
    fn add<'c>(place: &'c Place, paths: &mut Vec<&'c [String]>) {
        match place {
            Place::Metadata(path) => paths.push(path),
            Place::All(parts) => parts.iter().for_each(|part| add(part, paths)),
            _ => {}
        }
    }
    let mut paths = Vec::new();
    config.sources().iter().for_each(|source| add(&source.place, &mut paths));
    paths.extend(config.claims().into_iter().filter_map(|claim| match claim {
        Claim::Metadata(path) => Some(&**path),
        Claim::Header(_) => None,
    }));
    paths
}

/// Checks wherever the filter `found` with `config` stands.
pub(super) fn check(found: &Found<'_>, config: &Config, world: &World<'_>, notes: &mut Notes) {
    for stand in world.stands.iter().filter(|stand| stand.is_of(found)) {
        if let Some((chain, at)) = &stand.chain {
            order(chain, *at, found, config, world, notes);
        }
        match &stand.reach {
            Reach::Everywhere => {}
            Reach::Nowhere(why) => {
                notes.problem(&stand.place, format!("the filter is off, and limits nothing: {why}"));
            }
            Reach::Partly(why) => {
                let what = format!("the filter is off for some requests, and limits none of them: {why}");
                notes.hint(&stand.place, what);
            }
        }
        if let Some(earlier) =
            world.stands.iter().take_while(|it| !std::ptr::eq(*it, stand)).find(|it| it.charges_as(stand))
        {
            let what = format!(
                "the filter stands at {} already, so that each request is charged twice: take one out, or give each a \
                 \"store.namespace\" of its own",
                earlier.place
            );
            notes.problem(&stand.place, what);
        }
    }
    nowhere(found, world, notes);
    elsewhere(found, world, notes);
}

/// Says that nothing has the filter, if it is one that chains get by its name, and the chains are there.
fn nowhere(found: &Found<'_>, world: &World<'_>, notes: &mut Notes) {
    let Form::Plugin { chain: None, name, .. } = &found.form else { return };
    if world.stands.iter().any(|stand| stand.is_of(found)) {
        return;
    }
    let what = format!("no chain here has the filter {name:?}, so no request comes to it");
    if found.document.value.get("configs").is_some() {
        notes.problem(&found.place, what);
    } else if found.document.kind() == "EnvoyFilter" {
        notes.hint(&found.place, format!("no HTTP_FILTER patch here puts the filter {name:?} into a chain"));
    } else if !world.chains.is_empty() {
        notes.hint(&found.place, what);
    }
}

/// Whether a filter in a chain is the one with this name or type.
fn is(filter: &Value, name: &str, of_type: &str) -> bool {
    let typed = get(filter, "typed_config").is_some_and(|typed| has_type(typed, of_type));
    typed || text(filter, &["name"]) == name
}

/// The filters before and after ours, which is `at` its place in `chain`.
fn order(
    chain: &Chain<'_>,
    at: usize,
    found: &Found<'_>,
    config: &Config,
    world: &World<'_>,
    notes: &mut Notes,
) {
    let place = &found.place;
    let position = |name: &str, of_type: &str| chain.filters.iter().position(|it| is(it, name, of_type));
    let lasts: Vec<usize> = LAST.iter().filter_map(|(name, of_type)| position(name, of_type)).collect();
    if lasts.iter().any(|last| *last < at) {
        notes.problem(place, "the filter comes after the router, which lets no request through to it");
    } else if lasts.is_empty() {
        notes.problem(&chain.place, "no router comes after the filter: Envoy refuses a chain without one");
    }
    if let Some(buffer) = position(beside::BUFFER.0, beside::BUFFER.1) {
        beside::buffer(chain, buffer, config, notes);
    }
    for (namespace, of_type) in set_by_others(config) {
        let uses = "whose metadata the configuration uses";
        match position(namespace, of_type) {
            Some(setter) if setter > at => {
                notes.problem(place, format!("the filter comes before {namespace}, {uses}: put it behind"));
            }
            Some(setter) => match reach(chain, setter, world) {
                Reach::Everywhere => beside::claims(chain, setter, namespace, config, notes),
                Reach::Nowhere(why) => notes.problem(
                    &chain.at(setter),
                    format!("{namespace} is off, {uses} ({why}): it yields nothing"),
                ),
                Reach::Partly(why) => notes.hint(
                    &chain.at(setter),
                    format!("{namespace}, {uses}, is off for some requests ({why}): it yields nothing there"),
                ),
            },
            None => notes.hint(place, format!("no filter here is {namespace}, {uses}: it yields nothing")),
        }
    }
}

/// Hints at chains of a whole configuration that have no filter, where another has one. It says so of the first filter
/// that is `found` there.
fn elsewhere(found: &Found<'_>, world: &World<'_>, notes: &mut Notes) {
    if found.document.value.get("configs").is_some() {
        // A dump of a mesh has many listeners that are none of the filter's.
        return;
    }
    let is_here = |document: &Document| std::ptr::eq(document, found.document);
    let first = world.stands.iter().find(|stand| is_here(stand.document) && stand.chain.is_some());
    if !first.is_some_and(|stand| stand.is_of(found)) {
        return;
    }
    let has_none = |chain: &&Chain<'_>| chain.is_of_listener() && !world.has_filter(chain);
    for chain in world.chains.iter().filter(|chain| is_here(chain.document)).filter(has_none) {
        let what =
            "the filter is not in this chain: what comes to it is not limited, though another chain has it";
        notes.hint(&chain.place, what);
    }
}
