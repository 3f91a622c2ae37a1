//! A storm: requests of every kind that end in every way, at random and many at once. Afterwards four books must agree:
//! what each client saw, the usage that the upstream reported, the charge of each request in the access log, and the
//! counts of the store.
//!
//! `STORM_SEED` repeats a storm; a failing test prints its seed.

use crate::act::{Act, Seen, act};
use crate::gateway::{Gateway, Store, eventually, is_of_an_end, used_by};
use crate::routes::{NOWHERE, connection_manager};
use futures_util::{StreamExt, stream};
use llm_rate_limit_tests::envoy::Envoy;
use mock_llm::journal::{Ended, Received, Usage};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reqwest::Method;
use rstest::rstest;
use serde_json::json;
use std::collections::HashMap;

/// The number of requests in a storm.
const REQUESTS: usize = 400;

/// How many of them are under way at a time.
const AT_A_TIME: usize = 40;

/// One line of the access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Line {
    decision: String,
    /// Input and output tokens that were reserved.
    estimate: Option<(u64, u64)>,
    /// Input and output tokens that were charged in the end.
    charge: Option<(u64, u64)>,
}

/// Waits until Envoy has the headers of request `number`.
async fn has_begun(envoy: &Envoy, number: usize) {
    let number = number.to_string();
    eventually(&format!("Envoy has request {number}"), true, async || {
        envoy.access_log().iter().any(|line| line["storm"] == *number)
    })
    .await;
}

/// The lines of the access log about each request that has ended.
fn lines(envoy: &Envoy) -> HashMap<usize, Vec<Line>> {
    let mut lines: HashMap<usize, Vec<Line>> = HashMap::new();
    for line in envoy.access_log().iter().filter(|line| is_of_an_end(line)) {
        let Some(number) = line["storm"].as_str() else { continue };
        let tokens = |name: &str| line[name].as_str().map(|tokens| tokens.parse::<u64>().unwrap());
        let decision = line["decision"].as_str().unwrap_or_default().to_owned();
        let estimate = tokens("estimated_input_tokens").zip(tokens("reserved_output_tokens"));
        // Whoever has an outcome has a charge; of that, what nobody has measured and costs nothing is left out.
        let charge = line["outcome"]
            .is_string()
            .then(|| ["input_tokens", "output_tokens"].map(|name| tokens(name).unwrap_or_default()).into());
        lines.entry(number.parse().unwrap()).or_default().push(Line { decision, estimate, charge });
    }
    lines
}

/// How the last attempt of each request ended upstream.
fn reports(received: Vec<Received>) -> HashMap<usize, Option<Ended>> {
    let number = |request: &Received| request.headers["x-storm"].to_str().unwrap().parse().unwrap();
    received.iter().map(|request| (number(request), request.ended)).collect()
}

fn storm(seed: u64) -> Vec<Act> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let acts = vec(act().prop_map(Act::possible), REQUESTS).new_tree(&mut runner).unwrap();
    acts.current()
}

async fn gateway(store: Store) -> Gateway {
    let window = |metric: &str| json!({"metric": metric, "limit": 1_000_000, "window": "1h"});
    let metrics = ["requests", "input_tokens", "output_tokens"].map(window);
    let total = json!({"metric": "total_tokens", "limit": 2_000_000, "window": "1h"});
    let windows = [&metrics[..], &[total]].concat();
    let limits = json!({
        "store": store.configuration(),
        "default": {"windows": windows},
        "output_reservation": {"mode": "declared"},
    });
    Gateway::start_with(store, |setup| {
        let mut setup = setup.filter(&limits).concurrency(2);
        let manager = connection_manager(&mut setup);
        // One line when Envoy has a request's headers, and one when the request has ended.
        manager["access_log_options"] = json!({"flush_access_log_on_new_request": true});
        let format = &mut manager["access_log"][0]["typed_config"]["log_format"]["json_format"];
        format["storm"] = json!("%REQ(X-STORM)%");
        format["access_log_type"] = json!("%ACCESS_LOG_TYPE%");
        setup
    })
    .await
}

