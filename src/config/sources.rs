//! Where a request says who sent it, checked.

use super::error::{Path, Problems, quoted};
use super::raw;
use crate::identity::Source;

/// The headers in which clients of LLM APIs send their keys, in the order in which they are looked at: OpenAI's,
/// Anthropic's and Azure's.
const DEFAULT_HEADERS: [&str; 3] = ["authorization", "x-api-key", "api-key"];

/// Builds the sources at `path`; by default the known headers, then the client's address.
pub(super) fn sources(
    given: Option<Vec<raw::Source>>,
    path: &Path<'_>,
    problems: &mut Problems,
) -> Vec<Source> {
    let Some(given) = given else {
        let headers = DEFAULT_HEADERS.iter().map(|name| Source::Header((*name).to_owned()));
        return headers.chain([Source::ClientIp]).collect();
    };
    if given.is_empty() {
        problems.expected(path, "at least one source", "none");
    }
    given
        .into_iter()
        .enumerate()
        .map(|(index, raw)| {
            let path = path.element(index);
            match raw {
                raw::Source::Header(name) => Source::Header(header(name, &path.member("header"), problems)),
                raw::Source::ClientIp(raw::ClientIp {}) => Source::ClientIp,
                raw::Source::Metadata(names) => {
                    metadata(&names, &path.member("metadata"), problems);
                    Source::Metadata(names)
                }
            }
        })
        .collect()
}

/// The name in lower case, as Envoy has it. A name is a token of RFC 9110, section 5.6.2.
fn header(name: String, path: &Path<'_>, problems: &mut Problems) -> String {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        problems.expected(path, "the name of a header", quoted(&name));
    }
    name.to_ascii_lowercase()
}

fn metadata(names: &[String], path: &Path<'_>, problems: &mut Problems) {
    if names.len() < 2 {
        problems.expected(path, "two names or more, a filter's namespace and a path in it", names.len());
    }
    for (index, name) in names.iter().enumerate().filter(|(_, name)| name.is_empty()) {
        problems.expected(&path.element(index), "a name", quoted(name));
    }
}
