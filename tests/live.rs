//! The commands that ask a running sidecar about counters as they are now: `explain --live`, `top`, and what `usage`
//! says where it finds nothing.

use llm_rate_limit::config::Config;
use llm_rate_limit::identity::Identity;
use llm_rate_limit::policy::Access;
use llm_rate_limit::session::quote::Quote;
use llm_rate_limit::store::wire::{Reserve, Reserved};
use llm_rate_limit_tests::command::{command, file, path, run, run_with, text_file};
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::Sidecar;
use reqwest::Method;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use tempfile::NamedTempFile;

const CHAT: &str = "/v1/chat/completions";

fn limits() -> Value {
    json!({
        "store": {"type": "redis", "cluster": "sidecar", "namespace": "staging"},
        "identity": [
            {"header": "x-api-key", "known_only": true},
            {"metadata": ["envoy.filters.http.jwt_authn", "payload", "sub"]},
            {"client_ip": {}},
        ],
        "keys": [{"key": "member", "name": "demo", "group": "team-a", "rpm": 10, "input_tpm": 1000,
                  "models": {"o3*": {"rpd": 9}}}],
        "groups": {"team-a": {"rpm": 3}},
        "default": {"windows": [{"metric": "requests", "limit": 5, "window": "1h"}]},
        "global": {"windows": [{"metric": "requests", "limit": 1000, "window": "1d", "dry_run": true}]},
    })
}

fn body() -> String {
    let messages = json!([{"role": "user", "content": "hello world"}]);
    json!({"model": "gpt-4o", "messages": messages, "max_tokens": 5}).to_string()
}

/// A sidecar on a Redis, with a configuration for its filters.
struct Fleet {
    _redis: Redis,
    sidecar: Sidecar,
    url: String,
    file: NamedTempFile,
    config: Config,
}

impl Fleet {
    async fn start(limits: &Value) -> Self {
        let redis = Redis::start();
        let sidecar = Sidecar::start(&redis.url(), &[]);
        sidecar.wait_until_ready_is(200).await;
        let config = Config::from_bytes(limits.to_string().as_bytes()).unwrap();
        Self {
            url: format!("http://{}", sidecar.address()),
            _redis: redis,
            sidecar,
            file: file(limits),
            config,
        }
    }

    /// Reserves requests of `key` as a filter would, and returns how many are admitted.
    async fn send(&self, key: &str, requests: usize) -> usize {
        let Access::Limited(subject) = self.config.access(Some(&Identity::of_key(key))) else {
            panic!("{key} is limited");
        };
        let charges = Quote::new(&self.config, CHAT, body().as_bytes()).due(&subject).charges();
        let batch: Vec<_> = (0..requests)
            .map(|n| Reserve {
                id: format!("{key}-{n}"),
                namespace: self.config.namespace(),
                charges: charges.clone(),
                ..Reserve::default()
            })
            .collect();
        let answers = self.sidecar.reserve(&batch).await;
        answers.iter().filter(|answer| matches!(answer, Reserved::Decided { admitted: true, .. })).count()
    }

    /// What a command prints about the file and the sidecar.
    fn explain(&self, arguments: &[&str], input: &str) -> String {
        let begin = ["explain", path(&self.file), "--live", "--sidecar", &self.url];
        let run = run_with(&[&begin, arguments].concat(), &[], input);
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{arguments:?}");
        run.out
    }
}

/// The words of each line.
fn words(out: &str) -> Vec<Vec<&str>> {
    out.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test]
