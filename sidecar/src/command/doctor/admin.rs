//! What Envoy's admin interface shows: the filter in the configuration that is in force, its metrics, and the cluster
//! of its sidecar.

use super::Facts;
use super::findings::Findings;
use super::site::Site;
use crate::command::deployment::chain::Chain;
use crate::command::deployment::documents::{Document, in_force};
use crate::command::deployment::find::{Found, Given, find};
use crate::command::deployment::tree::list;
use crate::command::deployment::world::World;
use crate::command::deployment::{Notes, around};
use llm_rate_limit::config::{Config, Fingerprint, Secret, Store};
use serde_json::Value;
use std::collections::BTreeSet;

/// The first release of Envoy in which headers can wait for bodies.
const OLDEST_ENVOY: (u32, u32) = (1, 35);

/// Asks the admin interface at `site`. `token` is the sidecar's.
pub(super) fn ask(site: &Site, token: Option<&Secret>, facts: &mut Facts, findings: &mut Findings) {
    match site.json::<Value>("/server_info", None) {
        Ok((info, answer)) => {
            if facts.inspection.is_none()
                && let Some((shown, at)) = answer.clock
            {
                facts.clocks.add("Envoy", shown, at, 1_000);
            }
            version(&info, findings);
        }
        Err(why) => {
            return findings.unreached(format!("Envoy's admin interface at {}: {why}", site.name()));
        }
    }
    match site.json::<Value>("/config_dump", None) {
        Ok((dump, _)) => configuration(dump, token, facts, findings),
        Err(why) => findings.unreached(format!("Envoy's /config_dump: {why}")),
    }
    match site.get("/stats?filter=llm_rate_limit", None) {
        Ok(answer) => metrics(&String::from_utf8_lossy(&answer.body), facts, findings),
        Err(why) => findings.unreached(format!("Envoy's /stats: {why}")),
    }
    if let Some(Store::Redis(redis)) = facts.config.as_ref().map(Config::store) {
        match site.json::<Value>("/clusters?format=json", None) {
            Ok((clusters, _)) => cluster(&clusters, &redis.cluster, findings),
            Err(why) => findings.unreached(format!("Envoy's /clusters: {why}")),
        }
    }
}

fn version(info: &Value, findings: &mut Findings) {
    let text = info.get("version").and_then(Value::as_str).unwrap_or_default();
    // <commit>/<version>/<state of the tree>/<build>/<TLS library>
    let version = text.split('/').nth(1).unwrap_or(text);
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) < OLDEST_ENVOY => findings.finding(format!(
            "Envoy {version} is older than 1.35: headers cannot wait for bodies, so set headers_mode to \
             \"headers_first\""
        )),
        _ => findings.fine(format!("Envoy {version} answers")),
    }
}

/// The filter in Envoy's configuration, and what stands around it.
fn configuration(dump: Value, token: Option<&Secret>, facts: &mut Facts, findings: &mut Findings) {
    refused(&dump, findings);
    let document = Document { place: String::new(), value: in_force(dump), is_carried: false };
    let world = World::of([&document]);
    let mut any = false;
    for found in find(&document) {
        let (config, fingerprint) = match read(&found) {
            Some(read) => read,
            None => continue,
        };
        any = true;
        let config = match config {
            Ok(config) => config,
            Err(why) => {
                findings.finding(format!("the filter has refused its configuration: {why}"));
                continue;
            }
        };
        let shown = fingerprint.map_or_else(String::new, |fingerprint| format!(" {fingerprint}"));
        findings.fine(format!("Envoy has the filter in its configuration, with the configuration{shown}"));
        if let (Some(inspection), Some(fingerprint)) = (&facts.inspection, fingerprint)
            && inspection.configuration.hash != fingerprint.to_string()
        {
            findings.finding(format!(
                "the filter limits by the configuration {}, and not by this one",
                inspection.configuration.hash
            ));
        }
        let mut notes = Notes::default();
        around::check(&document, &found, &config, &world, &mut notes);
        notes.problems.into_iter().for_each(|problem| findings.finding(problem));
        notes.hints.into_iter().for_each(|hint| findings.hint(hint));
        if let (Store::Redis(redis), Some(token)) = (config.store(), token)
            && redis.auth_token.as_ref().map(Secret::expose) != Some(token.expose())
        {
            facts.has_another_token = true;
            findings.finding(
                "store.auth_token in the filter's configuration is another than the AUTH_TOKEN given here",
            );
        }
        if config.dry_run() && facts.inspection.is_none() {
            findings.hint("it is in a dry run: it counts, and refuses nothing");
        }
        facts.config = Some(config);
    }
    listener(&world, facts.port, findings);
    if !any {
        findings.finding(
            "the filter is not in Envoy's configuration: no Wasm filter there has its name, its module or its fields",
        );
    }
}

