//! What a configuration brings about that nobody may have meant.

use super::Notes;
use llm_rate_limit::config::{Config, HeadersMode, OnError, Store};
use llm_rate_limit::identity::{Claim, Place};
use llm_rate_limit::policy::{Candidates, Owner};

/// About keys in plain text.
const KEYS_ARE_SHOWN: &str = "Envoy's config_dump shows the keys: write each as \"key_sha256\", which \
                              `printf %s KEY | sha256sum` prints";
/// About requests that call no LLM.
const OTHERS_COUNT: &str = "requests to endpoints that are no LLM's count too: on a gateway that serves other things, \
                            put the filter on the routes to LLMs, or set \"*\" in \"endpoints\" to \"pass\"";
/// About identities that cost nothing to make.
const INVENTED: &str = "whoever invents keys gets new counters under \"default\" for each: make the sources that a \
                        client fills \"known_only\" and add \"client_ip\", or set \"default\" to \"reject\"";
/// About an outage.
const UNCOUNTED: &str = "store.on_error: while the store does not answer, every request is forwarded uncounted: \
                         \"local\" enforces this Envoy's share, and \"deny\" answers 503";
/// About the token that everybody knows.
const SHIPPED: &str = "store.auth_token: this is the token of the shipped files: choose one of your own, as \
                       `openssl rand -hex 16` prints";
/// About requests over limits whose headers have gone on.
const HEADERS_HAVE_GONE: &str = "headers_mode: with \"headers_first\", \"on_limit\" lets no request go on that is \
                                 decided by its body: its headers have gone by then, and it is refused";
/// The token of the shipped files.
const SHIPPED_TOKEN: &str = "change-this-token";

/// Adds what to think about `config`, which is at `place`.
pub(in crate::command) fn advise(config: &Config, place: &str, notes: &mut Notes) {
    let hints = [
        (config.plain_keys() > 0, KEYS_ARE_SHOWN),
        (config.counts_others_by_default(), OTHERS_COUNT),
        (counts_inventions(config), INVENTED),
        (matches!(config.store(), Store::Redis(store) if store.on_error == OnError::Allow), UNCOUNTED),
        (has_shipped_token(config), SHIPPED),
        (config.continues() && config.headers_mode() == HeadersMode::HeadersFirst, HEADERS_HAVE_GONE),
    ];
    let hints = hints.into_iter().filter(|(applies, _)| *applies).map(|(_, hint)| hint.to_owned());
    for hint in hints.chain(trusted_headers(config)) {
        notes.hints.push(if place.is_empty() { hint } else { format!("{place}: {hint}") });
    }
}

/// A hint at each header by which requests choose their limits.
fn trusted_headers(config: &Config) -> impl Iterator<Item = String> {
    config.claims().into_iter().filter_map(|claim| match claim {
        Claim::Header(name) => Some(format!(
            "the header {name:?} decides on limits: whatever is in front of the filter must remove it from what \
             clients send, or they choose their own"
        )),
        Claim::Metadata(_) => None,
    })
}

/// Whether a client that invents a value for any source gets counters of its own by that.
fn counts_inventions(config: &Config) -> bool {
    let own_limits = config.strangers().is_some_and(|subject| {
        subject.max_new_identities().is_none()
            && subject.limits(&Candidates::UNKNOWN).any(|applied| applied.owner == Owner::Key)
    });
    own_limits && config.sources().iter().any(|source| !source.known_only && is_clients(&source.place))
}

/// Whether the client fills this place as it likes.
fn is_clients(place: &Place) -> bool {
    match place {
        Place::Header(_) | Place::Query(_) | Place::PathSegment(_) => true,
        Place::ClientIp(_) | Place::Metadata(_) | Place::Constant(_) => false,
        Place::All(parts) => parts.iter().any(is_clients),
    }
}

fn has_shipped_token(config: &Config) -> bool {
    let Store::Redis(store) = config.store() else { return false };
    store.auth_token.as_ref().is_some_and(|token| token.expose() == SHIPPED_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginnings of the hints about a configuration.
    fn hints(json: &str) -> Vec<String> {
        let mut notes = Notes::default();
        advise(&Config::from_bytes(json.as_bytes()).unwrap(), "", &mut notes);
        assert!(notes.problems.is_empty());
        notes.hints.iter().map(|hint| hint.chars().take(20).collect()).collect()
    }

    #[test]
    fn invented_identities_are_hinted_at_only_where_they_have_counters() {
        let others = r#""endpoints": {"*": "pass"}"#;
        let invented = ["whoever invents keys"];
        for (json, expected) in [
            (r#""default": {"rpm": 1}"#, &invented[..]),
            (
                r#""default": {"rpm": 1}, "identity": [{"header": "x", "known_only": true}, {"client_ip": {}}]"#,
                &[],
            ),
            (
                r#""default": {"rpm": 1}, "identity": [{"all": [{"client_ip": {}}, {"query": "k"}]}]"#,
                &invented,
            ),
            (r#""default": "reject""#, &[]),
            (r#""global": {"rpm": 1}"#, &[]),
        ] {
            assert_eq!(hints(&format!("{{{json}, {others}}}")), expected, "{json}");
        }
    }

    #[test]
    fn headers_that_decide_on_limits_are_hinted_at() {
        let plan = |place: &str| {
            hints(&format!(
                r#"{{"endpoints": {{"*": "pass"}}, "identity": [{{"client_ip": {{}}}}], "plans": {{"p": {{"rpm": 1}}}},
                   "default": {{"plan": {{{place}, "default": "p"}}, "rpd": {{{place}, "default": 1, "max": 2}}}}}}"#
            ))
        };
        assert_eq!(plan(r#""header": "X-Plan""#), ["the header \"x-plan\" "], "once");
        assert!(plan(r#""metadata": ["a", "b"]"#).is_empty());
    }

    #[test]
    fn an_outage_without_limits_and_a_known_token_are_hinted_at() {
        let store = |more: &str| {
            let store = format!(r#""store": {{"type": "redis", "cluster": "c"{more}}}"#);
            hints(&format!(r#"{{{store}, "default": "reject", "endpoints": {{"*": "pass"}}}}"#))
        };
        assert_eq!(store(r#", "on_error": "allow""#), ["store.on_error: whil"]);
        assert_eq!(store(r#", "auth_token": "change-this-token""#), ["store.auth_token: th"]);
        assert!(store(r#", "auth_token": "another""#).is_empty());
    }
}