async fn explain_live_shows_what_is_used_and_which_limit_binds() {
    let fleet = Fleet::start(&limits()).await;
    assert_eq!(fleet.send("member", 4).await, 3, "the group admits three");
    let out = fleet.explain(&["--header", "X-Api-Key: member", "--path", CHAT, "--body", "-"], &body());
    let lines = words(&out);
    assert_eq!(lines[0], ["chat_completions"]);
    assert!(out.contains("\"demo\", group \"team-a\", model \"gpt-4o\", id "), "{out}");
    assert_eq!(lines[2].join(" "), "OWNER LIMIT ON WINDOW COST USED LIMIT RESET FITS");
    let row = |words: &[&str]| {
        let of = |line: &&Vec<&str>| line.starts_with(words);
        lines.iter().find(of).unwrap_or_else(|| panic!("{words:?}: {out}"))
    };
    assert_eq!(row(&["this", "key", "requests", "1m", "1", "3", "10"])[8..], ["now"]);
    // Nine tokens of prompt: docs/counting.md.
    assert_eq!(row(&["this", "key", "input", "tokens", "1m", "9", "27", "1000"])[9..], ["now"]);
    let group = row(&["group", "team-a", "requests", "1m", "1", "3", "3"]);
    assert_eq!((group[8], &group[10..]), ("in", &["<-", "binds"][..]), "{out}");
    assert_eq!(
        row(&["all", "requests", "(global)", "requests", "1d", "1", "3", "1000"])[9..],
        ["now", "(dry", "run)"]
    );
    assert!(!out.contains("o3*"), "the body names another model: {out}");
    let last = out.lines().last().unwrap();
    assert!(last.starts_with("refused by group team-a/requests/1m: fits in "), "{last}");
}

#[tokio::test]
async fn explain_live_finds_the_sender_as_the_filter_does_and_charges_nothing() {
    let fleet = Fleet::start(&limits()).await;
    let asks: [&[&str]; 3] = [
        &["--ip", "10.1.2.3"],
        &["--metadata", "envoy.filters.http.jwt_authn.payload.sub=alice", "--ip", "10.1.2.3"],
        &["--header", "x-api-key: junk, member"],
    ];
    let mut ids = Vec::new();
    for arguments in asks {
        let json = fleet.explain(&[arguments, &["--json", "--path", CHAT]].concat(), "");
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["fits"], &json["endpoint"]), (&json!(true), &json!("chat_completions")));
        let window = &json["windows"][0];
        assert_eq!(
            (&window["used"], &window["cost"], &window["fits_in_ms"]),
            (&json!(0), &json!(1), &json!(0))
        );
        let binding = json["windows"].as_array().unwrap().iter().filter(|window| window["binds"] == true);
        assert_eq!(binding.count(), 1);
        ids.push(json["identity"].as_str().unwrap().to_owned());
    }
    assert!(ids[0].starts_with("ip-"), "{ids:?}");
    assert_eq!(ids[1], **Identity::of_key("alice").id());
    assert_eq!(ids[2], **Identity::of_key("member").id());
    let out = fleet.explain(&["--key", "stranger"], "");
    assert!(
        out.contains("\nwithout --body nobody knows its tokens") || out.starts_with("without --body"),
        "{out}"
    );
    assert!(out.ends_with("forwarded: key/requests/1h is the closest to its limit\n"), "{out}");
    let usage = fleet.sidecar.usage(Method::GET, &format!("identity={}&namespace=staging", ids[0])).await;
    assert_eq!(usage["windows"], json!([]));
}

#[test]
fn explain_live_says_why_it_cannot() {
    let remote = file(&limits());
    let local = file(&json!({"default": {"rpm": 1}}));
    let err = |arguments: &[&str], input: &str| {
        let failed = run_with(&[&["explain", "--live"], arguments].concat(), &[], input);
        assert_eq!(failed.status, 1, "{arguments:?}: {}", failed.out);
        failed.err
    };
    assert!(err(&[path(&local)], "").contains("the store of this configuration is \"local\""));
    assert!(err(&["-", "--body", "-"], "{}").contains("only one of the configuration, --key and --body"));
    let nobody = err(&[path(&remote), "--url", "http://127.0.0.1:1"], "");
    assert!(nobody.starts_with("error: cannot reach the sidecar at http://127.0.0.1:1/"), "{nobody}");
}

#[tokio::test]
async fn a_peek_answers_each_element_in_its_place() {
    let fleet = Fleet::start(&limits()).await;
    let bad = json!({"id": "", "charges": []});
    let window = json!({"algorithm": "fixed_window", "window_ms": 60_000});
    let window =
        json!({"scope": "a", "identity": "a", "name": "requests", "window": window, "limit": 1, "cost": 2});
    let (status, answer) =
        fleet.sidecar.post("/v1/peek", json!([bad, {"id": "x", "charges": [window]}]).to_string()).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, answer.as_array().unwrap().len()), (200, 2), "{answer}");
    assert!(answer[0]["error"].as_str().unwrap().starts_with("id is empty"), "{answer}");
    assert_eq!(
        answer[1],
        json!({"admitted": false, "windows": [{"used": 0, "reset_ms": 0, "retry_after_ms": -1}]})
    );
}

