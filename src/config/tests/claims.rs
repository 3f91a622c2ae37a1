//! Plans, groups, names and amounts that requests say.

use crate::config::Config;
use crate::identity::{Claim, Identity, RequestView};
use crate::policy::limit::Metric;
use crate::policy::{Access, Candidates, Claims, Owner, Subject};
use crate::quantity::Units;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Headers, and metadata by the path in the namespace `jwt`.
#[derive(Default)]
struct Says {
    headers: BTreeMap<&'static str, String>,
    metadata: BTreeMap<&'static str, Vec<u8>>,
}

impl RequestView for Says {
    fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).cloned()
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        let name = path.strip_prefix(&["metadata", "filter_metadata", "jwt"])?;
        self.metadata.get(*name.first()?).cloned()
    }
}

fn header(name: &'static str, value: &str) -> Says {
    Says { headers: [(name, value.to_owned())].into(), ..Says::default() }
}

fn text(name: &'static str, value: &str) -> Says {
    Says { metadata: [(name, value.as_bytes().to_vec())].into(), ..Says::default() }
}

fn number(name: &'static str, value: f64) -> Says {
    Says { metadata: [(name, value.to_le_bytes().to_vec())].into(), ..Says::default() }
}

fn config(json: &Value) -> Config {
    Config::from_bytes(json.to_string().as_bytes()).unwrap()
}

fn subject(config: &Config, key: &str, request: &Says) -> Subject {
    match config.access_of(Some(&Identity::of_key(key)), request) {
        Access::Limited(subject) => subject,
        access => panic!("{access:?}"),
    }
}

/// Each limit of its own on requests in a minute, or another metric, with its amount.
fn own(subject: &Subject) -> Vec<(Metric, u64)> {
    let models = Candidates::UNKNOWN;
    let limits = subject.limits(&models).filter(|applied| applied.owner == Owner::Key);
    limits.map(|applied| (applied.limit.metric, applied.limit.amount.get())).collect()
}

fn misses(subject: &Subject) -> bool {
    subject.claims().is_some_and(Claims::misses)
}

fn tiers() -> Config {
    let tier = json!({"metadata": ["jwt", "tier"], "default": "free"});
    config(&json!({
        "plans": {"free": {"rpm": 3}, "pro": {"rpm": 60, "tpm": 500}, "2": {"rpm": 7}},
        "keys": [
            {"key": "fixed", "plan": "free"},
            {"key": "claims", "plan": tier.clone()},
            {"key": "overrides", "plan": {"header": "X-Plan", "default": "free"}, "rpm": 9, "max_wait_ms": 5},
        ],
        "default": {"plan": tier},
    }))
}

#[test]
fn a_claim_chooses_the_plan_and_the_default_holds_otherwise() {
    let config = tiers();
    let requests = Metric::Requests;
    for key in ["claims", "a stranger"] {
        for (request, plan, limits, is_missed) in [
            (text("tier", "pro"), "pro", vec![(requests, 60), (Metric::TotalTokens, 500)], false),
            (text("tier", "free"), "free", vec![(requests, 3)], false),
            (number("tier", 2.0), "2", vec![(requests, 7)], false),
            (number("tier", 2.5), "free", vec![(requests, 3)], true),
            (text("tier", "gold"), "free", vec![(requests, 3)], true),
            (text("tier", "PRO"), "free", vec![(requests, 3)], true),
            (text("tier", ""), "free", vec![(requests, 3)], true),
            (text("tier", "\u{a}\u{7}\u{1a}\u{5}\u{a}\u{3}pro"), "free", vec![(requests, 3)], true),
            (Says::default(), "free", vec![(requests, 3)], true),
            (header("tier", "pro"), "free", vec![(requests, 3)], true),
        ] {
            let subject = subject(&config, key, &request);
            assert_eq!(subject.plan(), Some(plan), "{key}");
            assert_eq!(own(&subject), limits, "{key}");
            assert_eq!(misses(&subject), is_missed, "{key} {plan}");
            assert_eq!(subject.sender().plan.as_deref(), Some(plan));
        }
    }
    let fixed = subject(&config, "fixed", &text("tier", "pro"));
    assert_eq!((fixed.plan(), fixed.claims()), (Some("free"), None), "what keys says wins");
    assert!(config.asks_requests() && config.needs_tokens(), "a plan that may be chosen limits tokens");
}

