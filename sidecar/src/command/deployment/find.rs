//! The filter in a document: in Envoy's own configuration (whole, a discovery response or a `config_dump`), in Istio's
//! and Envoy Gateway's resources, or as the filter's configuration alone.

use super::documents::Document;
use super::tree::{at, element, get, has_type, list, member, text};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// The end of the type of Envoy's Wasm filter.
const WASM: &str = ".filters.http.wasm.v3.Wasm";

/// What the filter is called, in names and in the addresses of modules.
const OUR_NAMES: [&str; 2] = ["llm-rate-limit", "llm_rate_limit"];

/// Members of documents that have nothing of the filter: of Compose.
const FOREIGN: [&str; 1] = ["services"];

/// The fields of the filter's configuration.
static FIELDS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let schema: Value =
        serde_json::from_str(include_str!("../../../../docs/config.schema.json")).unwrap_or_default();
    let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    fields.map(|(name, _)| name.clone()).collect()
});

/// The filter, somewhere in a document.
#[derive(Clone, Debug)]
pub(in crate::command) struct Found<'a> {
    /// The document.
    pub(in crate::command) document: &'a Document,
    /// The place of what has the configuration.
    pub(in crate::command) place: String,
    /// The place of the configuration.
    pub(in crate::command) configuration_place: String,
    /// The configuration.
    pub(in crate::command) configuration: Given<'a>,
    /// What has it.
    pub(in crate::command) form: Form<'a>,
}

/// The filter's configuration, as it is given.
#[derive(Clone, Copy, Debug)]
pub(in crate::command) enum Given<'a> {
    /// The document itself.
    Whole(&'a Value),
    /// Text: JSON or YAML.
    Text(&'a str),
    /// Part of the document.
    Tree(&'a Value),
    /// None is given.
    Missing,
}

impl Given<'_> {
    /// Its text, as the filter reads it.
    pub(in crate::command) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Whole(tree) | Self::Tree(tree) => tree.to_string().into(),
            Self::Text(text) => (*text).into(),
            Self::Missing => "".into(),
        }
    }
}

/// What has the filter's configuration.
#[derive(Clone, Debug)]
pub(in crate::command) enum Form<'a> {
    /// Nothing: it stands alone.
    Alone,
    /// A `PluginConfig` of Envoy.
    Plugin {
        /// The `PluginConfig`.
        plugin: &'a Value,
        /// The HTTP filters around it, and its place among them.
        chain: Option<(&'a [Value], usize)>,
        /// The listener that has it, with its place.
        listener: Option<(&'a Value, String)>,
        /// The name of the filter: others discover it by that.
        name: &'a str,
    },
    /// A resource of Istio: `WasmPlugin` or `TrafficExtension`.
    Istio {
        /// The kind of resource.
        kind: &'a str,
        /// Its `phase`.
        phase: &'a str,
        /// What has its `failStrategy`.
        wasm: &'a Value,
    },
    /// An entry of Envoy Gateway's `EnvoyExtensionPolicy`.
    Gateway {
        /// The entry.
        wasm: &'a Value,
        /// Its place among the entries.
        index: usize,
    },
}

/// Where the search is in a document.
struct Search<'a> {
    document: &'a Document,
    /// The values around, from the outermost, each with its path.
    around: Vec<(&'a Value, String)>,
    found: Vec<Found<'a>>,
}

fn is_of_higress(document: &Document) -> bool {
    let version = document.value.get("apiVersion").and_then(Value::as_str);
    version.is_some_and(|version| version.starts_with("extensions.higress.io/"))
}

/// Each place of `document` that has the filter.
pub(in crate::command) fn find(document: &Document) -> Vec<Found<'_>> {
    let spec = document.value.get("spec").unwrap_or(&Value::Null);
    match document.kind() {
        // Higress has Istio's WasmPlugin with another name for the configuration.
        kind @ "WasmPlugin" if is_of_higress(document) => {
            istio(document, kind, spec, "spec", "defaultConfig")
        }
        kind @ "WasmPlugin" => istio(document, kind, spec, "spec", "pluginConfig"),
        kind @ "TrafficExtension" => match spec.get("wasm") {
            Some(wasm) => istio(document, kind, wasm, "spec.wasm", "pluginConfig"),
            None => Vec::new(),
        },
        "EnvoyExtensionPolicy" => gateway(document, spec),
        _ => {
            let mut search = Search { document, around: Vec::new(), found: Vec::new() };
            search.walk(&document.value, String::new());
            if search.found.is_empty() && is_configuration(document) {
                let place = document.place.clone();
                search.found.push(Found {
                    document,
                    configuration_place: place.clone(),
                    place,
                    configuration: Given::Whole(&document.value),
                    form: Form::Alone,
                });
            }
            search.found
        }
    }
}

fn istio<'a>(
    document: &'a Document,
    kind: &'a str,
    wasm: &'a Value,
    path: &str,
    field: &str,
) -> Vec<Found<'a>> {
    let name = document.value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let configuration = wasm.get(field);
    let names = [text(wasm, &["url"]), text(wasm, &["pluginName"]), name];
    if !is_ours(&names, configuration) {
        return Vec::new();
    }
    vec![Found {
        document,
        place: document.at(path),
        configuration_place: document.at(&member(path, field)),
        configuration: configuration.map_or(Given::Missing, Given::Tree),
        form: Form::Istio { kind, phase: text(&document.value, &["spec", "phase"]), wasm },
    }]
}

