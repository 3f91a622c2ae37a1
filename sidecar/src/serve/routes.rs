//! The HTTP routes: they check the token, limit the calls in flight, read bodies and write JSON. They decide nothing.
//!
//! A call takes a place when its body is there, and keeps it until its work is done. A batch runs in a task of its own:
//! a caller who hangs up therefore leaves no reservation half rolled back and no settlement unsent.

use super::arrivals::{Arrivals, Held};
use super::batch;
use super::refusal::Refusal;
use crate::metrics::{self, Metrics};
use crate::store::Store;
use crate::store::grants::{self, Change};
use crate::store::usage::{self, Owner};
use crate::webhook::Webhook;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use llm_rate_limit::store::version::{self, NEWEST, OLDEST};
use llm_rate_limit::store::wire::{Background, Reserve, Settle, path};
use llm_rate_limit::store::{corrections, unasked};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long the answer to a probe waits for what the fleet has learned.
const PROBE_WAITS: Duration = Duration::from_millis(10);

/// The state that the routes share.
#[derive(Debug)]
pub struct App {
    store: Arc<Store>,
    webhook: Option<Webhook>,
    metrics: Arc<Metrics>,
    token: Option<String>,
    queue: Arc<Semaphore>,
    arrivals: Arc<Arrivals>,
    bounds: Bounds,
}

/// The limits on calls.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The maximum number of calls to `/v1` in flight.
    pub queue: usize,
    /// The maximum size of a body, in bytes.
    pub body: usize,
    /// The maximum size of all bodies that arrive or are worked on, in bytes.
    pub bodies: usize,
}

impl App {
    /// An app that requires `token`, if there is one, on `/v1`.
    pub fn new(
        store: Arc<Store>,
        webhook: Option<Webhook>,
        metrics: Arc<Metrics>,
        token: Option<String>,
        bounds: Bounds,
    ) -> Arc<Self> {
        let queue = Arc::new(Semaphore::new(bounds.queue));
        let arrivals = Arrivals::new(bounds.body, bounds.bodies);
        Arc::new(Self { store, webhook, metrics, token, queue, arrivals, bounds })
    }

    /// A place for a call, which it holds until its work is done.
    fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.queue).try_acquire_owned().map_err(|_| Refusal::QueueFull(self.bounds.queue))
    }

    /// Its routes.
    pub fn router(self: Arc<Self>) -> Router {
        let v1 = Router::new()
            .route(path::RESERVE, post(reserve))
            .route(path::SETTLE, post(settle))
            .route(path::BACKGROUND, post(background))
            .route(path::PEEK, post(peek))
            .route(path::TOP, get(top))
            .route(path::STORE, get(report_store))
            .route(path::USAGE, get(read_usage).delete(reset_usage))
            .route(path::GRANTS, get(read_grants).post(change_by_hand))
            .layer(middleware::from_fn_with_state(Arc::clone(&self), require_token))
            // The last layer runs first: every answer says its version.
            .layer(middleware::from_fn(speak));
        Router::new()
            .merge(v1)
            .route(path::HEALTH, get(async || "ok\n"))
            .route(path::READY, get(ready))
            .route(path::METRICS, get(render_metrics))
            .fallback(async || Refusal::NotFound)
            .method_not_allowed_fallback(async || Refusal::Method)
            .layer(middleware::from_fn_with_state(Arc::clone(&self), observe))
            .with_state(self)
    }
}

async fn reserve(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let asked = asked(&request);
    let unasked = header(&request, unasked::HEADER);
    let mut call = arrive::<Reserve>(&app, request).await?;
    if let Some(unasked) = unasked {
        unasked::read(&unasked, &mut call.batch);
    }
    let namespace = call.batch.first().map(|one| Arc::clone(&one.namespace)).unwrap_or_default();
    let is_probe = matches!(&call.batch[..], [one] if one.charges.is_empty());
    if asked.is_some() && app.store.learning().is_due(&namespace) {
        let (app, namespace) = (Arc::clone(&app), Arc::clone(&namespace));
        let learning = tokio::spawn(async move { app.store.learn(&namespace).await });
        // No request waits for the answer to a probe, and a filter begins with one. It is late after a while, though.
        if is_probe {
            let _ = tokio::time::timeout(PROBE_WAITS, learning).await;
        }
    }
    let teller = Arc::clone(&app);
    let answer = complete(async move {
        let answers = app.store.reserve(&call.batch).await?;
        if let Some(webhook) = &app.webhook {
            webhook.reserved(&call.batch, &answers);
        }
        Ok(json(&answers))
    })
    .await?;
    Ok(tell(answer, &teller, &namespace, asked.as_deref()))
}

async fn settle(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let asked = asked(&request);
    let call = arrive::<Settle>(&app, request).await?;
    let namespace = call.batch.first().map(|one| Arc::clone(&one.namespace)).unwrap_or_default();
    complete(async move {
        app.store.learning().take_lessons(&call.batch);
        let learn = async {
            if asked.is_some() {
                app.store.learn(&namespace).await;
            }
        };
        // No request waits for this answer, and it brings what has just been learned.
        let (ended, ()) = tokio::join!(app.store.settle(&call.batch), learn);
        let ended = ended?;
        if let Some(webhook) = &app.webhook {
            webhook.settled(&call.batch, &ended);
        }
        let answers: Vec<_> = ended.into_iter().map(|one| one.answer).collect();
        Ok(tell(json(&answers), &app, &namespace, asked.as_deref()))
    })
    .await
}

/// The factors that a filter knows, if it asks for others.
fn asked(request: &Request) -> Option<String> {
    header(request, corrections::HEADER)
}

