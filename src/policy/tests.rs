//! The limits that apply to each request, and their owners.

use super::*;
use crate::config::Config;
use crate::identity::Identity;
use crate::policy::limit::Enforcement;
use crate::quantity::{Millis, Units};
use serde_json::{Value, json};

fn config(json: &Value) -> Config {
    Config::from_bytes(json.to_string().as_bytes()).unwrap()
}

/// The subject of `key` under the configuration `json`.
fn subject(json: &Value, key: &str) -> Subject {
    match config(json).access(Some(&Identity::of_key(key))) {
        Access::Limited(subject) => subject,
        other => panic!("{other:?}"),
    }
}

/// The limits on a request for `model`, as `name:window=amount`.
fn limits(subject: &Subject, model: Option<&str>) -> Vec<String> {
    let written =
        |Applied { limit, .. }: Applied| format!("{}:{}={}", limit.name, limit.window.label(), limit.amount);
    subject.limits(&model.into()).map(written).collect()
}

#[test]
fn shorthands_are_windows() {
    let json = json!({"default": {
        "rpm": 1, "rpd": 2, "tpm": 3, "tpd": 4, "input_tpm": 5, "output_tpm": 6,
        "windows": [
            {"metric": "requests", "limit": 7, "window": "90s", "segments": 30},
            {"metric": "requests", "limit": 8, "window": "50ms"},
        ],
    }});
    let expected = [
        "requests:1m=1",
        "requests:1d=2",
        "total_tokens:1m=3",
        "total_tokens:1d=4",
        "input_tokens:1m=5",
        "output_tokens:1m=6",
        "requests:90s-30=7",
        "requests:50ms-50=8",
    ];
    assert_eq!(limits(&subject(&json, "any"), None), expected);
}

#[test]
fn every_pattern_that_matches_has_its_own_counter() {
    let json = json!({"default": {
        "rpm": 9,
        "models": {"*": {"rpm": 5}, "gpt-4*": {"rpm": 3, "tpm": 100}, "gpt-4o": {"rpm": 1}},
    }});
    let subject = subject(&json, "any");
    assert_eq!(limits(&subject, Some("o3")), ["requests:1m=9", "*/requests:1m=5"]);
    let all = [
        "requests:1m=9",
        "*/requests:1m=5",
        "gpt-4*/requests:1m=3",
        "gpt-4*/total_tokens:1m=100",
        "gpt-4o/requests:1m=1",
    ];
    assert_eq!(limits(&subject, Some("gpt-4o")), all);
    assert_eq!(limits(&subject, None), all, "a request that names no model may be for any");
    let several = Candidates::Several(vec!["o3".into(), "gpt-4".into()]);
    let patterns: Vec<_> = subject.limits(&several).map(|applied| applied.models).collect();
    let gpt_4 = Some(Pattern::new("gpt-4*"));
    assert_eq!(patterns, [None, Some(Pattern::new("*")), gpt_4.clone(), gpt_4]);
}

#[test]
fn a_keys_own_limits_replace_those_of_its_plan_or_add_to_them() {
    let json = json!({
        "plans": {"pro": {
            "rpm": 10, "tpm": 20,
            "models": {"a": {"rpm": 1, "tpm": 2}, "b": {"rpm": 3}},
            "windows": [{"metric": "requests", "limit": 30, "window": "10s"}],
        }},
        "keys": [{
            "key": "k", "plan": "pro", "rpd": 50,
            "models": {"a": {"rpm": 4}, "c": {"rpm": 5}},
            "windows": [
                {"metric": "requests", "limit": 60, "window": "60s", "segments": 6},
                {"metric": "total_tokens", "limit": 70, "window": "10s"},
            ],
        }],
    });
    let subject = subject(&json, "k");
    let general = [
        "requests:1m-6=60",
        "total_tokens:1m=20",
        "requests:10s=30",
        "requests:1d=50",
        "total_tokens:10s=70",
    ];
    assert_eq!(limits(&subject, Some("o3")), general);
    let of_model = |model| limits(&subject, Some(model))[general.len()..].to_vec();
    assert_eq!(of_model("a"), ["a/requests:1m=4", "a/total_tokens:1m=2"]);
    assert_eq!(of_model("b"), ["b/requests:1m=3"]);
    assert_eq!(of_model("c"), ["c/requests:1m=5"]);
}