#[tokio::test]
async fn top_shows_who_is_busy_and_who_is_near_a_limit() {
    let fleet = Fleet::start(&limits()).await;
    let top = |arguments: &[&str]| {
        let run = run(&[&["top", "--sidecar", &fleet.url], arguments].concat());
        assert_eq!((run.status, run.err.as_str()), (0, ""));
        run.out
    };
    assert!(top(&[]).starts_with("this sidecar has decided no request in the last "));
    fleet.send("member", 4).await;
    fleet.send("stranger", 1).await;
    let ranking: Value = serde_json::from_str(&top(&["--json"])).unwrap();
    let member = Identity::of_key("member").id().to_string();
    let busiest = ranking["busiest"].as_array().unwrap();
    assert_eq!(busiest.len(), 4, "two senders, a group, and global: {ranking}");
    let global =
        json!({"scope": "global", "identity": "global", "namespace": "staging", "requests": 5, "refused": 1});
    assert_eq!(busiest[0], global);
    let nearest = &ranking["nearest"][0];
    assert_eq!(
        [&nearest["identity"], &nearest["name"], &nearest["window"], &nearest["used"], &nearest["limit"]],
        [&json!("group-team-a"), &json!("requests"), &json!("1m"), &json!(3), &json!(3)]
    );
    let out = top(&["--config", path(&fleet.file), "--limit", "3"]);
    assert!(out.contains(&format!("\"demo\" {member} in group-team-a (staging)")), "{out}");
    let lines = words(&out);
    assert!(
        lines.iter().any(|line| line.starts_with(&[
            "group-team-a",
            "(staging)",
            "requests",
            "1m",
            "3",
            "3",
            "100%"
        ])),
        "{out}"
    );
    assert!(!out.contains("member\""), "a key is never shown: {out}");
}

#[tokio::test]
async fn top_and_store_want_the_token() {
    let redis = Redis::start();
    let sidecar = Sidecar::start(&redis.url(), &[("AUTH_TOKEN", "token")]);
    for path in ["/v1/top", "/v1/store"] {
        assert_eq!(sidecar.get(path).await.0, 401, "{path}");
    }
    assert_eq!(sidecar.post("/v1/peek", "[]").await.0, 401);
    let url = format!("http://{}", sidecar.address());
    let run = run_with(&["top"], &[("SIDECAR_URL", &url), ("AUTH_TOKEN", "token")], "");
    assert_eq!((run.status, run.err.as_str()), (0, ""));
}

#[tokio::test]
async fn usage_says_what_may_be_why_it_finds_nothing() {
    let fleet = Fleet::start(&limits()).await;
    fleet.send("member", 1).await;
    let member = Identity::of_key("member").id().to_string();
    let usage = |arguments: &[&str]| {
        let run = run(&[&["usage", "--sidecar", &fleet.url], arguments].concat());
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{arguments:?}");
        run.out
    };
    let config = ["--config", path(&fleet.file)];
    let with = |arguments: &[&str]| usage(&[arguments, &config].concat());
    for found in [
        with(&["--key", "member"]),
        with(&["--id", &member]),
        usage(&["--id", &member, "--scope", "group-team-a", "--namespace", "staging"]),
        with(&["--group", "team-a"]),
        with(&["--global"]),
    ] {
        assert!(found.starts_with("LIMIT ON"), "{found}");
    }
    let seen =
        "hint: this sidecar has seen this identity in the scope group-team-a, in the namespace staging: give";
    for (out, hint) in [
        (usage(&["--key", "member"]), seen),
        (usage(&["--id", &member]), seen),
        (usage(&["--key", "stranger"]), "hint: without --config this finds a key only outside of groups"),
        (with(&["--key", "membre"]), "hint: the configuration does not name this key"),
        (usage(&["--key", &member]), "hint: this looks like an id, not a key: give it as --id"),
        (usage(&["--id", "member"]), "hint: an id is 64 hexadecimal digits"),
        (
            with(&["--group", "team-b"]),
            "hint: no key of the configuration is in a limited group \"team-b\": it limits \"team-a\"",
        ),
        (
            with(&["--model", "o3"]),
            "hint: \"models\" of the configuration has no pattern \"o3\": it limits none",
        ),
        (
            with(&["--group", "team-a", "--namespace", "production"]),
            "hint: the namespace of the configuration is \"staging\"",
        ),
        (
            usage(&["--global"]),
            "hint: this sidecar has seen this identity in the scope global, in the namespace staging",
        ),
    ] {
        assert!(out.starts_with("no usage\n") && out.contains(hint), "{hint}: {out}");
    }
    let rejecting = file(&json!({"default": "reject"}));
    let failed = run(&["usage", "--sidecar", &fleet.url, "--key", "x", "--config", path(&rejecting)]);
    assert!(failed.err.contains("does not name this key, and rejects"), "{}", failed.err);
}

