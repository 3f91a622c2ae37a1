//! The sidecar's status page: by a real sidecar on a real Redis, as a client of HTTP and as Chromium sees it. The
//! picture in the documentation is the drill's.

use llm_rate_limit::quantity::Units;
use llm_rate_limit::store::wire::{Charge, Reserve, ScopeCharges, Settle};
use llm_rate_limit_tests::charges::hourly;
use llm_rate_limit_tests::chromium;
use llm_rate_limit_tests::process::free_port;
use llm_rate_limit_tests::redis::Redis;
use llm_rate_limit_tests::sidecar::{Sidecar, binary};
use reqwest::{Client, Response};
use std::process::Command;

const TOKEN: &str = "a-token-of-the-test";

/// As long as those of keys, of which the page shows the beginning.
const BUSY: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// A sidecar that has decided requests of several identities, and the address of its page.
async fn started() -> (Redis, Sidecar, String) {
    let redis = Redis::start();
    let page = format!("127.0.0.1:{}", free_port());
    let sidecar = Sidecar::start(&redis.url(), &[("STATUS_LISTEN", &page), ("AUTH_TOKEN", TOKEN)]);
    sidecar.wait_until_ready_is(200).await;
    for (owner, limit, requests) in
        [(BUSY, 100, 90), ("group-<script>alert(1)</script>", 20, 25), ("idle", 9, 1)]
    {
        for n in 0..requests {
            let id = format!("{owner}-{n}");
            let charges = |tokens| vec![with_tokens(hourly(owner, "requests", limit, 1), tokens)];
            let one = Reserve { id: id.clone(), charges: charges(100), ..Reserve::default() };
            send(&sidecar, "/v1/reserve", serde_json::to_vec(&[one]).unwrap()).await;
            let one = Settle { id, charges: charges(40), ..Settle::default() };
            send(&sidecar, "/v1/settle", serde_json::to_vec(&[one]).unwrap()).await;
        }
    }
    (redis, sidecar, page)
}

fn with_tokens(scope: ScopeCharges, tokens: u64) -> ScopeCharges {
    let one = &scope.charges[0];
    let more = Charge {
        name: "total_tokens".into(),
        limit: Units::new(1_000_000),
        cost: Units::new(tokens),
        ..one.clone()
    };
    ScopeCharges { charges: vec![one.clone(), more], scope: scope.scope }
}

async fn send(sidecar: &Sidecar, path: &str, body: Vec<u8>) {
    let request = sidecar.request(reqwest::Method::POST, path).bearer_auth(TOKEN).body(body);
    assert_eq!(request.send().await.unwrap().status(), 200);
}

async fn get(page: &str, path: &str, password: Option<&str>) -> Response {
    let mut request = Client::new().get(format!("http://{page}{path}"));
    if let Some(password) = password {
        request = request.basic_auth("anybody", Some(password));
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn whoever_has_the_token_sees_what_the_sidecar_has_decided() {
    let (_redis, _sidecar, page) = started().await;
    for password in [None, Some(""), Some("a-token-of-the-tesT"), Some("a-token-of-the-test ")] {
        let answer = get(&page, "/", password).await;
        assert_eq!(answer.status(), 401, "{password:?}");
        assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
        assert!(!answer.text().await.unwrap().contains("9f86"));
    }
    assert_eq!(get(&page, "/other", Some(TOKEN)).await.status(), 404);
    let answer = get(&page, "/", Some(TOKEN)).await;
    assert_eq!(answer.status(), 200);
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let text = answer.text().await.unwrap();
    // 90, 20 of the 25, and 1; 111 settlements of 40 tokens.
    for part in ["9f86d081…", "111", "4\u{202f}440", "90", "Redis answers", "http-equiv=\"refresh\""] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains(BUSY) && !text.contains("<script"), "{text}");
    let still = get(&page, "/?refresh=off", Some(TOKEN)).await.text().await.unwrap();
    assert!(!still.contains("http-equiv=\"refresh\""));
}

#[tokio::test]
async fn the_page_says_that_redis_is_away() {
    let (redis, sidecar, page) = started().await;
    drop(redis);
    sidecar.wait_until_ready_is(503).await;
    let text = get(&page, "/", Some(TOKEN)).await.text().await.unwrap();
    assert!(text.contains("Redis does not answer") && text.contains("does not answer</b>"), "{text}");
    assert!(text.contains("9f86d081…"), "what it knows of itself is still there");
}

/// No page without an address, and none that others reach without a password.
#[tokio::test]
async fn the_page_is_for_those_who_are_meant() {
    let refused = Command::new(binary())
        .args(["sidecar", "--status-listen", "0.0.0.0:0", "--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("STATUS_LISTEN is 0.0.0.0:0") && said.contains("AUTH_TOKEN"), "{said}");
}

/// Chromium applies the style, blocks nothing and runs nothing; the tables are in the tree that screen readers read,
/// and the keyboard reaches the links.
#[tokio::test]
async fn a_browser_shows_it() {
    let (_redis, _sidecar, page) = started().await;
    let pictures = tempfile::tempdir().unwrap();
    let url = format!("http://anybody:{TOKEN}@{page}/?refresh=off");
    let mut taken = Vec::new();
    for scheme in ["light", "dark"] {
        let file = pictures.path().join(scheme).with_extension("png");
        let preferred = format!("--blink-settings=preferredColorScheme={}", u8::from(scheme == "light"));
        let arguments = ["--enable-logging=stderr".to_owned(), "--v=0".to_owned(), preferred];
        let said = chromium::picture(&url, "1000,1100", &arguments, &file).await;
        assert!(!said.contains("Content Security Policy") && !said.contains("CONSOLE"), "{said}");
        taken.push(std::fs::read(&file).unwrap());
    }
    assert!(taken.iter().all(|picture| picture.len() > 20_000), "an empty picture");
    assert_ne!(taken[0], taken[1], "the style knows of the dark");
}
