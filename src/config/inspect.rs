//! Where the filter answers about itself, checked, and to whom.

use super::error::{Path, Problems, quoted};
use super::raw;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// The longest path, in bytes.
const MAX_PATH_BYTES: usize = 256;

/// A path at which the filter answers about itself, and the digest of the token that it wants to see.
#[derive(Clone, PartialEq, Eq)]
pub struct Inspect {
    path: String,
    token: [u8; 32],
}

impl Inspect {
    /// Whether a request to `path`, which may have a query, is one to the filter.
    pub fn is_at(&self, path: &str) -> bool {
        path.split(['?', '#']).next() == Some(self.path.as_str())
    }

    /// Whether the header `authorization` carries the token. How long that takes says nothing about the token: the
    /// digests are compared to their ends, and nobody can choose a digest.
    pub fn admits(&self, authorization: &str) -> bool {
        const SCHEME: &str = "Bearer ";
        let sent = authorization.split_at_checked(SCHEME.len());
        let Some((_, token)) = sent.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME)) else {
            return false;
        };
        let digest = Sha256::digest(token.trim().as_bytes());
        let differences = self.token.iter().zip(digest).fold(0, |all, (one, other)| all | (one ^ other));
        std::hint::black_box(differences) == 0
    }
}

impl fmt::Debug for Inspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inspect({})", self.path)
    }
}

/// Checks `raw`, which is at `path`.
pub(super) fn inspect(raw: &raw::Inspect, path: &Path<'_>, problems: &mut Problems) -> Option<Inspect> {
    const EXPECTED: &str = "a path that begins with \"/\", without a query";
    let at = path.member("path");
    let found = raw.path.as_deref().map_or_else(|| "none".to_owned(), quoted);
    let is_path = |given: &&str| {
        given.len() > 1
            && given.len() <= MAX_PATH_BYTES
            && given.starts_with('/')
            && given.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'))
    };
    let given = raw.path.as_deref().filter(is_path);
    if given.is_none() {
        problems.expected(&at, EXPECTED, found);
    }
    let token = raw.token_sha256.as_ref().and_then(|token| digest(token.expose()));
    if token.is_none() {
        problems.add(&path.member("token_sha256"), "expected 64 hexadecimal digits");
    }
    let of_nothing = token.filter(|token| token[..] == Sha256::digest(b"")[..]);
    if of_nothing.is_some() {
        let problem =
            "expected the digest of a token, found that of no text: the token was empty when it was made";
        problems.add(&path.member("token_sha256"), problem);
    }
    Some(Inspect { path: given?.to_owned(), token: token.filter(|_| of_nothing.is_none())? })
}

/// The bytes of a digest in hexadecimal.
fn digest(text: &str) -> Option<[u8; 32]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let byte = |[high, low]: &[u8; 2]| {
        let digit = |letter: u8| char::from(letter).to_digit(16);
        u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
    };
    pairs.iter().map(byte).collect::<Option<Vec<_>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf %s open-sesame | sha256sum`
    const SHA256: &str = "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7";

    fn at(path: &str) -> Inspect {
        Inspect { path: path.to_owned(), token: Sha256::digest(b"open-sesame").into() }
    }

    #[test]
    fn only_the_very_path_is_the_filters() {
        let inspect = at("/inspect");
        assert!(inspect.is_at("/inspect") && inspect.is_at("/inspect?x=1"));
        for other in ["/", "/inspect/", "/Inspect", "/inspect/x", "/v1/inspect", ""] {
            assert!(!inspect.is_at(other), "{other}");
        }
    }

    #[test]
    fn only_the_token_admits() {
        let inspect = at("/inspect");
        assert!(inspect.admits("Bearer open-sesame") && inspect.admits("bearer open-sesame "));
        for other in ["", "open-sesame", "Basic open-sesame", "Bearer ", "Bearer open-sesam", SHA256] {
            assert!(!inspect.admits(other), "{other}");
        }
        assert!(!format!("{inspect:?}").contains("d7"));
    }

    #[test]
    fn digests_are_read_in_both_cases() {
        let expected: [u8; 32] = Sha256::digest(b"open-sesame").into();
        let hex: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest(&hex), Some(expected));
        assert_eq!(digest(&hex.to_uppercase()), Some(expected));
        for other in ["", "d7", hex.get(1..).unwrap(), &hex.replace('a', "g"), &format!("{hex}00")] {
            assert_eq!(digest(other), None, "{other}");
        }
    }
}