fn gateway<'a>(document: &'a Document, spec: &'a Value) -> Vec<Found<'a>> {
    let entries = list(spec, &["wasm"]).iter().enumerate();
    let found = entries.filter_map(|(index, wasm)| {
        let configuration = wasm.get("config");
        let urls = [text(wasm, &["code", "image", "url"]), text(wasm, &["code", "http", "url"])];
        let names = [text(wasm, &["name"]), text(wasm, &["rootID"]), urls[0], urls[1]];
        let path = element("spec.wasm", index);
        is_ours(&names, configuration).then(|| Found {
            document,
            place: document.at(&path),
            configuration_place: document.at(&member(&path, "config")),
            configuration: configuration.map_or(Given::Missing, Given::Tree),
            form: Form::Gateway { wasm, index },
        })
    });
    found.collect()
}

/// Whether a plugin with these names and this configuration is the filter.
fn is_ours(names: &[&str], configuration: Option<&Value>) -> bool {
    let is_named = names.iter().any(|name| OUR_NAMES.iter().any(|ours| name.contains(ours)));
    is_named || configuration.is_some_and(|configuration| known_fields(configuration) > 1)
}

/// How many fields of the filter's configuration an object has.
fn known_fields(value: &Value) -> usize {
    let members = value.as_object().into_iter().flatten();
    members.filter(|(name, _)| FIELDS.contains(name.as_str())).count()
}

/// Whether a document is the filter's configuration, perhaps with mistakes. What a `ConfigMap` carries may be anything.
fn is_configuration(document: &Document) -> bool {
    let Some(members) = document.value.as_object() else { return !document.is_carried };
    let is_resource = members.contains_key("apiVersion") || members.contains_key("kind");
    let is_envoys = ["static_resources", "dynamic_resources", "admin", "resources", "configs", "@type"]
        .iter()
        .any(|name| get(&document.value, name).is_some());
    let is_foreign = FOREIGN.iter().any(|name| members.contains_key(*name));
    let known = known_fields(&document.value);
    !is_resource && !is_envoys && !is_foreign && (!document.is_carried || known > 1 || known == members.len())
}

impl<'a> Search<'a> {
    fn walk(&mut self, value: &'a Value, path: String) {
        match value {
            Value::Object(members) => {
                if has_type(value, WASM) {
                    // In a `TypedStruct`, the filter is its value.
                    let (filter, path) = match get(value, "type_url") {
                        Some(_) => (value.get("value").unwrap_or(value), member(&path, "value")),
                        None => (value, path.clone()),
                    };
                    self.plugin(filter, &path);
                }
                self.around.push((value, path));
                for (name, child) in members {
                    let path = self.around.last().map(|(_, path)| member(path, name)).unwrap_or_default();
                    self.walk(child, path);
                }
                self.around.pop();
            }
            Value::Array(elements) => {
                self.around.push((value, path));
                for (index, child) in elements.iter().enumerate() {
                    let path = self.around.last().map(|(_, path)| element(path, index)).unwrap_or_default();
                    self.walk(child, path);
                }
                self.around.pop();
            }
            _ => {}
        }
    }

    /// Adds the plugin of `filter`, which is at `path`, if it is the filter.
    fn plugin(&mut self, filter: &'a Value, path: &str) {
        let Some(plugin) = filter.get("config") else { return };
        let path = member(path, "config");
        let name = self.around.last().map(|(value, _)| text(value, &["name"])).unwrap_or_default();
        let code = at(plugin, &["vm_config", "code"]);
        let of_code = |names: &[&str]| code.map(|code| text(code, names)).unwrap_or_default();
        let names = [
            name,
            text(plugin, &["name"]),
            text(plugin, &["root_id"]),
            text(plugin, &["vm_config", "vm_id"]),
            of_code(&["local", "filename"]),
            of_code(&["remote", "http_uri", "uri"]),
        ];
        let given = get(plugin, "configuration");
        // `StringValue` and `Struct` have their content in `value`.
        let content = given.map(|given| if given.get("@type").is_some() { &given["value"] } else { given });
        if !is_ours(&names, content) {
            return;
        }
        let configuration_path = member(&path, "configuration");
        let is_wrapped = given.is_some_and(|given| given.get("@type").is_some());
        self.found.push(Found {
            document: self.document,
            place: self.document.at(&path),
            configuration_place: self.document.at(&if is_wrapped {
                member(&configuration_path, "value")
            } else {
                configuration_path
            }),
            configuration: match content {
                Some(Value::String(text)) => Given::Text(text),
                Some(Value::Null) | None => Given::Missing,
                Some(tree) => Given::Tree(tree),
            },
            form: Form::Plugin { plugin, chain: self.chain(), listener: self.listener(), name },
        });
    }

    /// The HTTP filters around: the nearest list of those that is around.
    fn chain(&self) -> Option<(&'a [Value], usize)> {
        let filters =
            |(value, _): &(&'a Value, String)| Some(get(value, "http_filters")?.as_array()?.as_slice());
        let filters = self.around.iter().rev().find_map(filters)?;
        let is_around = |filter: &Value| self.around.iter().any(|(value, _)| std::ptr::eq(*value, filter));
        Some((filters, filters.iter().position(is_around)?))
    }

    /// The listener around.
    fn listener(&self) -> Option<(&'a Value, String)> {
        let is_listener = |value: &Value| get(value, "filter_chains").is_some();
        self.around.iter().rev().find(|(value, _)| is_listener(value)).cloned()
    }
}
