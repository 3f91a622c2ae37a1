//! Whether routes let a filter run: `disabled` where it stands, and `typed_per_filter_config` of routes, of virtual
//! hosts and of all routes together, of which the innermost counts.

use super::chain::Chain;
use super::documents::Document;
use super::tree::{at, element, get, has_type, list, member, text};
use super::world::World;
use serde_json::Value;

/// How many places a message names.
const MAX_NAMED: usize = 3;

/// Which requests come to a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::command) enum Reach {
    /// All that come to its chain.
    Everywhere,
    /// Some, for this reason; or nobody can tell whether any.
    Partly(String),
    /// None, for this reason.
    Nowhere(String),
}

/// A configuration of routes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routes<'a> {
    pub(super) value: &'a Value,
}

/// An entry of `typed_per_filter_config` in a patch.
#[derive(Clone, Debug)]
pub(super) struct Switch {
    /// The filter that it is about.
    name: String,
    is_on: bool,
    place: String,
}

/// Which requests come to the filter at `index` of `chain`.
pub(super) fn reach(chain: &Chain<'_>, index: usize, world: &World<'_>) -> Reach {
    let Some(filter) = chain.filters.get(index) else { return Reach::Everywhere };
    match by_routes(chain, filter, world) {
        Reach::Everywhere => by_matcher(filter),
        less => less,
    }
}

/// Which of them a matcher around the `filter` lets come to it.
fn by_matcher(filter: &Value) -> Reach {
    let matcher = get(filter, "typed_config").filter(|typed| has_type(typed, ".ExtensionWithMatcher"));
    let matcher = matcher.and_then(|typed| get(typed, "xds_matcher").or_else(|| get(typed, "matcher")));
    let Some(matcher) = matcher else { return Reach::Everywhere };
    if has_action(matcher, ".SkipFilter") {
        return Reach::Partly("its matcher skips it for some".to_owned());
    }
    if has_action(matcher, ".ExecuteFilterAction") && get(matcher, "on_no_match").is_none() {
        return Reach::Partly("its matcher has no on_no_match, for what nothing matches".to_owned());
    }
    Reach::Everywhere
}

/// Whether an action of this type is anywhere in `value`.
fn has_action(value: &Value, of_type: &str) -> bool {
    match value {
        Value::Object(members) => {
            has_type(value, of_type) || members.values().any(|member| has_action(member, of_type))
        }
        Value::Array(elements) => elements.iter().any(|element| has_action(element, of_type)),
        _ => false,
    }
}

/// Which of them the routes of `chain` let come to the `filter`.
fn by_routes(chain: &Chain<'_>, filter: &Value, world: &World<'_>) -> Reach {
    let (name, is_off) = (text(filter, &["name"]), is_disabled(filter));
    let Some(routes) = routes_of(chain, world) else {
        return if is_off {
            Reach::Partly(format!(
                "\"disabled\" is true, and the routes that may switch it on, by typed_per_filter_config.{name}, are \
                 elsewhere"
            ))
        } else {
            Reach::Everywhere
        };
    };
    let leaves = leaves(routes, name, !is_off);
    let off: Vec<&str> = leaves.iter().filter(|(_, is_on)| !is_on).map(|(place, _)| place.as_str()).collect();
    match (off.len(), leaves.len()) {
        (0, all) if all > 0 || !is_off => Reach::Everywhere,
        (off, all) if off == all && is_off => Reach::Nowhere(format!(
            "\"disabled\" is true, and typed_per_filter_config.{name} of no route switches it on"
        )),
        (off, all) if off == all => {
            Reach::Nowhere(format!("typed_per_filter_config.{name} switches it off on every route"))
        }
        (count, all) => {
            let mut named = off.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
            if count > MAX_NAMED {
                named.push_str(", …");
            }
            Reach::Partly(format!("it does not run on {count} of {all} routes: {named}"))
        }
    }
}

/// Which requests come to the filter `value` that a patch puts into chains, with these switches of all patches.
pub(super) fn reach_of_patch(value: &Value, switches: &[Switch]) -> Reach {
    let (name, is_off) = (text(value, &["name"]), is_disabled(value));
    let mut switches = switches.iter().filter(|switch| switch.name == name);
    match switches.find(|switch| switch.is_on == is_off) {
        None if is_off => Reach::Nowhere(format!(
            "\"disabled\" is true, and no patch here switches it on by typed_per_filter_config.{name}"
        )),
        None => Reach::Everywhere,
        Some(switch) if is_off => {
            Reach::Partly(format!("it runs only where {} switches it on", switch.place))
        }
        Some(switch) => Reach::Partly(format!("{} switches it off", switch.place)),
    }
}

/// The switches in the patches of `document`.
pub(super) fn switches(document: &Document) -> Vec<Switch> {
    let mut all = Vec::new();
    walk_switches(document, &document.value, String::new(), &mut all);
    all
}

fn walk_switches(document: &Document, value: &Value, path: String, all: &mut Vec<Switch>) {
    if let Some(entries) = per_filter(value) {
        all.extend(entries.iter().map(|(name, entry)| Switch {
            name: name.clone(),
            is_on: switches_on(entry),
            place: document.at(&member(&member(&path, "typed_per_filter_config"), name)),
        }));
    }
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, child)| walk_switches(document, child, member(&path, name), all));
        }
        Value::Array(elements) => {
            let each = |(index, child)| walk_switches(document, child, element(&path, index), all);
            elements.iter().enumerate().for_each(each);
        }
        _ => {}
    }
}

fn is_disabled(filter: &Value) -> bool {
    filter.get("disabled").and_then(Value::as_bool) == Some(true)
}

