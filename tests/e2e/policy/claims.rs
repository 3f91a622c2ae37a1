//! Plans, groups, names and amounts that requests say, in metadata of an earlier filter or in a header.

use crate::caller::{Answer, CHAT, hello};
use crate::gateway::{Gateway, Store, eventually};
use futures_util::StreamExt as _;
use llm_rate_limit_tests::envoy::Setup;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

/// Puts each of these headers into metadata of the namespace `gateway`, as this type, and removes it.
fn with_metadata(mut setup: Setup, headers: &[(&str, &str)]) -> Setup {
    let rule = |(name, kind): &(&str, &str)| {
        let present = json!({"metadata_namespace": "gateway", "key": name, "type": kind});
        json!({"header": format!("x-{name}"), "on_header_present": present, "remove": true})
    };
    let filter = json!({"name": "envoy.filters.http.header_to_metadata", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
        "request_rules": headers.iter().map(rule).collect::<Vec<_>>(),
    }});
    setup.http_filters().as_array_mut().unwrap().insert(0, filter);
    setup
}

async fn start(store: Store, mut limits: Value, headers: &[(&str, &str)]) -> Gateway {
    limits["store"] = store.configuration();
    Gateway::start_with(store, |setup| with_metadata(setup, headers).filter(&limits)).await
}

async fn ask(gateway: &Gateway, key: &str, headers: &[(&str, &str)]) -> Answer {
    let request = gateway.caller(key).request(Method::POST, CHAT).json(&hello());
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::to(request).await
}

/// Requests in an hour, which no test sees the end of.
fn hour(limit: Value) -> Value {
    json!([{"metric": "requests", "limit": limit, "window": "1h"}])
}

#[rstest]
#[tokio::test]
async fn a_claim_chooses_the_plan_and_one_counter_outlives_every_change(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let tier = |place: Value| {
        let mut tier = json!({"default": "free"});
        tier.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
        tier
    };
    let limits = json!({
        "plans": {"free": {"windows": hour(json!(2))}, "pro": {"windows": hour(json!(4))}},
        "keys": [
            {"key": "claims-fixed", "plan": "free"},
            {"key": "claims-by-header", "plan": tier(json!({"header": "x-plan"}))},
        ],
        "default": {"plan": tier(json!({"metadata": ["gateway", "tier"]}))},
    });
    let gateway = start(store, limits, &[("tier", "STRING")]).await;
    let status = async |key: &str, name: &str, value: &str| ask(&gateway, key, &[(name, value)]).await.status;
    for (key, name) in [("claims-stranger", "x-tier"), ("claims-by-header", "x-plan")] {
        for (plan, expected) in [
            ("free", 200),
            ("gold", 200),
            ("free", 429),
            ("gold", 429),
            ("pro", 200),
            ("pro", 200),
            ("pro", 429),
            ("free", 429),
        ] {
            assert_eq!(status(key, name, plan).await, expected, "{key} {plan}");
        }
    }
    // What `keys` says wins, and a header is no metadata.
    for (key, name) in [("claims-fixed", "x-tier"), ("claims-another", "x-plan")] {
        let statuses =
            [status(key, name, "pro").await, status(key, name, "pro").await, status(key, name, "pro").await];
        assert_eq!(statuses, [200, 200, 429], "{key}");
    }
    let unknown = ask(&gateway, "claims-silent", &[]).await;
    assert_eq!(unknown.number("x-ratelimit-limit-requests"), 2);
    gateway.at_rest().await;
    let log = gateway.envoy.access_log();
    let of = |plan: &str, decision: &str, reason: &Value| {
        let is_so = |line: &&Value| {
            line["plan"] == plan && line["decision"] == decision && line["reason"] == *reason
        };
        log.iter().filter(is_so).count()
    };
    let (none, unknown, used_up) = (&Value::Null, &json!("unknown_plan"), &json!("used_up"));
    // Two that named a plan which there is not, two that named it in the wrong place, and one that named none.
    assert_eq!(of("free", "admitted", unknown), 5, "{log:#?}");
    assert_eq!((of("free", "admitted", none), of("pro", "admitted", none)), (4, 4), "{log:#?}");
    assert_eq!(of("free", "over_limit", used_up) + of("pro", "over_limit", used_up), 10, "{log:#?}");
}

