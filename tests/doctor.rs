//! `doctor` on a real Envoy, a real sidecar and a real Redis: in health, and with what operators get wrong.

use llm_rate_limit::config::Fingerprint;
use llm_rate_limit_tests::command::{Run, run_with};
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::process::free_port;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// `printf %s open-sesame | sha256sum`
const TOKEN_SHA256: &str = "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7";

/// How long a finding may take that a worker must first make.
const WITHIN: Duration = Duration::from_secs(30);

fn limits() -> Value {
    json!({
        "store": {"type": "redis", "cluster": "rate-limit-sidecar", "auth_token": "token", "timeout_ms": 3_000,
                  "on_error": "local", "replicas": 2},
        "inspect": {"path": "/inspect", "token_sha256": TOKEN_SHA256},
        "default": {"tpm": 1_000},
        "identity": [{"client_ip": {}}],
        "endpoints": {"*": "pass"},
    })
}

/// An Envoy before an upstream, with a sidecar on a Redis.
struct World {
    envoy: Envoy,
    sidecar: Sidecar,
    redis: Redis,
    _upstream: MockLlm,
}

impl World {
    fn start(limits: &Value, redis: Redis) -> Self {
        let sidecar = Sidecar::start(&redis.url(), &[("AUTH_TOKEN", "token")]);
        let upstream = MockLlm::start();
        let place = sidecar.address().parse().unwrap();
        let setup = Setup::new(upstream.address()).concurrency(1).sidecar(place).filter(limits);
        Self { envoy: setup.start(), sidecar, redis, _upstream: upstream }
    }

    /// What `doctor` says with everything given.
    fn examine(&self, token: &str) -> Run {
        let (envoy, admin) = (self.envoy.url(""), self.envoy.admin_url(""));
        let sidecar = format!("http://{}", self.sidecar.address());
        let arguments =
            ["doctor", "--envoy", &envoy, "--inspect", "/inspect", "--admin", &admin, "--sidecar", &sidecar];
        run_with(&arguments, &[("AUTH_TOKEN", token), ("INSPECT_TOKEN", "open-sesame")], "")
    }

