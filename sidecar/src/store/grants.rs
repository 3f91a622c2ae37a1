//! What operators change by hand: they raise a limit until some time, end what they have granted, or give units back.
//!
//! A change is one call of `lua/grant.lua`, which also notes it in the audit list of its scope. What is granted is a
//! field of the counter's own hash, so that the scripts of reservations read it with the counter.

use super::call::{self, Invalid, MAX_WINDOW};
use super::error::UsageError;
use super::invocation::Invocation;
use super::usage::{self, Owner, query};
use super::{REDIS_CLOCK, Store};
use crate::clock;
use crate::script;
use llm_rate_limit::quantity::{MAX_EXACT, Millis, Units};
use llm_rate_limit::store::keys;
use llm_rate_limit::store::wire::{Charge, ScopeCharges};
use llm_rate_limit::window::{Algorithm, Window};
use redis::{FromRedisValue, RedisResult, Value};
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// The most entries of the audit list of a scope.
pub const MAX_ENTRIES: usize = 200;

/// How long an audit list is kept after its last entry: four hundred days, so that a year can be looked back on.
const KEEP_ENTRIES: Millis = Millis::new(400 * Millis::DAY.get());

/// The longest text of an entry: who, or why.
const MAX_TEXT_BYTES: usize = 500;

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Action {
    /// Raises the limit.
    Grant,
    /// Gives units back.
    Refund,
    /// Ends what is granted.
    Revoke,
}

/// The body of `POST /v1/grants`: a change to one limit of one owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The owner's identity.
    pub identity: String,
    /// The owner's scope.
    pub scope: String,
    /// The namespace of the configuration.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The limit's name, such as `requests`.
    pub limit: String,
    /// The label of its window, such as `1m`.
    pub window: String,
    /// The limit as the configuration has it; without it, its counter must have been used lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<Configured>,
    /// What to do.
    pub action: Action,
    /// The units to add or to give back.
    #[serde(default)]
    pub units: Units,
    /// When a grant ends; by default with the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<Millis>,
    /// Who does so.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether to change nothing, and only to say what would be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A limit as the configuration has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configured {
    /// Its window.
    pub window: Window,
    /// Its amount.
    pub limit: Units,
}

/// The answer to `POST /v1/grants`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The units granted, given back, or no longer granted.
    pub units: Units,
    /// When the grant ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<Millis>,
    /// The most that fits at once by the configuration.
    pub limit: Units,
    /// The units that are granted beyond that now.
    pub granted: Units,
    /// The units in the window now.
    pub used: Units,
}

/// An entry of the audit list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was done, by Redis's clock.
    pub at_ms: Millis,
    /// The units granted, given back, or no longer granted.
    pub units: Units,
    /// When the grant ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<Millis>,
    /// The rest.
    #[serde(flatten)]
    pub note: Note,
}

/// What an entry says that the script need not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What was done.
    pub action: Action,
    /// The owner's identity.
    pub identity: String,
    /// The limit's name.
    pub limit: String,
    /// The label of its window.
    pub window: String,
    /// Who did so.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The answer to `GET /v1/grants`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// The owner's identity.
    pub identity: String,
    /// What was done, the newest first.
    pub entries: Vec<Entry>,
}

/// Makes `change`.
///
/// # Errors
/// Redis is unavailable or answers with an error, or the change cannot be made.
pub async fn change(store: &Store, change: &Change) -> Result<Changed, UsageError> {
    let charge = charge(store, change).await?;
    check(change, &charge, clock::now()).map_err(UsageError::Owner)?;
    let invocation = invocation(change, &charge, REDIS_CLOCK)?;
    let reply = store.invoke(&[invocation]).await?.into_iter().next();
    let reply = reply.ok_or_else(|| UsageError::Redis("a reply is missing".to_owned()))?;
    changed(&charge, reply)
}

/// What was done to the limits of `owner`, the newest first.
///
/// # Errors
/// Redis is unavailable or answers with an error, or `owner` cannot be part of a key.
pub async fn audit(store: &Store, owner: &Owner) -> Result<Audit, UsageError> {
    usage::check(owner)?;
    let mut list = redis::cmd("LRANGE");
    list.arg(usage::space(owner)?.audit(owner.scope())).arg(0).arg(-1);
    let texts: Vec<String> = query(store, &[list]).await?.into_iter().next().unwrap_or_default();
    let mut entries: Vec<Entry> = texts.iter().filter_map(|text| entry(text)).collect();
    entries.retain(|entry| entry.note.identity == owner.identity);
    Ok(Audit { identity: owner.identity.clone(), entries })
}