#[test]
fn what_stands_beside_a_claimed_plan_overrides_whichever_it_is() {
    let config = tiers();
    for (plan, limits) in [
        ("pro", vec![(Metric::Requests, 9), (Metric::TotalTokens, 500)]),
        ("free", vec![(Metric::Requests, 9)]),
        ("pro, free", vec![(Metric::Requests, 9)]),
    ] {
        let subject = subject(&config, "overrides", &header("x-plan", plan));
        assert_eq!(own(&subject), limits, "{plan}");
        let waits = subject.limits(&Candidates::UNKNOWN).all(|it| it.limit.enforcement.max_wait.get() == 5);
        assert!(waits, "{plan}");
    }
}

#[test]
fn a_change_of_plan_or_group_keeps_the_counters() {
    let group = json!({"metadata": ["jwt", "org"], "default": "others"});
    let config = config(&json!({
        "plans": {"free": {"rpm": 3}, "pro": {"rpm": 60}},
        "groups": {"acme": {"rpm": 100}, "others": {"rpm": 10}},
        "keys": [
            {"key": "k", "rpm": 5, "group": group},
            {"key": "fixed", "rpm": 5, "group": "acme"},
        ],
        "default": {"plan": {"metadata": ["jwt", "tier"], "default": "free"}, "group": group},
    }));
    let counters = |key, request| {
        let subject = subject(&config, key, &request);
        let limits: Vec<_> = subject.limits(&Candidates::UNKNOWN).collect();
        let counter = |at: usize| {
            let applied = &limits[at];
            (applied.scope.to_string(), applied.identity.to_string(), applied.limit.name.to_string())
        };
        (counter(0), counter(1), subject.group().map(ToOwned::to_owned))
    };
    for key in ["k", "a stranger"] {
        let (own, of_group, group) = counters(key, text("org", "acme"));
        assert_eq!((of_group.0.as_str(), group.as_deref()), ("group-acme", Some("acme")));
        assert_eq!(own.0, own.1, "its counters are in a scope of its own");
        for request in [text("org", "others"), text("org", "invented"), text("tier", "pro")] {
            let (again, of_group, group) = counters(key, request);
            assert_eq!(own, again, "{key}");
            assert_eq!((of_group.0.as_str(), group.as_deref()), ("group-others", Some("others")));
        }
    }
    let (own, ..) = counters("fixed", Says::default());
    assert_eq!(own.0, "group-acme");
}

fn with_amounts() -> Config {
    let amount = |name: &str| json!({"metadata": ["jwt", name], "default": 10, "max": 1000});
    config(&json!({
        "prices": {"*": {"input": 1, "output": 1}},
        "default": {
            "rpm": amount("rpm"),
            "max_concurrency": amount("slots"),
            "windows": [
                {"metric": "requests", "window": "1h", "algorithm": "token_bucket", "limit": amount("hour")},
                {"metric": "requests", "window": "2h", "algorithm": "token_bucket", "limit": amount("hour"),
                 "burst": 4},
                {"metric": "cost_usd", "window": "1mo", "limit": amount("budget")},
            ],
            "models": {"o3*": {"rpm": amount("rpm")}},
        },
    }))
}

#[test]
fn a_claim_is_the_amount_of_a_limit_up_to_its_largest() {
    let config = with_amounts();
    let rpm = |request: &Says| {
        let subject = subject(&config, "k", request);
        let limit = subject.limits(&Candidates::NONE).next().unwrap().limit;
        (limit.amount.get(), subject.claims().unwrap().of_limit(&limit).unwrap().is_used)
    };
    for (value, expected) in [
        (50.0, (50, true)),
        (0.0, (0, true)),
        (10.0, (10, true)),
        (12.9, (12, true)),
        (1e9, (1_000, true)),
        (-1.0, (10, false)),
        (f64::NAN, (10, false)),
        (f64::INFINITY, (10, false)),
    ] {
        assert_eq!(rpm(&number("rpm", value)), expected, "{value}");
    }
    for (value, expected) in [("50", (50, true)), ("x", (10, false)), ("", (10, false)), ("-5", (10, false))]
    {
        assert_eq!(rpm(&text("rpm", value)), expected, "{value}");
    }
    assert_eq!(rpm(&Says::default()), (10, false));
}

