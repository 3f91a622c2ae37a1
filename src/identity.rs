//! Who sent a request: an id made from the first source that yields a value.
//!
//! Ids go to the store, the logs and the metrics, so that they must not tell the key: they are SHA-256 digests, and
//! the value itself is dropped as soon as it has been hashed. What an identity may do is [`crate::config`]'s business.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
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

/// Where a request says who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The request header of this name, in lower case.
    Header(String),
    /// The client's address as Envoy trusts it, without its port.
    ClientIp,
    /// Dynamic metadata: the namespace of the filter that set it, then the path in it. Text is hashed as it is; other
    /// values are hashed in the form in which Envoy hands them over.
    Metadata(Vec<String>),
}

/// Who sent a request. Holds the id only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    id: Arc<str>,
}

impl Identity {
    /// The id: 64 hexadecimal digits, the value's SHA-256, so that `printf %s KEY | sha256sum` tells it. For an
    /// address `ip-` stands before the digest, so that no header can pose as an address.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The identity of an API key.
    pub fn of_key(key: &str) -> Self {
        Self { id: sha256_hex(key.as_bytes()).into() }
    }

    /// The identity of a client's address, without a port.
    fn of_address(address: &str) -> Self {
        Self { id: format!("ip-{}", sha256_hex(address.as_bytes())).into() }
    }
}

/// Who sent `request`: the first of `sources` that yields a value that is not empty decides.
pub fn find(sources: &[Source], request: &impl RequestView) -> Option<Identity> {
    sources.iter().find_map(|source| source.identity(request))
}

impl Source {
    fn identity(&self, request: &impl RequestView) -> Option<Identity> {
        match self {
            Self::Header(name) => {
                let value = request.header(name)?;
                Some(without_bearer(&value)).filter(|key| !key.is_empty()).map(Identity::of_key)
            }
            Self::ClientIp => {
                let address = request.property(&["source", "address"])?;
                let address = without_port(std::str::from_utf8(&address).ok()?.trim());
                Some(address)
                    .filter(|address| !address.is_empty())
                    .map(|address| Identity::of_address(&address))
            }
            Self::Metadata(path) => {
                let path: Vec<_> = ["metadata", "filter_metadata"]
                    .into_iter()
                    .chain(path.iter().map(String::as_str))
                    .collect();
                let value = request.property(&path).filter(|value| !value.is_empty())?;
                Some(Identity { id: sha256_hex(&value).into() })
            }
        }
    }
}

/// `value` without the scheme of bearer tokens, whose name has no case (RFC 9110, section 11.1), and without white
/// space around it.
fn without_bearer(value: &str) -> &str {
    const SCHEME: &str = "bearer";
    let value = value.trim();
    match value.split_at_checked(SCHEME.len()) {
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case(SCHEME)
                && (rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_whitespace())) =>
        {
            rest.trim_start()
        }
        _ => value,
    }
}

/// The address in `1.2.3.4:5678` or `[::1]:80`, written in one way only: an IPv4 address that arrived over an IPv6
/// socket is the same client. What is no address (a unix socket's path) stays as it is.
fn without_port(address: &str) -> String {
    let ip = address.parse().map(|socket: SocketAddr| socket.ip()).or_else(|_| address.parse::<IpAddr>());
    ip.map_or_else(|_| address.to_owned(), |ip| ip.to_canonical().to_string())
}

