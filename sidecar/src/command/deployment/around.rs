//! What stands around the filter: whether its sidecar's cluster exists and has its token, requests and their bodies
//! reach it, and a crash does not end its limits.

use super::chain::{self, set_by_others};
use super::documents::Document;
use super::find::{Form, Found};
use super::tree::{get, list, member, text};
use super::world::{World, buffer_limit};
use super::{Notes, gateway, tokens};
use llm_rate_limit::config::{Config, HeadersMode, Store};
use serde_json::Value;

/// The buffer limit that the shipped files set: Envoy answers a larger body 413 before the filter sees it.
pub(super) const BUFFER_BYTES: u64 = 32 << 20;

/// Checks what stands around the filter that was `found` in `document` with `config`.
pub(in crate::command) fn check(
    document: &Document,
    found: &Found<'_>,
    config: &Config,
    world: &World<'_>,
    notes: &mut Notes,
) {
    let place = &found.place;
    if !matches!(found.form, Form::Alone) {
        cluster(document, found, config, world, notes);
    }
    tokens::check(found, config, world, notes);
    chain::check(found, config, world, notes);
    match &found.form {
        Form::Alone => {}
        Form::Plugin { plugin, listener, name, .. } => {
            held_headers(plugin, place, config, notes);
            failure_policy(plugin, place, notes);
            patches(document, name, config, notes);
            buffers(listener.as_ref(), document, place, config, world, notes);
        }
        Form::Istio { kind, phase, wasm } => {
            cannot_hold_headers(kind, &found.configuration_place, config, notes);
            let strategy = text(wasm, &["failStrategy"]);
            crashes(strategy, strategy == "FAIL_OPEN", &member(place, "failStrategy"), notes);
            if *phase == "AUTHN" {
                for (namespace, _) in set_by_others(config) {
                    let what = format!(
                        "expected a phase after Istio's authentication, such as \"AUTHZ\": the configuration \
                         uses the metadata of {namespace}, which is not set before it"
                    );
                    notes.problem(&document.at("spec.phase"), what);
                }
            }
        }
        Form::Gateway { wasm, index } => {
            let holds = |selected: &String| gateway::may_select(selected, &document.value, *index);
            if !world.holders.iter().any(holds) {
                cannot_hold_headers("EnvoyExtensionPolicy", &found.configuration_place, config, notes);
            }
            if wasm.get("failOpen").and_then(Value::as_bool) == Some(true) {
                notes.hint(&member(place, "failOpen"), OPEN);
            }
            if needs_bodies(config) && world.buffers.iter().all(|limit| *limit < BUFFER_BYTES) {
                notes.hint(
                    place,
                    "a body larger than 32 KiB is answered 413 unless a ClientTrafficPolicy sets \
                     connection.bufferLimit: 32Mi holds long prompts",
                );
            }
        }
    }
}

/// What an open filter means.
const OPEN: &str = "while the filter has crashed, every request passes without limits";

/// Whether any decision waits for bodies.
pub(super) fn needs_bodies(config: &Config) -> bool {
    config.subjects().chain(config.strangers()).any(|subject| subject.needs_body())
}

