//! The fields of `store`.

use super::Number;
use crate::config::secret::Secret;
use serde::Deserialize;

/// The store that counts use. Fields that only one type uses are allowed beside the other type, so that one word
/// switches between them.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Store {
    /// The type of the store.
    #[serde(rename = "type")]
    pub kind: StoreType,
    /// `redis`: Envoy's name for the cluster of the sidecar. Required.
    pub cluster: Option<String>,
    /// `redis`: the longest that a request waits for the store, in milliseconds; 50 by default.
    pub timeout_ms: Option<Number>,
    /// `redis`: what happens to a request if the store does not answer in time.
    pub on_error: OnError,
    /// `redis` with `on_error` `local`: the number of Envoys that share the limits meanwhile; 1 by default.
    pub replicas: Option<Number>,
    /// `redis`: the sidecar's `AUTH_TOKEN`.
    pub auth_token: Option<Secret>,
    /// Keeps the counters apart from those of other deployments on the same Redis, and from those of other filters in
    /// the same Envoy; `""` by default.
    pub namespace: String,
    /// The most identities that this Envoy counts at a time; 65536 by default.
    pub max_identities: Option<Number>,
}

/// A type of store.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StoreType {
    /// This Envoy process counts, for all its workers.
    #[default]
    Local,
    /// Redis counts, through the sidecar, for all Envoys that use it.
    Redis,
}

/// What happens to a request if the store does not answer in time.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The request is forwarded.
    Allow,
    /// The request is answered 503.
    Deny,
    /// This Envoy enforces its share of the limits by itself.
    #[default]
    Local,
}