/// The limit that `change` is about, as a charge of nothing: that of the configuration, or the one that the owner's
/// index has.
async fn charge(store: &Store, change: &Change) -> Result<Charge, UsageError> {
    if let Some(Configured { window, limit }) = change.configured {
        return Ok(Charge {
            identity: change.identity.as_str().into(),
            name: change.limit.as_str().into(),
            window,
            limit,
            cost: Units::ZERO,
            enforced: true,
            warn_at: None,
        });
    }
    let owner = Owner {
        identity: change.identity.clone(),
        scope: Some(change.scope.clone()),
        namespace: change.namespace.clone(),
    };
    let known = usage::indexed(store, &owner).await?;
    let is_it = |charge: &Charge| *charge.name == *change.limit && charge.window.label() == change.window;
    known.charges.into_iter().find(is_it).ok_or_else(|| {
        UsageError::Owner(format!(
            "{}/{} has no counter now: only the configuration (--config) says which limit it is",
            change.limit, change.window
        ))
    })
}

/// Why `change` cannot be made to the limit of `charge`, which is a text for people.
fn check(change: &Change, charge: &Charge, now: Millis) -> Result<(), String> {
    let (limit, capacity) = (&change.limit, charge.window.capacity(charge.limit));
    match change.action {
        Action::Grant if capacity.is_zero() => Err(format!(
            "{limit}: the limit is zero, and no request is larger than its limit: raise the limit itself"
        )),
        Action::Refund if charge.window.algorithm == Algorithm::Concurrency => {
            Err(format!("{limit}: slots are free again when their requests end, and cannot be given back"))
        }
        Action::Grant if charge.window.algorithm == Algorithm::Concurrency && change.until_ms.is_none() => {
            Err(format!("{limit}: slots have no window that ends: say until when"))
        }
        Action::Grant | Action::Refund if change.units.is_zero() || change.units.get() > MAX_EXACT => {
            Err(format!("units: expected from 1 to {MAX_EXACT}"))
        }
        Action::Grant if change.until_ms.is_some_and(|until| until > now + MAX_WINDOW) => {
            Err("until: a grant lasts ten years at most".to_owned())
        }
        _ if change.by.is_empty() => Err("by: say who does so".to_owned()),
        _ => Ok(()),
    }
}

/// The script's invocation at `now_ms`, 0 for Redis's clock.
///
/// # Errors
/// The change cannot be part of a call.
pub fn invocation(change: &Change, charge: &Charge, now_ms: u64) -> Result<Invocation, UsageError> {
    let refused = |why: Invalid| UsageError::Owner(why.to_string());
    let scopes = [ScopeCharges { scope: change.scope.as_str().into(), charges: vec![charge.clone()] }];
    call::groups(&change.namespace, "grant", &scopes).map_err(refused)?;
    let space = call::keyspace(&change.namespace).map_err(refused)?;
    let Charge { identity, name, window, limit, .. } = charge;
    let note = Note {
        action: change.action,
        identity: change.identity.clone(),
        limit: change.limit.clone(),
        window: window.label(),
        by: cut(&change.by),
        reason: change.reason.as_deref().map(cut),
    };
    let note = serde_json::to_string(&note).map_err(|why| UsageError::Owner(why.to_string()))?;
    let keys = [
        space.counter(&change.scope, identity, name, window),
        space.index(&change.scope, identity),
        space.audit(&change.scope),
    ];
    let number = |number: u64| number.to_string();
    let action: &str = change.action.into();
    let args = [
        [number(now_ms), number(1), number(1)].to_vec(),
        [window.algorithm.name().to_owned(), number(window.length.get().get())].to_vec(),
        [call::parameter(window).into_owned(), number(limit.get()), number(1), number(2)].to_vec(),
        [keys::index_field(name, window)].to_vec(),
        [action.to_owned(), number(change.units.get())].to_vec(),
        [number(change.until_ms.unwrap_or_default().get())].to_vec(),
        [if change.dry_run { "dry" } else { "now" }.to_owned()].to_vec(),
        [MAX_ENTRIES.to_string(), number(KEEP_ENTRIES.get()), note].to_vec(),
        [number(1), number(1), number(0)].to_vec(),
    ];
    Ok(Invocation::of_keys(&script::GRANT, &keys, &args.concat()))
}

/// The beginning of a text that is too long for an entry.
fn cut(text: &str) -> String {
    let ends = text.char_indices().map(|(at, one)| at + one.len_utf8());
    let size = ends.take_while(|end| *end <= MAX_TEXT_BYTES).last().unwrap_or(0);
    text.get(..size).unwrap_or_default().to_owned()
}