    /// Waits until `doctor` says `text`, with this exit status.
    fn wait_for(&self, text: &str, status: i32) -> String {
        let deadline = Instant::now() + WITHIN;
        loop {
            let run = self.examine("token");
            if run.out.contains(text) && run.status == status {
                return run.out;
            }
            assert!(Instant::now() < deadline, "{text:?}, {status}: {} {}\n{}", run.status, run.out, run.err);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_gateway_has_no_findings() {
    let redis = Redis::start();
    let _: () = redis.ask(&["CONFIG", "SET", "appendonly", "yes"]);
    let limits = limits();
    let world = World::start(&limits, redis);
    let out = world.wait_for("\nnothing is wrong with what was asked\n", 0);
    let hash = Fingerprint::of(limits.to_string().as_bytes());
    for line in [
        format!(
            "ok         the filter is active: version {}, configuration {hash}, 0 keys",
            env!("CARGO_PKG_VERSION")
        ),
        "ok         the store redis, by the cluster \"rate-limit-sidecar\", answers in ".to_owned(),
        "ok         Envoy 1.".to_owned(),
        format!("ok         Envoy has the filter in its configuration, with the configuration {hash}"),
        "ok         the filter runs: it has metrics".to_owned(),
        "ok         the cluster \"rate-limit-sidecar\" is at 127.0.0.1:".to_owned(),
        "ok         Redis (server 127.0.0.1:".to_owned(),
        "ok         Redis drops no counters when it is full (maxmemory-policy noeviction)".to_owned(),
        "ok         Redis keeps counters on its disk (appendfsync ".to_owned(),
        "ok         while the store does not answer, this Envoy admits 1/2 of each limit".to_owned(),
        "ok         the clocks of Envoy, the sidecar, Redis agree".to_owned(),
    ] {
        assert!(out.lines().any(|found| found.starts_with(&line)), "{line}\n{out}");
    }
    assert!(!out.contains("unseen") && !out.contains("FINDING"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_found() {
    let redis = Redis::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let mut limits = limits();
    limits["default"] = json!({"tpd": 1_000});
    limits["store"]["on_error"] = "allow".into();
    let mut world = World::start(&limits, redis);
    let out = world.wait_for("ok         the store redis", 1);
    for line in [
        "FINDING    Redis drops counters when it is full (maxmemory-policy allkeys-lru)",
        "FINDING    a restart of Redis loses all counters: windows of up to 24h0m0s begin anew",
        "hint       while the store does not answer, every request is forwarded uncounted (on_error: allow)",
    ] {
        assert!(out.lines().any(|found| found.starts_with(line)), "{line}\n{out}");
    }
    assert!(out.ends_with("2 findings\n"), "{out}");
    let other = world.examine("another").out;
    assert!(other.contains("FINDING    the sidecar at http://127.0.0.1:"), "{other}");
    assert!(other.contains("wants another AUTH_TOKEN than the one given here"), "{other}");
    assert!(
        other.contains("FINDING    store.auth_token in the filter's configuration is another"),
        "{other}"
    );
    // Redis is gone: the sidecar says so at once, and the filter when it has asked.
    world.redis.kill();
    world.wait_for("answers 503: ", 1);
    let body = json!({"model": "gpt-4o", "messages": []}).to_string();
    let _ = reqwest::Client::new().post(world.envoy.url("/v1/chat/completions")).body(body).send().await;
    let out = world.wait_for("of Envoy's workers reach no store", 1);
    assert!(
        out.contains("FINDING    the store redis, by the cluster \"rate-limit-sidecar\", does not answer: "),
        "{out}"
    );
    // And the sidecar too.
    world.sidecar.process().kill();
    let out = world.wait_for("NO ANSWER  the sidecar at ", 2);
    assert!(out.ends_with("somebody does not answer, so there may be more to find\n"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_is_not_there_or_does_not_reach_its_cluster_is_found() {
    let upstream = MockLlm::start();
    let mut setup = Setup::new(upstream.address()).concurrency(1);
    let filters = setup.http_filters().as_array_mut().unwrap();
    filters.remove(0);
    let envoy = setup.start();
    let (url, admin) = (envoy.url(""), envoy.admin_url(""));
    let run = run_with(
        &["doctor", "--envoy", &url, "--inspect", "/inspect", "--admin", &admin],
        &[("INSPECT_TOKEN", "open-sesame")],
        "",
    );
    assert_eq!(run.status, 1, "{}", run.out);
    assert!(run.out.contains("FINDING    the filter is not in Envoy's configuration"), "{}", run.out);
    assert!(run.out.contains("at /inspect"), "{}", run.out);
    drop(envoy);
    let mut wrong = limits();
    wrong["store"]["cluster"] = "no-such-cluster".into();
    let envoy = Setup::new(upstream.address()).concurrency(1).filter(&wrong).start();
    let run = run_with(&["doctor", "--admin", &envoy.admin_url("")], &[], "");
    assert_eq!(run.status, 1, "{}", run.out);
    let expected = "store.cluster: expected one of Envoy's clusters (\"llm\", \"rate-limit-sidecar\"), found";
    assert!(
        run.out.lines().any(|line| line.starts_with("FINDING") && line.contains(expected)),
        "{}",
        run.out
    );
}

/// What a wrong token brings about is what `doctor` says it does, for each `on_error`: a call that the sidecar refuses
/// is no missing answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_answered_as_doctor_says() {
    for (on_error, status, said) in [
        ("allow", 503, "limited requests are answered 503, which on_error: allow does not change"),
        ("deny", 503, "limited requests are answered 503, which on_error: deny does not change"),
        ("local", 200, "this Envoy admits 1/2 of each limit by itself (on_error: local)"),
    ] {
        let mut limits = limits();
        limits["store"]["auth_token"] = "another".into();
        limits["store"]["on_error"] = on_error.into();
        if on_error != "local" {
            limits["store"].as_object_mut().unwrap().remove("replicas");
        }
        let world = World::start(&limits, Redis::start());
        let line = format!("FINDING    the sidecar refuses the filter's calls: {said}");
        let out = world.wait_for(&line, 1);
        let body = json!({"model": "gpt-4o", "max_tokens": 5, "messages": []}).to_string();
        let url = world.envoy.url("/v1/chat/completions");
        let answer = reqwest::Client::new().post(url).body(body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{on_error}: {out}");
        assert_eq!(
            out.matches("store.auth_token in the filter's configuration is another").count(),
            1,
            "{out}"
        );
        // Without `inspect`, the two tokens say so.
        let sidecar = format!("http://{}", world.sidecar.address());
        let arguments = ["doctor", "--admin", &world.envoy.admin_url(""), "--sidecar", &sidecar];
        let run = run_with(&arguments, &[("AUTH_TOKEN", "token")], "");
        assert!(run.status == 1 && run.out.contains(&line), "{}", run.out);
        let each: Vec<&str> = run.out.lines().collect();
        let mut once = each.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), each.len(), "{}", run.out);
    }
}

/// The filter is in Envoy, and no request of a client comes to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_does_not_run_is_found_once() {
    let upstream = MockLlm::start();
    let limits = json!({"default": {"rpm": 5}, "endpoints": {"*": "pass"}});
    let mut setup = Setup::new(upstream.address()).concurrency(1).filter(&limits);
    setup.http_filters()[0]["disabled"] = true.into();
    let envoy = setup.start();
    let run = run_with(&["doctor", "--admin", &envoy.admin_url("")], &[], "");
    assert_eq!(run.status, 1, "{}", run.out);
    assert_eq!(run.out.matches("the filter is off, and limits nothing").count(), 1, "{}", run.out);
    drop(envoy);
    let mut setup = Setup::new(upstream.address()).concurrency(1).filter(&limits);
    let again = setup.http_filters()[0].clone();
    setup.http_filters().as_array_mut().unwrap().insert(0, again);
    let envoy = setup.start();
    let run = run_with(&["doctor", "--admin", &envoy.admin_url("")], &[], "");
    assert_eq!(run.status, 1, "{}", run.out);
    assert_eq!(run.out.matches("so that each request is charged twice").count(), 1, "{}", run.out);
    drop(envoy);
    // Clients come to another listener than the one that has it.
    let mut setup = Setup::new(upstream.address()).concurrency(1).filter(&limits);
    let listeners = setup.config()["static_resources"]["listeners"].as_array_mut().unwrap();
    let mut bare = listeners[0].clone();
    bare["name"] = "bare".into();
    let port = free_port();
    bare["address"]["socket_address"]["port_value"] = port.into();
    let path = "/filter_chains/0/filters/0/typed_config/http_filters";
    bare.pointer_mut(path).unwrap().as_array_mut().unwrap().remove(0);
    listeners.push(bare);
    let envoy = setup.start();
    let at = format!("http://127.0.0.1:{port}");
    let run = run_with(&["doctor", "--envoy", &at, "--admin", &envoy.admin_url("")], &[], "");
    let line = format!(
        "FINDING    the listener at port {port}, where clients reach Envoy, has no filter: it is in "
    );
    assert!(run.status == 1 && run.out.contains(&line), "{}", run.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_see_is_said() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let rules = ["ACL", "SETUSER", "default", "-config", "-info"];
    let _: () = redis.ask(&rules);
    let run = run_with(&["doctor", "--sidecar", &format!("http://{}", sidecar.address())], &[], "");
    assert_eq!(run.status, 0, "{}", run.out);
    for line in [
        "unseen     whether the filter is active, and with which configuration: give --admin, or set \"inspect\"",
        "unseen     all of Redis's settings: INFO: NoPerm",
        "unseen     all of Redis's settings: CONFIG: NoPerm",
        "unseen     what happens while the store does not answer",
    ] {
        assert!(run.out.lines().any(|found| found.starts_with(line)), "{line}\n{}", run.out);
    }
    assert!(run.out.contains("ok         the clocks of the sidecar, Redis agree"), "{}", run.out);
    let nobody = run_with(&["doctor", "--envoy", "http://127.0.0.1:1"], &[], "");
    assert_eq!(nobody.status, 2, "{}", nobody.out);
    assert!(nobody.out.starts_with("NO ANSWER  Envoy at http://127.0.0.1:1: "), "{}", nobody.out);
    let bad = run_with(&["doctor", "--envoy", "localhost"], &[], "");
    assert_eq!(
        (bad.status, bad.err.as_str()),
        (1, "error: localhost: expected http://host:port or unix:/path\n")
    );
    // A script whose variable is empty.
    let nothing = run_with(&["doctor", "--envoy", ""], &[], "");
    assert_eq!((nothing.status, nothing.out.as_str()), (1, ""));
    assert_eq!(nothing.err, "error: nothing to ask: give --envoy, --admin or --sidecar\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_seen_in_the_configuration_too() {
    let upstream = MockLlm::start();
    for (dry_run, times) in [(true, 1), (false, 0)] {
        let limits = json!({"dry_run": dry_run, "default": {"rpm": 5}, "endpoints": {"*": "pass"}});
        let envoy = Setup::new(upstream.address()).concurrency(1).filter(&limits).start();
        let run = run_with(&["doctor", "--admin", &envoy.admin_url("")], &[], "");
        assert_eq!(run.out.matches("it is in a dry run").count(), times, "{}", run.out);
    }
}
