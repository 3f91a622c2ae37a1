//! `grant`, `refund` and `grants`: limits that an operator changes by hand.

use llm_rate_limit_tests::command::{Run, file, path, run};
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// A running sidecar and a configuration, for commands with `--by ann`.
struct Operator {
    config: NamedTempFile,
    url: String,
    _sidecar: Sidecar,
    redis: Redis,
}

impl Operator {
    async fn start() -> Self {
        let redis = Redis::start();
        let sidecar = Sidecar::start(&redis.url(), &[]);
        sidecar.wait_until_ready_is(200).await;
        let config = file(&json!({
            "store": {"type": "redis", "cluster": "rate-limit-sidecar", "namespace": "staging"},
            "prices": {"*": {"input": 1, "output": 1}},
            "groups": {"team": {"tpm": 500}},
            "keys": [{
                "key": "alone", "rpm": 10, "max_concurrency": 2, "models": {"gpt-4*": {"rpd": 7}},
                "windows": [
                    {"metric": "requests", "limit": 100, "window": "1d", "algorithm": "fixed_window",
                     "timezone": "Europe/Paris"},
                    {"metric": "cost_usd", "limit": 12.5, "window": "1mo"},
                    {"metric": "output_tokens", "limit": 0, "window": "1h"},
                ],
            }, {"key": "member", "rpm": 3, "group": "team"}],
        }));
        Self { config, url: format!("http://{}", sidecar.address()), _sidecar: sidecar, redis }
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Run {
        let by: &[&str] = if matches!(command, "grant" | "refund") { &["--by", "ann"] } else { &[] };
        let place = ["--config", path(&self.config), "--sidecar", &self.url];
        run(&[&[command][..], &place, by, arguments].concat())
    }

    fn says(&self, command: &str, arguments: &[&str]) -> String {
        let Run { status, out, err } = self.run(command, arguments);
        assert_eq!((status, err.as_str()), (0, ""), "{command} {arguments:?}: {out}");
        out
    }
}

#[tokio::test]
async fn grants_add_up_are_shown_and_end() {
    let operator = Operator::start().await;
    let key = ["--key", "alone", "--limit", "rpm"];
    let would = operator.says("grant", &[&key[..], &["--add", "5", "--until", "2h", "--dry-run"]].concat());
    assert!(would.starts_with("would be granted: 5 more of requests/1m until 20"), "{would}");
    assert!(would.ends_with("; used 0 of 15\n"), "{would}");
    assert!(operator.redis.ask::<Vec<String>>(&["KEYS", "*"]).is_empty());

    let why = ["--reason", "a migration"];
    operator.says("grant", &[&key[..], &["--add", "5", "--until", "2h"], &why].concat());
    let both = operator.says("grant", &[&key[..], &["--add", "20", "--until", "3h"]].concat());
    assert!(both.ends_with("; used 0 of 35\n"), "{both}");
    let usage = operator.says("usage", &["--key", "alone"]);
    let lines: Vec<_> = usage.lines().collect();
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["requests", "1m", "0", "10", "35", "0ms"]);
    assert!(lines[2].starts_with("granted: 5 more of requests/1m until 20"), "{usage}");
    assert!(lines[3].starts_with("granted: 20 more of requests/1m until 20"), "{usage}");