#[test]
fn a_body_is_needed_for_tokens_and_models() {
    let needs_body = |limits: Value| subject(&json!({"default": limits}), "any").needs_body();
    assert!(!needs_body(json!({"rpm": 1, "rpd": 2})));
    assert!(needs_body(json!({"rpm": 1, "tpm": 2})));
    assert!(needs_body(json!({"models": {"gpt-4*": {"rpm": 2}}})));
}

#[test]
fn unknown_identities_are_counted_apart_and_anonymous_requests_together() {
    let config = config(&json!({"default": {"rpm": 1}}));
    let id = |identity: Option<&Identity>| match config.access(identity) {
        Access::Limited(subject) => (subject.id().to_owned(), subject.scope().to_owned()),
        other => panic!("{other:?}"),
    };
    let (a, b) = (Identity::of_key("a"), Identity::of_key("b"));
    assert_eq!(id(Some(&a)), (a.id().to_string(), a.id().to_string()));
    assert_ne!(id(Some(&a)), id(Some(&b)));
    assert_eq!(id(None).0, ANONYMOUS);
}

#[test]
fn a_limit_warns_at_the_part_of_the_nearest_level_that_sets_one() {
    let json = json!({
        "plans": {"p": {
            "rpm": 10, "warn_at": 0.5, "models": {"a": {"rpm": 20, "warn_at": 1}, "b": {"rpm": 30}},
            "windows": [
                {"metric": "requests", "limit": 5, "window": "1s", "warn_at": 0.7},
                {"metric": "requests", "limit": 60, "window": "2s", "algorithm": "token_bucket", "burst": 4},
            ],
        }},
        "keys": [{"key": "as-planned", "plan": "p"}, {"key": "own", "plan": "p", "warn_at": 0.000001}],
        "global": {"rpm": 8},
    });
    let warns = |key, model| {
        let from = |applied: Applied| applied.limit.warns_from().map(Units::get);
        subject(&json, key).limits(&Some(model).into()).map(from).collect::<Vec<_>>()
    };
    assert_eq!(warns("as-planned", "a"), [Some(5), Some(4), Some(2), Some(20), None]);
    assert_eq!(warns("as-planned", "b"), [Some(5), Some(4), Some(2), Some(15), None]);
    assert_eq!(warns("own", "b"), [Some(1), Some(1), Some(1), Some(1), None]);
}

#[test]
fn keys_on_a_plan_share_its_limits() {
    let json =
        json!({"plans": {"p": {"rpm": 1}}, "keys": [{"key": "a", "plan": "p"}, {"key": "b", "plan": "p"}]});
    let config = config(&json);
    let limits = |key| match config.access(Some(&Identity::of_key(key))) {
        Access::Limited(subject) => Arc::clone(&subject.policy.own),
        other => panic!("{other:?}"),
    };
    assert!(Arc::ptr_eq(&limits("a"), &limits("b")));
    assert_eq!(config.access(None), Access::Unlimited);
}

#[test]
fn a_default_may_reject() {
    let config = config(&json!({"keys": [{"key": "a", "rpm": 1}], "default": "reject"}));
    assert_eq!(config.access(Some(&Identity::of_key("b"))), Access::Rejected);
    assert_eq!(config.access(None), Access::Rejected);
    assert!(matches!(config.access(Some(&Identity::of_key("a"))), Access::Limited(_)));
}

/// The limits on a request for `model`, as `scope:identity:name:window=amount`.
fn counters(subject: &Subject, model: Option<&str>) -> Vec<String> {
    let written = |applied: Applied| {
        let Applied { scope, identity, limit, .. } = applied;
        format!("{scope}:{identity}:{}:{}={}", limit.name, limit.window.label(), limit.amount)
    };
    subject.limits(&model.into()).map(written).collect()
}

/// A key in a group, one alone, one that is exempt, and limits of every owner.
fn hierarchy() -> Value {
    json!({
        "groups": {"team-a": {"rpm": 4, "models": {"gpt-4*": {"rpm": 3}}}},
        "keys": [
            {"key": "member", "group": "team-a", "rpm": 2, "models": {"*": {"rpm": 1}}},
            {"key": "silent", "group": "team-a"},
            {"key": "alone", "rpm": 2},
            {"key": "plain"},
            {"key": "exempt", "unlimited": true},
        ],
        "models": {"*": {"rpm": 5}, "gpt-4*": {"rpm": 6, "rpd": 7}},
        "global": {"rpm": 8},
    })
}