/// Whether an entry of `typed_per_filter_config` switches its filter on. Any but a `FilterConfig` configures it, and so
/// does.
fn switches_on(entry: &Value) -> bool {
    let config = get(entry, "value").unwrap_or(entry);
    !has_type(entry, ".FilterConfig") || !is_disabled(config)
}

fn per_filter(value: &Value) -> Option<&serde_json::Map<String, Value>> {
    get(value, "typed_per_filter_config")?.as_object()
}

/// Whether the filter called `name` runs in `value`, if it says.
fn switched(value: &Value, name: &str) -> Option<bool> {
    per_filter(value)?.get(name).map(switches_on)
}

/// The routes of `chain`, if they are known.
fn routes_of<'a>(chain: &Chain<'a>, world: &World<'a>) -> Option<Routes<'a>> {
    if let Some(value) = get(chain.manager, "route_config") {
        return Some(Routes { value });
    }
    let name = at(chain.manager, &["rds", "route_config_name"])?.as_str()?;
    world.routes.iter().find(|routes| text(routes.value, &["name"]) == name).copied()
}

/// Each route to an upstream, by its place, and whether the filter called `name` runs there. `is_on`: whether it does
/// where nothing says so.
fn leaves(routes: Routes<'_>, name: &str, is_on: bool) -> Vec<(String, bool)> {
    let mut leaves = Vec::new();
    let is_on = switched(routes.value, name).unwrap_or(is_on);
    for (host_index, host) in list(routes.value, &["virtual_hosts"]).iter().enumerate() {
        let is_on = switched(host, name).unwrap_or(is_on);
        for (index, route) in list(host, &["routes"]).iter().enumerate() {
            let is_on = switched(route, name).unwrap_or(is_on);
            let Some(action) = route.get("route") else { continue };
            let host_name = text(host, &["name"]);
            let place = if host_name.is_empty() {
                format!("virtual_hosts[{host_index}].routes[{index}]")
            } else {
                format!("route {index} of {host_name:?}")
            };
            let weighted = list(action, &["weighted_clusters", "clusters"]);
            let of_clusters: Vec<bool> =
                weighted.iter().filter_map(|cluster| switched(cluster, name)).collect();
            if of_clusters.len() < weighted.len().max(1) {
                leaves.push((place.clone(), is_on));
            }
            leaves.extend(of_clusters.into_iter().map(|is_on| (place.clone(), is_on)));
        }
    }
    leaves
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OFF: &str = "type.googleapis.com/envoy.config.route.v3.FilterConfig";

    fn of(filter: Value, manager: &Value) -> Reach {
        let document = Document { place: String::new(), value: Value::Null, is_carried: false };
        let filters = [filter];
        let chain =
            Chain { document: &document, manager, filters: &filters, place: String::new(), listener: None };
        reach(&chain, 0, &World::default())
    }

    fn routes(of_all: Value, of_host: Value, of_routes: [Value; 2]) -> Value {
        let routes: Vec<Value> = of_routes
            .into_iter()
            .map(|switch| json!({"route": {"cluster": "c"}, "typed_per_filter_config": switch}))
            .collect();
        let redirect = json!({"redirect": {}});
        let host =
            json!({"name": "h", "typedPerFilterConfig": of_host, "routes": [routes[0], routes[1], redirect]});
        json!({"route_config": {"typed_per_filter_config": of_all, "virtual_hosts": [host]}})
    }

    #[test]
    fn the_innermost_switch_counts() {
        let (off, on, none) = (
            json!({"f": {"@type": OFF, "disabled": true}}),
            json!({"f": {"@type": OFF, "config": {}}}),
            json!({}),
        );
        let plain = json!({"name": "f"});
        let disabled = json!({"name": "f", "disabled": true});
        for (filter, of_all, of_host, of_routes, expected) in [
            (&plain, &none, &none, [&none, &none], "everywhere"),
            (&plain, &none, &none, [&off, &none], "it does not run on 1 of 2 routes: route 0 of \"h\""),
            (&plain, &none, &none, [&off, &off], "off on every route"),
            (&plain, &none, &off, [&none, &none], "off on every route"),
            (&plain, &off, &none, [&none, &none], "off on every route"),
            (&plain, &off, &on, [&none, &none], "everywhere"),
            (&plain, &off, &none, [&on, &none], "on 1 of 2 routes: route 1"),
            (&disabled, &none, &none, [&none, &none], "of no route switches it on"),
            (&disabled, &none, &none, [&none, &on], "on 1 of 2 routes: route 0"),
            (&disabled, &on, &none, [&none, &none], "everywhere"),
        ] {
            let manager = routes(of_all.clone(), of_host.clone(), of_routes.map(Clone::clone));
            let found = match of(filter.clone(), &manager) {
                Reach::Everywhere => "everywhere".to_owned(),
                Reach::Partly(why) | Reach::Nowhere(why) => why,
            };
            assert!(found.contains(expected), "{filter} {manager}: {found}");
        }
        let elsewhere = json!({"rds": {"route_config_name": "r"}});
        assert!(matches!(of(disabled, &elsewhere), Reach::Partly(_)));
        assert_eq!(of(plain, &elsewhere), Reach::Everywhere);
    }

    #[test]
    fn a_cluster_of_several_has_a_switch_of_its_own() {
        let off = json!({"f": {"@type": OFF, "disabled": true}});
        let clusters = json!([{"name": "a", "typed_per_filter_config": off}, {"name": "b"}]);
        let route = json!({"route": {"weighted_clusters": {"clusters": clusters}}});
        let manager = json!({"route_config": {"virtual_hosts": [{"name": "h", "routes": [route]}]}});
        assert!(matches!(of(json!({"name": "f"}), &manager), Reach::Partly(_)));
    }
}
