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
    Place::Header(name.to_owned()).into()
}

fn client_ip() -> Source {
    Place::ClientIp(Prefixes::default()).into()
}

/// The identity if no key is known.
fn unknown(sources: &[Source], request: &Request) -> Option<Identity> {
    let found = find(sources, request, |_| false);
    assert_eq!(first(sources, request), found);
    found
}

fn id(sources: &[Source], request: &Request) -> Option<String> {
    unknown(sources, request).map(|identity| identity.id().to_string())
}

/// The id if `key` is the only known key.
fn id_among(key: &str, sources: &[Source], request: &Request) -> Option<String> {
    let known = Identity::of_key(key);
    let found = find(sources, request, |identity| identity.key_id() == known.id());
    found.map(|identity| identity.id().to_string())
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
fn of_a_signature_of_aws_only_the_id_of_its_key_is_one() {
    let key = Some(sha256_hex(b"AKIDEXAMPLE"));
    let sources = [header("authorization")];
    let of = |value: &str| id(&sources, &Request::with_header("authorization", value));
    for value in [
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/bedrock/aws4_request, \
         SignedHeaders=host;x-amz-date, Signature=fe5f80",
        "aws4-hmac-sha256 Credential=AKIDEXAMPLE/20260102/eu-west-1/bedrock/aws4_request,Signature=00",
        "AWS4-ECDSA-P256-SHA256 Credential=AKIDEXAMPLE/20260102/bedrock/aws4_request, Signature=3045",
        "AWS4-HMAC-SHA256 SignedHeaders=host, Signature=00, Credential=AKIDEXAMPLE/20260102/x",
    ] {
        assert_eq!(of(value), key, "{value}");
    }
    assert_eq!(of("AWS4-HMAC-SHA256 Signature=fe5f80"), None);
    // It hides no key beside it.
    let request = Request::with_header(
        "authorization",
        "AWS4-HMAC-SHA256 Credential=X/1, Signature=2, Bearer test-key-1",
    );
    assert_eq!(id_among("test-key-1", &sources, &request).as_deref(), Some(TEST_KEY_1));
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
    let sources = [header("authorization"), header("x-api-key"), client_ip()];
    let mut request = Request::with_property(&["source", "address"], "10.0.0.1:5");
    request.headers.insert("authorization", "Bearer ".to_owned());
    request.headers.insert("x-api-key", "test-key-1".to_owned());
    assert_eq!(id(&sources, &request).as_deref(), Some(TEST_KEY_1));
    request.headers.clear();
    assert_eq!(id(&sources, &request), Some(format!("ip-{}", sha256_hex(b"10.0.0.1"))));
    assert_eq!(id(&sources, &Request::default()), None);
}

#[test]
fn a_known_key_wins_wherever_it_is() {
    let sources =
        [header("authorization"), header("x-api-key"), Place::Query("key".to_owned()).into(), client_ip()];
    let request = |authorization: &str, api_key: &str, path: &str| {
        let mut request = Request::with_property(&["source", "address"], "10.0.0.1:5");
        let headers = [("authorization", authorization), ("x-api-key", api_key), (":path", path)];
        let given = headers.into_iter().filter(|(_, value)| !value.is_empty());
        request.headers.extend(given.map(|(name, value)| (name, value.to_owned())));
        request
    };
    for (authorization, api_key, path) in [
        ("Bearer test-key-1", "junk", "/"),
        ("Bearer junk", "test-key-1", "/"),
        ("Bearer junk, Bearer test-key-1", "", "/"),
        ("junk,bearer  test-key-1 ,more", "", "/"),
        ("junk,,test-key-1", "", "/"),
        ("", "junk, test-key-1", "/"),
        ("Basic test-key-1", "", "/"),
        ("junk, Token  test-key-1", "", "/"),
        ("junk", "", "/v1?key=junk;key=test-key-1"),
        ("", "", "/v1?a=b;key=test-key-1"),
        ("junk", "junk", "/v1?key=junk&a=b&key=test-key-1"),
        ("", "", "/v1?key=&key=test%2dkey-1"),
    ] {
        let found = id_among("test-key-1", &sources, &request(authorization, api_key, path));
        assert_eq!(found.as_deref(), Some(TEST_KEY_1), "{authorization:?} {api_key:?} {path}");
    }
    let first = id_among("test-key-1", &sources, &request("a, b", "c", "/v1?key=d"));
    assert_eq!(first, Some(sha256_hex(b"a")), "the first value counts if none is known");
    let with_comma = id_among("one, two", &sources, &request("Bearer one, two", "", "/"));
    assert_eq!(with_comma, Some(sha256_hex(b"one, two")), "a key may have a comma");
}

#[test]
fn all_who_send_very_many_values_are_one() {
    let sources = [header("authorization"), Place::Query("key".to_owned()).into()];
    let of = |header: &str, path: &str| {
        let mut request = Request::with_header(":path", path);
        request.headers.extend((!header.is_empty()).then(|| ("authorization", header.to_owned())));
        id_among("test-key-1", &sources, &request)
    };
    let values = |count: usize, junk: &str| format!("{}test-key-1", format!("{junk},").repeat(count));
    assert_eq!(of(&values(200, "a"), "/").as_deref(), Some(TEST_KEY_1));
    let together = of(&values(300, "a"), "/");
    assert_eq!(together, of(&values(400, "b"), "/"));
    assert_ne!(together, Some(sha256_hex(b"a")));
    let parameters = |junk: &str| format!("/?{}key=test-key-1", format!("key={junk}&").repeat(300));
    assert_eq!((of("", &parameters("a")), of("", &parameters("b"))), (together.clone(), together));
}

#[test]
fn a_source_of_known_keys_yields_no_others() {
    let known_only = |source: Source| Source { known_only: true, ..source };
    let sources = [known_only(header("authorization")), known_only(header("x-api-key")), client_ip()];
    let mut request = Request::with_property(&["source", "address"], "10.0.0.1:5");
    request.headers.insert("authorization", "Bearer invented".to_owned());
    let by_address = Some(format!("ip-{}", sha256_hex(b"10.0.0.1")));
    assert_eq!(id_among("test-key-1", &sources, &request), by_address);
    request.headers.insert("x-api-key", "test-key-1".to_owned());
    assert_eq!(id_among("test-key-1", &sources, &request).as_deref(), Some(TEST_KEY_1));
    assert_eq!(id_among("another", &sources[..2], &request), None);
}

#[test]
fn a_combination_is_known_by_any_value_of_its_first_part() {
    let both = Source::from(Place::All(vec![header("a").place, header("b").place]));
    let mut request = Request::with_header("a", "junk, test-key-1");
    request.headers.insert("b", "user".to_owned());
    let found = id_among("test-key-1", std::slice::from_ref(&both), &request);
    let plain = {
        let mut request = Request::with_header("a", "test-key-1");
        request.headers.insert("b", "user".to_owned());
        id(&[both], &request)
    };
    assert_eq!(found, plain);
}

#[test]
fn the_port_of_an_address_is_ignored() {
    for (address, expected) in [
        ("1.2.3.4:5678", "1.2.3.4"),
        ("1.2.3.4", "1.2.3.4"),
        ("[::1]:80", "::/64"),
        ("2001:DB8::1", "2001:db8::/64"),
        ("[2001:db8::2:3:4:5]:9", "2001:db8::/64"),
        ("[::ffff:1.2.3.4]:80", "1.2.3.4"),
        ("/run/app.sock", "/run/app.sock"),
    ] {
        let request = Request::with_property(&["source", "address"], address);
        let expected = format!("ip-{}", sha256_hex(expected.as_bytes()));
        assert_eq!(id(&[client_ip()], &request), Some(expected), "{address}");
    }
}

#[test]
fn a_header_cannot_pose_as_an_address() {
    let address = id(&[client_ip()], &Request::with_property(&["source", "address"], "1.2.3.4:5")).unwrap();
    for value in ["1.2.3.4", "1.2.3.4:5", &address] {
        assert_ne!(id(&[header("a")], &Request::with_header("a", value)), Some(address.clone()));
    }
}

#[test]
fn metadata_is_looked_up_under_its_filter() {
    let path = ["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", "payload", "sub"];
    let source = Source::from(Place::Metadata(
        ["envoy.filters.http.jwt_authn", "payload", "sub"].map(str::to_owned).to_vec(),
    ));
    assert_eq!(
        id(std::slice::from_ref(&source), &Request::with_property(&path, "test-key-1")).as_deref(),
        Some(TEST_KEY_1)
    );
    assert_eq!(id(&[source], &Request::with_property(&path, "")), None);
}

#[test]
fn a_segment_of_the_path_is_decoded() {
    let second = Source::from(Place::PathSegment(NonZeroUsize::new(2).unwrap()));
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
    let source = Source::from(Place::Query("the key".to_owned()));
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
    let constant = Source::from(Place::Constant("test-key-1".to_owned()));
    let found = id(std::slice::from_ref(&constant), &Request::default());
    assert_eq!(found, Some(format!("constant-{TEST_KEY_1}")));
}

#[test]
fn a_combination_needs_all_its_parts_and_has_the_key_of_its_first() {
    let both = Source::from(Place::All(vec![header("a").place, header("b").place]));
    let found = |a: Option<&str>, b: Option<&str>| {
        let given =
            [("a", a), ("b", b)].into_iter().filter_map(|(name, value)| Some((name, value?.to_owned())));
        let request = Request { headers: given.collect(), ..Request::default() };
        unknown(std::slice::from_ref(&both), &request)
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
        let identity = unknown(&[header("a")], &Request::with_header("a", &key)).unwrap();
        let shown = format!("{identity:?}");
        prop_assert!(!shown.contains(&key), "{}", shown);
    }

    #[test]
    fn any_value_has_one_id(value in "\\PC{0,40}", address in "\\PC{0,40}") {
        let mut request = Request::with_property(&["source", "address"], &address);
        request.headers.insert("a", value);
        for source in [header("a"), client_ip()] {
            let first = unknown(std::slice::from_ref(&source), &request);
            prop_assert_eq!(&first, &unknown(&[source], &request));
            let well_formed = first.is_none_or(|identity| {
                let digest = identity.id().strip_prefix("ip-").unwrap_or(identity.id());
                digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            });
            prop_assert!(well_formed);
        }
    }
}
