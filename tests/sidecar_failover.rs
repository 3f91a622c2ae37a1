//! A Redis that fails and a replica that takes its place: what the sidecar does, and what is lost.
//!
//! Tests wait for sentinels and cluster nodes to notice a death, which takes them seconds.

use llm_rate_limit::store::wire::{Reserve, Reserved};
use llm_rate_limit_tests::charges::hourly;
use llm_rate_limit_tests::redis::{Cluster, Redis, Sentinel};
use llm_rate_limit_tests::sidecar::Sidecar;
use std::time::{Duration, Instant};

/// The time limit for a replica to take its master's place.
const WITHIN: Duration = Duration::from_secs(60);

/// Asks for one unit of `owner`, which may have `limit`. `None` if there is no answer.
async fn ask(sidecar: &Sidecar, owner: &str, id: usize, limit: u64) -> Option<bool> {
    let charges = vec![hourly(owner, "requests", limit, 1)];
    let batch = [Reserve { id: format!("{owner}-{id}"), charges, ..Reserve::default() }];
    let (status, body) = sidecar.post("/v1/reserve", serde_json::to_string(&batch).unwrap()).await;
    if status != 200 {
        return None;
    }
    match serde_json::from_str::<[Reserved; 1]>(&body).unwrap() {
        [Reserved::Decided { admitted, .. }] => Some(admitted),
        [Reserved::Failed { .. }] => None,
    }
}

/// The number admitted of the requests `ids` of `owner`, which may have five.
async fn admitted(sidecar: &Sidecar, owner: &str, ids: std::ops::Range<usize>) -> usize {
    let mut admitted = 0;
    for id in ids {
        admitted += usize::from(ask(sidecar, owner, id, 5).await.unwrap());
    }
    admitted
}

/// Waits until `owner`'s scope can be counted again.
async fn recovered(sidecar: &Sidecar, owner: &str) {
    let deadline = Instant::now() + WITHIN;
    // One id, so that it is charged once however often it is asked for.
    while ask(sidecar, owner, 999, 1000).await.is_none() {
        assert!(Instant::now() < deadline, "no replica takes over:\n{}", sidecar.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn behind(sentinel: &Sentinel) -> Sidecar {
    let sidecar = Sidecar::start(&format!("redis+sentinel://{}/main", sentinel.address()), &[]);
    sidecar.wait_until_ready_is(200).await;
    sidecar
}

#[tokio::test]
async fn a_replica_that_sentinels_promote_goes_on_counting() {
    let mut master = Redis::start();
    let _replica = master.replica();
    let sentinel = Sentinel::start("main", &master);
    let sidecar = behind(&sentinel).await;
    assert_eq!(admitted(&sidecar, "a", 0..3).await, 3);
    master.wait_for_replica();
    master.kill();
    recovered(&sidecar, "probe").await;
    assert_eq!(admitted(&sidecar, "a", 3..10).await, 2, "it continues from three");
}

#[tokio::test]
async fn what_a_replica_never_got_is_admitted_once_more_and_nothing_beyond() {
    let mut master = Redis::start();
    let replica = master.replica();
    let sentinel = Sentinel::start("main", &master);
    let sidecar = behind(&sentinel).await;
    assert_eq!(admitted(&sidecar, "a", 0..3).await, 3);
    master.wait_for_replica();
    // The replica hears nothing of what comes now.
    replica.freeze();
    let _: u64 = master.ask(&["CLIENT", "KILL", "TYPE", "replica"]);
    assert_eq!(admitted(&sidecar, "a", 3..10).await, 2);
    master.kill();
    replica.thaw();
    recovered(&sidecar, "probe").await;
    assert_eq!(
        admitted(&sidecar, "a", 10..20).await,
        2,
        "seven for five: over by the two that the replica never got"
    );
}

#[tokio::test]
async fn a_cluster_that_loses_a_master_goes_on_counting() {
    let mut cluster = Cluster::start();
    let replica = cluster.replica(0);
    let sidecar = Sidecar::start(&cluster.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    // Its slot is the first node's.
    assert_eq!(admitted(&sidecar, "b", 0..3).await, 3);
    let keys = |node: &Redis| node.ask::<Vec<String>>(&["KEYS", "llmrl:*{b}*"]).len();
    assert!(keys(&cluster.nodes()[0]) > 0);
    let deadline = Instant::now() + WITHIN;
    while keys(&replica) < keys(&cluster.nodes()[0]) {
        assert!(Instant::now() < deadline, "the replica does not catch up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.kill(0);
    recovered(&sidecar, "b").await;
    assert_eq!(admitted(&sidecar, "b", 3..10).await, 1, "three before, one of the probe, one now");
}
