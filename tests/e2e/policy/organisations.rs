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
        ("a", None),
        ("a", Some("this key")),
        ("b", None),
        ("b", Some("group team")),
        ("c", None),
        ("c", Some("group division")),
        ("b", Some("group team")),
        ("d", None),
        ("d", Some("group org")),
        ("c", Some("group division")),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = gateway.caller(&format!("organisation-{key}")).hello().await;
        match refused_by {
            None => assert_eq!(answer.status, 200, "{at}: {}", answer.text()),
            Some(by) => {
                assert_eq!(answer.status, 429, "{at}");
                let message = answer.message();
                assert!(message.starts_with(&format!("Rate limit reached for {by} on ")), "{at}: {message}");
            }
        }
    }
    assert_eq!(gateway.mock.report().requests, 4);
}