/// The SHA-256 of `bytes` in lower-case hexadecimal.
fn sha256_hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let mut hex = String::with_capacity(64);
    for byte in digest {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// SHA-256 of `test-key-1`, from sha256sum.
    const TEST_KEY_1: &str = "1255558df586ae279007fffa27ec17451d1507f7ac5442add9ffbc070f9f623b";

    #[derive(Default)]
    struct Request {
        headers: BTreeMap<&'static str, String>,
        properties: BTreeMap<Vec<String>, Vec<u8>>,
    }

    impl RequestView for Request {
        fn header(&self, name: &str) -> Option<String> {
            self.headers.get(name).cloned()
        }

        fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
            self.properties.get(&path.iter().map(ToString::to_string).collect::<Vec<_>>()).cloned()
        }
    }

    impl Request {
        fn with_header(name: &'static str, value: &str) -> Self {
            Self { headers: [(name, value.to_owned())].into(), ..Self::default() }
        }

        fn with_property(path: &[&str], value: &str) -> Self {
            let path = path.iter().map(ToString::to_string).collect();
            Self { properties: [(path, value.as_bytes().to_vec())].into(), ..Self::default() }
        }
    }

    fn header(name: &str) -> Source {
        Source::Header(name.to_owned())
    }

    fn id(sources: &[Source], request: &Request) -> Option<String> {
        find(sources, request).map(|identity| identity.id().to_string())
    }

    #[test]
    fn a_key_is_its_digest_with_and_without_bearer() {
        for value in
            ["test-key-1", "Bearer test-key-1", "bearer   test-key-1", " BEARER\ttest-key-1 ", "  test-key-1"]
        {
            let request = Request::with_header("authorization", value);
            assert_eq!(id(&[header("authorization")], &request).as_deref(), Some(TEST_KEY_1), "{value:?}");
        }
    }

    #[test]
    fn bearer_is_a_word() {
        let id = |value| id(&[header("authorization")], &Request::with_header("authorization", value));
        assert_eq!(id("bearertoken"), Some(sha256_hex(b"bearertoken")));
        assert_eq!(id("Basic dTpw"), Some(sha256_hex(b"Basic dTpw")));
        assert_eq!(id("Bearer"), None);
        assert_eq!(id("Bearer  "), None);
    }

    #[test]
    fn the_first_source_with_a_value_decides() {
        let sources = [header("authorization"), header("x-api-key"), Source::ClientIp];
        let mut request = Request::with_property(&["source", "address"], "10.0.0.1:5");
        request.headers.insert("authorization", "Bearer ".to_owned());
        request.headers.insert("x-api-key", "test-key-1".to_owned());
        assert_eq!(id(&sources, &request).as_deref(), Some(TEST_KEY_1));
        request.headers.clear();
        assert_eq!(id(&sources, &request), Some(format!("ip-{}", sha256_hex(b"10.0.0.1"))));
        assert_eq!(id(&sources, &Request::default()), None);
    }

    #[test]
    fn an_address_has_no_port() {
        for (address, expected) in [
            ("1.2.3.4:5678", "1.2.3.4"),
            ("1.2.3.4", "1.2.3.4"),
            ("[::1]:80", "::1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[::ffff:1.2.3.4]:80", "1.2.3.4"),
            ("/run/app.sock", "/run/app.sock"),
        ] {
            let request = Request::with_property(&["source", "address"], address);
            let expected = format!("ip-{}", sha256_hex(expected.as_bytes()));
            assert_eq!(id(&[Source::ClientIp], &request), Some(expected), "{address}");
        }
    }

    #[test]
    fn a_header_cannot_pose_as_an_address() {
        let address =
            id(&[Source::ClientIp], &Request::with_property(&["source", "address"], "1.2.3.4:5")).unwrap();
        for value in ["1.2.3.4", "1.2.3.4:5", &address] {
            assert_ne!(id(&[header("a")], &Request::with_header("a", value)), Some(address.clone()));
        }
    }

    #[test]
    fn metadata_is_found_under_its_filter() {
        let path = ["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", "payload", "sub"];
        let source =
            Source::Metadata(["envoy.filters.http.jwt_authn", "payload", "sub"].map(str::to_owned).to_vec());
        assert_eq!(
            id(std::slice::from_ref(&source), &Request::with_property(&path, "test-key-1")).as_deref(),
            Some(TEST_KEY_1)
        );
        assert_eq!(id(&[source], &Request::with_property(&path, "")), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn no_identity_shows_its_key(key in "[!-~]{6,40}") {
            let identity = find(&[header("a")], &Request::with_header("a", &key)).unwrap();
            let shown = format!("{identity:?}");
            prop_assert!(!shown.contains(&key), "{}", shown);
        }

        #[test]
        fn any_value_has_one_id(value in "\\PC{0,40}", address in "\\PC{0,40}") {
            let mut request = Request::with_property(&["source", "address"], &address);
            request.headers.insert("a", value);
            for source in [header("a"), Source::ClientIp] {
                let first = find(std::slice::from_ref(&source), &request);
                prop_assert_eq!(&first, &find(&[source], &request));
                let well_formed = first.is_none_or(|identity| {
                    let digest = identity.id().strip_prefix("ip-").unwrap_or(identity.id());
                    digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
                });
                prop_assert!(well_formed);
            }
        }
    }
}
