//! Groups in groups: a request is charged to each of them or to none, and the one that refuses is named.

use crate::gateway::{Gateway, Store};
use rstest::rstest;
use serde_json::json;

/// Four levels; each refuses in its turn. A refusal by one must leave the others unchanged, or a later request would
/// not be admitted.
#[rstest]
#[tokio::test]
async fn every_level_is_charged_or_none(#[values(Store::Local, Store::Redis)] store: Store) {
    let hour = |limit: u64| json!([{"metric": "requests", "limit": limit, "window": "1h"}]);
    let limits = json!({
        "groups": {
            "org": {"windows": hour(4)},
            "division": {"group": "org", "windows": hour(3)},
            "department": {"group": "division"},
            "team": {"group": "department", "windows": hour(2)},
        },
        "keys": [
            {"key": "organisation-a", "windows": hour(1), "group": "team"},
            {"key": "organisation-b", "windows": hour(9), "group": "team"},
            {"key": "organisation-c", "windows": hour(9), "group": "department"},
            {"key": "organisation-d", "windows": hour(9), "group": "org"},
        ],
    });
    let gateway = Gateway::start(store, limits).await;
    for (at, (key, refused_by)) in [
        ("a", &[][..]),
        ("a", &["this key"]),
        ("b", &[]),
        ("b", &["group team"]),
        ("c", &[]),
        ("c", &["group division"]),
        // Where two refuse, the one with the longer wait is named, and both waits end with the same minute.
        ("b", &["group team", "group division"]),
        ("d", &[]),
        ("d", &["group org"]),
        ("c", &["group division", "group org"]),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = gateway.caller(&format!("organisation-{key}")).hello().await;
        if refused_by.is_empty() {
            assert_eq!(answer.status, 200, "{at}: {}", answer.text());
            continue;
        }
        assert_eq!(answer.status, 429, "{at}");
        let message = answer.message();
        let is_by = |by: &&str| message.starts_with(&format!("Rate limit reached for {by} on "));
        assert!(refused_by.iter().any(is_by), "{at}: {message}");
    }
    assert_eq!(gateway.mock.report().requests, 4);
}
