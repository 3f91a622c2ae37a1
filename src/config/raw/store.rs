//! The fields of `store`.

use super::Number;
use crate::config::secret::Secret;
use serde::Deserialize;

/// Where use is counted. The fields that only one type uses may stand beside the other, so that changing the type is
/// changing one word.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Store {
    /// Which store.
    #[serde(rename = "type")]
    pub kind: StoreType,
    /// `redis`: Envoy's name for the cluster that is the sidecar. Needed.
    pub cluster: Option<String>,
    /// `redis`: how long a request waits for the store, in milliseconds; 50 by default.
    pub timeout_ms: Option<Number>,
    /// `redis`: what happens when the store does not answer in time.
    pub on_error: OnError,
    /// `redis` with `on_error` `local`: how many Envoys share the limits meanwhile; 1 by default.
    pub replicas: Option<Number>,
    /// `redis`: the sidecar's `AUTH_TOKEN`.
    pub auth_token: Option<Secret>,
    /// How many identities this Envoy counts at a time; 65536 by default.
    pub max_identities: Option<Number>,
}

/// A kind of store.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StoreType {
    /// This Envoy process, all its workers.
    #[default]
    Local,
    /// Redis by way of the sidecar: all Envoys that use it.
    Redis,
}

/// What happens to a request whose limits could not be asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It is forwarded.
    Allow,
    /// It is answered 503.
    Deny,
    /// This Envoy enforces its share of the limits by itself.
    #[default]
    Local,
}
