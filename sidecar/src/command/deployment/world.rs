//! What all documents of a deployment say together: clusters, services, and how large a body may be.

use super::chain::Chain;
use super::documents::Document;
use super::find::find;
use super::gateway;
use super::routes::{self, Routes, Switch};
use super::stands::{self, Stand};
use super::tokens::{self, Sidecar};
use super::tree::{element, get, has_type, list, member, text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The names and sizes that documents give.
#[derive(Clone, Debug, Default)]
pub(in crate::command) struct World<'a> {
    /// The names of Envoy's clusters.
    pub(in crate::command) clusters: BTreeSet<String>,
    /// The names of Kubernetes's services, `name.namespace`, with their ports. A namespace that is not given, because
    /// kustomize or kubectl sets it, is empty.
    pub(in crate::command) services: BTreeSet<(String, u64)>,
    /// The buffer limits of listeners that are given apart from them, in bytes.
    pub(in crate::command) buffers: Vec<u64>,
    /// Whether Envoy may get clusters from a server.
    pub(in crate::command) discovers_clusters: bool,
    /// All lists of HTTP filters.
    pub(in crate::command) chains: Vec<Chain<'a>>,
    /// All configurations of routes.
    pub(super) routes: Vec<Routes<'a>>,
    /// The switches of filters in patches.
    pub(super) switches: Vec<Switch>,
    /// Every place at which requests come to the filter.
    pub(in crate::command) stands: Vec<Stand<'a>>,
    /// What selects the filters whose headers a patch of Envoy Gateway lets wait for bodies.
    pub(super) holders: Vec<String>,
    /// The sidecars.
    pub(super) sidecars: Vec<Sidecar>,
    /// The values in Kubernetes's secrets, each by the name of the secret, and its own.
    pub(super) secrets: BTreeMap<(String, String), String>,
}

impl<'a> World<'a> {
    /// What `documents` say together.
    pub(in crate::command) fn of(documents: impl IntoIterator<Item = &'a Document>) -> Self {
        let documents: Vec<&Document> = documents.into_iter().collect();
        let mut world = Self::default();
        for document in &documents {
            match document.kind() {
                "Service" => world.service(&document.value),
                "Secret" => world.secrets.extend(tokens::secret(&document.value)),
                "Deployment" | "StatefulSet" | "DaemonSet" | "Pod" => {
                    world.sidecars.extend(tokens::sidecars(document));
                }
                "EnvoyFilter" => {
                    world.envoy_filter(&document.value);
                    world.switches.extend(routes::switches(document));
                }
                "EnvoyProxy" | "EnvoyPatchPolicy" => {
                    for configuration in gateway::configurations(&document.value) {
                        world.envoy(&configuration);
                    }
                    world.holders.extend(gateway::holders(&document.value));
                    world.walk(document, &document.value, String::new(), None);
                }
                "ClientTrafficPolicy" => {
                    let limit = document.value.pointer("/spec/connection/bufferLimit");
                    world.buffers.extend(limit.and_then(quantity));
                }
                _ => {
                    world.envoy(&document.value);
                    world.walk(document, &document.value, String::new(), None);
                }
            }
        }
        for found in documents.into_iter().flat_map(find) {
            let stands = stands::of(&found, &world);
            world.stands.extend(stands);
        }
        world
    }

