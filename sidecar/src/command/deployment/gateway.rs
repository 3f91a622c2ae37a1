//! What Envoy Gateway's resources say of Envoy's configuration: an `EnvoyProxy` of its bootstrap, and an
//! `EnvoyPatchPolicy` of what it makes.

use super::documents::values;
use super::tree::{has_type, list, text};
use serde_json::Value;

/// The option with which headers wait for bodies.
const HOLDS: &str = "allow_on_headers_stop_iteration";

/// What the resource `document` puts into Envoy's configuration, each as a configuration of Envoy.
pub(super) fn configurations(document: &Value) -> Vec<Value> {
    let bootstrap = document.pointer("/spec/bootstrap").unwrap_or(&Value::Null);
    let whole = values(text(bootstrap, &["value"]).as_bytes()).unwrap_or_default();
    let of_bootstrap = list(bootstrap, &["jsonPatches"]).iter().map(|patch| (patch, text(patch, &["path"])));
    let of_policy = list(document, &["spec", "jsonPatches"]).iter().filter_map(|patch| {
        let is_whole = text(patch, &["operation", "path"]).is_empty() && type_ends(patch, ".Cluster");
        is_whole.then_some((patch.get("operation")?, "/static_resources/clusters/-"))
    });
    let patched =
        of_bootstrap.chain(of_policy).filter(|(patch, _)| sets(patch)).filter_map(|(patch, path)| {
            let value = patch.get("value")?.clone();
            let clusters = match path.strip_prefix("/static_resources")? {
                "" => return Some(serde_json::json!({ "static_resources": value })),
                "/clusters" => value,
                path if path.starts_with("/clusters/") && path.matches('/').count() == 2 => {
                    Value::Array(vec![value])
                }
                _ => return None,
            };
            Some(serde_json::json!({"static_resources": {"clusters": clusters}}))
        });
    whole.into_iter().chain(patched).collect()
}

/// The filters whose headers the policy `document` lets wait for bodies: what selects each.
pub(super) fn holders(document: &Value) -> impl Iterator<Item = String> {
    let operations =
        list(document, &["spec", "jsonPatches"]).iter().filter_map(|patch| patch.get("operation"));
    operations.filter(|patch| sets(patch)).filter_map(|patch| {
        let (path, value) = (text(patch, &["path"]), patch.get("value")?);
        let is_field = path.ends_with(&format!("/{HOLDS}")) && value == true;
        let is_around = value.get(HOLDS).is_some_and(|value| value == true);
        (is_field || is_around).then(|| format!("{}{path}", text(patch, &["jsonPath"])))
    })
}

/// Whether what `selected` selects may be the filter at `index` of the `EnvoyExtensionPolicy` `policy`.
pub(super) fn may_select(selected: &str, policy: &Value, index: usize) -> bool {
    const POLICY: &str = "envoyextensionpolicy/";
    let (namespace, name) = (text(policy, &["metadata", "namespace"]), text(policy, &["metadata", "name"]));
    // What names no policy may be any; kustomize may set the namespace later.
    let Some((_, named)) = selected.split_once(POLICY) else { return true };
    let end = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_digit());
    named.split_once('/').is_some_and(|(of, rest)| {
        (namespace.is_empty() || of == namespace)
            && rest.strip_prefix(&format!("{name}/wasm/{index}")).is_some_and(end)
    })
}

fn sets(patch: &Value) -> bool {
    matches!(text(patch, &["op"]), "add" | "replace")
}

fn type_ends(patch: &Value, name: &str) -> bool {
    has_type(patch, name) || text(patch, &["type"]).ends_with(name)
}