#[test]
fn a_request_is_charged_to_its_key_its_group_its_models_and_globally() {
    let subject = subject(&hierarchy(), "member");
    let id = Identity::of_key("member").id().to_string();
    let expected = [
        &format!("group-team-a:{id}:requests:1m=2"),
        &format!("group-team-a:{id}:*/requests:1m=1"),
        "group-team-a:group-team-a:requests:1m=4",
        "group-team-a:group-team-a:gpt-4*/requests:1m=3",
        "model-*:model-*:requests:1m=5",
        "model-gpt-4*:model-gpt-4*:requests:1m=6",
        "model-gpt-4*:model-gpt-4*:requests:1d=7",
        "global:global:requests:1m=8",
    ];
    assert_eq!(counters(&subject, Some("gpt-4o")), expected);
    let owners = subject.limits(&Some("gpt-4o").into()).map(|applied| applied.owner).collect::<Vec<_>>();
    let group = Owner::Group("team-a".into());
    let model = |pattern: &str| Owner::Model(pattern.into());
    let expected = [Owner::Key, Owner::Key, group.clone(), group];
    assert_eq!(owners[..4], expected);
    assert_eq!(owners[4..], [model("*"), model("gpt-4*"), model("gpt-4*"), Owner::Global]);
    assert_eq!((subject.scope(), subject.group()), ("group-team-a", Some("team-a")));
    assert!(subject.needs_body());
}

#[test]
fn the_counters_of_an_organisation_are_in_one_scope() {
    let json = json!({
        "groups": {
            "org": {"rpm": 4, "deny_models": ["o3"]},
            "division": {"group": "org"},
            "team": {"group": "division", "rpm": 2, "max_output_tokens": 50},
        },
        "keys": [{"key": "secret", "rpm": 1, "group": "team", "max_output_tokens": 100}],
    });
    let subject = subject(&json, "secret");
    let id = subject.id().to_owned();
    let expected = [
        format!("group-org:{id}:requests:1m=1"),
        "group-org:group-team:requests:1m=2".to_owned(),
        "group-org:group-org:requests:1m=4".to_owned(),
    ];
    assert_eq!(counters(&subject, Some("gpt-4o")), expected);
    assert_eq!((subject.scope(), subject.group()), ("group-org", Some("team")));
    assert!(subject.forbidden(&Some("o3").into()).is_some() && subject.needs_body());
    assert_eq!(subject.output_rules().map(|rule| rule.most).collect::<Vec<_>>(), [100, 50]);
}

#[test]
fn the_body_decides_only_where_a_limit_by_it_is_enforced() {
    for (limits, reads, enforces) in [
        (json!({"rpm": 1, "max_concurrency": 1}), false, false),
        (json!({"rpm": 1, "tpm": 1}), true, true),
        (json!({"rpm": 1, "models": {"a": {"rpm": 1}}}), true, true),
        (
            json!({"rpm": 1, "windows": [{"metric": "input_tokens", "limit": 1, "window": "1m", "dry_run": true}]}),
            true,
            false,
        ),
        (json!({"rpm": 1, "models": {"a": {"rpm": 1, "dry_run": true}}}), true, false),
        (json!({"tpm": 1, "dry_run": true}), true, false),
    ] {
        let subject = subject(&json!({"default": limits}), "any");
        assert_eq!((subject.needs_body(), subject.enforces_by_body()), (reads, enforces), "{limits}");
    }
    let everything = subject(&json!({"default": {"tpm": 1}, "dry_run": true}), "any");
    assert!(everything.needs_body() && !everything.enforces_by_body());
}

#[test]
fn a_key_in_no_group_is_its_own_scope() {
    let id = Identity::of_key("alone").id().to_string();
    let alone = subject(&hierarchy(), "alone");
    assert_eq!(
        counters(&alone, Some("o3"))[..2],
        [&format!("{id}:{id}:requests:1m=2"), "model-*:model-*:requests:1m=5"]
    );
    assert_eq!(alone.scope(), id);
}

#[test]
fn a_key_may_have_only_limits_that_it_shares() {
    let group = ["group-team-a:group-team-a:requests:1m=4"];
    let shared = ["model-*:model-*:requests:1m=5", "global:global:requests:1m=8"];
    assert_eq!(counters(&subject(&hierarchy(), "silent"), Some("o3")), [&group[..], &shared].concat());
    assert_eq!(counters(&subject(&hierarchy(), "plain"), Some("o3")), shared);
    assert_eq!(counters(&subject(&hierarchy(), "unknown"), Some("o3")), shared);
}

