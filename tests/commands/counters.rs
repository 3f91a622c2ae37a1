//! `usage` and `reset`: the counters of each owner.

use crate::hierarchy;
use llm_rate_limit::identity::Identity;
use llm_rate_limit::store::wire::{Reserve, ScopeCharges};
use llm_rate_limit_tests::charges::hourly;
use llm_rate_limit_tests::command::{file, path, run, run_with};
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use serde_json::{Value, json};

fn charge(scope: &str, identity: &str, name: &str, limit: u64, cost: u64) -> ScopeCharges {
    ScopeCharges { scope: scope.into(), ..hourly(identity, name, limit, cost) }
}

/// A sidecar that has counted the usage of every kind of owner.
async fn spent(redis: &Redis, settings: &[(&str, &str)]) -> Sidecar {
    let sidecar = Sidecar::start(&redis.url(), settings);
    sidecar.wait_until_ready_is(200).await;
    let alone = Identity::of_key("alone").id().to_string();
    let member = Identity::of_key("in-a-group").id().to_string();
    let charges = [
        charge(&alone, &alone, "requests", 10, 3),
        charge(&alone, &alone, "cost_usd", 12_500_000, 2_250_000),
        charge("group-team-a", &member, "requests", 1000, 4),
        charge("group-team-a", "group-team-a", "total_tokens", 500, 5),
        charge("model-gpt-4*", "model-gpt-4*", "requests", 9, 6),
        charge("global", "global", "requests", 60_000, 7),
    ];
    let token = settings.iter().find(|(name, _)| *name == "AUTH_TOKEN").map(|(_, token)| *token);
    let body = serde_json::to_vec(&[Reserve {
        id: "r".to_owned(),
        charges: charges.to_vec(),
        ..Reserve::default()
    }])
    .unwrap();
    let mut request = sidecar.request(reqwest::Method::POST, "/v1/reserve").body(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    assert_eq!(request.send().await.unwrap().status(), 200);
    sidecar
}

/// The columns of a line, without the last, which changes with time.
fn columns(line: &str) -> Vec<&str> {
    let columns: Vec<_> = line.split_whitespace().collect();
    columns[..columns.len() - 1].to_vec()
}

#[tokio::test]
async fn usage_shows_the_counters_of_each_owner() {
    let redis = Redis::start();
    let sidecar = spent(&redis, &[]).await;
    let config = hierarchy();
    let url = format!("http://{}", sidecar.address());
    let used = |owner: &[&str]| {
        let shown = run(&[&["usage", "--json", "--url", &url], owner].concat());
        assert_eq!((shown.status, shown.err.as_str()), (0, ""), "{owner:?}");
        let usage: Value = serde_json::from_str(&shown.out).unwrap();
        usage["windows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|window| window["used"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(used(&["--key", "alone"]), [2_250_000, 3]);
    assert_eq!(used(&["--id", Identity::of_key("alone").id()]), [2_250_000, 3]);
    assert_eq!(used(&["--key", "in-a-group", "--config", path(&config)]), [4]);
    assert_eq!(used(&["--key", "in-a-group"]), [0; 0], "its scope is unknown without the configuration");
    let id = Identity::of_key("in-a-group").id().to_string();
    assert_eq!(used(&["--id", &id, "--scope", "group-team-a"]), [4]);
    assert_eq!(used(&["--group", "team-a"]), [5]);
    assert_eq!(used(&["--model", "gpt-4*"]), [6]);
    assert_eq!(used(&["--global"]), [7]);
    let unlimited = run(&["usage", "--url", &url, "--key", "free", "--config", path(&config)]);
    assert_eq!(unlimited.err, "error: this key is unlimited: its requests are not counted\n");
    assert_eq!(unlimited.status, 1);
}

/// A key that the configuration does not name is no unlimited one: what becomes of it is what the filter does.
#[test]
fn usage_says_what_becomes_of_a_key_that_nobody_has_named() {
    let usage = |config: Value, owner: [&str; 2]| {
        let config = file(&config);
        let arguments =
            ["usage", "--config", path(&config), owner[0], owner[1], "--sidecar", "http://127.0.0.1:1"];
        run(&arguments).err
    };
    let key = |config: Value| usage(config, ["--key", "a-typo"]);
    let named = json!([{"key": "named", "rpm": 5}, {"key": "free", "unlimited": true}]);
    for (config, expected) in [
        (json!({"keys": named}), "does not name this key, and has no \"default\": the requests of others"),
        (
            json!({"keys": named, "default": "reject"}),
            "does not name this key, and rejects those that it does not name (401)",
        ),
        (
            json!({"keys": named, "default": "unlimited"}),
            "does not name this key, and \"default\" exempts those",
        ),
    ] {
        let said = key(config.clone());
        assert!(said.contains(expected) && said.ends_with(": check its spelling\n"), "{config}: {said}");
    }
}

#[tokio::test]
async fn usage_and_reset_print_tables() {
    let redis = Redis::start();
    let sidecar = spent(&redis, &[("AUTH_TOKEN", "token")]).await;
    let url = format!("http://{}", sidecar.address());
    let environment = [("SIDECAR_URL", url.as_str()), ("AUTH_TOKEN", "token")];
    let run = |command| run_with(&[command, "--key", "-"], &environment, "alone\n").out;
    let shown = run("usage");
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>().join(" "),
        "LIMIT ON WINDOW USED LIMIT REMAINING RESET"
    );
    assert_eq!(columns(lines[1]), ["cost_usd", "1h", "$2.25", "$12.5", "$10.25"]);
    assert_eq!(columns(lines[2]), ["requests", "1h", "3", "10", "7"]);
    assert!(lines[2].ends_with('s'), "the time until it is empty: {}", lines[2]);
    let reset = run("reset");
    assert_eq!(reset.lines().next(), Some("reset; usage before the reset:"));
    assert_eq!(reset.lines().count(), 4);
    assert!(run("usage").starts_with("no usage\nhint: "), "{}", run("usage"));
    assert!(run("reset").starts_with("nothing to reset\nhint: "), "{}", run("reset"));
}

#[tokio::test]
async fn usage_reports_why_the_sidecar_gives_no_answer() {
    let redis = Redis::start();
    let sidecar = spent(&redis, &[("AUTH_TOKEN", "token")]).await;
    let url = format!("http://{}", sidecar.address());
    let err = |arguments: &[&str]| {
        let failed = run(&[&["usage", "--key", "alone"], arguments].concat());
        assert_eq!((failed.status, failed.out.as_str()), (1, ""));
        failed.err
    };
    let refused = err(&["--url", &url]);
    assert!(refused.starts_with("error: the sidecar answered 401: the authorization header"), "{refused}");
    let nobody = err(&["--url", "http://127.0.0.1:1"]);
    assert!(nobody.starts_with("error: cannot reach the sidecar at http://127.0.0.1:1/:"), "{nobody}");
    assert_eq!(err(&["--url", "ftp://a"]), "error: ftp://a: expected http://host:port or unix:/path\n");
}

#[tokio::test]
async fn usage_asks_a_sidecar_on_a_unix_socket() {
    let redis = Redis::start();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sidecar.sock");
    let sidecar = Sidecar::start_unix(&socket, &redis.url(), &[]);
    sidecar.wait_until_ready_is(200).await;
    let url = format!("unix:{}", socket.display());
    let shown = run(&["usage", "--global", "--sidecar", &url]);
    assert_eq!((shown.status, shown.out.lines().next()), (0, Some("no usage")), "{}", shown.err);
}