/// Requests at once that say different amounts of one limit: none is admitted beyond its own, and together they are
/// never more than the largest.
#[rstest]
#[tokio::test]
async fn one_counter_holds_each_request_to_the_amount_that_it_says(
    #[values(Store::Local, Store::Redis)] store: Store,
) {
    let limit = json!({"metadata": ["gateway", "quota"], "default": 2, "max": 12});
    let limits = json!({"default": {"windows": hour(limit)}});
    let gateway = start(store, limits, &[("quota", "NUMBER")]).await;
    let key = "claims-quota";
    let quotas = ["3", "7", "12", "100", "0", "-5"];
    let sent = (0..60).map(async |at: usize| {
        let quota = quotas[at % quotas.len()];
        (quota, ask(&gateway, key, &[("x-quota", quota)]).await)
    });
    let answers: Vec<(&str, Answer)> = futures_util::stream::iter(sent).buffer_unordered(20).collect().await;
    let limit_of = |quota: &str| match quota {
        "100" => 12,
        "-5" => 2,
        quota => quota.parse().unwrap(),
    };
    let mut admitted = 0;
    for (quota, answer) in &answers {
        if answer.status == 200 {
            admitted += 1;
            assert_eq!(answer.number("x-ratelimit-limit-requests"), limit_of(quota), "{quota}");
        }
    }
    // All with the largest amounts were tried more often than that.
    assert_eq!(admitted, 12, "{:?}", answers.iter().map(|(quota, it)| (quota, it.status)).collect::<Vec<_>>());
    let of = |name: &str| answers.iter().filter(|(quota, it)| *quota == name && it.status == 200).count();
    assert!(of("0") == 0 && of("-5") <= 2 && of("3") <= 3 && of("7") <= 7);
    // The refusal is by the amount of the request that is refused.
    let refused = ask(&gateway, key, &[("x-quota", "7")]).await;
    assert!(refused.message().contains("limit 7, used 12"), "{}", refused.message());
    assert_eq!(ask(&gateway, "claims-other", &[("x-quota", "1")]).await.status, 200);
    assert_eq!(ask(&gateway, "claims-other", &[("x-quota", "1")]).await.status, 429);
    assert_eq!(ask(&gateway, "claims-other", &[]).await.status, 200, "the default is two");
    assert_eq!(ask(&gateway, "claims-other", &[("x-quota", "5.9")]).await.status, 200);
}

/// The group bounds all who say it, the names of groups that there are not make none, and a refusal by one leaves the
/// others unchanged.
#[rstest]
#[tokio::test]
async fn a_claim_chooses_the_group(#[values(Store::Local, Store::Redis)] store: Store) {
    let limits = json!({
        "groups": {"acme": {"windows": hour(json!(3))}, "others": {"windows": hour(json!(2))}},
        "default": {
            "windows": hour(json!(2)),
            "group": {"metadata": ["gateway", "org"], "default": "others"},
        },
    });
    let gateway = start(store, limits, &[("org", "STRING")]).await;
    for (key, org, refused_by) in [
        ("a", "acme", None),
        ("a", "acme", None),
        ("a", "acme", Some("this key")),
        ("b", "acme", None),
        ("b", "acme", Some("group acme")),
        ("b", "invented-1", None),
        // Its own counter has two, in whichever group.
        ("b", "invented-2", Some("this key")),
        ("c", "invented-3", None),
        ("c", "others", Some("group others")),
    ] {
        let answer = ask(&gateway, &format!("claims-group-{key}"), &[("x-org", org)]).await;
        match refused_by {
            None => assert_eq!(answer.status, 200, "{key} {org}: {}", answer.text()),
            Some(by) => {
                let expected = format!("Rate limit reached for {by} on ");
                assert!(answer.message().starts_with(&expected), "{key} {org}: {}", answer.text());
            }
        }
    }
}

