//! An owner's windows: reads their usage and resets them. The identity's index finds them, without SCAN.
//!
//! The list has the windows that hold something or did until recently, with the limit that was in force when their last
//! segment began. The sidecar does not know an owner's other limits: those are in the filter's configuration.

use super::Store;
use super::call::{self, Invalid};
use super::error::UsageError;
use crate::clock;
use llm_rate_limit::quantity::{Millis, Units};
use llm_rate_limit::store::keys::{self, Keyspace};
use llm_rate_limit::store::wire::{Charge, ScopeCharges};
use llm_rate_limit::window::Algorithm;
use llm_rate_limit::window::grants::{Grant, Grants};
use redis::{Cmd, FromRedisValue, RedisResult, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The owner of windows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The identity, as in its counters' keys.
    pub identity: String,
    /// The scope of its counters; by default the identity itself.
    pub scope: Option<String>,
    /// The namespace of its counters; empty by default.
    #[serde(default)]
    pub namespace: String,
}

impl Owner {
    /// The scope of its counters.
    pub fn scope(&self) -> &str {
        self.scope.as_deref().unwrap_or(&self.identity)
    }
}

/// The usage of one window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowUsage {
    /// The limit's name.
    pub name: String,
    /// The window's label, such as `1m`.
    pub window: String,
    /// The algorithm that counts it.
    pub algorithm: String,
    /// The units that it admits; for a bucket, the units that refill it in its window.
    pub limit: Units,
    /// The units that a full bucket holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Units>,
    /// The units in it.
    pub used: Units,
    /// The units that still fit, with what is granted.
    pub remaining: Units,
    /// What operators have granted beyond the limit, the first to end first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// Milliseconds until it is empty if no request spends.
    pub reset_ms: Millis,
}

/// The answer to `GET /v1/usage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The owner's identity.
    pub identity: String,
    /// The owner's scope.
    pub scope: String,
    /// Its windows, by name and length.
    pub windows: Vec<WindowUsage>,
}

/// The answer to `DELETE /v1/usage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// The owner's identity.
    pub identity: String,
    /// The owner's scope.
    pub scope: String,
    /// The windows that the reset removed, with their usage just before.
    pub removed: Vec<WindowUsage>,
}

/// Reads the windows of `owner` and changes nothing.
///
/// # Errors
/// Redis is unavailable or answers with an error, or `owner` cannot be part of a key.
pub async fn read(store: &Store, owner: &Owner) -> Result<Usage, UsageError> {
    let charges = indexed(store, owner).await?;
    let windows = window_usage(store, owner, &charges).await?;
    Ok(Usage { identity: owner.identity.clone(), scope: owner.scope().to_owned(), windows })
}

/// Deletes the counters of `owner`. Open reservations stay open, and settling them gives back at most the units that
/// their segments hold by then.
///
/// # Errors
/// As for [`read`].
pub async fn reset(store: &Store, owner: &Owner) -> Result<Reset, UsageError> {
    let charges = indexed(store, owner).await?;
    let removed = window_usage(store, owner, &charges).await?;
    let mut delete = redis::cmd("DEL");
    delete.arg(space(owner)?.index(owner.scope(), &owner.identity));
    for key in charges.keys(space(owner)?) {
        delete.arg(key);
    }
    query::<u64>(store, &[delete]).await?;
    Ok(Reset { identity: owner.identity.clone(), scope: owner.scope().to_owned(), removed })
}

pub(super) fn space(owner: &Owner) -> Result<Keyspace<'_>, UsageError> {
    call::keyspace(&owner.namespace).map_err(|why| UsageError::Owner(why.to_string()))
}

/// Checks that `owner` can be part of keys.
pub(super) fn check(owner: &Owner) -> Result<(), UsageError> {
    call::check_owner(0, owner.scope(), &owner.identity).map_err(|why| match why {
        Invalid::Scope { .. } => {
            UsageError::Owner("scope has a brace, so it cannot be a hash tag".to_owned())
        }
        why => UsageError::Owner(why.to_string()),
    })
}

/// The windows in the index of `owner`, as charges of nothing, sorted by name and length.
pub(super) async fn indexed(store: &Store, owner: &Owner) -> Result<ScopeCharges, UsageError> {
    let (scope, identity) = (owner.scope(), owner.identity.as_str());
    check(owner)?;
    let mut list = redis::cmd("HGETALL");
    list.arg(space(owner)?.index(scope, identity));
    let index: BTreeMap<String, String> = query(store, &[list]).await?.into_iter().next().unwrap_or_default();
    let mut charges: Vec<Charge> = index
        .iter()
        .filter_map(|(field, entry)| {
            let charge = charge(identity, field, entry);
            if charge.is_none() {
                tracing::warn!(field, entry, "ignoring an index entry of another version");
            }
            charge
        })
        .collect();
    charges.sort_by(|a, b| (&a.name, a.window.length).cmp(&(&b.name, b.window.length)));
    Ok(ScopeCharges { scope: scope.into(), charges })
}

