//! The HTTP routes: they check the token, limit the calls in flight, read bodies and write JSON. They decide nothing.
//!
//! A batch runs in a task of its own. A caller who hangs up therefore leaves no reservation half rolled back and no
//! settlement unsent.

use super::refusal::Refusal;
use crate::metrics::{self, Metrics};
use crate::store::Store;
use crate::store::usage::{self, Owner};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use llm_rate_limit::store::wire::path;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The time limit for a body to arrive; its sender is close by.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The state that the routes share.
#[derive(Debug)]
pub struct App {
    store: Store,
    metrics: Arc<Metrics>,
    token: Option<String>,
    queue: Semaphore,
    bounds: Bounds,
}

/// The limits on calls.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The maximum number of calls to `/v1` in flight.
    pub queue: usize,
    /// The maximum size of a body, in bytes.
    pub body: usize,
}

impl App {
    /// An app that requires `token`, if there is one, on `/v1`.
    pub fn new(store: Store, metrics: Arc<Metrics>, token: Option<String>, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { store, metrics, token, queue: Semaphore::new(bounds.queue), bounds })
    }

    /// Its routes.
    pub fn router(self: Arc<Self>) -> Router {
        let v1 = Router::new()
            .route(path::RESERVE, post(reserve))
            .route(path::SETTLE, post(settle))
            .route(path::BACKGROUND, post(background))
            .route(path::USAGE, get(read_usage).delete(reset_usage))
            .layer(DefaultBodyLimit::max(self.bounds.body))
            // The last layer runs first: a call without the token takes no place in the queue.
            .layer(middleware::from_fn_with_state(Arc::clone(&self), take_place))
            .layer(middleware::from_fn_with_state(Arc::clone(&self), require_token));
        Router::new()
            .merge(v1)
            .route(path::HEALTH, get(async || "ok\n"))
            .route(path::READY, get(ready))
            .route(path::METRICS, get(render_metrics))
            .fallback(async || Refusal::NotFound)
            .method_not_allowed_fallback(async || Refusal::Method)
            .layer(middleware::from_fn_with_state(Arc::clone(&self), count_errors))
            .with_state(self)
    }
}

async fn reserve(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let batch = body::<Vec<_>>(&app, request).await?;
    complete(async move { Ok(json(&app.store.reserve(&batch).await?)) }).await
}

async fn settle(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let batch = body::<Vec<_>>(&app, request).await?;
    complete(async move { Ok(json(&app.store.settle(&batch).await?)) }).await
}

async fn background(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let batch = body::<Vec<_>>(&app, request).await?;
    complete(async move { Ok(json(&app.store.background(&batch).await?)) }).await
}

/// The owner that a query names.
type OwnerQuery = Result<Query<Owner>, QueryRejection>;

async fn read_usage(State(app): State<Arc<App>>, owner: OwnerQuery) -> Result<Response, Refusal> {
    Ok(json(&usage::read(&app.store, &query(owner)?).await?))
}

async fn reset_usage(State(app): State<Arc<App>>, owner: OwnerQuery) -> Result<Response, Refusal> {
    let reset = usage::reset(&app.store, &query(owner)?).await?;
    tracing::info!(
        identity = reset.identity,
        scope = reset.scope,
        windows = reset.removed.len(),
        "reset the windows of an owner"
    );
    Ok(json(&reset))
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.store.link().ping().await {
        Ok(()) => "ok\n".into_response(),
        Err(why) => {
            (StatusCode::SERVICE_UNAVAILABLE, json(&serde_json::json!({"error": why}))).into_response()
        }
    }
}

async fn render_metrics(State(app): State<Arc<App>>) -> Response {
    let in_flight = app.bounds.queue.saturating_sub(app.queue.available_permits());
    match app.metrics.render(in_flight) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why.to_string()).into_response(),
    }
}

/// Lets a call through if it sends the token. The comparison takes the same time wherever the tokens differ.
async fn require_token(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    if let Some(token) = &app.token {
        let sent = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let sent = sent.and_then(|value| value.split_at_checked("Bearer ".len()));
        let is_right = sent.is_some_and(|(scheme, sent)| {
            scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(sent.ct_eq(token.as_bytes()))
        });
        if !is_right {
            return Err(Refusal::Unauthorized);
        }
    }
    Ok(next.run(request).await)
}

/// Lets a call through if the queue has a place, and holds that place until the answer is ready.
async fn take_place(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, Refusal> {
    let _place = app.queue.try_acquire().map_err(|_| Refusal::QueueFull(app.bounds.queue))?;
    Ok(next.run(request).await)
}

/// Counts and logs the calls that get an error.
async fn count_errors(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(refusal) = response.extensions().get::<Refusal>() {
        app.metrics.error(refusal.kind());
        tracing::debug!(kind = refusal.kind(), why = %refusal, "answered a call with an error");
    }
    response
}

/// Reads a JSON body.
async fn body<T: DeserializeOwned>(app: &App, request: Request) -> Result<T, Refusal> {
    let bytes =
        timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await.map_err(|_| Refusal::TooSlow)?;
    let bytes = bytes.map_err(|why| match why.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::TooLarge(app.bounds.body),
        _ => Refusal::Malformed(why.body_text()),
    })?;
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|why| Refusal::Malformed(format!("{}: {}", why.path(), why.inner())))?;
    json.end().map_err(|why| Refusal::Malformed(why.to_string()))?;
    Ok(value)
}

fn query(owner: OwnerQuery) -> Result<Owner, Refusal> {
    owner.map(|Query(owner)| owner).map_err(|why| Refusal::Malformed(why.body_text()))
}

/// Runs `work` to its end, even if the caller hangs up.
async fn complete(
    work: impl Future<Output = Result<Response, Refusal>> + Send + 'static,
) -> Result<Response, Refusal> {
    tokio::spawn(work).await.unwrap_or_else(|why| {
        tracing::error!(%why, "a call crashed");
        Err(Refusal::Crashed)
    })
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why.to_string()).into_response(),
    }
}