/// A name is a bounded line in the log and in messages, and no label.
#[tokio::test]
async fn a_claimed_name_is_escaped_and_no_label() {
    let limits = json!({
        "metrics_by_name": true,
        "default": {"windows": hour(json!(1)), "name": {"metadata": ["gateway", "user"]}},
        "rejection": {"message": "{name}: {limit}"},
    });
    let gateway = start(Store::Local, limits, &[("user", "STRING")]).await;
    let name = format!("Eve \"root\" {}", "x".repeat(500));
    assert_eq!(ask(&gateway, "claims-name", &[("x-user", &name)]).await.status, 200);
    let refused = ask(&gateway, "claims-name", &[("x-user", &name)]).await;
    let expected = format!("Eve \\\"root\\\" {}…", "x".repeat(53));
    assert_eq!(refused.message(), format!("{expected}: 1"));
    gateway.at_rest().await;
    let named = async || {
        let log = gateway.envoy.access_log();
        log.iter().filter(|line| line["name"] == *expected).count()
    };
    eventually("lines with the name", 2, named).await;
    let metrics = gateway.envoy.admin("/stats/prometheus");
    assert!(metrics.contains("llm_rate_limit_requests") && !metrics.contains("Eve"), "{metrics}");
}

/// Whatever an earlier filter sets: true, a list and an object are neither a plan nor a number, and a number is a plan
/// if one is called so.
#[rstest]
#[case(json!({"tier": "pro", "rpm": 7}), ("pro", 7, None))]
#[case(json!({"tier": 2, "rpm": "8"}), ("2", 8, None))]
#[case(json!({"tier": true, "rpm": true}), ("free", 5, Some("unknown_plan")))]
#[case(json!({"tier": ["pro"], "rpm": [7]}), ("free", 5, Some("unknown_plan")))]
#[case(json!({"tier": {"pro": "pro"}, "rpm": {"a": 1}}), ("free", 5, Some("unknown_plan")))]
#[case(json!({"tier": null, "rpm": null}), ("free", 5, Some("unknown_plan")))]
#[case(json!({"tier": "pro", "rpm": -3.5}), ("pro", 5, Some("unknown_plan")))]
#[case(json!({"tier": "pro", "rpm": 1e300}), ("pro", 9, None))]
#[tokio::test]
async fn any_value_of_metadata_is_of_use_or_none(
    #[case] value: Value,
    #[case] (plan, limit, reason): (&str, u64, Option<&str>),
) {
    let from = |name: &str| json!(["gateway", name]);
    let limits = json!({
        "store": {"type": "local"},
        "plans": {"free": {"rpd": 50}, "pro": {"rpd": 50}, "2": {"rpd": 50}},
        "default": {
            "plan": {"metadata": from("tier"), "default": "free"},
            "windows": hour(json!({"metadata": from("rpm"), "default": 5, "max": 9})),
        },
    });
    let gateway = Gateway::start_with(Store::Local, |mut setup| {
        let filter = json!({"name": "envoy.filters.http.set_metadata", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
            "metadata": [{"metadata_namespace": "gateway", "value": value}],
        }});
        setup.http_filters().as_array_mut().unwrap().insert(0, filter);
        setup.filter(&limits)
    })
    .await;
    let answer = ask(&gateway, "claims-any", &[]).await;
    assert_eq!((answer.status, answer.number("x-ratelimit-limit-requests")), (200, limit));
    gateway.at_rest().await;
    let line = gateway.envoy.access_log().pop().unwrap();
    assert_eq!((line["plan"].as_str(), line["reason"].as_str()), (Some(plan), reason), "{line}");
}