    /// Whether the filter stands in `chain`.
    pub(in crate::command) fn has_filter(&self, chain: &Chain<'_>) -> bool {
        let is_in = |stand: &Stand<'_>| {
            stand.chain.as_ref().is_some_and(|(of, _)| std::ptr::eq(of.filters, chain.filters))
        };
        self.stands.iter().any(is_in)
    }

    /// Adds every chain and every configuration of routes in `value`, which is at `path` in `document`.
    fn walk(&mut self, document: &'a Document, value: &'a Value, path: String, listener: Option<&'a Value>) {
        match value {
            Value::Object(members) => {
                let listener = if get(value, "filter_chains").is_some() { Some(value) } else { listener };
                if let Some(filters) = get(value, "http_filters").and_then(Value::as_array) {
                    let place = document.at(&member(&path, "http_filters"));
                    self.chains.push(Chain { document, manager: value, filters, place, listener });
                }
                if get(value, "virtual_hosts").is_some() {
                    self.routes.push(Routes { value });
                }
                for (name, child) in members {
                    self.walk(document, child, member(&path, name), listener);
                }
            }
            Value::Array(elements) => {
                for (index, child) in elements.iter().enumerate() {
                    self.walk(document, child, element(&path, index), listener);
                }
            }
            _ => {}
        }
    }

    /// Whether any of the services is `host` at `port`, or none is given.
    pub(in crate::command) fn may_have_service(&self, host: &str, port: u64) -> bool {
        let of = |service: &str| match service.strip_suffix('.') {
            None => host == service || host.starts_with(&format!("{service}.svc")),
            Some(name) => {
                let rest = host.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
                rest.is_some_and(|rest| rest.split_once('.').is_none_or(|(_, end)| end.starts_with("svc")))
            }
        };
        self.services.is_empty() || self.services.iter().any(|(name, at)| *at == port && of(name))
    }

    fn service(&mut self, service: &Value) {
        let namespace = text(service, &["metadata", "namespace"]);
        let name = format!("{}.{namespace}", text(service, &["metadata", "name"]));
        let ports = list(service, &["spec", "ports"]).iter().filter_map(|port| port.get("port")?.as_u64());
        self.services.extend(ports.map(|port| (name.clone(), port)));
    }

    fn envoy_filter(&mut self, filter: &Value) {
        for patch in list(filter, &["spec", "configPatches"]) {
            let value = patch.pointer("/patch/value").unwrap_or(&Value::Null);
            match text(patch, &["applyTo"]) {
                "CLUSTER" => self.clusters.extend(name_of(value)),
                "LISTENER" => self.buffers.extend(buffer_limit(value)),
                _ => {}
            }
        }
    }

    /// A whole configuration, a discovery response or a `config_dump`.
    fn envoy(&mut self, value: &Value) {
        self.clusters.extend(list(value, &["static_resources", "clusters"]).iter().filter_map(name_of));
        let dynamic = get(value, "dynamic_resources");
        self.discovers_clusters |= dynamic
            .is_some_and(|it| get(it, "cds_config").is_some() || get(it, "cds_resources_locator").is_some());
        for resource in list(value, &["resources"]) {
            if has_type(resource, ".cluster.v3.Cluster") {
                self.clusters.extend(name_of(resource));
            }
        }
        let dumps = list(value, &["configs"]);
        for dump in dumps {
            if let Some(bootstrap) = get(dump, "bootstrap") {
                self.envoy(bootstrap);
            }
            let lists = ["static_clusters", "dynamic_active_clusters", "dynamic_warming_clusters"];
            let clusters = lists.iter().flat_map(|name| list(dump, &[name]));
            self.clusters.extend(clusters.filter_map(|cluster| name_of(get(cluster, "cluster")?)));
        }
        // A dump has what Envoy has got.
        self.discovers_clusters &= dumps.is_empty();
    }
}

/// The buffer limit that a listener sets, in bytes.
pub(super) fn buffer_limit(listener: &Value) -> Option<u64> {
    get(listener, "per_connection_buffer_limit_bytes")?.as_u64()
}

fn name_of(value: &Value) -> Option<String> {
    value.get("name")?.as_str().map(str::to_owned)
}

/// A quantity of bytes as Kubernetes writes it: `32Mi`, `1G`, `32768`.
fn quantity(value: &Value) -> Option<u64> {
    if let Some(bytes) = value.as_u64() {
        return Some(bytes);
    }
    let text = value.as_str()?;
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor: u64 = match text.strip_prefix(digits)? {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (given, bytes) in [
            (json!(32_768), Some(32_768)),
            (json!("32Mi"), Some(32 << 20)),
            (json!("2k"), Some(2_000)),
            (json!("1Xi"), None),
            (json!("Mi"), None),
        ] {
            assert_eq!(quantity(&given), bytes, "{given}");
        }
    }

    #[test]
    fn a_service_is_found_by_its_host() {
        let mut world = World::default();
        assert!(world.may_have_service("a.b.svc.cluster.local", 1), "none is given");
        world
            .service(&json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"ports": [{"port": 1}]}}));
        assert!(world.may_have_service("a.b.svc.cluster.local", 1) && world.may_have_service("a.b", 1));
        assert!(!world.may_have_service("a.b.svc.cluster.local", 2) && !world.may_have_service("a.c", 1));
        world.service(&json!({"metadata": {"name": "n"}, "spec": {"ports": [{"port": 1}]}}));
        assert!(world.may_have_service("n.any.svc.cluster.local", 1) && world.may_have_service("n.any", 1));
        assert!(!world.may_have_service("n.any.svc", 2) && !world.may_have_service("nn.any.svc", 1));
    }
}
