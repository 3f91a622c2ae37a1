//! The state of the store is seen: in the log and in Envoy's gauges, for each worker, whether requests come or not.
//!
//! Probes go by Envoy's clock, with pauses of up to two seconds.

use crate::gateway::{Fleet, Gateway, Store, eventually};
use llm_rate_limit_tests::envoy::Envoy;
use llm_rate_limit_tests::process::Process;
use llm_rate_limit_tests::sidecar::launch;
use rstest::rstest;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The line when the store goes, up to the reason.
const AWAY: &str = "the store does not answer (store.cluster: ";

/// The line when it is back, up to the duration.
const BACK: &str = "the store answers again (store.cluster: \"rate-limit-sidecar\"), after ";

fn limits(cluster: &str, on_error: &str) -> Value {
    json!({
        "store": {"type": "redis", "cluster": cluster, "timeout_ms": 300, "on_error": on_error},
        "default": {"rpm": 1000},
    })
}

/// The workers that reach their store, and those that do not, as Prometheus reads them.
fn gauges(envoy: &Envoy) -> (Option<u64>, Option<u64>) {
    let prometheus = envoy.admin("/stats/prometheus");
    let value = |name: &str| {
        let line = prometheus.lines().find_map(|line| line.strip_prefix(name))?;
        line.rsplit_once(' ')?.1.parse().ok()
    };
    (value("llm_rate_limit_store_up{"), value("llm_rate_limit_workers_without_store{"))
}

async fn eventually_gauges(what: &str, envoy: &Envoy, up: u64, without: u64) {
    eventually(what, (Some(up), Some(without)), async || gauges(envoy)).await;
}

/// The lines of the log with `text`.
fn lines(envoy: &Envoy, text: &str) -> Vec<String> {
    envoy.log().lines().filter(|line| line.contains(text)).map(ToOwned::to_owned).collect()
}

async fn eventually_lines(envoy: &Envoy, text: &str, count: usize) {
    eventually(text, count, async || lines(envoy, text).len()).await;
}

#[rstest]
#[case::allow("allow", "requests are forwarded uncounted (on_error: allow)")]
#[case::deny("deny", "limited requests are answered 503")]
#[case::local("local", "this Envoy enforces its share of the limits (on_error: local)")]
#[tokio::test]
async fn a_cluster_that_does_not_exist_is_accepted_and_seen_without_a_request(
    #[case] on_error: &str,
    #[case] consequence: &str,
) {
    let limits = limits("no-such-cluster", on_error);
    let began = Instant::now();
    let gateway = Gateway::start_with(Store::Local, |setup| {
        let setup = setup.filter(&limits).concurrency(2);
        setup.validate().unwrap();
        setup
    })
    .await;
    let ready = Instant::now();
    eventually_gauges("two workers without a store", &gateway.envoy, 0, 2).await;
    eventually_lines(&gateway.envoy, AWAY, 2).await;
    assert!(ready.elapsed() < Duration::from_secs(20), "{:?} after {:?}", ready.elapsed(), ready - began);
    let line = &lines(&gateway.envoy, AWAY)[0];
    let expected = format!(
        "{AWAY}\"no-such-cluster\"): Envoy has no cluster \"no-such-cluster\". Until it does, {consequence}"
    );
    assert!(line.contains(&expected) && line.contains("[warning]"), "{line}");
    // Requests write no further line.
    for _ in 0..5 {
        gateway.caller("anybody").hello().await;
    }
    assert_eq!(gauges(&gateway.envoy), (Some(0), Some(2)));
    assert_eq!(lines(&gateway.envoy, "the store did not answer"), [""; 0]);
    assert_eq!(lines(&gateway.envoy, AWAY).len(), 2, "one for each worker");
}

/// A gateway with two workers that reach their store.
async fn gateway(on_error: &str) -> Gateway {
    let limits = limits("rate-limit-sidecar", on_error);
    let gateway =
        Gateway::start_with(Store::Redis, |setup| setup.filter(&limits).concurrency(2).reloadable()).await;
    eventually_gauges("two workers with a store", &gateway.envoy, 2, 0).await;
    assert_eq!(lines(&gateway.envoy, AWAY), [""; 0]);
    gateway
}

