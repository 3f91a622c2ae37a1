//! Sources of identity: the places in a request that may show who sent it.

use super::{Identity, Prefixes, RequestView};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::num::NonZeroUsize;

/// A place in a request that may show who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The request header of this name, in lower case.
    Header(String),
    /// The network of the client's address as Envoy trusts it, without its port.
    ClientIp(Prefixes),
    /// Dynamic metadata: the namespace of the filter that set it, then the path in it. The id of text is that of the
    /// same key; other values are hashed in the form in which Envoy provides them.
    Metadata(Vec<String>),
    /// A segment of the path, decoded. Numbers start at one and skip empty segments.
    PathSegment(NonZeroUsize),
    /// The first query parameter of this name, decoded.
    Query(String),
    /// The same for every request.
    Constant(String),
    /// All of these together; each must have a value.
    All(Vec<Self>),
}

impl Source {
    pub(super) fn identity(&self, request: &(impl RequestView + ?Sized)) -> Option<Identity> {
        match self {
            Self::Header(name) => of_text(without_bearer(&request.header(name)?)),
            Self::ClientIp(prefixes) => {
                let address = request.property(&["source", "address"])?;
                let network = prefixes.network(std::str::from_utf8(&address).ok()?.trim());
                Some(network).filter(|network| !network.is_empty()).map(|n| Identity::of_kind("ip", &n))
            }
            Self::Metadata(path) => {
                let path: Vec<_> = ["metadata", "filter_metadata"]
                    .into_iter()
                    .chain(path.iter().map(String::as_str))
                    .collect();
                let value = request.property(&path).filter(|value| !value.is_empty())?;
                Some(Identity::of_bytes(&value))
            }
            Self::PathSegment(number) => of_text(&segment(&request.header(":path")?, *number)?),
            Self::Query(name) => of_text(&parameter(&request.header(":path")?, name)?),
            Self::Constant(text) => Some(Identity::of_kind("constant", text)),
            Self::All(parts) => {
                let parts: Option<Vec<_>> = parts.iter().map(|part| part.identity(request)).collect();
                Identity::combined(&parts?)
            }
        }
    }
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

/// The first query parameter of `path` called `name`, decoded like a form: a plus is a space.
fn parameter(path: &str, name: &str) -> Option<String> {
    let (_, query) = path.split('#').next()?.split_once('?')?;
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(found, _)| decoded(found) == name)
        .map(|(_, value)| decoded(value))
}