#[test]
fn an_unlimited_key_is_exempt_from_all_limits() {
    let mut json = hierarchy();
    let access = |json: &Value, key| config(json).access(Some(&Identity::of_key(key)));
    assert_eq!(access(&json, "exempt"), Access::Unlimited);
    json["default"] = "unlimited".into();
    assert_eq!(access(&json, "unknown"), Access::Unlimited);
    assert!(matches!(access(&json, "plain"), Access::Limited(_)));
}

#[test]
fn limits_on_tokens_of_any_owner_need_counting() {
    let needs = |json: Value| config(&json).needs_tokens();
    assert!(needs(json!({"groups": {"g": {"tpm": 1}}, "keys": [{"key": "a", "group": "g"}]})));
    assert!(!needs(json!({"groups": {"g": {"tpm": 1}}, "keys": [{"key": "a", "rpm": 1}]})));
    assert!(needs(json!({"models": {"*": {"tpm": 1}}})));
    assert!(needs(json!({"global": {"tpm": 1}})));
    assert!(!needs(json!({"global": {"rpm": 1}})));
}

#[test]
fn a_limit_has_the_enforcement_of_the_nearest_level_that_sets_one() {
    let json = json!({
        "plans": {"p": {
            "rpm": 1, "rpd": 2, "max_wait_ms": 100,
            "models": {"a": {"rpm": 3, "dry_run": true}, "b": {"rpm": 4, "max_wait_ms": 0}},
            "windows": [{"metric": "requests", "limit": 5, "window": "1s", "dry_run": true}],
        }},
        "keys": [
            {"key": "as-planned", "plan": "p"},
            {"key": "own-limit", "plan": "p", "rpm": 6},
            {"key": "own-enforcement", "plan": "p", "max_wait_ms": 7, "dry_run": false},
        ],
        "global": {"rpm": 8, "dry_run": true},
    });
    let enforcements = |json: &Value, key, model| {
        let enforcement = |applied: Applied| (applied.limit.enforcement.max_wait.get(), applied.dry_run);
        subject(json, key).limits(&Some(model).into()).map(enforcement).collect::<Vec<_>>()
    };
    let (general, window, global) = ((100, false), (100, true), (0, true));
    assert_eq!(enforcements(&json, "as-planned", "a"), [general, general, window, (100, true), global]);
    assert_eq!(enforcements(&json, "as-planned", "b"), [general, general, window, (0, false), global]);
    assert_eq!(enforcements(&json, "own-limit", "c"), [general, general, window, global]);
    let own = (7, false);
    assert_eq!(enforcements(&json, "own-enforcement", "a"), [own, own, own, own, global]);
    let mut all_dry = json;
    all_dry["dry_run"] = true.into();
    assert!(enforcements(&all_dry, "own-enforcement", "a").iter().all(|(_, dry_run)| *dry_run));
    assert!(config(&all_dry).dry_run());
}

#[test]
fn keys_on_a_plan_share_its_limits_unless_their_enforcement_differs() {
    let json = json!({
        "plans": {"p": {"rpm": 1}},
        "keys": [{"key": "a", "plan": "p"}, {"key": "b", "plan": "p", "max_wait_ms": 5}],
    });
    let limit = |key| subject(&json, key).limits(&Candidates::UNKNOWN).next().unwrap().limit;
    assert_eq!(limit("a").enforcement, Enforcement::default());
    assert_eq!(
        *limit("b"),
        Limit {
            enforcement: Enforcement { max_wait: Millis::new(5), ..Enforcement::default() },
            ..Limit::clone(&limit("a"))
        }
    );
}

#[test]
fn every_combination_with_a_key_has_its_limits() {
    struct From(&'static str, &'static str);

    impl crate::identity::RequestView for From {
        fn header(&self, name: &str) -> Option<String> {
            Some(if name == "authorization" { self.0 } else { self.1 }.to_owned())
        }

        fn property(&self, _path: &[&str]) -> Option<Vec<u8>> {
            None
        }
    }

    let json = json!({
        "identity": [{"all": [{"header": "authorization"}, {"header": "x-user"}]}],
        "groups": {"team": {"rpm": 9}},
        "keys": [{"key": "k", "name": "named", "rpm": 5, "group": "team"}],
        "default": "reject",
    });
    let config = config(&json);
    let subject = |key, user| match config.access(config.identity(&From(key, user)).as_ref()) {
        Access::Limited(subject) => Some(subject),
        _ => None,
    };
    let (one, other) = (subject("k", "one").unwrap(), subject("k", "other").unwrap());
    assert_eq!((one.name(), other.name()), (Some("named"), Some("named")));
    assert_ne!(one.id(), other.id());
    assert_eq!(subject("another", "one"), None);
    // They may be invented, so their counters are not among those of the group.
    assert_eq!([one.scope(), other.scope()], [one.id(), other.id()]);
    let of_one: Vec<_> = one.limits(&Candidates::NONE).collect();
    let scopes: Vec<_> = of_one.iter().map(|applied| (&*applied.scope, &*applied.identity)).collect();
    assert_eq!(scopes, [(one.id(), one.id()), ("group-team", "group-team")]);
}

