//! The configuration: from bytes to a [`Config`] that cannot be illegal.
//!
//! Bytes become a tree (`document`), and the tree becomes the fields that users write (`raw`, through `decode`). The
//! other modules check the fields and build the types that the filter works with. Every error has its JSON path and
//! the expected value, and all errors are reported at once. An unknown field is an error: otherwise a misspelt limit
//! would limit nothing. Envoy delivers the bytes (docs/envoy.md#configuration-formats).

mod accounting;
mod calendars;
mod claims;
mod decimal;
mod decode;
mod document;
mod encodings;
mod endpoints;
mod error;
mod fingerprint;
mod grants;
mod groups;
mod inspect;
mod limit_set;
mod message;
mod messages;
mod number;
mod on_limit;
mod pattern;
mod policies;
mod query;
mod raw;
mod reading;
mod secret;
mod sources;
mod store;
mod windows;

pub use accounting::Accounting;
pub use error::{ConfigError, Problem};
pub use fingerprint::Fingerprint;
pub use inspect::Inspect;
pub use message::{Message, Placeholder};
pub use messages::Messages;
pub use raw::{
    AcceptEncoding, Headers, HeadersMode, OnStreamOver, OnUnreadable, OutputMode, PromptEstimates,
    SHORTHANDS, StreamUsage, WebSocket,
};
pub use secret::Secret;
pub use store::{LocalStore, OnError, RedisStore, Share, Store};

use crate::identity::{self, HashSecret, Identity, RequestView, Source};
use crate::models::Encodings;
use crate::policy::endpoints::Endpoints;
use crate::policy::limit::Metric;
use crate::policy::{Access, Grant, Policy, Subject};
use crate::pricing::Price;
use crate::quantity::MAX_EXACT;
use crate::sort;
use error::{Path, Problems};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

/// The most requests that wait in a worker, by default.
const DEFAULT_MAX_WAITING: u64 = 1_000;
/// The largest value of `max_waiting`: each request that waits keeps its body in memory.
const MAX_MAX_WAITING: u64 = 1_000_000;
/// The most bytes of the bodies of those requests, by default.
const DEFAULT_MAX_WAITING_BYTES: u64 = 64 << 20;
/// The largest value of `max_waiting_bytes`: more than any machine has.
const MAX_MAX_WAITING_BYTES: u64 = 1 << 40;

/// A configuration in force.
#[derive(Debug, PartialEq)]
pub struct Config {
    store: Store,
    namespace: Arc<str>,
    sources: Vec<Source>,
    hash_secret: Option<HashSecret>,
    keys: BTreeMap<Arc<str>, Grant>,
    /// How many of `keys` are written as they are, and not as their digests.
    plain_keys: usize,
    default: Grant,
    /// Whether the configuration says what the default is.
    default_is_given: bool,
    endpoints: Endpoints,
    websocket: WebSocket,
    dry_run: bool,
    max_waiting: u64,
    max_waiting_bytes: u64,
    headers_mode: HeadersMode,
    accounting: Accounting,
    messages: Option<Messages>,
    headers: Headers,
    encodings: Encodings,
    on_unreadable: OnUnreadable,
    meter: bool,
    metrics_by_name: bool,
    /// The policy of whoever is exempt from all limits.
    unlimited: Arc<Policy>,
    inspect: Option<Inspect>,
    prompt_estimates: PromptEstimates,
    /// Whether requests say a part of their limits.
    asks_requests: bool,
    /// The headers by which Envoy chooses routes for requests that are over a limit.
    route_headers: Vec<Arc<str>>,
    /// Whether requests that are over a limit may go on for another model.
    falls_back: bool,
}

