//! What the filter says of itself, where clients reach it.

use super::Facts;
use super::findings::Findings;
use super::site::Site;
use llm_rate_limit::answer::go_duration;
use llm_rate_limit::config::Secret;
use llm_rate_limit::session::inspection::{Inspection, StoreState};
use std::thread::sleep;
use std::time::Duration;

/// How often a worker is asked that has not heard of its store yet: it asks the store within a tenth of a second.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// Asks Envoy at `site`, and the filter itself at the path of `inspect`, with its token.
pub(super) fn ask(
    site: &Site,
    inspect: Option<(&str, Option<&Secret>)>,
    facts: &mut Facts,
    findings: &mut Findings,
) {
    let path = inspect.map_or("/", |(path, _)| path);
    let token = inspect.and_then(|(_, token)| token).map(Secret::expose);
    let answer = match site.get(path, token) {
        Ok(answer) => answer,
        Err(why) => return findings.unreached(format!("Envoy at {}: {why}", site.name())),
    };
    let Some((path, token)) = inspect else {
        if let Some((shown, at)) = answer.clock {
            facts.clocks.add("Envoy", shown, at, 1_000);
        }
        return findings.fine(format!("something answers at {}, with {}", site.name(), answer.status));
    };
    if answer.status == 404 {
        let why = if token.is_some() { "the token is another" } else { "INSPECT_TOKEN is not set" };
        return findings.finding(format!(
            "the filter does not answer at {path}: it is not active there, \"inspect\" is not set to this path, or \
             {why}"
        ));
    }
    let mut inspection = match serde_json::from_slice::<Inspection>(&answer.body) {
        Ok(inspection) if answer.status == 200 => inspection,
        _ => {
            return findings.finding(format!(
                "somebody else than the filter answers at {path}, with {}: the filter is not active there",
                answer.status
            ));
        }
    };
    facts.clocks.add("Envoy", inspection.time_ms, answer.at, 0);
    for _ in 0..TRIES {
        if inspection.store.state != "unknown" {
            break;
        }
        sleep(PAUSE);
        if let Ok((next, _)) = site.json(path, token.map(Secret::expose)) {
            inspection = next;
        }
    }
    report(&inspection, findings);
    facts.inspection = Some(inspection);
}

fn report(inspection: &Inspection, findings: &mut Findings) {
    let configuration = &inspection.configuration;
    findings.fine(format!(
        "the filter is active: version {}, configuration {}, {} keys",
        inspection.version, configuration.hash, configuration.keys
    ));
    if inspection.version != env!("CARGO_PKG_VERSION") {
        findings.hint(format!("this command is of version {}", env!("CARGO_PKG_VERSION")));
    }
    if configuration.dry_run {
        findings.hint("it is in a dry run: it counts, and refuses nothing");
    }
    match inspection.headers.state.as_str() {
        "held" => findings.fine("headers wait for bodies: a refused request takes no connection to the upstream"),
        "first" => findings.hint(format!(
            "headers go before bodies (headers_mode: {}): a refused request has taken a connection to the upstream",
            inspection.headers.mode
        )),
        _ => findings.fine("whether headers wait for bodies shows with the first request that has one"),
    }
    store(&inspection.store, findings);
    if let Some(fullest) = inspection.counters.first() {
        findings.fine(format!(
            "{} counters of this Envoy hold something; the fullest is {} {} with {} of {}",
            inspection.counters.len() + inspection.more_counters,
            fullest.owner,
            fullest.limit,
            fullest.used,
            fullest.capacity
        ));
    }
}

fn store(store: &StoreState, findings: &mut Findings) {
    let cluster = match &store.cluster {
        Some(cluster) => format!("the store redis, by the cluster {cluster:?},"),
        None => return findings.fine("the store is local: this Envoy counts by itself"),
    };
    let took = store.answered_in_ms.map_or_else(String::new, |took| format!(" in {}", go_duration(took)));
    match store.state.as_str() {
        "up" => {
            findings.fine(format!("{cluster} answers{took}"));
            let limit = store.timeout_ms.unwrap_or_default();
            if store.answered_in_ms.is_some_and(|took| took * 2 > limit) {
                findings.finding(format!(
                    "that is more than half of store.timeout_ms, {limit} ms: slower ones count as no answer"
                ));
            }
        }
        "down" => {
            let why = store.failure.as_deref().unwrap_or("no reason is known");
            findings.finding(format!("{cluster} does not answer: {why}"));
        }
        _ => findings.unseen(format!("whether {cluster} answers: this worker has not heard of it")),
    }
}