#[test]
fn with_a_secret_no_id_in_the_store_is_the_digest_of_a_key() {
    let mut json = json!({
        "keys": [{"key": "a", "name": "by-key", "rpm": 5}, {"key_sha256": &**Identity::of_key("b").id(), "rpm": 6}],
        "default": {"rpm": 7},
    });
    let plain = ["a", "b", "c"].map(|key| subject(&json, key));
    json["hash_secret"] = "sixteen bytes at least".into();
    let hashed = ["a", "b", "c"].map(|key| subject(&json, key));
    for (plain, hashed) in plain.iter().zip(&hashed) {
        assert_eq!(limits(plain, None), limits(hashed, None));
        assert_ne!(plain.id(), hashed.id());
        assert!(hashed.id().len() == 64 && !hashed.id().contains(plain.id()));
    }
    json["hash_secret"] = "another secret, as long".into();
    assert_ne!(subject(&json, "a").id(), hashed[0].id());
}

#[test]
fn windows_are_counted_as_configured() {
    let window =
        |metric: &str, limit: f64, length: &str| json!({"metric": metric, "limit": limit, "window": length});
    let with = |mut window: Value, more: Value| {
        window.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        window
    };
    let json = json!({
        "prices": {"*": {"input": 1, "output": 1}},
        "default": {
            "max_concurrency": 9, "lease_ttl": "90s",
            "windows": [
                with(window("requests", 1.0, "1d"), json!({"algorithm": "fixed_window"})),
                with(window("requests", 2.0, "1m"), json!({"algorithm": "token_bucket"})),
                with(window("requests", 3.0, "2m"), json!({"algorithm": "token_bucket", "burst": 7})),
                window("requests", 4.0, "1mo"),
                window("requests", 5.0, "31d"),
                window("cost_usd", 6.5, "1mo"),
                window("cost_usd", 7.0, "1d"),
                with(window("cost_usd", 8.0, "1m"), json!({"algorithm": "token_bucket", "burst": 0.5})),
                with(window("cost_usd", 8.0, "2m"), json!({"algorithm": "sliding_window"})),
            ],
        },
    });
    let subject = subject(&json, "any");
    let expected = [
        "concurrency:90s-leases=9",
        "requests:1d-fixed=1",
        "requests:1m-bucket=2",
        "requests:2m-bucket=3",
        "requests:1mo=4",
        "requests:31d=5",
        "cost_usd:1mo=6500000",
        "cost_usd:1d-fixed=7000000",
        "cost_usd:1m-bucket=8000000",
        "cost_usd:2m=8000000",
    ];
    assert_eq!(limits(&subject, None), expected);
    let capacities: Vec<_> = subject
        .limits(&Candidates::UNKNOWN)
        .map(|Applied { limit, .. }| limit.window.capacity(limit.amount))
        .collect();
    assert_eq!(capacities[2..4], [2, 7], "the burst of a bucket is its limit by default");
    assert_eq!(capacities[8], 500_000);
}

#[test]
fn slots_are_limited_once_however_long_their_leases() {
    let json = json!({
        "plans": {"p": {
            "max_concurrency": 5, "lease_ttl": "1m",
            "windows": [{"metric": "requests", "limit": 1, "window": "1mo"}],
        }},
        "keys": [{
            "key": "k", "plan": "p", "max_concurrency": 3,
            "windows": [{"metric": "requests", "limit": 2, "window": "31d"}],
        }],
    });
    assert_eq!(
        limits(&subject(&json, "k"), None),
        ["concurrency:10m-leases=3", "requests:1mo=1", "requests:31d=2"]
    );
}

#[test]
fn slots_and_requests_are_decided_without_a_body_and_budgets_are_not() {
    let needs = |limits: Value| {
        let json = json!({"default": limits, "prices": {"*": {"input": 1, "output": 1}}});
        (subject(&json, "any").needs_body(), config(&json).needs_tokens())
    };
    assert_eq!(needs(json!({"max_concurrency": 1})), (false, false));
    assert_eq!(needs(json!({"windows": [{"metric": "cost_usd", "limit": 1, "window": "1d"}]})), (true, true));
}
