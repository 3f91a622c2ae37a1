//! The configuration: from bytes to a [`Config`] that cannot be illegal.
//!
//! Bytes become a tree (`document`), and the tree becomes the fields that users write (`raw`, through `decode`). The
//! other modules check the fields and build the types that the filter works with. Every error has its JSON path and
//! the expected value, and all errors are reported at once. An unknown field is an error: otherwise a misspelt limit
//! would limit nothing. Envoy delivers the bytes (docs/envoy.md#configuration-formats).

mod accounting;
mod decimal;
mod decode;
mod document;
mod encodings;
mod error;
mod grants;
mod limit_set;
mod message;
mod messages;
mod number;
mod pattern;
mod raw;
mod reading;
mod secret;
mod sources;
mod store;
mod windows;

pub use accounting::Accounting;
pub use error::{ConfigError, Problem};
pub use message::{Message, Placeholder};
pub use messages::Messages;
pub use raw::{AcceptEncoding, Headers, OnStreamOver, OutputMode, StreamUsage};
pub use secret::Secret;
pub use store::{LocalStore, OnError, RedisStore, Share, Store};

use crate::identity::{HashSecret, Identity, Source};
use crate::models::Encodings;
use crate::policy::limit::Metric;
use crate::policy::{Access, Grant};
use crate::pricing::Price;
use error::{Path, Problems};
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

/// The most requests that wait in a worker, by default.
const DEFAULT_MAX_WAITING: u64 = 1_000;
/// The largest value of `max_waiting`: each request that waits keeps its body in memory.
const MAX_MAX_WAITING: u64 = 1_000_000;

/// A configuration in force.
#[derive(Debug, PartialEq)]
pub struct Config {
    store: Store,
    sources: Vec<Source>,
    hash_secret: Option<HashSecret>,
    keys: BTreeMap<Arc<str>, Grant>,
    default: Grant,
    dry_run: bool,
    max_waiting: u64,
    accounting: Accounting,
    messages: Option<Messages>,
    headers: Headers,
    encodings: Encodings,
}

impl Config {
    /// Reads a configuration: JSON or YAML text, or a serialised `google.protobuf.Struct`.
    ///
    /// # Errors
    /// Bytes that are none of these; or all fields that are unknown, of the wrong type, or invalid.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ConfigError> {
        reading::read(document::Node::from_bytes(bytes)?)
    }

    fn new(mut raw: raw::Root) -> Result<Self, ConfigError> {
        let root = Path::Root;
        let mut problems = Problems::default();
        let store = Store::new(mem::take(&mut raw.store), &root.member("store"), &mut problems);
        let sources = sources::sources(raw.identity.take(), &root.member("identity"), &mut problems);
        let hash_secret =
            sources::hash_secret(raw.hash_secret.as_ref(), &root.member("hash_secret"), &mut problems);
        let catalogue = grants::Catalogue::new(&raw, &root, &mut problems);
        let keys = grants::keys(&raw.keys, &catalogue, &root.member("keys"), &mut problems);
        let default = raw.default.as_ref();
        let default = grants::default(default, &catalogue, &root.member("default"), &mut problems);
        let max_waiting = problems.whole_or(
            &root.member("max_waiting"),
            raw.max_waiting,
            0..=MAX_MAX_WAITING,
            DEFAULT_MAX_WAITING,
        );
        let accounting = Accounting::new(&raw, &root, &mut problems);
        let rejection = root.member("rejection");
        let messages =
            Messages::new(raw.rejection.message.as_ref(), &rejection.member("message"), &mut problems);
        let encodings = encodings::encodings(&raw.encodings, &root.member("encodings"), &mut problems);
        let has_budgets = catalogue.limits(Metric::CostUsd)
            || keys.values().chain(&default).any(|grant| grant.limits(Metric::CostUsd));
        if has_budgets && raw.prices.is_empty() {
            let expected = "prices of the models that limits on \"cost_usd\" are for";
            problems.expected(&root.member("prices"), expected, "none");
        }
        // Each part that could not be built has been reported as a problem.
        let (Some(store), Some(default), Some(accounting), Some(max_waiting)) =
            (store, default, accounting, max_waiting)
        else {
            return Err(problems.into());
        };
        problems.none_or(Self {
            store,
            sources,
            hash_secret,
            keys,
            default,
            dry_run: raw.dry_run,
            max_waiting,
            accounting,
            messages,
            headers: raw.headers,
            encodings,
        })
    }

    /// The store that counts use.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The sources of a request's identity, for [`identity::find`](crate::identity::find). At least one.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The access of `identity`, which is none if no source yields a value in the request.
    pub fn access(&self, identity: Option<&Identity>) -> Access {
        let grant = identity.and_then(|identity| self.keys.get(identity.key_id())).unwrap_or(&self.default);
        grant.access(identity.map(|identity| self.store_id(identity)), self.dry_run)
    }

    /// The id of `identity` in the store.
    fn store_id(&self, identity: &Identity) -> Arc<str> {
        let id = identity.id();
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

    /// Whether any limit is on tokens or on cost, so that the filter must count tokens.
    pub fn needs_tokens(&self) -> bool {
        self.keys.values().chain([&self.default]).any(Grant::needs_tokens)
    }

    /// The rules on what requests cost.
    pub const fn accounting(&self) -> &Accounting {
        &self.accounting
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