#[rstest]
#[tokio::test]
async fn whatever_happens_the_books_agree(#[values(Store::Local, Store::Redis)] store: Store) {
    let seed = std::env::var("STORM_SEED").map_or_else(
        |_| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    println!("STORM_SEED={seed}");
    let acts = storm(seed);
    let gateway = gateway(store).await;
    let callers = [gateway.caller("storm"), gateway.caller("storm").over_http2()];
    // Those who wait for a connection over HTTP/2 that somebody else opens have none if that one leaves: one is there
    // before anybody does.
    for caller in &callers {
        assert_eq!(caller.request(Method::GET, &format!("{NOWHERE}/")).send().await.unwrap().status(), 503);
    }
    let play = async |(number, act): (usize, &Act)| {
        let begun = has_begun(&gateway.envoy, number);
        let Seen { status, words } = act.play(number, &callers[usize::from(act.http2)], begun).await;
        assert!(status.is_some() || act.leaves(), "{number}: no answer to {act:?}");
        (number, words)
    };
    let played = stream::iter(acts.iter().enumerate().map(play)).buffer_unordered(AT_A_TIME);
    let seen: HashMap<usize, u64> = played.collect().await;
    drop(callers);
    gateway.at_rest().await;
    let lines = lines(&gateway.envoy);
    let reports = reports(gateway.mock.received());

    // Each request by itself: the log, the upstream, and what its client saw.
    let (mut charged, mut reported, mut unreported) = ([0; 3], [0; 2], [0; 2]);
    for (number, act) in acts.iter().enumerate() {
        let lines = lines.get(&number).map(Vec::as_slice).unwrap_or_default();
        let context = format!("{number}: {act:?}, {lines:?}, seen {}", seen[&number]);
        let line = match lines {
            [line] => line,
            [] if act.is_admitted().is_none() => continue,
            _ => panic!("not one line: {context}"),
        };
        let is_admitted = line.decision == "admitted";
        assert_eq!(is_admitted, act.is_admitted().unwrap_or(is_admitted), "{context}");
        assert_eq!(line.charge.is_some(), is_admitted, "charged if admitted: {context}");
        let Some((input, output)) = line.charge else { continue };
        assert_eq!(line.estimate, Some((act.api.hello_tokens(), act.reserves())), "{context}");
        let (owed_input, owed_output) = act.owes(seen[&number]);
        assert_eq!(input, owed_input, "{context}");
        assert!(owed_output.contains(&output), "{owed_output:?}: {context}");
        charged = [charged[0] + 1, charged[1] + input, charged[2] + output];
        let sum = if act.is_reported() {
            let ended = reports[&number];
            let Some(Ended::Answered { usage, reported: true }) = ended else {
                panic!("the upstream reported no usage: {context}, {ended:?}")
            };
            let Usage { prompt_tokens, completion_tokens } = usage;
            reported = [reported[0] + prompt_tokens, reported[1] + completion_tokens];
            continue;
        } else {
            &mut unreported
        };
        *sum = [sum[0] + input, sum[1] + output];
    }
    assert!(reported[0] > 10_000 && reported[1] > 500 && unreported[0] > 0, "it was a storm: {reported:?}");

    // All requests together: reservations, settlements, and the counts of the store.
    let [requests, input, output] = charged;
    assert_eq!([input, output], [reported[0] + unreported[0], reported[1] + unreported[1]]);
    for (family, labels, value) in [
        ("requests", &[("decision", "admitted")][..], requests),
        ("settled", &[], requests),
        ("tokens", &[("kind", "input")], input),
        ("tokens", &[("kind", "output")], output),
        ("store_errors", &[], 0),
        ("settlements_dropped", &[], 0),
    ] {
        eventually(family, value, async || gateway.envoy.metric(family, labels)).await;
    }
    let counted = used_by(&gateway.caller("storm").too_large().await);
    assert_eq!(counted, [requests, input, output, input + output], "what the store has counted");
}