impl Config {
    /// Reads a configuration: JSON or YAML text, or a serialised `google.protobuf.Struct`.
    ///
    /// # Errors
    /// Bytes that are none of these; or all fields that are unknown, of the wrong type, or invalid.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ConfigError> {
        reading::read(document::Node::from_bytes(bytes)?)
    }

    // The parts are functions of their own in the compiled filter too (`inline(never)`): V8 compiles all of it whenever
    // Envoy starts, in memory and time that grow faster than a function. As one of 48 KB, this took 17 MB.
    fn new(mut raw: raw::Root) -> Result<Self, ConfigError> {
        let root = Path::Root;
        let mut problems = Problems::default();
        let namespace = store::namespace(&raw.store.namespace, &root.member("store"), &mut problems);
        let store = Store::new(mem::take(&mut raw.store), &root.member("store"), &mut problems);
        let sources = sources::sources(raw.identity.take(), &root.member("identity"), &mut problems);
        let hash_secret =
            sources::hash_secret(raw.hash_secret.as_ref(), &root.member("hash_secret"), &mut problems);
        let catalogue = grants::Catalogue::new(&raw, &root, &mut problems);
        let plain_keys = raw.keys.iter().filter(|key| key.key.is_some()).count();
        let keys = grants::keys(&raw.keys, &catalogue, &root.member("keys"), &mut problems);
        let default = raw.default.as_ref();
        let default_is_given = default.is_some();
        let default =
            grants::default(default, &catalogue, store.as_ref(), &root.member("default"), &mut problems);
        let endpoints = endpoints::endpoints(&raw.endpoints, &root.member("endpoints"), &mut problems);
        let inspect = root.member("inspect");
        let inspect = raw.inspect.as_ref().and_then(|raw| inspect::inspect(raw, &inspect, &mut problems));
        let max_waiting = problems.whole_or(
            &root.member("max_waiting"),
            raw.max_waiting,
            0..=MAX_MAX_WAITING,
            DEFAULT_MAX_WAITING,
        );
        let max_waiting_bytes = problems.whole_or(
            &root.member("max_waiting_bytes"),
            raw.max_waiting_bytes,
            0..=MAX_MAX_WAITING_BYTES,
            DEFAULT_MAX_WAITING_BYTES,
        );
        let accounting = Accounting::new(&raw, &root, &mut problems);
        let rejection = root.member("rejection");
        let messages =
            Messages::new(raw.rejection.message.as_ref(), &rejection.member("message"), &mut problems);
        let encodings = encodings::encodings(&raw.encodings, &root.member("encodings"), &mut problems);
        let unknown_document = raw.unknown_document_tokens.and_then(|tokens| {
            problems.whole(&root.member("unknown_document_tokens"), tokens, 0..=MAX_EXACT)
        });
        let encodings = encodings.with_unknown_documents(unknown_document);
        let has_budgets = catalogue.limits(Metric::CostUsd)
            || keys.values().chain(&default).any(|grant| grant.limits(Metric::CostUsd));
        if has_budgets && raw.prices.is_empty() {
            let expected = "prices of the models that limits on \"cost_usd\" are for";
            problems.expected(&root.member("prices"), expected, "none");
        }
        let asks_requests = keys.values().chain(&default).any(Grant::asks_requests);
        let of_grants = keys.values().chain(&default).flat_map(Grant::continuations);
        let continuations: Vec<_> = catalogue.continuations().chain(of_grants).map(|it| &**it).collect();
        let claims: Vec<_> = keys.values().chain(&default).flat_map(Grant::claims).map(|it| &**it).collect();
        let all = continuations.iter().copied();
        let route_headers = on_limit::route_headers(all, &sources, &claims, &mut problems);
        let falls_back = continuations.iter().any(|it| it.model.is_some());
        // Each part that could not be built has been reported as a problem.
        let (Some(store), Some(default), Some(accounting)) = (store, default, accounting) else {
            return Err(problems.into());
        };
        let (Some(max_waiting), Some(max_waiting_bytes)) = (max_waiting, max_waiting_bytes) else {
            return Err(problems.into());
        };
        problems.none_or(Self {
            store,
            namespace,
            sources,
            hash_secret,
            keys,
            plain_keys,
            default,
            default_is_given,
            endpoints,
            websocket: raw.websocket,
            dry_run: raw.dry_run,
            max_waiting,
            max_waiting_bytes,
            headers_mode: raw.headers_mode,
            accounting,
            messages,
            headers: raw.headers,
            encodings,
            on_unreadable: raw.on_unreadable,
            meter: raw.meter,
            metrics_by_name: raw.metrics_by_name,
            unlimited: Arc::new(Policy::none(None)),
            inspect,
            prompt_estimates: raw.prompt_estimates,
            asks_requests,
            route_headers,
            falls_back,
        })
    }

    /// The store that counts use.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The namespace of its counters.
    pub fn namespace(&self) -> Arc<str> {
        Arc::clone(&self.namespace)
    }

    /// How many keys are written as they are, so that Envoy's `config_dump` shows them.
    pub const fn plain_keys(&self) -> usize {
        self.plain_keys
    }

    /// The identity of the sender of `request`; none if no source yields a value.
    pub fn identity(&self, request: &(impl RequestView + ?Sized)) -> Option<Identity> {
        if self.keys.is_empty() {
            return identity::first(&self.sources, request);
        }
        identity::find(&self.sources, request, |identity| self.keys.contains_key(identity.key_id()))
    }

    /// The access of `request` of `identity`, which is none if no source yields a value in it.
    pub fn access_of(&self, identity: Option<&Identity>, request: &dyn RequestView) -> Access {
        match self.access(identity) {
            Access::Limited(subject) if self.asks_requests => Access::Limited(subject.claiming(request)),
            access => access,
        }
    }

    /// Whether requests say a part of their limits, so that [`Config::access_of`] reads them.
    pub const fn asks_requests(&self) -> bool {
        self.asks_requests
    }

    /// The access of `identity` in a request that says nothing else.
    pub fn access(&self, identity: Option<&Identity>) -> Access {
        let grant = identity.and_then(|identity| self.keys.get(identity.key_id())).unwrap_or(&self.default);
        let is_combination = identity.is_some_and(|identity| identity.id() != identity.key_id());
        grant.access(identity.map(|identity| self.store_id(identity)), is_combination, self.dry_run)
    }

    /// Whether the configuration exempts `identity` from everything, and not only has no limits for it.
    pub fn exempts(&self, identity: Option<&Identity>) -> bool {
        match identity.and_then(|identity| self.keys.get(identity.key_id())) {
            Some(grant) => grant.is_unlimited(),
            None => self.default_is_given && self.default.is_unlimited(),
        }
    }

    /// Whether it says what becomes of unknown identities; if not, only limits that all share are for them.
    pub const fn has_default(&self) -> bool {
        self.default_is_given
    }

    /// Whether the configuration rejects unknown identities.
    pub fn rejects_strangers(&self) -> bool {
        self.default == Grant::Rejected
    }

    /// Whether requests to endpoints that no rule is for count, although the configuration does not say so.
    pub fn counts_others_by_default(&self) -> bool {
        let is_limited = |grant: &Grant| !grant.is_unlimited();
        self.endpoints.counts_others_by_default() && self.keys.values().chain([&self.default]).any(is_limited)
    }

    /// The treatment of endpoints.
    pub const fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The treatment of a WebSocket to an LLM endpoint.
    pub const fn websocket(&self) -> WebSocket {
        self.websocket
    }

    /// Whether tokens are counted and logged of requests that no limit applies to.
    pub const fn meters(&self) -> bool {
        self.meter
    }

    /// Whether metrics of requests have the name of the key.
    pub const fn metrics_by_name(&self) -> bool {
        self.metrics_by_name
    }

    /// The subject of a request of `identity`, which is exempt from all limits.
    pub fn unlimited(&self, identity: Option<&Identity>) -> Subject {
        let named = match identity.and_then(|identity| self.keys.get(identity.key_id())) {
            Some(Grant::Unlimited(Some(named))) => named,
            _ => &self.unlimited,
        };
        Subject::unlimited(identity.map(|identity| self.store_id(identity)), named)
    }

    /// The id of `identity` in the store.
    pub fn store_id(&self, identity: &Identity) -> Arc<str> {
        self.hashed(identity.id())
    }

    /// The ids in the store of the keys that the configuration names.
    pub fn ids(&self) -> BTreeSet<Arc<str>> {
        sort::collected(self.keys.keys().map(|id| self.hashed(id)))
    }

    fn hashed(&self, id: &Arc<str>) -> Arc<str> {
        self.hash_secret.as_ref().map_or_else(|| Arc::clone(id), |secret| secret.hash(id).into())
    }

    /// Whether the whole configuration is in a dry run: the filter refuses nothing, counts every request, and reports
    /// the requests that it would have refused.
    pub const fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// The most requests that wait at a time in each worker until they fit.
    pub const fn max_waiting(&self) -> u64 {
        self.max_waiting
    }

    /// The most bytes that the bodies of those requests have together.
    pub const fn max_waiting_bytes(&self) -> u64 {
        self.max_waiting_bytes
    }

    /// Whether headers of requests wait for their bodies.
    pub const fn headers_mode(&self) -> HeadersMode {
        self.headers_mode
    }

    /// Whether any limit is on tokens or on cost, so that the filter must count tokens.
    pub fn needs_tokens(&self) -> bool {
        self.keys.values().chain([&self.default]).any(Grant::needs_tokens)
    }

    /// Whether any limit is on `metric`.
    pub fn limits(&self, metric: Metric) -> bool {
        self.keys.values().chain([&self.default]).any(|grant| grant.limits(metric))
    }

    /// The headers by which Envoy chooses routes for requests that are over a limit. No client may set them.
    pub fn route_headers(&self) -> &[Arc<str>] {
        &self.route_headers
    }

    /// Whether requests that are over a limit may go on for another model.
    pub const fn falls_back(&self) -> bool {
        self.falls_back
    }

    /// Whether requests that are over a limit may go on.
    pub fn continues(&self) -> bool {
        self.keys.values().chain([&self.default]).any(|grant| grant.continuations().next().is_some())
    }

    /// Whether counts of prompts are corrected by what answers report, and there is anything to count.
    pub fn learns_prompts(&self) -> bool {
        self.prompt_estimates == PromptEstimates::Learned && self.needs_tokens()
    }

    /// What the tokens of prompts are estimated by.
    pub const fn prompt_estimates(&self) -> PromptEstimates {
        self.prompt_estimates
    }

    /// The rules on what requests cost.
    pub const fn accounting(&self) -> &Accounting {
        &self.accounting
    }

    /// The treatment of requests whose bodies no reader reads.
    pub const fn on_unreadable(&self) -> OnUnreadable {
        self.on_unreadable
    }

    /// Where the filter answers about itself, if anywhere.
    pub const fn inspect(&self) -> Option<&Inspect> {
        self.inspect.as_ref()
    }

    /// The price of `model`; none if the configuration has none.
    pub fn price(&self, model: Option<&str>) -> Option<&Price> {
        self.accounting.prices.of(model)
    }

    /// The messages of refusals; none for the filter's default message.
    pub const fn messages(&self) -> Option<&Messages> {
        self.messages.as_ref()
    }

    /// The headers that report limits to clients.
    pub const fn headers(&self) -> Headers {
        self.headers
    }

    /// The encodings that count the tokens of each model.
    pub const fn encodings(&self) -> &Encodings {
        &self.encodings
    }
}

#[cfg(test)]
mod tests;
