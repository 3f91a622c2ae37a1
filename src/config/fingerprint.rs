//! Which configuration it is, in a few letters: metrics and people compare it, and nobody reads a key out of it.

use sha2::{Digest as _, Sha256};
use std::fmt;

/// The first 64 bits of the SHA-256 of a configuration, as Envoy delivers it. Its text has 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// That of the configuration in `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let first = digest.first_chunk::<8>().copied().unwrap_or_default();
        Self(u64::from_be_bytes(first))
    }

    /// As a number.
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// The one with this number.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_beginning_of_the_sha_256() {
        // printf %s '{}' | sha256sum
        assert_eq!(Fingerprint::of(b"{}").to_string(), "44136fa355b3678a");
        assert_ne!(Fingerprint::of(b"{}"), Fingerprint::of(b"{} "));
    }
}
