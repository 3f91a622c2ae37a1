//! The store that counts use, checked.

use super::error::{Path, Problems, quoted};
use super::raw;
use super::secret::Secret;
use crate::quantity::Millis;
use crate::store::keys::{MAX_NAMESPACE_BYTES, is_namespace};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// The default of the longest time that a request waits for the sidecar, in milliseconds.
const DEFAULT_TIMEOUT_MS: u64 = 50;
/// The largest timeout, a minute: a client that waits longer has given up.
const MAX_TIMEOUT_MS: u64 = Millis::MINUTE.get();
/// The most Envoys that share one limit.
const MAX_REPLICAS: u64 = 10_000;
/// The default of the most identities that the local store counts at a time.
const DEFAULT_MAX_IDENTITIES: u64 = 65_536;
/// The largest value of `max_identities`, 2²⁰: the local store allocates its memory once and never frees it.
const MAX_IDENTITIES: u64 = 1 << 20;

/// The store that counts use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// A store in this Envoy process.
    Local(LocalStore),
    /// Redis, through the sidecar.
    Redis(RedisStore),
}

/// A store in this Envoy process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalStore {
    /// The most identities to count at a time, 1 to 2²⁰. The store allocates memory for all of them at once.
    pub max_identities: NonZeroU32,
}

/// A store behind the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisStore {
    /// Envoy's name for the cluster of the sidecar.
    pub cluster: String,
    /// The longest time that a request waits for an answer, 1 ms to a minute.
    pub timeout: Duration,
    /// The token that the sidecar expects after `authorization: Bearer`.
    pub auth_token: Option<Secret>,
    /// The treatment of a request if no answer comes in time.
    pub on_error: OnError,
}

/// The treatment of a request if the store does not answer in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The request is forwarded.
    Allow,
    /// The request is answered 503.
    Deny,
    /// This Envoy enforces its share of the limits.
    Local(Share),
}

/// An Envoy's share of the limits while it counts alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The number of Envoys that share each limit.
    pub replicas: NonZeroU32,
    /// The store that counts this share.
    pub local: LocalStore,
}

impl Store {
    /// The local store, if it counts always or while the sidecar does not answer.
    pub const fn local(&self) -> Option<LocalStore> {
        match self {
            Self::Local(local)
            | Self::Redis(RedisStore { on_error: OnError::Local(Share { local, .. }), .. }) => Some(*local),
            Self::Redis(_) => None,
        }
    }

    /// Checks the fields at `path`, also those of the other type, because changing one word puts them into effect.
    #[inline(never)]
    pub(super) fn new(raw: raw::Store, path: &Path<'_>, problems: &mut Problems) -> Option<Self> {
        let timeout = problems.whole_or(
            &path.member("timeout_ms"),
            raw.timeout_ms,
            1..=MAX_TIMEOUT_MS,
            DEFAULT_TIMEOUT_MS,
        );
        let replicas = problems.whole_or(&path.member("replicas"), raw.replicas, 1..=MAX_REPLICAS, 1);
        let identities = problems.whole_or(
            &path.member("max_identities"),
            raw.max_identities,
            1..=MAX_IDENTITIES,
            DEFAULT_MAX_IDENTITIES,
        );
        let cluster = cluster(raw.cluster, raw.kind, &path.member("cluster"), problems);
        let auth_token = auth_token(raw.auth_token, &path.member("auth_token"), problems);
        let local = LocalStore { max_identities: non_zero(identities?)? };
        let share = Share { replicas: non_zero(replicas?)?, local };
        match raw.kind {
            raw::StoreType::Local => Some(Self::Local(local)),
            raw::StoreType::Redis => Some(Self::Redis(RedisStore {
                cluster: cluster?,
                timeout: Duration::from_millis(timeout?),
                auth_token,
                on_error: match raw.on_error {
                    raw::OnError::Allow => OnError::Allow,
                    raw::OnError::Deny => OnError::Deny,
                    raw::OnError::Local => OnError::Local(share),
                },
            })),
        }
    }
}

/// Checks the namespace in `given`, which becomes part of every key.
pub(super) fn namespace(given: &str, store: &Path<'_>, problems: &mut Problems) -> Arc<str> {
    if !is_namespace(given) {
        let expected = format!("at most {MAX_NAMESPACE_BYTES} letters, digits, \".\", \"_\" and \"-\"");
        problems.expected(&store.member("namespace"), expected, quoted(given));
    }
    given.into()
}

/// `value`, which is never zero.
fn non_zero(value: u64) -> Option<NonZeroU32> {
    u32::try_from(value).ok().and_then(NonZeroU32::new)
}

fn cluster(
    given: Option<String>,
    kind: raw::StoreType,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<String> {
    match given {
        Some(name) if name.trim().is_empty() => {
            problems.expected(path, "the name of an Envoy cluster", quoted(&name));
            None
        }
        None if matches!(kind, raw::StoreType::Redis) => {
            problems.expected(path, "the name of the sidecar's Envoy cluster", "none");
            None
        }
        given => given,
    }
}

/// Checks that a header can carry the token.
fn auth_token(given: Option<Secret>, path: &Path<'_>, problems: &mut Problems) -> Option<Secret> {
    let given = given?;
    let fits = !given.expose().is_empty() && given.expose().bytes().all(|b| b.is_ascii_graphic());
    if !fits {
        problems.add(path, "expected a token of visible ASCII characters");
    } else if given.is_placeholder() {
        problems.add(path, "expected a token, found a placeholder that nothing has filled in");
    }
    Some(given)
}