/// Reads an index entry: `<algorithm> <window_ms> <parameter> <limit>` under `<limit name>:<window label>`.
fn charge(identity: &str, field: &str, entry: &str) -> Option<Charge> {
    let name = keys::limit_name(field)?;
    let mut parts = entry.split(' ');
    let (Some(algorithm), Some(length), Some(parameter), Some(limit), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    Some(Charge {
        identity: identity.into(),
        name: name.into(),
        window: call::window([algorithm, length, parameter])?,
        limit: Units::new(limit.parse().ok()?),
        cost: Units::ZERO,
        enforced: true,
        warn_at: None,
    })
}

/// The usage of the windows of `charges`, without those whose counter is gone.
async fn window_usage(
    store: &Store,
    owner: &Owner,
    charges: &ScopeCharges,
) -> Result<Vec<WindowUsage>, UsageError> {
    let groups = call::groups(&owner.namespace, "usage", std::slice::from_ref(charges))
        .map_err(|why| UsageError::Owner(why.to_string()))?;
    let calls: Vec<_> = groups.iter().map(|group| group.peek(0)).collect();
    let mut states = Vec::new();
    for answer in store.run(&calls).await? {
        let reply = answer.map_err(UsageError::Redis)?;
        states.extend(
            call::window_states(&reply)
                .ok_or_else(|| UsageError::Redis("the script's reply is invalid".to_owned()))?,
        );
    }
    let exist: Vec<Cmd> = charges
        .keys(space(owner)?)
        .map(|key| {
            let mut exists = redis::cmd("EXISTS");
            exists.arg(key);
            exists
        })
        .collect();
    let exist: Vec<bool> = query(store, &exist).await?;
    let grants = grants(store, owner, charges).await?;
    Ok(charges
        .charges
        .iter()
        .zip(states)
        .zip(exist)
        .zip(grants)
        .filter(|((_, exists), _)| *exists)
        .map(|(((charge, state), _), grants)| WindowUsage {
            name: charge.name.to_string(),
            window: charge.window.label(),
            algorithm: charge.window.algorithm.name().to_owned(),
            limit: charge.limit,
            burst: match charge.window.algorithm {
                Algorithm::TokenBucket { burst } => Some(burst),
                _ => None,
            },
            used: state.used,
            remaining: charge.window.capacity(charge.limit) + state.granted - state.used,
            grants: grants.list().to_vec(),
            reset_ms: state.reset,
        })
        .collect())
}

/// The grants of each counter of `charges` that have not ended.
async fn grants(store: &Store, owner: &Owner, charges: &ScopeCharges) -> Result<Vec<Grants>, UsageError> {
    let fields: Vec<Cmd> = charges
        .keys(space(owner)?)
        .map(|key| {
            let mut field = redis::cmd("HGET");
            field.arg(key).arg("g");
            field
        })
        .collect();
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    let now = clock::now();
    // A key of another type has none.
    let read = |reply: RedisResult<Value>| {
        let field = reply.ok().and_then(|value| Option::<String>::from_redis_value(value).ok()).flatten();
        field.map_or_else(Grants::default, |field| Grants::parse(&field, now))
    };
    Ok(store.link().send(&fields).await?.into_iter().map(read).collect())
}

/// Sends commands and reads each reply as `T`.
pub(super) async fn query<T: FromRedisValue>(store: &Store, commands: &[Cmd]) -> Result<Vec<T>, UsageError> {
    if commands.is_empty() {
        return Ok(Vec::new());
    }
    let read = |reply: RedisResult<Value>| reply.and_then(|value| Ok(T::from_redis_value(value)?));
    let replies = store.link().send(commands).await?;
    replies.into_iter().map(|reply| read(reply).map_err(|why| UsageError::Redis(why.to_string()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_entry_is_the_window_it_was_made_from() {
        let found = charge("key", "gpt:4/requests:1m-30", "sliding_window 60000 30 100").unwrap();
        assert_eq!(*found.name, *"gpt:4/requests");
        assert_eq!(found.window.label(), "1m-30");
        assert_eq!(found.limit, 100);
    }

    #[test]
    fn an_entry_of_another_version_is_left_out() {
        for entry in ["", "leaky 60000 60 100", "sliding_window 60000 60", "sliding_window 0 60 100"] {
            assert_eq!(charge("key", "requests:1m", entry), None, "{entry}");
        }
        assert_eq!(charge("key", "requests", "sliding_window 60000 60 100"), None);
    }
}