/// The counters of a group in another are with those of the outermost, which only the configuration says.
#[tokio::test]
async fn the_counters_of_an_organisation_are_found_by_its_configuration() {
    let fleet = Fleet::start(&json!({
        "store": {"type": "redis", "cluster": "sidecar"},
        "groups": {"org": {"rpm": 9}, "team": {"group": "org", "rpm": 5}},
        "keys": [{"key": "member", "group": "team", "rpm": 3}],
    }))
    .await;
    assert_eq!(fleet.send("member", 2).await, 2);
    let used = |arguments: &[&str]| {
        let run = run(&[&["usage", "--json", "--sidecar", &fleet.url], arguments].concat());
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{arguments:?}");
        let usage: Value = serde_json::from_str(&run.out).unwrap();
        usage["windows"].as_array().unwrap().iter().map(|window| window["used"].clone()).collect::<Vec<_>>()
    };
    let config = ["--config", path(&fleet.file)];
    for owner in [["--group", "team"], ["--group", "org"], ["--key", "member"]] {
        assert_eq!(used(&[owner, config].concat()), [2], "{owner:?}");
    }
    assert_eq!(used(&["--group", "org"]), [2]);
    assert_eq!(used(&["--group", "team"]), [] as [Value; 0]);
    let explained = fleet.explain(&["--key", "member"], "");
    let owners: Vec<_> = words(&explained).iter().map(|line| line[..2].join(" ")).collect();
    for owner in ["this key", "group team", "group org"] {
        assert!(owners.iter().any(|known| known == owner), "{explained}");
    }
}

/// `--watch` waits for the clock: a second between two reports.
#[tokio::test]
async fn usage_is_shown_again_and_again() {
    let fleet = Fleet::start(&limits()).await;
    let arguments =
        ["usage", "--global", "--namespace", "staging", "--json", "--watch=1", "--sidecar", &fleet.url];
    let mut process = command(&arguments, &[]).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("\"windows\": []")));
    fleet.send("member", 2).await;
    assert!(lines.any(|line| line.contains("\"used\": 2")), "the next report has it");
    // It ends quietly once nobody reads it.
    drop(lines);
    assert!(process.wait().unwrap().success());
}

#[tokio::test]
async fn every_command_ends_quietly_when_nobody_reads_on() {
    let fleet = Fleet::start(&limits()).await;
    let config = path(&fleet.file);
    let request = text_file(&body());
    for arguments in [
        &["check", config][..],
        &["explain", config, "--key", "member"],
        &["explain", config, "--key", "member", "--json", "--live", "--sidecar", &fleet.url],
        &["count", "--path", CHAT, path(&request)],
        &["usage", "--global", "--sidecar", &fleet.url],
        &["reset", "--global", "--sidecar", &fleet.url],
        &["top", "--sidecar", &fleet.url],
        &["doctor", "--sidecar", &fleet.url],
        &["completions", "bash"],
        &["man"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(arguments, &[]).stdout(writer).output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

#[test]
fn shells_complete_every_command_and_the_manual_has_every_option() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert_eq!((script.status, script.err.as_str()), (0, ""), "{shell}");
        for word in ["sidecar", "doctor", "inspect", "live"] {
            assert!(script.out.contains(word), "{shell}: {word}");
        }
    }
    let page = run(&["man"]);
    assert_eq!((page.status, page.err.as_str()), (0, ""));
    assert!(page.out.contains(".TH llm-rate-limit 1"), "{}", &page.out[..200]);
    for word in [".SH EXPLAIN", ".SH DOCTOR", "\\-\\-live", "REDIS_URL", "\\-\\-metadata"] {
        assert!(page.out.contains(word), "{word}");
    }
    assert!(!page.out.contains(".SH OPTIONS"), "the options are those of the commands");
}