    let live = ["explain", path(&operator.config), "--live", "--key", "alone", "--url", &operator.url];
    let shown = run(&[&live[..], &["--json"]].concat());
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    let granted: Vec<_> = shown["windows"].as_array().unwrap().iter().map(|it| &it["granted"]).collect();
    assert!(granted.contains(&&json!(25)), "{shown}");
    assert!(run(&live).out.contains("35 (25 granted)"), "{}", run(&live).out);
    let revoked = operator.says("grant", &[&key[..], &["--revoke"]].concat());
    assert_eq!(revoked, "revoked: 25 of requests/1m; used 0 of 10\n");
    let audit = operator.says("grants", &["--key", "alone"]);
    let done: Vec<_> = audit.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(done, ["revoke", "grant", "grant"], "{audit}");
    assert!(audit.lines().nth(3).unwrap().ends_with("  ann  a migration"), "{audit}");
    let lists: Vec<String> = operator.redis.ask(&["KEYS", "*:audit"]);
    assert_eq!(lists.len(), 1);
    for key in operator.redis.ask::<Vec<String>>(&["KEYS", "*"]) {
        assert!(operator.redis.ask::<i64>(&["PTTL", &key]) > 0, "{key} does not expire");
    }
}

#[tokio::test]
async fn every_kind_of_limit_takes_a_grant() {
    let operator = Operator::start().await;
    let granted = |owner: &[&str], limit: &str, add: &str, until: &str| {
        let how = ["--limit", limit, "--add", add, "--until", until, "--json"];
        let out = operator.says("grant", &[owner, &how].concat());
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let alone = ["--key", "alone"];
    let day = granted(&alone, "requests/1d-Europe/Paris", "50", "window");
    assert_eq!((&day["limit"], &day["granted"]), (&json!(100), &json!(50)));
    assert_eq!(granted(&alone, "cost_usd", "2.5", "1h")["granted"], 2_500_000);
    assert_eq!(granted(&alone, "max_concurrency", "3", "1h")["granted"], 3);
    assert_eq!(granted(&alone, "gpt-4*/requests", "3", "window")["granted"], 3);
    assert_eq!(granted(&["--group", "team"], "tpm", "100", "2030-01-01T00:00:00Z")["granted"], 100);
    assert_eq!(granted(&["--key", "member"], "rpm", "2", "10s")["granted"], 2);
}

#[tokio::test]
async fn a_mistake_is_named_with_what_there_is() {
    let operator = Operator::start().await;
    let err = |command: &str, arguments: &[&str]| {
        let Run { status, out, err } = operator.run(command, arguments);
        assert_eq!((status, out.as_str()), (1, ""), "{arguments:?}");
        err
    };
    let alone = ["--key", "alone", "--limit"];
    let grant = |rest: &[&str]| err("grant", &[&alone[..], rest].concat());
    let unknown = grant(&["tpm", "--add", "1"]);
    assert!(
        unknown.starts_with("error: --limit tpm: this owner has no such limit: it has requests/1m, "),
        "{unknown}"
    );
    assert!(grant(&["requests", "--add", "1"]).starts_with("error: --limit requests: several windows"));
    assert_eq!(grant(&["rpm", "--add", "0"]), "error: --add 0: expected a whole number, more than 0\n");
    assert!(
        grant(&["rpm", "--add", "1", "--until", "soon"]).starts_with("error: --until soon: expected a time")
    );
    assert!(grant(&["output_tokens", "--add", "1"]).contains("output_tokens: the limit is zero"));
    assert!(grant(&["max_concurrency", "--add", "1"]).contains("say until when"));
    let slots = err("refund", &[&alone[..], &["max_concurrency", "--amount", "1"]].concat());
    assert!(slots.contains("cannot be given back"), "{slots}");
    let stranger = err("grant", &["--key", "a-typo", "--limit", "rpm", "--add", "1"]);
    assert!(stranger.contains("the configuration does not name this key"), "{stranger}");
    let nothing =
        run(&["grant", "--key", "x", "--limit", "rpm", "--add", "1", "--by", "a", "--url", &operator.url]);
    assert!(nothing.err.contains("it has none; --config knows limits"), "{}", nothing.err);
    for n in 0..16 {
        let until = format!("{}m", 10 + n);
        operator.says("grant", &[&alone[..], &["rpm", "--add", "1", "--until", &until]].concat());
    }
    assert!(grant(&["rpm", "--add", "1", "--until", "3h"]).contains("16 grants"));
}
