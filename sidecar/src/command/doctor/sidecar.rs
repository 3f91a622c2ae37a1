//! The sidecar, and what Redis says of itself through it.

use super::Facts;
use super::findings::Findings;
use super::site::Site;
use crate::store::report::{Report, Server};
use llm_rate_limit::answer::go_duration;
use llm_rate_limit::config::Secret;
use llm_rate_limit::quantity::Millis;
use llm_rate_limit::store::wire::path;

/// A round trip that is slow: half of what a request waits by default, in microseconds.
const SLOW_US: u64 = 25_000;

/// A window for which it matters what a restart of Redis loses.
const LONG: Millis = Millis::HOUR;

/// Asks the sidecar at `site`.
pub(super) fn ask(site: &Site, token: Option<&Secret>, facts: &mut Facts, findings: &mut Findings) {
    let name = format!("the sidecar at {}", site.name());
    if let Err(why) = site.get(path::HEALTH, None) {
        return findings.unreached(format!("{name}: {why}"));
    }
    let bearer = token.map(Secret::expose).filter(|token| !token.is_empty());
    let answer = match site.get(path::STORE, bearer) {
        Ok(answer) => answer,
        Err(why) => return findings.unreached(format!("{name}: {why}")),
    };
    let shown = String::from_utf8_lossy(&answer.body);
    match (answer.status, serde_json::from_slice::<Report>(&answer.body)) {
        (200, Ok(report)) => {
            facts.clocks.add("the sidecar", report.time_ms, answer.at, 0);
            redis(&report, facts, findings);
            for (address, server) in &report.servers {
                if let Some(time) = server.time_ms {
                    facts.clocks.add(called(address), time, answer.at, 0);
                }
            }
            facts.report = Some(report);
        }
        (401, _) => findings.finding(format!("{name} wants another AUTH_TOKEN than the one given here")),
        (404, _) => {
            findings.unseen(format!("what Redis says: {name} is of an older version, or is no sidecar"))
        }
        (status, _) => findings.finding(format!("{name} answers {status}: {}", shown.trim())),
    }
}

fn called(address: &str) -> String {
    if address.is_empty() { "Redis".to_owned() } else { format!("Redis at {address}") }
}

fn redis(report: &Report, facts: &Facts, findings: &mut Findings) {
    let took = format!("{:.1} ms", report.ping_us as f64 / 1_000.0);
    if report.ping_us > SLOW_US {
        findings.finding(format!("Redis ({}) answers the sidecar in {took}, which is slow", report.redis));
    } else {
        findings.fine(format!("Redis ({}) answers the sidecar in {took}", report.redis));
    }
    for (address, server) in &report.servers {
        let name = called(address);
        if server.role.as_deref().is_some_and(|role| role != "master") && report.servers.len() == 1 {
            findings.finding(format!("{name} is a replica: it takes no writes"));
        }
        memory(&name, server, findings);
        persistence(&name, server, facts.longest_window(), findings);
    }
    for untold in &report.untold {
        findings.unseen(format!("all of Redis's settings: {untold}"));
    }
}

/// Whether the server may drop counters because it is full.
fn memory(name: &str, server: &Server, findings: &mut Findings) {
    let policy = server.maxmemory_policy.as_deref();
    let evicts = policy.is_some_and(|policy| policy != "noeviction");
    let policy = policy.unwrap_or("unknown");
    match (evicts, server.maxmemory) {
        (true, Some(0)) => findings.hint(format!(
            "{name} would drop counters if it had a maxmemory (maxmemory-policy {policy}): set noeviction"
        )),
        (true, _) => findings.finding(format!(
            "{name} drops counters when it is full (maxmemory-policy {policy}), and nothing bounds what limits then \
             admit: set noeviction"
        )),
        (false, Some(_)) if policy == "noeviction" => {
            findings.fine(format!("{name} drops no counters when it is full (maxmemory-policy noeviction)"));
        }
        _ => {}
    }
    if let Some(evicted) = server.evicted_keys.filter(|evicted| *evicted > 0) {
        findings.finding(format!("{name} has dropped {evicted} keys because it was full"));
    }
    if let (Some(used), Some(most)) = (server.used_memory, server.maxmemory.filter(|most| *most > 0)) {
        let percent = u128::from(used) * 100 / u128::from(most);
        if percent >= 90 {
            findings.finding(format!("{name} is {percent} % full: it takes no new counters when it is"));
        }
    }
}

