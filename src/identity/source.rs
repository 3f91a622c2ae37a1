//! Sources of identity: the places in a request that may show who sent it.

use super::{Identity, Prefixes, RequestView};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::num::NonZeroUsize;

/// The most values of one place that are candidates. A request with more has them for no honest reason, so all such
/// requests have one identity together, unless a known key is among the first.
const MAX_CANDIDATES: usize = 256;

/// A place in a request that may show who sent it, and which values of it count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The place.
    pub place: Place,
    /// Whether only values of known keys count.
    pub known_only: bool,
}

impl From<Place> for Source {
    /// A source whose every value counts.
    fn from(place: Place) -> Self {
        Self { place, known_only: false }
    }
}

/// A place in a request that may show who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The request header of this name, in lower case. Commas join several fields of one name, so each part of the
    /// value is a candidate, and so is the whole.
    Header(String),
    /// The network of the client's address as Envoy trusts it, without its port.
    ClientIp(Prefixes),
    /// Dynamic metadata: the namespace of the filter that set it, then the path in it. The id of text is that of the
    /// same key; other values are hashed in the form in which Envoy provides them.
    Metadata(Vec<String>),
    /// A segment of the path, decoded. Numbers start at one and skip empty segments.
    PathSegment(NonZeroUsize),
    /// The query parameters of this name, decoded.
    Query(String),
    /// The same for every request.
    Constant(String),
    /// All of these together; each must have a value.
    All(Vec<Self>),
}

impl Place {
    /// Whether a value of this place may be a key: an address and a constant never are.
    pub(super) fn may_be_key(&self) -> bool {
        match self {
            Self::ClientIp(_) | Self::Constant(_) => false,
            Self::Header(_) | Self::Metadata(_) | Self::PathSegment(_) | Self::Query(_) => true,
            Self::All(parts) => parts.first().is_some_and(Self::may_be_key),
        }
    }

    /// The identities that the request may have by this place. The first is the one that counts if none is known.
    pub(super) fn candidates(&self, request: &(impl RequestView + ?Sized)) -> Vec<Identity> {
        match self {
            Self::Header(name) => request.header(name).map(|value| of_header(&value)).unwrap_or_default(),
            Self::ClientIp(prefixes) => network(*prefixes, request).into_iter().collect(),
            Self::Metadata(path) => metadata(path, request).into_iter().collect(),
            Self::PathSegment(number) => {
                let path = request.header(":path").unwrap_or_default();
                segment(&path, *number).and_then(|segment| of_text(&segment)).into_iter().collect()
            }
            Self::Query(name) => {
                let path = request.header(":path").unwrap_or_default();
                of_values(parameters(&path, name))
            }
            Self::Constant(text) => vec![Identity::of_kind("constant", text)],
            Self::All(parts) => combinations(parts, request),
        }
    }
}

/// The candidates in a header's `value`: each of its parts, the whole, since a key may have a comma, and what follows a
/// scheme other than `Bearer`. Of a signature of AWS only the id of its key is one: the rest is another for each
/// request.
fn of_header(value: &str) -> Vec<Identity> {
    let parts = || value.split(',').map(without_bearer);
    if parts().any(is_aws) {
        let others = || parts().filter_map(of_aws);
        return of_values(others().chain(others().filter_map(behind_scheme)));
    }
    let whole = value.contains(',').then(|| without_bearer(value));
    of_values(parts().chain(whole).chain(parts().filter_map(behind_scheme)))
}

/// Whether `part` begins a signature of AWS: `AWS4-HMAC-SHA256 Credential={key}/{date}/…, SignedHeaders=…,
/// Signature=…`.
///
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-authentication-methods.html>
fn is_aws(part: &str) -> bool {
    const SCHEME: &str = "aws4-";
    part.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

/// The candidate in a `part` of a header with a signature of AWS: of the signature, the id of the key, which nothing
/// here verifies.
fn of_aws(part: &str) -> Option<&str> {
    let part = if is_aws(part) { behind_scheme(part)? } else { part };
    let (name, value) = part.split_once('=').unwrap_or(("", part));
    match name.trim().to_ascii_lowercase().as_str() {
        "credential" => value.split('/').next(),
        "signedheaders" | "signature" => None,
        _ => Some(part),
    }
}

/// What follows a scheme in `part`, or another first word.
fn behind_scheme(part: &str) -> Option<&str> {
    part.split_once(char::is_whitespace).map(|(_, rest)| rest.trim_start())
}

/// The candidates that are `values` of one place. An empty value is none.
fn of_values(values: impl Iterator<Item = impl AsRef<str>>) -> Vec<Identity> {
    let mut candidates: Vec<_> =
        values.filter_map(|value| of_text(value.as_ref())).take(MAX_CANDIDATES.saturating_add(1)).collect();
    if candidates.len() > MAX_CANDIDATES {
        candidates.insert(0, Identity::of_kind("values", ""));
    }
    candidates
}

fn network(prefixes: Prefixes, request: &(impl RequestView + ?Sized)) -> Option<Identity> {
    let address = request.property(&["source", "address"])?;
    let network = prefixes.network(std::str::from_utf8(&address).ok()?.trim());
    Some(network).filter(|network| !network.is_empty()).map(|network| Identity::of_kind("ip", &network))
}

fn metadata(path: &[String], request: &(impl RequestView + ?Sized)) -> Option<Identity> {
    metadata_bytes(path, request).map(|value| Identity::of_bytes(&value))
}

/// The value at `path` in dynamic metadata, in the bytes of proxy-wasm. An empty value is none.
pub(super) fn metadata_bytes(path: &[String], request: &(impl RequestView + ?Sized)) -> Option<Vec<u8>> {
    let path: Vec<_> =
        ["metadata", "filter_metadata"].into_iter().chain(path.iter().map(String::as_str)).collect();
    request.property(&path).filter(|value| !value.is_empty())
}

/// Each candidate of the first part, whose key counts, with the first candidate of every other part.
fn combinations(parts: &[Place], request: &(impl RequestView + ?Sized)) -> Vec<Identity> {
    let Some((first, others)) = parts.split_first() else { return Vec::new() };
    let others: Option<Vec<_>> =
        others.iter().map(|part| part.candidates(request).into_iter().next()).collect();
    let Some(others) = others else { return Vec::new() };
    let combined = |first: Identity| Identity::combined(&[&[first][..], &others].concat());
    first.candidates(request).into_iter().filter_map(combined).collect()
}

fn of_text(text: &str) -> Option<Identity> {
    Some(text).filter(|text| !text.is_empty()).map(Identity::of_key)
}

/// `value` without the scheme `Bearer`, in any case (RFC 9110, section 11.1), and without white space around it.
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

/// A segment of `path`, decoded: encoding a segment differently does not change it.
fn segment(path: &str, number: NonZeroUsize) -> Option<Cow<'_, str>> {
    let path = path.split(['?', '#']).next()?;
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    Some(percent_decode_str(segments.nth(number.get() - 1)?).decode_utf8_lossy())
}

/// The query parameters of `path` called `name`, decoded like a form: a plus is a space. Some servers let a semicolon
/// end a parameter too; what only they find comes last.
fn parameters(path: &str, name: &str) -> impl Iterator<Item = String> {
    let query = path.split('#').next().and_then(|path| path.split_once('?')).map_or("", |(_, query)| query);
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let has_more = query.contains(';');
    let others = query.split(['&', ';']).filter(move |_| has_more);
    query
        .split('&')
        .chain(others)
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(move |(found, _)| decoded(found) == name)
        .map(move |(_, value)| decoded(value))
}
