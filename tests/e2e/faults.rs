//! Faults of the store that no other module shows, under each `on_error`: what clients see, and what is lost.
//! `docs/faults.md` is the table of all faults.

use crate::caller::{Caller, hello, statuses};
use crate::gateway::{Gateway, Store, eventually};
use llm_rate_limit_tests::redis::Redis;
use rstest::rstest;
use serde_json::{Value, json};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What each key may have in an hour.
const LIMIT: u64 = 10;

/// Requests before a fault.
const BEFORE: u64 = 2;

/// Requests during a fault: more than what is left.
const DURING: usize = 14;

/// The longest that an answer may take on a busy machine.
const LONGEST: Duration = Duration::from_secs(6);

/// What goes wrong with Redis.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It is killed, and starts again without its data.
    Killed,
    /// It has no memory left.
    Full,
    /// It has become a replica.
    ReadOnly,
    /// A script of somebody else runs on and on.
    Busy,
}

impl Fault {
    const ALL: [Self; 4] = [Self::Killed, Self::Full, Self::ReadOnly, Self::Busy];

    fn key(self) -> String {
        format!("{self:?}")
    }

    /// Lets it happen. The thread ends with the fault.
    fn begin(self, redis: &mut Redis) -> Option<JoinHandle<()>> {
        match self {
            Self::Killed => redis.kill(),
            Self::Full => redis.ask(&["CONFIG", "SET", "maxmemory", "1"]),
            // Of a master that is not there, so that it keeps its data.
            Self::ReadOnly => redis.ask(&["REPLICAOF", "127.0.0.1", "1"]),
            Self::Busy => {
                let () = redis.ask(&["CONFIG", "SET", "lua-time-limit", "1"]);
                let mut connection = redis.connection();
                let script = thread::spawn(move || {
                    let forever = redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut connection);
                    assert!(forever.unwrap_err().to_string().contains("killed"));
                });
                let ping = || redis::cmd("PING").query::<String>(&mut redis.connection());
                let deadline = Instant::now() + LONGEST;
                while !ping().is_err_and(|why| why.to_string().contains("BUSY")) {
                    assert!(!script.is_finished() && Instant::now() < deadline, "the script does not run");
                    thread::sleep(Duration::from_millis(5));
                }
                return Some(script);
            }
        }
        None
    }

    fn end(self, redis: &mut Redis, script: Option<JoinHandle<()>>) {
        match self {
            Self::Killed => redis.restart(),
            Self::Full => redis.ask(&["CONFIG", "SET", "maxmemory", "0"]),
            Self::ReadOnly => redis.ask(&["REPLICAOF", "NO", "ONE"]),
            Self::Busy => redis.ask(&["SCRIPT", "KILL"]),
        }
        if let Some(script) = script {
            script.join().unwrap();
        }
    }
}

fn limits(on_error: &str, cluster: &str) -> Value {
    let window = json!([{"metric": "requests", "limit": LIMIT, "window": "1h"}]);
    let names = Fault::ALL.map(Fault::key).into_iter().chain(["any".to_owned()]);
    let keys: Vec<Value> = names.map(|key| json!({"key": key, "windows": window})).collect();
    json!({
        "store": {"type": "redis", "cluster": cluster, "timeout_ms": 2000, "on_error": on_error},
        "keys": keys,
    })
}

/// The statuses of requests during a fault, all of which are answered soon and as `on_error` says.
async fn during(caller: &Caller, on_error: &str) -> Vec<u16> {
    let mut answers = Vec::new();
    for _ in 0..DURING {
        let began = Instant::now();
        answers.push(caller.hello().await);
        assert!(began.elapsed() < LONGEST, "{:?}", began.elapsed());
    }
    for answer in &answers {
        match (answer.status, on_error) {
            (200, "allow") => assert_eq!(answer.limit_headers(), [""; 0], "nobody knows the limits"),
            (503, _) => {
                assert_eq!(answer.json()["error"]["code"], "rate_limit_unavailable");
                assert_eq!(answer.header("retry-after"), Some("1"));
            }
            _ => {}
        }
    }
    statuses(&answers)
}

