//! Requests that have the same identity, and requests that do not.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

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
fn bearer_must_be_a_whole_word() {
    let id = |value| id(&[header("authorization")], &Request::with_header("authorization", value));
    assert_eq!(id("bearertoken"), Some(sha256_hex(b"bearertoken")));
    assert_eq!(id("Basic dTpw"), Some(sha256_hex(b"Basic dTpw")));
    assert_eq!(id("Bearer"), None);
    assert_eq!(id("Bearer  "), None);
}

#[test]
fn the_first_source_with_a_value_decides() {
    let sources = [header("authorization"), header("x-api-key"), Source::ClientIp(Prefixes::default())];
    let mut request = Request::with_property(&["source", "address"], "10.0.0.1:5");
    request.headers.insert("authorization", "Bearer ".to_owned());
    request.headers.insert("x-api-key", "test-key-1".to_owned());
    assert_eq!(id(&sources, &request).as_deref(), Some(TEST_KEY_1));
    request.headers.clear();
    assert_eq!(id(&sources, &request), Some(format!("ip-{}", sha256_hex(b"10.0.0.1"))));
    assert_eq!(id(&sources, &Request::default()), None);
}

#[test]
fn the_port_of_an_address_is_ignored() {
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
        assert_eq!(id(&[Source::ClientIp(Prefixes::default())], &request), Some(expected), "{address}");
    }
}

#[test]
fn a_header_cannot_pose_as_an_address() {
    let address = id(
        &[Source::ClientIp(Prefixes::default())],
        &Request::with_property(&["source", "address"], "1.2.3.4:5"),
    )
    .unwrap();
    for value in ["1.2.3.4", "1.2.3.4:5", &address] {
        assert_ne!(id(&[header("a")], &Request::with_header("a", value)), Some(address.clone()));
    }
}

#[test]
fn metadata_is_looked_up_under_its_filter() {
    let path = ["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", "payload", "sub"];
    let source =
        Source::Metadata(["envoy.filters.http.jwt_authn", "payload", "sub"].map(str::to_owned).to_vec());
    assert_eq!(
        id(std::slice::from_ref(&source), &Request::with_property(&path, "test-key-1")).as_deref(),
        Some(TEST_KEY_1)
    );
    assert_eq!(id(&[source], &Request::with_property(&path, "")), None);
}

#[test]
fn a_segment_of_the_path_is_decoded() {
    let second = Source::PathSegment(NonZeroUsize::new(2).unwrap());
    let id = |path| id(std::slice::from_ref(&second), &Request::with_header(":path", path));
    for path in
        ["/tenants/test-key-1/v1", "//tenants//test-key-1", "/t/test%2dkey-1?x=/y/z", "/t/test-key-1#/a"]
    {
        assert_eq!(id(path).as_deref(), Some(TEST_KEY_1), "{path}");
    }
    assert_eq!(id("/tenants"), None);
    assert_eq!(id("/tenants?/a/b"), None);
}

#[test]
fn a_query_parameter_is_decoded() {
    let source = Source::Query("the key".to_owned());
    let id = |path| id(std::slice::from_ref(&source), &Request::with_header(":path", path));
    for path in
        ["/v1?the+key=test-key-1", "/v1?a=b&the%20key=test%2Dkey-1&the+key=other#x", "?the key=test-key-1"]
    {
        assert_eq!(id(path).as_deref(), Some(TEST_KEY_1), "{path}");
    }
    for path in ["/v1", "/v1?the+key", "/v1?the+key=", "/v1#?the+key=a", "/the+key=test-key-1"] {
        assert_eq!(id(path), None, "{path}");
    }
}

#[test]
fn a_constant_is_the_same_for_all_requests_and_is_no_key() {
    let constant = Source::Constant("test-key-1".to_owned());
    let found = id(std::slice::from_ref(&constant), &Request::default());
    assert_eq!(found, Some(format!("constant-{TEST_KEY_1}")));
}

#[test]
fn a_combination_needs_all_its_parts_and_has_the_key_of_its_first() {
    let both = Source::All(vec![header("a"), header("b")]);
    let found = |a: Option<&str>, b: Option<&str>| {
        let given =
            [("a", a), ("b", b)].into_iter().filter_map(|(name, value)| Some((name, value?.to_owned())));
        let request = Request { headers: given.collect(), ..Request::default() };
        find(std::slice::from_ref(&both), &request)
    };
    let one = found(Some("x"), Some("y")).unwrap();
    assert!(one.id().starts_with("all-"));
    assert_eq!(one.key_id(), Identity::of_key("x").id());
    let others = [found(Some("y"), Some("x")), found(Some("x"), Some("z")), found(Some("xy"), Some("y"))];
    assert!(others.iter().all(|other| other.as_ref().unwrap().id() != one.id()));
    assert_eq!(found(Some("x"), Some("y")).unwrap(), one);
    assert_eq!([found(Some("x"), None), found(None, Some("y"))], [None, None]);
}

#[test]
fn ids_depend_on_the_secret() {
    // RFC 4231, test case 2.
    let secret = HashSecret::new("Jefe").unwrap();
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(secret.hash("what do ya want for nothing?"), expected);
    let other = HashSecret::new("Jeff").unwrap();
    assert_ne!(other.hash("a"), secret.hash("a"));
    assert_eq!(format!("{secret:?}"), "[hidden]");
    assert_eq!(secret, HashSecret::new("Jefe").unwrap());
    assert_ne!(secret, other);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_identity_reveals_its_key(key in "[!-~]{6,40}") {
        let identity = find(&[header("a")], &Request::with_header("a", &key)).unwrap();
        let shown = format!("{identity:?}");
        prop_assert!(!shown.contains(&key), "{}", shown);
    }

    #[test]
    fn any_value_has_one_id(value in "\\PC{0,40}", address in "\\PC{0,40}") {
        let mut request = Request::with_property(&["source", "address"], &address);
        request.headers.insert("a", value);
        for source in [header("a"), Source::ClientIp(Prefixes::default())] {
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
