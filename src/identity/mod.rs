//! Who sent a request: an id made from the first source that yields a value.
//!
//! Ids go to the store, the logs and the metrics, so that they must not tell the key: they are SHA-256 digests, and
//! the value itself is dropped as soon as it has been hashed. Who knows likely values could still find a digest's;
//! with a [`HashSecret`] nobody can. What an identity may do is [`crate::config`]'s business.

mod network;
mod source;

pub use network::Prefixes;
pub use source::Source;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// The id of everybody in whose requests no source yields a value.
pub const ANONYMOUS: &str = "anonymous";

/// What a source can see of a request.
pub trait RequestView {
    /// The value of the request header `name`, which is in lower case; several are joined as Envoy joins them.
    fn header(&self, name: &str) -> Option<String>;

    /// The value of an Envoy attribute, as the bytes that a proxy-wasm host answers.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;
}

/// Who sent a request. Holds ids only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    id: Arc<str>,
    /// What the configuration's keys are compared with: `id`, except for a combination.
    key_id: Arc<str>,
}

impl Identity {
    /// The id: 64 hexadecimal digits, the value's SHA-256, so that `printf %s KEY | sha256sum` tells it. For an
    /// address `ip-` stands before the digest, for a constant `constant-` and for a combination `all-`, so that no
    /// header can pose as one.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The id of the key that was presented, if one was: for a combination, that of its first part, so that what a key
    /// may do holds for each of its combinations.
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

    /// The identity of a value that is no key and must not be taken for one.
    fn of_kind(kind: &str, value: &str) -> Self {
        Self::with_id(format!("{kind}-{}", sha256_hex(value.as_bytes())))
    }

    fn with_id(id: String) -> Self {
        let id = Arc::from(id);
        Self { key_id: Arc::clone(&id), id }
    }

    /// The identity of all of `parts` together. None of no parts.
    fn of_all(parts: &[Self]) -> Option<Self> {
        let ids: Vec<&str> = parts.iter().map(|part| &*part.id).collect();
        let key_id = Arc::clone(&parts.first()?.key_id);
        Some(Self { key_id, ..Self::of_kind("all", &ids.join(" ")) })
    }
}

/// Who sent `request`: the first of `sources` that yields a value that is not empty decides.
pub fn find(sources: &[Source], request: &(impl RequestView + ?Sized)) -> Option<Identity> {
    sources.iter().find_map(|source| source.identity(request))
}

/// A secret that ids are hashed with once more before they leave the filter.
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
    /// Two secrets are the same if they make the same ids.
    fn eq(&self, other: &Self) -> bool {
        self.hash("") == other.hash("")
    }
}

/// The SHA-256 of `bytes` in lower-case hexadecimal.
fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests;
