//! What the filters of a chain say that ours must fit: how JWT authentication calls what `identity` and claims use, and
//! how large a body the Buffer filter lets through.

use super::Notes;
use super::around::{BUFFER_BYTES, needs_bodies};
use super::chain::{Chain, metadata};
use super::tree::{at, get, list, member, text};
use llm_rate_limit::config::Config;
use serde_json::Value;

/// The name of the Buffer filter, and the end of its type.
pub(super) const BUFFER: (&str, &str) = ("envoy.filters.http.buffer", ".buffer.v3.Buffer");

/// The names by which a provider of JWT authentication puts something into metadata.
const IN_METADATA: [&str; 3] = ["payload_in_metadata", "header_in_metadata", "failed_status_in_metadata"];

/// Whether JWT authentication, which is `setter` in `chain`, puts into the metadata of `namespace` what the
/// configuration uses of it. The first name in the namespace is one that a provider chooses.
pub(super) fn claims(chain: &Chain<'_>, setter: usize, namespace: &str, config: &Config, notes: &mut Notes) {
    let providers = chain
        .filters
        .get(setter)
        .and_then(|filter| at(filter, &["typed_config", "providers"]))
        .and_then(Value::as_object);
    // Of another filter, or of one whose providers are elsewhere, nothing is known.
    let Some(providers) = providers.filter(|providers| !providers.is_empty()) else { return };
    let chosen: Vec<&str> = providers
        .values()
        .flat_map(|provider| IN_METADATA.iter().map(|name| text(provider, &[name])))
        .filter(|name| !name.is_empty())
        .collect();
    let mut reported: Vec<&str> = Vec::new();
    for path in metadata(config) {
        let [of, name, ..] = path else { continue };
        if of != namespace || chosen.contains(&name.as_str()) || reported.contains(&name.as_str()) {
            continue;
        }
        reported.push(name);
        let found = if chosen.is_empty() { "none".to_owned() } else { chosen.join(", ") };
        let mut what = format!(
            "{namespace} puts nothing into its metadata as {name:?}, which the configuration uses: expected \
             payload_in_metadata: {name} in a provider, found {found}"
        );
        let headers = providers
            .values()
            .flat_map(|provider| list(provider, &["claim_to_headers"]))
            .map(|claim| text(claim, &["header_name"]));
        let headers: Vec<&str> = headers.filter(|name| !name.is_empty()).collect();
        if !headers.is_empty() {
            what = format!("{what} (claim_to_headers has claims in {})", headers.join(", "));
        }
        notes.problem(&member(&member(&chain.at(setter), "typed_config"), "providers"), what);
    }
}

/// Whether the Buffer filter, which is at `index` in `chain`, holds bodies that are as large as the filter can read.
pub(super) fn buffer(chain: &Chain<'_>, index: usize, config: &Config, notes: &mut Notes) {
    let typed = chain.filters.get(index).and_then(|filter| get(filter, "typed_config"));
    let most = typed.and_then(|typed| get(typed, "max_request_bytes")).and_then(Value::as_u64);
    let Some(most) = most.filter(|most| *most < BUFFER_BYTES && needs_bodies(config)) else { return };
    let place = member(&member(&chain.at(index), "typed_config"), "max_request_bytes");
    let what = format!(
        "the Buffer filter answers bodies of more than {most} bytes 413: {BUFFER_BYTES} holds long prompts and images, \
         and without the filter Envoy waits for bodies just as well"
    );
    notes.hint(&place, what);
}
