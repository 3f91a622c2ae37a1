//! The status page: what this sidecar sees, for people. It has an address of its own and is off without one.
//!
//! Whoever has the token may see it: as the password of HTTP Basic, with any name. The page has no script, loads
//! nothing, and refreshes itself. [`page`] is its HTML, [`history`] the last hour.

pub mod history;
pub mod page;

use crate::store::Store;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use page::{STYLE, Status};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Instant;
use subtle::ConstantTimeEq;

/// The entries of each table.
const ENTRIES: usize = 25;

/// What the page is made of.
#[derive(Debug)]
pub struct StatusPage {
    store: Arc<Store>,
    token: Option<String>,
    began: Instant,
}

/// The page's query.
#[derive(Debug, Default, Deserialize)]
struct Wanted {
    /// `off`: the page stays as it is.
    #[serde(default)]
    refresh: String,
}

impl StatusPage {
    /// The page about `store`. Where there is a `token`, it is the password.
    pub fn new(store: Arc<Store>, token: Option<String>) -> Self {
        Self { store, token, began: Instant::now() }
    }

    /// Its one route, `/`.
    pub fn router(self) -> Router {
        let page = Arc::new(self);
        Router::new()
            .route("/", get(show))
            .fallback(async || (StatusCode::NOT_FOUND, "no such page\n"))
            .layer(middleware::from_fn_with_state(Arc::clone(&page), require_password))
            .layer(middleware::map_response(async |mut response: Response| {
                protect(response.headers_mut());
                response
            }))
            .with_state(page)
    }

    /// Whether `authorization` has the password. The comparison takes the same time wherever they differ.
    fn lets_in(&self, authorization: Option<&HeaderValue>) -> bool {
        let Some(token) = &self.token else { return true };
        let sent =
            authorization.and_then(|value| value.to_str().ok()).and_then(|value| value.split_once(' '));
        let sent = sent.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Basic"));
        let pair = sent.and_then(|(_, pair)| STANDARD.decode(pair.trim()).ok()).unwrap_or_default();
        let colon = pair.iter().position(|byte| *byte == b':');
        let password = colon.and_then(|at| pair.get(at + 1..));
        password.is_some_and(|password| password.ct_eq(token.as_bytes()).into())
    }
}

async fn show(
    State(page): State<Arc<StatusPage>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let wanted = wanted.map(|Query(wanted)| wanted).unwrap_or_default();
    let asked = Instant::now();
    let redis = page.store.link().ping().await.map(|()| asked.elapsed());
    let now = Instant::now();
    let status = Status {
        redis,
        uptime: now.saturating_duration_since(page.began),
        minutes: page.store.history().minutes(now),
        ranking: page.store.top().ranking(ENTRIES, None, now),
        refreshes: wanted.refresh != "off",
    };
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], status.page().into_string()).into_response()
}

async fn require_password(State(page): State<Arc<StatusPage>>, request: Request, next: Next) -> Response {
    if page.lets_in(request.headers().get(header::AUTHORIZATION)) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"llm-rate-limit\", charset=\"UTF-8\"")];
    (StatusCode::UNAUTHORIZED, challenge, "the password is the sidecar's AUTH_TOKEN\n").into_response()
}

/// Adds the headers that keep browsers from loading, framing, sniffing or keeping anything.
fn protect(headers: &mut HeaderMap) {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
