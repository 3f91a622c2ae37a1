//! What the filter says of itself at the path that `inspect` names: the worker that gets the request answers it, and
//! nothing is forwarded or charged.
//!
//! Everybody without the token gets a 404, whatever else the configuration says of them.

use super::context::Cx;
use super::headers_mode::HeadersMode;
use crate::answer::Reply;
use crate::config::{self, Config, OnError, Store};
use crate::identity::RequestView;
use crate::policy::{Applied, Candidates, Owner, Subject};
use crate::quantity::{Millis, Units};
use crate::sort;
use crate::store::Standing;
use crate::store::local::SharedData;
use crate::store::wire::{Charge, ScopeCharges};
use crate::window::WindowState;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most windows to read: some milliseconds of the worker's time.
const MAX_READ: usize = 1_000;

/// The most windows to show.
const MAX_SHOWN: usize = 100;

/// What the filter says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// The filter's version.
    pub version: String,
    /// The configuration in force.
    pub configuration: Configuration,
    /// Whether headers wait for bodies.
    pub headers: Headers,
    /// The store.
    pub store: StoreState,
    /// The worker's clock, in milliseconds since the epoch.
    pub time_ms: Millis,
    /// Counters of this Envoy that hold anything: of keys, groups, models and all requests, those with the largest used
    /// part first. None with the store `redis`, but for its share under `on_error: local`.
    pub counters: Vec<Counter>,
    /// How many more there are, or may be: of many keys, not all are read. The counters of identities that the
    /// configuration does not name are never shown: the filter has only digests of them.
    pub more_counters: usize,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The first 16 digits of its SHA-256, as Envoy delivers it.
    pub hash: String,
    /// Whether nothing is refused.
    pub dry_run: bool,
    /// The number of keys.
    pub keys: usize,
}

/// Whether headers wait for bodies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Headers {
    /// The configuration's `headers_mode`.
    pub mode: String,
    /// What this worker does: `held`, `first`, or `unknown` until a body has come.
    pub state: String,
}

/// The store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreState {
    /// `local` or `redis`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The namespace of its counters.
    pub namespace: String,
    /// The cluster of the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How long a request waits for an answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<Millis>,
    /// What happens without one: `allow`, `deny` or `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<String>,
    /// Under `local`, how many Envoys share the limits then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// `up` or `down`, as this worker knows it; `unknown` if it has not heard of it.
    pub state: String,
    /// How long its last answer took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_in_ms: Option<Millis>,
    /// The last failure since its last sign of life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Whether that was an answer that refuses the call: then `on_error` decides only if it is `local`, and a limited
    /// request is answered 503 otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refuses_calls: bool,
}

/// One counter of this Envoy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// The owner: `key`, `group team-a`, `model gpt-4*` or `global`.
    pub owner: String,
    /// A key's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A key's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The limit and its window: `requests/1m`.
    pub limit: String,
    /// The units in it.
    pub used: Units,
    /// The units that it holds.
    pub capacity: Units,
    /// Milliseconds until it is empty if no request spends.
    pub reset_ms: Millis,
}

/// The answer to a request to the filter itself.
pub(super) fn answer<S: SharedData>(request: &dyn RequestView, method: &str, cx: &Cx<'_, S>) -> Reply {
    let admits = |token: String| cx.config.inspect().is_some_and(|inspect| inspect.admits(&token));
    if method == "GET" && request.header("authorization").is_some_and(admits) {
        reply(200, serde_json::to_vec(&Inspection::of(cx)).unwrap_or_default())
    } else {
        reply(404, br#"{"error":"not found"}"#.to_vec())
    }
}

fn reply(status: u32, body: Vec<u8>) -> Reply {
    let headers = [("content-type", "application/json"), ("cache-control", "no-store")];
    Reply { status, headers: headers.map(|(name, value)| (name, value.to_owned())).to_vec(), body }
}

impl Inspection {
    fn of<S: SharedData>(cx: &Cx<'_, S>) -> Self {
        let (counters, more_counters) = counters(cx);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            configuration: Configuration {
                hash: cx.shared.fingerprint.to_string(),
                dry_run: cx.config.dry_run(),
                keys: cx.config.ids().len(),
            },
            headers: Headers::of(cx.config.headers_mode(), cx.shared.headers_mode),
            store: StoreState::of(cx),
            time_ms: cx.now,
            counters,
            more_counters,
        }
    }
}

impl Headers {
    fn of(stated: config::HeadersMode, found: HeadersMode) -> Self {
        let mode = match stated {
            config::HeadersMode::Auto => "auto",
            config::HeadersMode::HeadersFirst => "headers_first",
        };
        let state = match found {
            HeadersMode::Unknown { .. } => "unknown",
            HeadersMode::Held => "held",
            HeadersMode::First { .. } | HeadersMode::Stated => "first",
        };
        Self { mode: mode.to_owned(), state: state.to_owned() }
    }
}

