//! What may be why an owner has no counters: a typo, a missing configuration, another scope or namespace.

use super::client::Client;
use super::counters::Owner;
use crate::top::Ranking;
use llm_rate_limit::config::Config;
use llm_rate_limit::identity::{ANONYMOUS, Identity, KINDS};
use llm_rate_limit::policy::{self, Access, Candidates, NEW_IDENTITIES, Subject};
use llm_rate_limit::store::wire::path;
use std::collections::BTreeSet;

/// Whose counters were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Those of a key, as a request presents it.
    Key(String),
    /// Those of an id.
    Id(String),
    /// Those of a group.
    Group(String),
    /// Those of a pattern of models.
    Model(String),
    /// Those that all requests share.
    Global,
}

/// What may be why `owner` has no counters, the likeliest first. Asks the sidecar where it has seen the identity.
pub(super) fn hints(asked: &Asked, owner: &Owner, config: Option<&Config>, client: &Client) -> Vec<String> {
    let mut hints = Vec::new();
    hints.extend(elsewhere(owner, client));
    hints.extend(match (asked, config) {
        (Asked::Key(key), _) if is_digest(key) => {
            Some("this looks like an id, not a key: give it as --id".to_owned())
        }
        (Asked::Key(_), None) if hints.is_empty() => Some(
            "without --config this finds a key only outside of groups, and only where no hash_secret and no \
             namespace is set"
                .to_owned(),
        ),
        (Asked::Key(key), Some(config)) if !config.names(&Identity::of_key(key)) => Some(unnamed(config)),
        (Asked::Id(id), _) if !is_id(id) => Some(
            "an id is 64 hexadecimal digits, as the access log shows it: is this a key? Give it as --key"
                .to_owned(),
        ),
        (Asked::Id(id), Some(config))
            if is_digest(id) && !counts_strangers(config) && !config.ids().contains(&**id) =>
        {
            Some(format!("no key of the configuration has this id, and {}", of_strangers(config)))
        }
        (Asked::Id(id), _) if *owner.scope == *id && hints.is_empty() => Some(
            "the counters of a key in a group have the scope group-NAME: give --scope or --config".to_owned(),
        ),
        (Asked::Group(_) | Asked::Model(_) | Asked::Global, Some(config)) => unknown_name(asked, config),
        _ => None,
    });
    hints.extend(config.and_then(|config| other_namespace(owner, config)));
    if matches!(asked, Asked::Group(_) | Asked::Model(_) | Asked::Global)
        && config.is_none()
        && hints.is_empty()
    {
        hints
            .push("--config checks that the configuration has this name, and knows its namespace".to_owned());
    }
    hints
}

/// Why the requests of this key have no counters of their own under `config`.
pub(super) fn uncounted_key(identity: &Identity, config: &Config) -> String {
    if config.names(identity) {
        "this key is unlimited: its requests are not counted".to_owned()
    } else {
        unnamed(config)
    }
}

/// What becomes of a key that the configuration does not name.
fn unnamed(config: &Config) -> String {
    format!("the configuration does not name this key, and {}: check its spelling", of_strangers(config))
}

/// What the configuration says of everybody that it does not name.
fn of_strangers(config: &Config) -> &'static str {
    match (config.has_default(), config.access(None)) {
        (_, Access::Rejected) => "rejects those that it does not name (401)",
        (true, Access::Unlimited) => "\"default\" exempts those that it does not name from all limits",
        (true, Access::Limited(_)) => "\"default\" is for it",
        (false, Access::Unlimited) => {
            "has no \"default\": the requests of others than its keys are forwarded, and not counted"
        }
        (false, Access::Limited(_)) => {
            "has no \"default\": only the limits of \"models\" and \"global\" are for it, and it has no counters of \
             its own"
        }
    }
}

/// Whether identities that the configuration does not name have counters of their own.
fn counts_strangers(config: &Config) -> bool {
    config.has_default() && matches!(config.access(None), Access::Limited(_))
}

/// Where this sidecar has seen the identity instead.
fn elsewhere(owner: &Owner, client: &Client) -> Option<String> {
    let query = [("identity", owner.identity.as_str()), ("limit", "100")];
    // An older sidecar does not know; then there is no hint.
    let seen: Ranking = client.get(path::TOP, &query).ok()?;
    let is_other = |it: &crate::top::Owner| *it.scope != *owner.scope || *it.namespace != *owner.namespace;
    let other = seen.busiest.into_iter().map(|busy| busy.owner).find(is_other)?;
    let namespace = match &*other.namespace {
        "" => "without a namespace".to_owned(),
        name => format!("in the namespace {name}"),
    };
    Some(format!(
        "this sidecar has seen this identity in the scope {}, {namespace}: give --config, or --scope and --namespace",
        other.scope
    ))
}

/// A name that the configuration does not have, and those that it has.
fn unknown_name(asked: &Asked, config: &Config) -> Option<String> {
    let owners: BTreeSet<policy::Owner> = config
        .subjects()
        .chain(config.strangers())
        .flat_map(|subject: Subject| {
            subject.limits(&Candidates::UNKNOWN).map(|it| it.owner).collect::<Vec<_>>()
        })
        .collect();
    let names = |of: fn(&policy::Owner) -> Option<&str>| {
        let names: Vec<_> = owners.iter().filter_map(of).map(|name| format!("{name:?}")).collect();
        if names.is_empty() { "it limits none".to_owned() } else { format!("it limits {}", names.join(", ")) }
    };
    match asked {
        Asked::Group(name) if !owners.contains(&policy::Owner::Group(name.as_str().into())) => {
            let known = names(|owner| match owner {
                policy::Owner::Group(name) => Some(name),
                _ => None,
            });
            Some(format!("no key of the configuration is in a limited group {name:?}: {known}"))
        }
        Asked::Model(pattern) if !owners.contains(&policy::Owner::Model(pattern.as_str().into())) => {
            let known = names(|owner| match owner {
                policy::Owner::Model(pattern) => Some(pattern),
                _ => None,
            });
            Some(format!("\"models\" of the configuration has no pattern {pattern:?}: {known}"))
        }
        Asked::Global if !owners.contains(&policy::Owner::Global) => {
            Some("the configuration has no limits in \"global\"".to_owned())
        }
        _ => None,
    }
}

/// A namespace other than the configuration's.
fn other_namespace(owner: &Owner, config: &Config) -> Option<String> {
    let configured = config.namespace();
    let is_other = *configured != *owner.namespace;
    is_other.then(|| {
        format!("the namespace of the configuration is {configured:?}, and not {:?}", owner.namespace)
    })
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_id(text: &str) -> bool {
    let digest = KINDS.iter().find_map(|kind| text.strip_prefix(kind)).unwrap_or(text);
    is_digest(digest) || matches!(text, ANONYMOUS | NEW_IDENTITIES) || policy::is_shared(text)
}