/// The cluster that `store.cluster` names.
fn cluster(document: &Document, found: &Found<'_>, config: &Config, world: &World<'_>, notes: &mut Notes) {
    let Store::Redis(store) = config.store() else { return };
    let (name, place) = (store.cluster.as_str(), &found.configuration_place);
    if world.clusters.contains(name) {
        return;
    }
    // Istio's own name of a service's cluster: outbound|<port>|<subset>|<host>.
    let parts: Vec<&str> = name.split('|').collect();
    if let ["outbound", port, _, host] = parts[..] {
        if !port.parse().is_ok_and(|port| world.may_have_service(host, port)) {
            notes.hint(place, format!("store.cluster: no Service in these files is {host} at port {port}"));
        }
        return;
    }
    let knows_all =
        get(&document.value, "static_resources").is_some() || document.value.get("configs").is_some();
    if knows_all && !world.discovers_clusters {
        let known: Vec<_> = world.clusters.iter().map(|name| format!("{name:?}")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        notes.problem(
            place,
            format!("store.cluster: expected one of Envoy's clusters ({known}), found {name:?}"),
        );
    } else if matches!(found.form, Form::Istio { .. }) {
        notes.hint(
            place,
            format!(
                "store.cluster: Istio calls a service's cluster \"outbound|PORT||HOST\", and not {name:?}"
            ),
        );
    } else {
        notes.hint(place, format!("store.cluster: no file here has the cluster {name:?}"));
    }
}

/// Whether the filter can hold headers until the body is there.
fn held_headers(plugin: &Value, place: &str, config: &Config, notes: &mut Notes) {
    const FIELD: &str = "allow_on_headers_stop_iteration";
    let is_allowed = get(plugin, FIELD).and_then(Value::as_bool) == Some(true);
    let goes_first = config.headers_mode() == HeadersMode::HeadersFirst;
    if !is_allowed && !goes_first && needs_bodies(config) {
        notes.problem(
            &member(place, FIELD),
            "expected true, so that the filter can wait for bodies; before Envoy 1.35, which has no such field, set \
             \"headers_mode\" to \"headers_first\" in the filter's configuration",
        );
    } else if is_allowed && goes_first {
        notes.hint(
            place,
            "headers_mode: headers could wait for bodies here: \"auto\" refuses before it connects",
        );
    }
}

/// The same where no field can say so.
fn cannot_hold_headers(kind: &str, place: &str, config: &Config, notes: &mut Notes) {
    if config.headers_mode() != HeadersMode::HeadersFirst && needs_bodies(config) {
        notes.hint(
            place,
            format!(
                "headers_mode: a {kind} cannot let headers wait for bodies: \"headers_first\" says so from the start, \
                 and an EnvoyFilter can"
            ),
        );
    }
}

fn failure_policy(plugin: &Value, place: &str, notes: &mut Notes) {
    let policy = text(plugin, &["failure_policy"]);
    let is_open = policy == "FAIL_OPEN"
        || (policy.is_empty() && get(plugin, "fail_open").and_then(Value::as_bool) == Some(true));
    crashes(policy, is_open, &member(place, "failure_policy"), notes);
}

/// What happens when the filter crashes.
fn crashes(policy: &str, is_open: bool, place: &str, notes: &mut Notes) {
    if is_open {
        notes.hint(place, OPEN);
    } else if policy != "FAIL_RELOAD" {
        notes.hint(
            place,
            "a filter that has crashed answers 503 until Envoy restarts: FAIL_RELOAD starts it again",
        );
    }
}

/// Where an `EnvoyFilter` inserts the filter called `name`.
fn patches(document: &Document, name: &str, config: &Config, notes: &mut Notes) {
    let patches = list(&document.value, &["spec", "configPatches"]).iter().enumerate();
    for (index, patch) in patches {
        let is_ours = patch.pointer("/patch/value").is_some_and(|value| text(value, &["name"]) == name);
        if text(patch, &["applyTo"]) != "HTTP_FILTER" || !is_ours {
            continue;
        }
        let place = document.at(&format!("spec.configPatches[{index}].patch.operation"));
        let anchor = patch.pointer("/match/listener/filterChain/filter/subFilter");
        let is_router = anchor.is_some_and(|anchor| text(anchor, &["name"]) == "envoy.filters.http.router");
        match text(patch, &["patch", "operation"]) {
            "ADD" => notes.problem(&place, "expected INSERT_BEFORE the router: ADD puts the filter after it"),
            "INSERT_AFTER" if is_router => {
                notes
                    .problem(&place, "expected INSERT_BEFORE: no request comes to a filter after the router");
            }
            "INSERT_FIRST" => {
                for (namespace, _) in set_by_others(config) {
                    let what = format!(
                        "expected INSERT_BEFORE the router: INSERT_FIRST puts the filter before {namespace}, whose \
                         metadata the configuration uses"
                    );
                    notes.problem(&place, what);
                }
            }
            _ => {}
        }
    }
}

/// How large a body may be.
fn buffers(
    listener: Option<&(&Value, String)>,
    document: &Document,
    place: &str,
    config: &Config,
    world: &World<'_>,
    notes: &mut Notes,
) {
    let (limit, place) = match listener {
        Some((listener, path)) => {
            (buffer_limit(listener), document.at(&member(path, "per_connection_buffer_limit_bytes")))
        }
        None if document.kind() == "EnvoyFilter" => (world.buffers.iter().max().copied(), place.to_owned()),
        // The listener is elsewhere.
        None => return,
    };
    if needs_bodies(config) && limit.is_none_or(|limit| limit < BUFFER_BYTES) {
        let found =
            limit.map_or_else(|| "1 MiB, Envoy's default".to_owned(), |limit| format!("{limit} bytes"));
        let what = format!(
            "Envoy answers bodies of more than {found} 413 before the filter sees them: \
             per_connection_buffer_limit_bytes of {BUFFER_BYTES} holds long prompts and images"
        );
        notes.hint(&place, what);
    }
}