#[test]
fn every_kind_of_limit_takes_amounts_in_its_units() {
    let config = with_amounts();
    let limits = |request: &Says| {
        let subject = subject(&config, "k", request);
        let models = Candidates::UNKNOWN;
        let limits = subject.limits(&models).map(|applied| applied.limit);
        limits
            .map(|limit| (limit.amount.get(), limit.window.capacity(limit.amount).get()))
            .collect::<Vec<_>>()
    };
    let default = [(10, 10), (10, 10), (10, 10), (10, 4), (10_000_000, 10_000_000), (10, 10)];
    assert_eq!(limits(&Says::default()), default);
    let changed = |changes: &[(usize, (u64, u64))]| {
        let mut all = default;
        for (at, limit) in changes {
            all[*at] = *limit;
        }
        all
    };
    assert_eq!(limits(&number("rpm", 7.0)), changed(&[(0, (7, 7)), (5, (7, 7))]));
    assert_eq!(limits(&number("slots", 2.0)), changed(&[(1, (2, 2))]));
    assert_eq!(limits(&number("hour", 30.0)), changed(&[(2, (30, 30)), (3, (30, 4))]));
    assert_eq!(limits(&number("budget", 0.29)), changed(&[(4, (290_000, 290_000))]));
    assert_eq!(limits(&text("budget", "0.000001")), changed(&[(4, (1, 1))]));
}

/// One that has not been claimed is the configuration's own, which all requests share.
#[test]
fn limits_are_shared_unless_a_request_says_another_amount() {
    let config = with_amounts();
    let first =
        |request: &Says| subject(&config, "k", request).limits(&Candidates::NONE).next().unwrap().limit;
    let (one, same) = (first(&Says::default()), first(&number("rpm", 10.0)));
    assert!(std::sync::Arc::ptr_eq(&one, &same));
    let other = first(&number("rpm", 11.0));
    assert_eq!((other.amount, &other.name, other.window), (Units::new(11), &one.name, one.window));
}

#[test]
fn amounts_of_groups_and_of_all_requests_are_claimed_too() {
    let amount = json!({"header": "x-rpm", "default": 10, "max": 1000});
    let config = config(&json!({
        "groups": {"org": {"rpm": amount}, "team": {"group": "org"}},
        "keys": [{"key": "k", "group": "team"}],
        "models": {"*": {"rpm": amount}},
        "global": {"rpm": amount},
    }));
    let amounts = |request: &Says| {
        let subject = subject(&config, "k", request);
        subject.limits(&Candidates::UNKNOWN).map(|applied| applied.limit.amount.get()).collect::<Vec<_>>()
    };
    assert_eq!(amounts(&header("x-rpm", "77")), [77, 77, 77]);
    assert_eq!(amounts(&header("x-rpm", "none")), [10, 10, 10]);
    assert_eq!(config.claims(), [&Claim::Header("x-rpm".to_owned())].into());
}

#[test]
fn a_claimed_name_is_a_bounded_line_and_no_label() {
    let config = config(&json!({
        "metrics_by_name": true,
        "keys": [{"key": "fixed", "name": "Ann", "rpm": 1}],
        "default": {"rpm": 1, "name": {"metadata": ["jwt", "email"], "default": "somebody"}},
    }));
    let name = |key, request: &Says| {
        let subject = subject(&config, key, request);
        let label = subject.labels(true).key_name.map(|label| label.to_string());
        (subject.name().map(ToOwned::to_owned), label, misses(&subject))
    };
    let both = |name: &str| (Some(name.to_owned()), Some(name.to_owned()), false);
    assert_eq!(name("fixed", &text("email", "x")), both("Ann"));
    assert_eq!(name("k", &Says::default()), both("somebody"));
    assert_eq!(name("k", &text("email", "bob@example.com")).0.as_deref(), Some("bob@example.com"));
    let (hostile, label, _) = name("k", &text("email", &format!("a\"\n{}", "b".repeat(1_000))));
    assert_eq!(hostile, Some(format!("a\\\"\\n{}…", "b".repeat(61))));
    assert_eq!(label, None);
}

#[test]
fn a_configuration_without_claims_asks_for_nothing() {
    let config = config(&json!({"plans": {"p": {"rpm": 1}}, "default": {"plan": "p"}}));
    assert!(!config.asks_requests() && config.claims().is_empty());
    assert_eq!(subject(&config, "k", &Says::default()).claims(), None);
}
