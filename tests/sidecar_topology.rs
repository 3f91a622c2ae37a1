//! The sidecar on every form of Redis: with a password, as a cluster, behind a sentinel.

use llm_rate_limit::quantity::Units;
use llm_rate_limit::store::wire::{Reserve, Reserved, ScopeCharges, Settle, Settled};
use llm_rate_limit_tests::charges::hourly;
use llm_rate_limit_tests::redis::{Cluster, Redis, SLOTS, Sentinel};
use llm_rate_limit_tests::sidecar::Sidecar;
use reqwest::Method;
use std::time::{Duration, Instant};

fn reserve(id: impl ToString, charges: &[ScopeCharges]) -> Reserve {
    Reserve { id: id.to_string(), charges: charges.to_vec(), ..Reserve::default() }
}

fn used(answer: &Reserved) -> (bool, Vec<u64>) {
    match answer {
        Reserved::Decided { admitted, windows } => {
            (*admitted, windows.iter().map(|window| window.used.get()).collect())
        }
        Reserved::Failed { error, .. } => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_cluster_counts_each_scope_on_its_node_and_rolls_back_across_nodes() {
    let cluster = Cluster::start();
    let sidecar = Sidecar::start(&cluster.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let all = |cost| hourly("all", "requests", 20, cost);
    let batch: Vec<Reserve> = (0..30)
        .map(|at| {
            let owner = format!("key-{at}");
            reserve(at, &[hourly(&owner, "requests", 5, 1), hourly(&owner, "input_tokens", 50, 10), all(1)])
        })
        .collect();
    let answers: Vec<_> = sidecar.reserve(&batch).await.iter().map(used).collect();
    assert_eq!(answers.iter().filter(|(admitted, _)| *admitted).count(), 20);
    for (admitted, used) in &answers {
        assert_eq!(used[..2], if *admitted { [1, 10] } else { [0, 0] }, "{used:?}");
    }
    let keys: Vec<u64> = cluster.nodes().iter().map(|node| node.ask(&["DBSIZE"])).collect();
    assert!(keys.iter().all(|keys| *keys > 0), "every node has keys: {keys:?}");

    let settlements: Vec<Settle> = batch
        .iter()
        .map(|one| {
            let charges = ScopeCharges::changed(&one.charges, |charge| charge.cost = Units::ZERO);
            Settle { id: one.id.clone(), if_absent: None, extend: false, charges, ..Settle::default() }
        })
        .collect();
    let settled = sidecar.settle(&settlements).await;
    for (settled, (admitted, _)) in settled.iter().zip(&answers) {
        assert_eq!(*settled, Settled::Done { settled: *admitted, over: false });
    }
    let usage = sidecar.usage(Method::GET, "identity=all").await;
    assert_eq!(usage["windows"][0]["used"], 0);
    let removed = sidecar.usage(Method::DELETE, "identity=key-0").await;
    assert_eq!(removed["removed"].as_array().unwrap().len(), 2);
}

/// As behind a proxy: the sidecar's URL names one server.
#[tokio::test]
async fn a_redis_that_turns_out_to_be_sharded_gets_one_scope_at_a_time() {
    let redis = Redis::start_with(&["--cluster-enabled", "yes"]);
    redis.serve(0..SLOTS);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !redis.ask::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
        assert!(Instant::now() < deadline, "the cluster does not come up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    for round in 1..=2 {
        let owners = ["a", "b", "c"];
        let batch =
            owners.map(|owner| reserve(format!("{owner}-{round}"), &[hourly(owner, "requests", 5, 2)]));
        let answers = sidecar.reserve(&batch).await;
        assert_eq!(answers.iter().map(used).collect::<Vec<_>>(), vec![(true, vec![2 * round]); 3]);
    }
}

#[tokio::test]
async fn a_sentinel_leads_to_the_master() {
    let master = Redis::start();
    let sentinel = Sentinel::start("main", &master);
    let sidecar = Sidecar::start(&format!("redis+sentinel://{}/main/3", sentinel.address()), &[]);
    sidecar.wait_until_ready_is(200).await;
    let answers = sidecar.reserve(&[reserve(1, &[hourly("key", "requests", 5, 1)])]).await;
    assert_eq!(used(&answers[0]), (true, vec![1]));
    let keyspace: String = master.ask(&["INFO", "keyspace"]);
    assert!(keyspace.contains("db3:keys=3"), "it uses the database that the URL names: {keyspace}");
}

#[tokio::test]
async fn an_acl_user_needs_only_these_rights() {
    let redis = Redis::start();
    let commands = "+evalsha +eval +hmget +hget +hset +hsetnx +hdel +hgetall +get +set +del +exists +pexpire +pttl \
        +time +ping +lpush +ltrim +lrange";
    let words = ["ACL", "SETUSER", "limiter", "on", ">p@ss", "~llmrl:*", "resetchannels", "-@all"];
    let () = redis.ask(&words.into_iter().chain(commands.split(' ')).collect::<Vec<_>>());
    let sidecar = Sidecar::start(&format!("redis://limiter:p%40ss@127.0.0.1:{}", redis.port()), &[]);
    sidecar.wait_until_ready_is(200).await;
    let charges = [hourly("key", "requests", 2, 1)];
    let batch: Vec<Reserve> = (0..3).map(|at| reserve(at, &charges)).collect();
    let answers: Vec<_> = sidecar.reserve(&batch).await.iter().map(used).collect();
    assert_eq!(answers, [(true, vec![1]), (true, vec![2]), (false, vec![2])]);
    let settlement =
        Settle { id: "0".to_owned(), charges: vec![hourly("key", "requests", 2, 0)], ..Settle::default() };
    assert_eq!(sidecar.settle(&[settlement]).await, [Settled::Done { settled: true, over: false }]);
    let grant = r#"{"identity": "key", "scope": "key", "limit": "requests", "window": "1h", "action": "grant",
        "units": 5, "by": "ops"}"#;
    assert_eq!(sidecar.post("/v1/grants", grant).await.0, 200);
    assert_eq!(sidecar.get("/v1/grants?identity=key").await.0, 200);
    let removed = &sidecar.usage(Method::DELETE, "identity=key").await["removed"][0];
    assert_eq!((&removed["used"], &removed["grants"][0]["units"]), (&1.into(), &5.into()));

    let wrong = Sidecar::start(&format!("redis://limiter:wrong@127.0.0.1:{}", redis.port()), &[]);
    wrong.wait_until_ready_is(503).await;
    let (_, why) = wrong.get("/readyz").await;
    assert!(!why.contains("wrong"), "{why}");
}