/// How many are admitted, where each status is what `on_error` says, and all those before have been counted at most
/// once.
fn admitted(on_error: &str, statuses: &[u16], context: &str) -> u64 {
    let count = |status: u16| statuses.iter().filter(|seen| **seen == status).count();
    match on_error {
        "allow" => assert_eq!(count(200), DURING, "{context}: {statuses:?}"),
        "deny" => assert_eq!(count(503), DURING, "{context}: {statuses:?}"),
        // What this Envoy has admitted before may count or not.
        _ => {
            let most = LIMIT as usize;
            assert!((most - BEFORE as usize..=most).contains(&count(200)), "{context}: {statuses:?}");
            assert_eq!(count(200) + count(429), DURING, "{context}: {statuses:?}");
        }
    }
    count(200) as u64
}

#[rstest]
#[tokio::test]
async fn on_error_decides_while_redis_does_not_work(#[values("allow", "deny", "local")] on_error: &str) {
    let limits = limits(on_error, "rate-limit-sidecar");
    let mut gateway = Gateway::start_with(Store::Redis, |setup| setup.filter(&limits)).await;
    for fault in Fault::ALL {
        let context = format!("{fault:?}, {on_error}");
        let caller = gateway.caller(&fault.key());
        for _ in 0..BEFORE {
            assert_eq!(caller.hello().await.status, 200, "{context}");
        }
        eventually(&format!("{context}: before"), Some(BEFORE), async || {
            gateway.used(&fault.key(), "requests").await
        })
        .await;
        let fleet = gateway.fleet.as_mut().unwrap();
        let script = fault.begin(&mut fleet.redis);
        let statuses = during(&caller, on_error).await;
        let admitted = admitted(on_error, &statuses, &context);
        let fleet = gateway.fleet.as_mut().unwrap();
        fault.end(&mut fleet.redis, script);
        fleet.sidecar.wait_until_ready_is(200).await;

        // What was refused is charged nothing, and what this Envoy has counted by itself is charged now.
        let kept = if matches!(fault, Fault::Killed) { 0 } else { BEFORE };
        let charged = kept + if on_error == "local" { admitted } else { 0 };
        eventually(&format!("{context}: after"), Some(charged), async || {
            gateway.used(&fault.key(), "requests").await
        })
        .await;
        for _ in charged..LIMIT {
            assert_eq!(caller.hello().await.status, 200, "{context}: after");
        }
        assert_eq!(caller.hello().await.status, 429, "{context}: the limit holds again");
    }
}

#[rstest]
#[tokio::test]
async fn on_error_decides_where_no_cluster_has_the_name(#[values("allow", "deny", "local")] on_error: &str) {
    let limits = limits(on_error, "no-such-cluster");
    let gateway = Gateway::start_with(Store::Local, |setup| setup.filter(&limits)).await;
    let statuses = during(&gateway.caller("any"), on_error).await;
    admitted(on_error, &statuses, on_error);
}

#[rstest]
#[tokio::test]
async fn what_redis_has_forgotten_is_admitted_once_more(#[values("allow", "deny", "local")] on_error: &str) {
    let limits = limits(on_error, "rate-limit-sidecar");
    let gateway = Gateway::start_with(Store::Redis, |setup| setup.filter(&limits)).await;
    let caller = gateway.caller("any");
    let running = tokio::spawn({
        let request = caller.chat(&hello()).header("x-mock-gate", "running");
        async move { request.send().await.unwrap().bytes().await.unwrap() }
    });
    eventually("the request that runs", Some(1), async || gateway.used("any", "requests").await).await;
    let used_up = async |already: u64| {
        for _ in already..LIMIT {
            assert_eq!(caller.hello().await.status, 200);
        }
        assert_eq!(caller.hello().await.status, 429);
    };
    used_up(1).await;
    let () = gateway.fleet.as_ref().unwrap().redis.ask(&["FLUSHALL"]);
    // What the store has refused, a worker refuses for 100 ms without asking it.
    tokio::time::sleep(Duration::from_millis(150)).await;
    used_up(0).await;
    gateway.mock.let_through("running", 10);
    running.await.unwrap();
    drop(caller);
    eventually("all are settled", 2 * LIMIT, async || gateway.envoy.metric("settled", &[])).await;
    assert_eq!(gateway.used("any", "requests").await, Some(LIMIT), "nothing is charged or given back twice");
}
