//! The documentation as a site: every page is in it, its links lead somewhere, and Chromium shows its pages in windows
//! of several widths and finds words in them.
//!
//! `SITE_PNG` names a file for pictures of the main page: `<name>.wide.png` and `<name>.narrow.png`.

use axum::body::Bytes;
use axum::extract::Path as Named;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use llm_rate_limit_tests::chromium;
use llm_rate_limit_tests::wasm::root;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// The site, built once.
static SITE: LazyLock<PathBuf> = LazyLock::new(|| {
    let output = Command::new(root().join("scripts/site")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    root().join("target/site/html")
});

/// What the look at all pages may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(240);

/// The site's pages, but for mdBook's own.
fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![SITE.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_own = |name: &str| path.ends_with(name);
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "html")
                && !is_own("404.html")
                && !is_own("toc.html")
            {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn every_page_of_docs_is_in_the_contents() {
    let contents = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let listed: BTreeSet<&str> =
        contents.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") && !path.ends_with("SUMMARY.md") {
                let name = path.strip_prefix(root().join("docs")).unwrap().to_str().unwrap().to_owned();
                assert!(listed.contains(name.as_str()), "docs/{name} is not in docs/SUMMARY.md");
            }
        }
    }
}

/// Every `href` and `src` of a page, as a path within the site and an anchor.
fn links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let values = ["href=\"", "src=\""].into_iter().flat_map(|name| text.split(name).skip(1));
    let values = values.map(|rest| rest.split('"').next().unwrap());
    values.filter(|link| !link.contains("://") && !link.starts_with("mailto:")).map(|link| {
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        (path, anchor)
    })
}

#[test]
fn every_link_of_the_site_leads_somewhere() {
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (path, anchor) in links(&text) {
            let place = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(place.exists(), "{}: {path}", page.display());
            if !anchor.is_empty() && place.extension().is_some_and(|end| end == "html") {
                let there = fs::read_to_string(&place).unwrap();
                assert!(there.contains(&format!("id=\"{anchor}\"")), "{}: {path}#{anchor}", page.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 1_000, "{seen}");
}

/// A file of the site, as a web server gives it.
async fn file(Named(path): Named<String>) -> Response {
    let kind = match Path::new(&path).extension().and_then(|end| end.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    match fs::read(SITE.join(&path)) {
        Ok(bytes) => ([(header::CONTENT_TYPE, kind)], bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Serves the site, the page that looks at it, and takes its report.
async fn serve() -> (String, UnboundedReceiver<Value>) {
    let (sender, report) = mpsc::unbounded_channel();
    let names: Vec<String> =
        pages().iter().map(|page| format!("/{}", page.strip_prefix(&*SITE).unwrap().display())).collect();
    let take = move |body: Bytes| {
        let _ = sender.send(serde_json::from_slice(&body).unwrap());
        std::future::ready(StatusCode::NO_CONTENT)
    };
    let app = Router::new()
        .route("/look", get(|| std::future::ready(Html(include_str!("look.html")))))
        .route("/pages", get(move || std::future::ready(Json(names))))
        .route("/report", post(take))
        .route("/{*path}", get(file));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_every_page_in_every_width() {
    let (address, mut report) = serve().await;
    let profile = tempfile::tempdir().unwrap();
    let arguments = ["--remote-debugging-port=0".to_owned(), format!("{address}/look")];
    let mut browser =
        chromium::command(profile.path(), &arguments).stderr(std::process::Stdio::null()).spawn().unwrap();
    let report = tokio::time::timeout(LOOK_TIMEOUT, report.recv()).await.expect("a report").unwrap();
    browser.kill().await.unwrap();
    assert_eq!(report["problems"], serde_json::json!([]), "{report:#}");
    assert!(report["pages"].as_u64().unwrap() > 25, "{report:#}");
    let found = report["found"].to_string();
    assert!(
        found.contains("docs/istio.html") && found.contains("docs/envoy.html"),
        "the search finds {found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_page_has_its_pictures_in_a_wide_and_a_narrow_window() {
    let (address, _report) = serve().await;
    let profile = tempfile::tempdir().unwrap();
    let picture = std::env::var("SITE_PNG").map_or_else(|_| profile.path().join("site.png"), Into::into);
    let mut sizes = Vec::new();
    for (name, window) in [("wide", "1400,1600"), ("narrow", "500,1600")] {
        let file = picture.with_extension(format!("{name}.png"));
        chromium::picture(&format!("{address}/index.html"), window, &[], &file).await;
        sizes.push(fs::metadata(&file).unwrap().len());
    }
    // Text and pictures: an empty page of this size takes some kilobytes.
    assert!(sizes.iter().all(|size| *size > 60_000), "{sizes:?}");
    let main = fs::read_to_string(SITE.join("index.html")).unwrap();
    for part in
        ["docs/request.svg", "docs/burst.svg", "docs/status-page.png", "make demo", "docs/install.html"]
    {
        assert!(main.contains(part), "{part}");
    }
}