/// Whether the filter is in a listener at `port`, where clients reach Envoy, if that is known. Something before Envoy
/// may have ports of its own.
fn listener(world: &World<'_>, port: Option<u16>, findings: &mut Findings) {
    let Some(port) = port else { return };
    let is_at = |chain: &&Chain<'_>| chain.port() == Some(port.into());
    let here: Vec<_> = world.chains.iter().filter(is_at).collect();
    let others = || {
        let of = world.stands.iter().filter_map(|stand| Some(stand.chain.as_ref()?.0.name()));
        of.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
    };
    let without = here.iter().filter(|chain| !world.has_filter(chain)).count();
    if world.stands.is_empty() || without == 0 {
        return;
    }
    if without == here.len() {
        findings.finding(format!(
            "the listener at port {port}, where clients reach Envoy, has no filter: it is in {}",
            others()
        ));
    } else {
        findings.hint(format!(
            "{without} of {} chains of the listener at port {port} have no filter: what comes to them is not limited",
            here.len()
        ));
    }
}

/// The configuration of the filter that was found, and its fingerprint if that can be known: a `Struct` is serialised
/// anew each time. None if it is no filter.
fn read(found: &Found<'_>) -> Option<(Result<Config, String>, Option<Fingerprint>)> {
    let fingerprint = match found.configuration {
        Given::Text(text) => Some(Fingerprint::of(text.as_bytes())),
        Given::Tree(_) | Given::Missing => None,
        Given::Whole(_) => return None,
    };
    let config = Config::from_bytes(found.configuration.text().as_bytes());
    Some((config.map_err(|error| error.to_string()), fingerprint))
}

/// The updates that Envoy has refused.
fn refused(value: &Value, findings: &mut Findings) {
    match value {
        Value::Object(members) => {
            let details =
                members.get("error_state").and_then(|state| state.get("details")).and_then(Value::as_str);
            if let Some(details) = details {
                let name = members.get("name").and_then(Value::as_str).unwrap_or("something");
                let first = details.lines().next().unwrap_or_default();
                findings.finding(format!(
                    "Envoy has refused an update of {name}, so an older one is in force: {first}"
                ));
            }
            members.values().for_each(|member| refused(member, findings));
        }
        Value::Array(elements) => elements.iter().for_each(|element| refused(element, findings)),
        _ => {}
    }
}

/// What the filter's metrics say. They may have tags before their names.
fn metrics(text: &str, facts: &Facts, findings: &mut Findings) {
    let all: Vec<(&str, u64)> = text
        .lines()
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.rsplit(['.', ';']).next()?, value.trim().parse().ok()?))
        })
        .collect();
    let sum = |name: &str| {
        let mut found = all.iter().filter(|(last, _)| *last == name).map(|(_, value)| *value).peekable();
        found.peek().is_some().then(|| found.sum::<u64>())
    };
    if all.is_empty() {
        return findings.finding(
            "the filter has no metrics: no worker runs its module. Envoy's log says why, as \"wasm\" or \
             \"llm-rate-limit\"",
        );
    }
    findings.fine("the filter runs: it has metrics");
    if let Some(without) = sum("workers_without_store").filter(|without| *without > 0) {
        findings.finding(format!(
            "{without} of Envoy's workers reach no store: Envoy's log says why, as \"the store does not answer\""
        ));
    } else if let Some(up) = sum("store_up").filter(|up| *up > 0) {
        findings.fine(format!("{up} of Envoy's workers reach the store, and none misses it"));
    } else if facts.config.is_some() && !facts.uses_local_store() {
        findings.unseen("whether Envoy's workers reach the store: none has heard of it yet");
    }
    for (name, what) in [
        ("settlements_dropped", "settlements were dropped because too many waited for the store"),
        ("settlements_refused", "settlements can never be done: Envoy's log says why"),
    ] {
        if let Some(count) = sum(name).filter(|count| *count > 0) {
            findings.finding(format!("{count} {what}"));
        }
    }
}