/// The value of a header.
fn header(request: &Request, name: &str) -> Option<String> {
    Some(request.headers().get(name)?.to_str().ok()?.to_owned())
}

/// `answer`, which tells a filter that has `asked` what is learned about the counts of prompts.
fn tell(mut answer: Response, app: &App, namespace: &str, asked: Option<&str>) -> Response {
    let told = asked.map(|asked| app.store.learning().told(namespace, asked).to_string());
    if let Some(value) = told.and_then(|told| HeaderValue::try_from(told).ok()) {
        answer.headers_mut().insert(HeaderName::from_static(corrections::HEADER), value);
    }
    answer
}

async fn background(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let call = arrive::<Background>(&app, request).await?;
    complete(async move { Ok(json(&app.store.background(&call.batch).await?)) }).await
}

async fn peek(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let call = arrive::<Reserve>(&app, request).await?;
    Ok(json(&app.store.peek(&call.batch).await?))
}

/// What a ranking is to have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ranked {
    /// The most entries of each list.
    #[serde(default = "default_ranked")]
    limit: usize,
    /// The identity that it is about, if it is about one.
    identity: Option<String>,
}

/// The entries of a ranking that names no number.
const fn default_ranked() -> usize {
    10
}

async fn top(
    State(app): State<Arc<App>>,
    ranked: Result<Query<Ranked>, QueryRejection>,
) -> Result<Response, Refusal> {
    let _place = app.place()?;
    let Query(Ranked { limit, identity }) = ranked.map_err(|why| Refusal::Malformed(why.body_text()))?;
    Ok(json(&app.store.top().ranking(limit, identity.as_deref(), Instant::now())))
}

/// The owner that a query names.
type OwnerQuery = Result<Query<Owner>, QueryRejection>;

async fn read_usage(State(app): State<Arc<App>>, owner: OwnerQuery) -> Result<Response, Refusal> {
    let _place = app.place()?;
    Ok(json(&usage::read(&app.store, &query(owner)?).await?))
}

async fn reset_usage(State(app): State<Arc<App>>, owner: OwnerQuery) -> Result<Response, Refusal> {
    let _place = app.place()?;
    let reset = usage::reset(&app.store, &query(owner)?).await?;
    tracing::info!(
        identity = reset.identity,
        scope = reset.scope,
        windows = reset.removed.len(),
        "reset the windows of an owner"
    );
    Ok(json(&reset))
}

async fn read_grants(State(app): State<Arc<App>>, owner: OwnerQuery) -> Result<Response, Refusal> {
    let _place = app.place()?;
    Ok(json(&grants::audit(&app.store, &query(owner)?).await?))
}

async fn change_by_hand(State(app): State<Arc<App>>, request: Request) -> Result<Response, Refusal> {
    let (body, _held) = app.arrivals.read(request.into_body()).await?;
    let _place = app.place()?;
    let change: Change = batch::one(&body)?;
    let work = Arc::clone(&app);
    complete(async move {
        let changed = grants::change(&work.store, &change).await?;
        if !change.dry_run {
            let Change { identity, scope, limit, window, action, by, .. } = &change;
            let (units, action) = (changed.units.get(), <&str>::from(action));
            tracing::info!(identity, scope, limit, window, action, units, by, "changed a limit by hand");
        }
        Ok(json(&changed))
    })
    .await
}

async fn report_store(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let _place = app.place()?;
    Ok(json(&app.store.report().await?))
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
    match app.metrics.render(in_flight, app.arrivals.held()) {
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

/// Answers a call in the version of the wire that it is in, and says so. One in a version that this sidecar does not
/// speak is answered in the newest that it does.
async fn speak(request: Request, next: Next) -> Response {
    static REPORTED: Once = Once::new();
    let sent = request.headers().get(version::HEADER).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let spoken = version::spoken(sent.as_deref()).filter(|spoken| (OLDEST..=NEWEST).contains(spoken));
    let mut response = match spoken {
        Some(_) => next.run(request).await,
        None => {
            let sent: String = sent.unwrap_or_default().chars().take(20).collect();
            let refusal = Refusal::Version(sent);
            REPORTED.call_once(|| tracing::error!("{refusal}: run the same release of both"));
            refusal.into_response()
        }
    };
    let said = HeaderValue::from(spoken.unwrap_or(NEWEST));
    response.headers_mut().insert(HeaderName::from_static(version::HEADER), said);
    response
}

/// Measures calls, and counts and logs those that get an error.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (began, path) = (Instant::now(), request.uri().path().to_owned());
    let response = next.run(request).await;
    app.metrics.request(&path, began.elapsed());
    if let Some(refusal) = response.extensions().get::<Refusal>() {
        app.metrics.error(refusal.kind());
        tracing::debug!(kind = refusal.kind().name(), why = %refusal, "answered a call with an error");
    }
    response
}

fn query(owner: OwnerQuery) -> Result<Owner, Refusal> {
    owner.map(|Query(owner)| owner).map_err(|why| Refusal::Malformed(why.body_text()))
}

/// A call that has arrived, with its place and the bytes that it takes.
struct Arrived<T> {
    batch: Vec<T>,
    _place: OwnedSemaphorePermit,
    _held: Held,
}

/// Reads the batch of a call. Takes a place for it once its body is there.
async fn arrive<T: DeserializeOwned>(app: &App, request: Request) -> Result<Arrived<T>, Refusal> {
    let (body, held) = app.arrivals.read(request.into_body()).await?;
    let place = app.place()?;
    Ok(Arrived { batch: batch::read(&body)?, _place: place, _held: held })
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