/// What the script's `reply` says of the limit of `charge`.
///
/// # Errors
/// An error of Redis, another reply, or why the script has changed nothing.
pub fn changed(charge: &Charge, reply: RedisResult<Value>) -> Result<Changed, UsageError> {
    let failed = |why: redis::RedisError| UsageError::Redis(why.to_string());
    let invalid = || UsageError::Redis("the script's reply is invalid".to_owned());
    let Value::Array(replies) = reply.map_err(failed)? else { return Err(invalid()) };
    match replies.into_iter().next().ok_or_else(invalid)? {
        Value::BulkString(why) => Err(UsageError::Owner(String::from_utf8_lossy(&why).into_owned())),
        reply => {
            let numbers = Vec::<i64>::from_redis_value(reply).map_err(|why| failed(why.into()))?;
            let [units, until, state @ ..] = &numbers[..] else { return Err(invalid()) };
            let state = call::window_states(state).and_then(|states| states.into_iter().next());
            let state = state.ok_or_else(invalid)?;
            let whole = |number: i64| u64::try_from(number).map_err(|_| invalid());
            let until = Millis::new(whole(*until)?);
            Ok(Changed {
                units: Units::new(whole(*units)?),
                until_ms: (!until.is_zero()).then_some(until),
                limit: charge.window.capacity(charge.limit),
                granted: state.granted,
                used: state.used,
            })
        }
    }
}

/// An entry of the list: `<time> <units> <end> <note>`. None if it is none of ours.
fn entry(text: &str) -> Option<Entry> {
    let mut parts = text.splitn(4, ' ');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (at, units, until) = (number()?, number()?, number()?);
    Some(Entry {
        at_ms: Millis::new(at),
        units: Units::new(units),
        until_ms: (until > 0).then_some(Millis::new(until)),
        note: serde_json::from_str(parts.next()?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;
    use llm_rate_limit::quantity::NonZeroMillis;

    fn change(action: Action) -> Change {
        Change {
            identity: "me".to_owned(),
            scope: "me".to_owned(),
            namespace: String::new(),
            limit: "requests".to_owned(),
            window: "1m".to_owned(),
            configured: None,
            action,
            units: Units::new(5),
            until_ms: None,
            by: "ops".to_owned(),
            reason: None,
            dry_run: false,
        }
    }

    #[test]
    fn a_change_that_would_do_nothing_is_refused_with_the_reason() {
        let now = Millis::new(1_700_000_000_000);
        let said = |change: Change, charge: Charge| check(&change, &charge, now).unwrap_err();
        let requests = || examples::charge("requests");
        let slots = || Charge { window: Window::concurrency(NonZeroMillis::MINUTE), ..requests() };
        let zero = Charge { limit: Units::ZERO, ..requests() };
        assert!(said(change(Action::Grant), zero).contains("the limit is zero"));
        assert!(said(change(Action::Refund), slots()).contains("cannot be given back"));
        assert!(said(change(Action::Grant), slots()).contains("say until when"));
        let nothing = Change { units: Units::ZERO, ..change(Action::Refund) };
        assert_eq!(said(nothing, requests()), "units: expected from 1 to 9007199254740991");
        let forever = Change { until_ms: Some(now + MAX_WINDOW * 2), ..change(Action::Grant) };
        assert!(said(forever, requests()).contains("ten years"));
        assert!(said(Change { by: String::new(), ..change(Action::Revoke) }, requests()).contains("who"));
        assert_eq!(check(&change(Action::Grant), &requests(), now), Ok(()));
    }

    #[test]
    fn an_entry_is_read_as_it_is_written_and_what_is_none_is_left_out() {
        let text =
            r#"17 5 60 {"action":"grant","identity":"me","limit":"requests","window":"1m","by":"a b"}"#;
        let read = entry(text).unwrap();
        assert_eq!((read.at_ms, read.units, read.until_ms), (17.into(), 5.into(), Some(60.into())));
        assert_eq!((read.note.action, read.note.by.as_str()), (Action::Grant, "a b"));
        for none in ["", "1 2 3", "x 2 3 {}", "1 2 3 {}"] {
            assert_eq!(entry(none), None, "{none}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        assert_eq!(cut(&"ä".repeat(400)).len(), MAX_TEXT_BYTES);
        assert_eq!(cut(&format!("a{}", "ä".repeat(400))).len(), MAX_TEXT_BYTES - 1);
    }
}
