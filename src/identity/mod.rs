//! The sender of a request: an id, made from the first source that yields a value.
//!
//! Ids go to the store, the logs and the metrics, so they must not reveal the key: they are SHA-256 digests, and the
//! filter drops the value itself as soon as it has hashed it. An attacker with a list of likely values could still find
//! the value of a digest, unless a [`HashSecret`] is set. [`crate::policy`] has the limits of an identity.

mod claim;
mod network;
mod source;

pub use claim::{Claim, Claimed, ReadOnce, plain_name};
pub use network::Prefixes;
pub use source::{Place, Source};

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// The id of all requests in which no source yields a value.
pub const ANONYMOUS: &str = "anonymous";

/// The prefixes of the ids of what is no key, before their digests.
pub const KINDS: [&str; 4] = ["ip-", "constant-", "all-", "values-"];

/// The parts of a request that sources read.
pub trait RequestView {
    /// The value of the request header `name`, which is in lower case. Envoy joins several values.
    fn header(&self, name: &str) -> Option<String>;

    /// The value of an Envoy attribute, in the bytes of proxy-wasm.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;
}

/// The sender of a request. Contains ids only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    id: Arc<str>,
    /// The id to find in the configuration's keys: `id`, except for a combination.
    key_id: Arc<str>,
}

impl Identity {
    /// The id: the value's SHA-256 in 64 hexadecimal digits, which `printf %s KEY | sha256sum` prints. The digest has
    /// the prefix `ip-` for an address, `constant-` for a constant and `all-` for a combination, so that no header can
    /// pose as one.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The id of the presented key. For a combination, the id of its first part, so that every combination with a key
    /// has that key's limits.
    pub fn key_id(&self) -> &Arc<str> {
        &self.key_id
    }

    /// The identity of an API key.
    pub fn of_key(key: &str) -> Self {
        Self::of_bytes(key.as_bytes())
    }

    fn of_bytes(value: &[u8]) -> Self {
        Self::with_id(sha256_hex(value))
    }

    /// The identity of a value that is no key. The prefix `kind` keeps it apart from all keys.
    fn of_kind(kind: &str, value: &str) -> Self {
        Self::with_id(format!("{kind}-{}", sha256_hex(value.as_bytes())))
    }

    fn with_id(id: String) -> Self {
        let id = Arc::from(id);
        Self { key_id: Arc::clone(&id), id }
    }

    /// The identity of all of `parts` together. None if there are no parts.
    fn combined(parts: &[Self]) -> Option<Self> {
        let ids: Vec<&str> = parts.iter().map(|part| &*part.id).collect();
        let key_id = Arc::clone(&parts.first()?.key_id);
        Some(Self { key_id, ..Self::of_kind("all", &ids.join(" ")) })
    }
}

/// The sender of `request`. A value of a key that `is_known` wins over every other, in whatever source it is, so that
/// junk beside a key changes nothing; else the first value of the first source that takes any counts. An empty value is
/// none.
pub fn find(
    sources: &[Source],
    request: &(impl RequestView + ?Sized),
    is_known: impl Fn(&Identity) -> bool,
) -> Option<Identity> {
    let mut first = None;
    for Source { place, known_only } in sources {
        if first.is_some() && !place.may_be_key() {
            continue;
        }
        for candidate in place.candidates(request) {
            if is_known(&candidate) {
                return Some(candidate);
            }
            if first.is_none() && !known_only {
                first = Some(candidate);
            }
        }
    }
    first
}

/// The sender of `request` where no key is known, as [`find`] has it: no source is read after the first that yields a
/// value.
pub fn first(sources: &[Source], request: &(impl RequestView + ?Sized)) -> Option<Identity> {
    let sources = sources.iter().filter(|source| !source.known_only);
    sources.map(|source| source.place.candidates(request)).find_map(|found| found.into_iter().next())
}

/// A secret with which ids are hashed once more before they leave the filter.
#[derive(Clone)]
pub struct HashSecret(Hmac<Sha256>);

impl HashSecret {
    /// The secret `text`.
    pub fn new(text: &str) -> Option<Self> {
        Hmac::new_from_slice(text.as_bytes()).ok().map(Self)
    }

    /// The HMAC-SHA256 of `id`, in lower-case hexadecimal.
    pub fn hash(&self, id: &str) -> String {
        hex(&self.0.clone().chain_update(id.as_bytes()).finalize().into_bytes())
    }
}

impl fmt::Debug for HashSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl PartialEq for HashSecret {
    /// Two secrets are equal if they make the same ids.
    fn eq(&self, other: &Self) -> bool {
        self.hash("") == other.hash("")
    }
}

/// The SHA-256 of `bytes` in lower-case hexadecimal.
fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or_default();
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

#[cfg(test)]
mod tests;