#[rstest]
#[case::sidecar(true)]
#[case::redis(false)]
#[tokio::test]
async fn a_store_that_goes_and_comes_back_is_seen(#[case] is_sidecar: bool) {
    let mut gateway = gateway("allow").await;
    let fleet = gateway.fleet.as_mut().unwrap();
    if is_sidecar {
        fleet.sidecar.process().kill();
    } else {
        fleet.redis.kill();
    }
    // Requests see it first, whichever worker they come to.
    let envoy = &gateway.envoy;
    eventually("both workers notice", (Some(0), Some(2)), async || {
        assert_eq!(gateway.caller("anybody").hello().await.status, 200);
        gauges(envoy)
    })
    .await;
    eventually_lines(envoy, AWAY, 2).await;
    let line = &lines(envoy, AWAY)[0];
    let why = if is_sidecar { "connection failure" } else { "Redis" };
    assert!(line.contains(why), "{line}");

    // Nobody sends a request, and its return is seen all the same.
    let fleet = gateway.fleet.as_mut().unwrap();
    let _replacement = bring_back(fleet, is_sidecar);
    let envoy = &gateway.envoy;
    eventually_gauges("both workers see it again", envoy, 2, 0).await;
    eventually_lines(envoy, BACK, 2).await;
    let decided = lines(envoy, BACK).into_iter().map(|line| {
        let (_, rest) = line.split_once("in which this worker decided ").unwrap();
        rest.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    let uncounted = envoy.metric("requests", &[("decision", "uncounted")]);
    assert_eq!(decided.sum::<u64>(), uncounted);
    assert!(uncounted >= 2, "{uncounted}");
    assert_eq!(lines(envoy, AWAY).len(), 2);
}

fn bring_back(fleet: &mut Fleet, is_sidecar: bool) -> Option<Process> {
    if is_sidecar {
        return Some(launch(fleet.sidecar.address(), &fleet.redis.url(), &[]));
    }
    fleet.redis.restart();
    None
}

#[tokio::test]
async fn a_redis_that_takes_no_writes_is_away() {
    let gateway = gateway("deny").await;
    let fleet = gateway.fleet.as_ref().unwrap();
    fleet.redis.ask::<String>(&["CONFIG", "SET", "maxmemory", "1"]);
    eventually("both workers notice", (Some(0), Some(2)), async || {
        gateway.caller("anybody").hello().await;
        gauges(&gateway.envoy)
    })
    .await;
    eventually_lines(&gateway.envoy, AWAY, 2).await;
    assert!(lines(&gateway.envoy, AWAY).iter().all(|line| line.contains("OOM")));
    fleet.redis.ask::<String>(&["CONFIG", "SET", "maxmemory", "0"]);
    eventually_gauges("both workers see it again", &gateway.envoy, 2, 0).await;
}

#[tokio::test]
async fn reloads_keep_the_gauges_right() {
    let mut gateway = gateway("deny").await;
    // A stream that is open keeps the old configuration alive beside the new ones.
    let caller = gateway.caller("streaming");
    let chat = crate::caller::hello_with(json!({"stream": true, "max_tokens": 3000}));
    let open = caller.chat(&chat).header("x-mock-chunk-delay-ms", "100").send().await.unwrap();
    assert_eq!(open.status(), 200);
    for (cluster, up, without) in
        [("no-such-cluster", 0, 2), ("nor-this-one", 0, 2), ("rate-limit-sidecar", 2, 0)]
    {
        gateway.envoy.reload(&limits(cluster, "deny").to_string()).unwrap();
        eventually_gauges(cluster, &gateway.envoy, up, without).await;
    }
    gateway.envoy.reload(&json!({"default": {"rpm": 1000}}).to_string()).unwrap();
    eventually_gauges("no sidecar", &gateway.envoy, 0, 0).await;
    gateway.envoy.reload(&limits("rate-limit-sidecar", "deny").to_string()).unwrap();
    eventually_gauges("a sidecar again", &gateway.envoy, 2, 0).await;
    drop(open);
    gateway.at_rest().await;
    assert_eq!(gauges(&gateway.envoy), (Some(2), Some(0)));
}