/// The hosts of the sidecar's cluster called `name`, as Envoy sees them.
fn cluster(clusters: &Value, name: &str, findings: &mut Findings) {
    let statuses = list(clusters, &["cluster_statuses"]);
    // A cluster that does not exist has been found in the configuration.
    let Some(status) = statuses.iter().find(|status| status["name"] == name) else { return };
    let hosts = list(status, &["host_statuses"]);
    if hosts.is_empty() {
        return findings.finding(format!(
            "the cluster {name:?} has no host: its address does not resolve, or nobody has told Envoy of one"
        ));
    }
    let stat = |host: &Value, name: &str| {
        let stat = list(host, &["stats"]).iter().find(|stat| stat["name"] == name);
        // 64 bits are text in protobuf's JSON.
        stat.and_then(|stat| stat["value"].as_str()?.parse::<u64>().ok()).unwrap_or_default()
    };
    let count = |name: &str| hosts.iter().map(|host| stat(host, name)).sum::<u64>();
    let (failed, answered) = (count("cx_connect_fail"), count("rq_success"));
    let places: Vec<_> = hosts.iter().map(place).collect();
    let places = places.join(", ");
    if failed > 0 && answered == 0 {
        findings.finding(format!(
            "Envoy cannot connect to the cluster {name:?} at {places}: {failed} attempts failed"
        ));
    } else {
        findings.fine(format!("the cluster {name:?} is at {places}: {answered} calls were answered"));
    }
}

fn place(host: &Value) -> String {
    let text = |path: &str| host.pointer(path).and_then(Value::as_str);
    let port = host.pointer("/address/socket_address/port_value").unwrap_or(&Value::Null);
    match text("/address/socket_address/address") {
        Some(address) => format!("{address}:{port}"),
        None => text("/address/pipe/path").unwrap_or("an unknown address").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings::tests::found;
    use super::*;
    use serde_json::json;

    #[test]
    fn metrics_are_found_by_their_last_word_whatever_tags_they_have() {
        let of = |text: &str| found(|findings| metrics(text, &Facts::default(), findings));
        for text in [
            "wasmcustom.llm_rate_limit.workers_without_store: 2\n",
            "x.a=.=b.c;.;workers_without_store: 1\nx.a=.=d;.;workers_without_store: 1",
        ] {
            assert!(of(text).contains("FINDING    2 of Envoy's workers reach no store"), "{}", of(text));
        }
        let up = "x.store_up: 2\nx.workers_without_store: 0\nx.settlements_dropped: 0\n";
        assert!(of(up).contains("ok         2 of Envoy's workers reach the store"), "{}", of(up));
        assert!(of("").starts_with("FINDING    the filter has no metrics"));
    }

    #[test]
    fn an_old_envoy_and_a_refused_update_are_found() {
        let old =
            found(|findings| version(&json!({"version": "abc/1.34.2/Clean/RELEASE/BoringSSL"}), findings));
        assert!(old.starts_with("FINDING    Envoy 1.34.2 is older than 1.35"), "{old}");
        let new =
            found(|findings| version(&json!({"version": "abc/1.40.0/Clean/RELEASE/BoringSSL"}), findings));
        assert!(new.starts_with("ok         Envoy 1.40.0"), "{new}");
        let dump = json!({"configs": [{"x": [{"name": "llm", "error_state": {"details": "no\nmore"}}]}]});
        let out = found(|findings| refused(&dump, findings));
        assert!(
            out.starts_with(
                "FINDING    Envoy has refused an update of llm, so an older one is in force: no\n"
            ),
            "{out}"
        );
    }

    #[test]
    fn a_cluster_that_nobody_answers_in_is_found() {
        let host = |failed: &str, answered: &str| {
            let stat = |name: &str, value: &str| json!({"name": name, "value": value});
            let stats = [stat("cx_connect_fail", failed), stat("rq_success", answered)];
            let address = json!({"socket_address": {"address": "10.0.0.1", "port_value": 8081}});
            json!({"cluster_statuses": [{"name": "c", "host_statuses": [{"address": address, "stats": stats}]}]})
        };
        let of = |clusters: &Value| found(|findings| cluster(clusters, "c", findings));
        assert!(
            of(&host("3", "0"))
                .starts_with("FINDING    Envoy cannot connect to the cluster \"c\" at 10.0.0.1:8081")
        );
        assert!(of(&host("3", "9")).starts_with("ok         the cluster \"c\" is at 10.0.0.1:8081: 9 calls"));
        assert!(
            of(&json!({"cluster_statuses": [{"name": "c"}]}))
                .starts_with("FINDING    the cluster \"c\" has no host")
        );
    }
}
