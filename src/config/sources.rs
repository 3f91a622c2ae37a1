//! The sources of a request's identity, checked.

use super::error::{Path, Problems, quoted};
use super::raw;
use super::secret::Secret;
use crate::identity::{HashSecret, Place, Prefixes, Source};
use std::num::NonZeroUsize;

/// The headers in which clients of LLM APIs send their keys: OpenAI's, Anthropic's, Azure's and Google's. The first
/// header that a request has counts.
const DEFAULT_HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// The query parameter in which Google's clients send theirs.
const DEFAULT_PARAMETER: &str = "key";

/// The largest number of a path segment: no API has longer paths.
const MAX_SEGMENT: u64 = 64;
/// The shortest secret, in bytes: nobody can guess 128 bits.
const MIN_SECRET_BYTES: usize = 16;

/// Builds the sources at `path`; by default the known headers, the known parameter, then the client's address.
#[inline(never)]
pub(super) fn sources(
    given: Option<Vec<raw::Source>>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Vec<Source> {
    let Some(given) = given else {
        let headers = DEFAULT_HEADERS.iter().map(|name| Place::Header((*name).to_owned()));
        let others = [Place::Query(DEFAULT_PARAMETER.to_owned()), Place::ClientIp(Prefixes::default())];
        let places = headers.chain(others);
        return places.map(Source::from).collect();
    };
    if given.is_empty() {
        problems.expected(path, "at least one source", "none");
    }
    let given = given.into_iter().enumerate();
    given.filter_map(|(index, raw)| source(raw, &path.element(index), problems)).collect()
}

fn source(raw: raw::Source, path: &Path<'_>, problems: &mut Problems) -> Option<Source> {
    let known_only = raw.known_only;
    Some(Source { place: place(raw, path, problems)?, known_only })
}

fn place(raw: raw::Source, path: &Path<'_>, problems: &mut Problems) -> Option<Place> {
    let raw::Source { header, client_ip, metadata, path_segment, query, constant, all, known_only: _ } = raw;
    let header = header.map(|name| Some(Place::Header(self::header(name, &path.member("header"), problems))));
    let client_ip =
        client_ip.map(|given| prefixes(&given, &path.member("client_ip"), problems).map(Place::ClientIp));
    let metadata = metadata.map(|names| {
        self::metadata(&names, &path.member("metadata"), problems);
        Some(Place::Metadata(names))
    });
    let path_segment = path_segment.map(|number| {
        let number = problems.whole(&path.member("path_segment"), number, 1..=MAX_SEGMENT)?;
        usize::try_from(number).ok().and_then(NonZeroUsize::new).map(Place::PathSegment)
    });
    let query = query.map(|name| {
        if name.is_empty() {
            problems.expected(&path.member("query"), "the name of a query parameter", quoted(&name));
        }
        Some(Place::Query(name))
    });
    let constant = constant.map(|text| {
        if text.is_empty() {
            problems.expected(&path.member("constant"), "a string that is not empty", quoted(&text));
        }
        Some(Place::Constant(text))
    });
    let all = all.map(|parts| self::all(parts, &path.member("all"), problems));
    let given: Vec<_> =
        [header, client_ip, metadata, path_segment, query, constant, all].into_iter().flatten().collect();
    let count = given.len();
    if count != 1 {
        let expected = "exactly one of \"header\", \"client_ip\", \"metadata\", \"path_segment\", \"query\", \
                        \"constant\" and \"all\"";
        problems.expected(path, expected, count);
        return None;
    }
    given.into_iter().next().flatten()
}

fn all(parts: Vec<raw::Source>, path: &Path<'_>, problems: &mut Problems) -> Option<Place> {
    if parts.len() < 2 {
        problems.expected(path, "two sources or more", parts.len());
    }
    let part = |(index, raw): (usize, raw::Source)| {
        let path = path.element(index);
        if raw.known_only {
            let expected = "it beside \"all\", where it covers the combination";
            problems.expected(&path.member("known_only"), expected, "it in a part");
        }
        place(raw, &path, problems)
    };
    Some(Place::All(parts.into_iter().enumerate().filter_map(part).collect()))
}

fn prefixes(raw: &raw::ClientIp, path: &Path<'_>, problems: &mut Problems) -> Option<Prefixes> {
    let default = Prefixes::default();
    let mut prefix = |name, given, whole: u8, default: u8| {
        let bits = problems.whole_or(&path.member(name), given, 1..=whole.into(), default.into());
        bits.and_then(|bits| u8::try_from(bits).ok())
    };
    let ipv4 = prefix("ipv4_prefix", raw.ipv4_prefix, 32, default.ipv4);
    let ipv6 = prefix("ipv6_prefix", raw.ipv6_prefix, 128, default.ipv6);
    Some(Prefixes { ipv4: ipv4?, ipv6: ipv6? })
}

/// Checks the secret at `path`.
pub(super) fn hash_secret(
    given: Option<&Secret>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Option<HashSecret> {
    let given = given?;
    let text = given.expose();
    if text.len() < MIN_SECRET_BYTES {
        problems.add(path, format!("expected a secret of {MIN_SECRET_BYTES} bytes or more"));
    } else if given.is_placeholder() {
        problems.add(path, "expected a secret, found a placeholder that nothing has filled in");
    }
    HashSecret::new(text)
}

/// Checks a name and turns it into lower case, as Envoy does. A name is a token of RFC 9110, section 5.6.2.
pub(super) fn header(name: String, path: &Path<'_>, problems: &mut Problems) -> String {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        problems.expected(path, "the name of a header", quoted(&name));
    }
    name.to_ascii_lowercase()
}

/// Checks the path of a value in dynamic metadata.
pub(super) fn metadata(names: &[String], path: &Path<'_>, problems: &mut Problems) {
    if names.len() < 2 {
        problems.expected(path, "two names or more, a filter's namespace and a path in it", names.len());
    }
    for (index, name) in names.iter().enumerate().filter(|(_, name)| name.is_empty()) {
        problems.expected(&path.element(index), "a name", quoted(name));
    }
}