/// What a restart of the server loses, where the `longest` window is known.
fn persistence(name: &str, server: &Server, longest: Option<Millis>, findings: &mut Findings) {
    let matters = longest.is_none_or(|longest| longest > LONG);
    let windows = longest.map_or_else(
        || "long windows begin anew".to_owned(),
        |longest| format!("windows of up to {} begin anew", go_duration(longest)),
    );
    let text = match (server.appendonly, server.save.as_deref()) {
        (Some(true), _) => {
            let when = server.appendfsync.as_deref().unwrap_or("unknown");
            if when == "no" {
                // Linux writes what is older than half a minute (vm.dirty_expire_centisecs).
                let text = format!(
                    "a crash of the machine of {name} may lose half a minute of counters: appendfsync is \"no\", and \
                     everysec loses a second or two"
                );
                return if matters { findings.finding(text) } else { findings.hint(text) };
            }
            return findings.fine(format!("{name} keeps counters on its disk (appendfsync {when})"));
        }
        (Some(false), Some("")) => {
            format!("a restart of {name} loses all counters: {windows} (appendonly yes keeps them)")
        }
        (Some(false), Some(_)) => {
            format!("a restart of {name} loses what came since its last snapshot (appendonly yes keeps it)")
        }
        _ => return,
    };
    if matters {
        findings.finding(text)
    } else {
        findings.fine(format!("{text}; its longest window is short"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings::tests::found;
    use super::*;

    #[test]
    fn a_server_that_may_drop_counters_is_found() {
        let server = |policy: &str, maxmemory| Server {
            maxmemory_policy: Some(policy.to_owned()),
            maxmemory: Some(maxmemory),
            used_memory: Some(95),
            ..Server::default()
        };
        for (server, expected) in [
            (server("allkeys-lru", 0), "hint       Redis would drop counters"),
            (server("allkeys-lru", 1_000), "FINDING    Redis drops counters when it is full"),
            (server("noeviction", 0), "ok         Redis drops no counters"),
            (
                server("noeviction", 100),
                "ok         Redis drops no counters when it is full (maxmemory-policy \
                                         noeviction)\nFINDING    Redis is 95 % full",
            ),
            (Server { evicted_keys: Some(3), ..Server::default() }, "FINDING    Redis has dropped 3 keys"),
        ] {
            let out = found(|findings| memory("Redis", &server, findings));
            assert!(out.starts_with(expected), "{server:?}: {out}");
        }
    }

    #[test]
    fn what_a_restart_loses_matters_for_long_windows() {
        let server = |appendonly, save: &str| Server {
            appendonly: Some(appendonly),
            save: Some(save.to_owned()),
            ..Server::default()
        };
        let minute = Some(Millis::MINUTE);
        for (server, longest, expected) in [
            (server(true, ""), None, "ok         Redis keeps counters"),
            (server(false, ""), None, "FINDING    a restart of Redis loses all counters: long"),
            (
                server(false, ""),
                minute,
                "ok         a restart of Redis loses all counters: windows of up to 1m0s",
            ),
            (server(false, "3600 1"), Some(Millis::DAY), "FINDING    a restart of Redis loses what came"),
            (
                Server { appendfsync: Some("no".to_owned()), ..server(true, "") },
                None,
                "FINDING    a crash of the machine of Redis may lose half a minute",
            ),
            (
                Server { appendfsync: Some("no".to_owned()), ..server(true, "") },
                minute,
                "hint       a crash of the machine of Redis may lose half a minute",
            ),
            (Server::default(), None, "nothing is wrong"),
        ] {
            let out = found(|findings| persistence("Redis", &server, longest, findings));
            assert!(out.starts_with(expected), "{server:?}: {out}");
        }
    }
}