impl StoreState {
    fn of<S: SharedData>(cx: &Cx<'_, S>) -> Self {
        let state = match cx.stores.standing() {
            Standing::Absent | Standing::Up => "up",
            Standing::Unknown => "unknown",
            Standing::Down => "down",
        };
        let local = Self {
            kind: "local".to_owned(),
            namespace: cx.config.namespace().to_string(),
            cluster: None,
            timeout_ms: None,
            on_error: None,
            replicas: None,
            state: state.to_owned(),
            answered_in_ms: None,
            failure: None,
            refuses_calls: false,
        };
        let Store::Redis(redis) = cx.config.store() else { return local };
        let (on_error, replicas) = match redis.on_error {
            OnError::Allow => ("allow", None),
            OnError::Deny => ("deny", None),
            OnError::Local(share) => ("local", Some(share.replicas.get())),
        };
        Self {
            kind: "redis".to_owned(),
            cluster: Some(redis.cluster.clone()),
            timeout_ms: Some(Millis::new(u64::try_from(redis.timeout.as_millis()).unwrap_or(u64::MAX))),
            on_error: Some(on_error.to_owned()),
            replicas,
            answered_in_ms: cx.stores.answered_in(),
            failure: cx.stores.failure().map(|failure| failure.why.clone()),
            refuses_calls: cx.stores.failure().is_some_and(|failure| failure.is_refusal),
            ..local
        }
    }
}

/// The counters to show, and how many more there may be.
fn counters<S: SharedData>(cx: &Cx<'_, S>) -> (Vec<Counter>, usize) {
    let windows = windows(cx.config);
    let mut counters: Vec<Counter> = Vec::new();
    let (read, unread) = windows.split_at_checked(MAX_READ).unwrap_or((&windows, &[]));
    for of_scope in read.chunk_by(|(_, a), (_, b)| a.scope == b.scope) {
        let charges = of_scope.iter().map(|(_, applied)| (Arc::clone(&applied.scope), charge(applied)));
        let states: Vec<WindowState> = ScopeCharges::group(charges)
            .into_iter()
            .flat_map(|scope| cx.stores.peek(scope, cx.now))
            .collect();
        let used = of_scope.iter().zip(states).filter(|(_, state)| !state.used.is_zero());
        counters.extend(used.map(|((name, applied), state)| counter(name.as_deref(), applied, state)));
    }
    let share = |counter: &Counter| {
        u128::from(counter.used.get()) * 1_000_000 / u128::from(counter.capacity.get().max(1))
    };
    sort::by_key(&mut counters, |counter| Reverse(share(counter)));
    let more = counters.len().saturating_sub(MAX_SHOWN) + unread.len();
    counters.truncate(MAX_SHOWN);
    (counters, more)
}

/// Every window that the configuration names, once, each with the name of its key. Those of one scope are neighbours.
fn windows(config: &Config) -> Vec<(Option<String>, Applied)> {
    let mut known = BTreeSet::new();
    let mut windows: Vec<(Option<String>, Applied)> = Vec::new();
    let subjects = config.subjects().map(|subject| (true, subject));
    for (is_named, subject) in subjects.chain(config.strangers().map(|subject| (false, subject))) {
        let of_subject = of_subject(&subject).into_iter().filter(|it| is_named || it.owner != Owner::Key);
        for applied in of_subject {
            let Applied { scope, identity, limit, .. } = &applied;
            let counter =
                (Arc::clone(scope), Arc::clone(identity), Arc::clone(&limit.name), limit.window.label());
            if known.insert(counter) {
                windows.push((subject.name().map(ToOwned::to_owned), applied));
            }
        }
        // Whoever has more keys than that sees how many windows of the others there may be at least.
        if windows.len() > MAX_READ * 2 {
            break;
        }
    }
    sort::by(&mut windows, |(_, a), (_, b)| a.scope.cmp(&b.scope));
    windows
}

fn of_subject(subject: &Subject) -> Vec<Applied> {
    subject.limits(&Candidates::UNKNOWN).collect()
}

/// A charge of nothing under `applied`, to see its counter.
fn charge(applied: &Applied) -> Charge {
    Charge {
        identity: Arc::clone(&applied.identity),
        name: Arc::clone(&applied.limit.name),
        window: applied.limit.window,
        limit: applied.limit.amount,
        cost: Units::ZERO,
        enforced: true,
        warn_at: None,
    }
}

fn counter(name: Option<&str>, applied: &Applied, state: WindowState) -> Counter {
    let is_key = applied.owner == Owner::Key;
    let limit = &applied.limit;
    Counter {
        owner: applied.owner.label().into_owned(),
        id: is_key.then(|| applied.identity.to_string()),
        name: name.filter(|_| is_key).map(ToOwned::to_owned),
        limit: format!("{}/{}", limit.name, limit.window.label()),
        used: state.used,
        capacity: limit.window.capacity(limit.amount),
        reset_ms: state.reset,
    }
}
