//! Script calls: what the scripts of `lua/` do for a request's charges, grouped by scope, and what they reply.
//!
//! It refuses charges that the scripts would get wrong: numbers that a Lua number cannot hold, keys that Redis Cluster
//! would spread over nodes, the same counter twice. It sends nothing.

use super::invocation::Invocation;
use crate::script::{self, Script};
use llm_rate_limit::policy::{NEW_IDENTITIES, is_shared};
use llm_rate_limit::quantity::{MAX_EXACT, Millis, NonZeroMillis, Units};
use llm_rate_limit::store::keys::{self, Keyspace};
use llm_rate_limit::store::wire::{self, Background, Charge, IfAbsent, OpenResponse, ScopeCharges, Settle};
use llm_rate_limit::window::calendar::{Calendar, CalendarName, Edges};
use llm_rate_limit::window::{Algorithm, Window, WindowState};
use std::borrow::Cow;
use std::collections::HashMap;

/// The longest window: ten years, which with its segments stays far below 2^53.
pub const MAX_WINDOW: Millis = Millis::new(10 * 366 * Millis::DAY.get());

/// The maximum number of segments of a window: its counter holds one field for each.
pub const MAX_SEGMENTS: u32 = 10_000;

/// The maximum number of charges of a request: Redis serves nobody else while it runs the script that applies them.
pub const MAX_CHARGES: usize = 2048;

/// The maximum length of an id, a scope, an identity or a limit's name, in bytes.
pub const MAX_NAME_BYTES: usize = 512;

/// The maximum length of the record of an open response, in bytes.
pub const MAX_RECORD_BYTES: usize = 16 * 1024;

/// The maximum length of a response's usage, in bytes.
pub const MAX_USAGE_BYTES: usize = 512;

/// The latest time, in milliseconds since the epoch, that an edge of a calendar may have: the year 5138.
const MAX_EDGE: Millis = Millis::new(100_000_000_000_000);

/// How long an open response is kept once its usage has come, so that a repeated call finds it again.
const KEPT_FOR_REPETITION: Millis = Millis::new(600_000);

/// Why a request cannot be turned into calls.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A namespace that cannot be part of keys.
    #[error("namespace: expected letters, digits, \".\", \"_\" and \"-\"")]
    Namespace,
    /// A cost or a limit that a Lua number cannot hold.
    #[error("charges[{at}]: {field} is {value}, more than {MAX_EXACT} (2^53 - 1)")]
    TooMany {
        /// The charge's place.
        at: usize,
        /// `cost`, `limit` or `burst`.
        field: &'static str,
        /// Its value.
        value: Units,
    },
    /// A window that is too long or has too many segments.
    #[error(
        "charges[{at}]: the window is longer than {MAX_WINDOW} ms or has more than {MAX_SEGMENTS} segments"
    )]
    Window {
        /// The charge's place.
        at: usize,
    },
    /// Edges of a calendar that no time reaches, or at which nothing begins.
    #[error("charges[{at}]: the edges of the calendar are missing or too late")]
    Edges {
        /// The charge's place.
        at: usize,
    },
    /// A text that is empty or too long for a key.
    #[error("{field} is empty or longer than {MAX_NAME_BYTES} bytes")]
    Name {
        /// `id`, `scope`, `identity` or `name`.
        field: &'static str,
    },
    /// More charges than a script may apply.
    #[error("{0} charges are more than a request may have, {MAX_CHARGES}")]
    Charges(usize),
    /// A response whose name is not a hash, which it must be in Redis.
    #[error("response: expected a SHA-256 in hexadecimal")]
    Response,
    /// A record, a usage or its lifetime that is too small or too large.
    #[error("{field} is empty or larger than {most}")]
    Size {
        /// `record`, `usage` or `keep_ms`.
        field: &'static str,
        /// The largest size.
        most: u64,
    },
    /// A scope that cannot be the hash tag of its keys.
    #[error("charges[{at}]: scope has a brace, so it cannot be a hash tag")]
    Scope {
        /// The charge's place.
        at: usize,
    },
    /// Two charges to one counter: the script would check each without the other.
    #[error("charges[{first}] and charges[{second}] are the same counter")]
    Twice {
        /// The earlier charge's place.
        first: usize,
        /// The later charge's place.
        second: usize,
    },
}

/// The charges of one request that share a scope: one script call applies them in one atomic step.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    space: Keyspace<'a>,
    scope: &'a str,
    /// Each charge with its place in the request.
    charges: Vec<(usize, &'a Charge)>,
    /// Whether they go to the counters that new identities share.
    is_shared: bool,
}

/// What a reservation does about an identity without counters, which is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfNew {
    /// It does not ask.
    Reserve,
    /// It reserves, and tells.
    Tell,
    /// It reserves nothing.
    Leave,
}

/// Sorts the charges of the request `id` in `namespace` into groups, in the order in which their scopes first appear.
///
/// # Errors
/// See [`Invalid`].
pub fn groups<'a>(
    namespace: &'a str,
    id: &str,
    scopes: &'a [ScopeCharges],
) -> Result<Vec<Group<'a>>, Invalid> {
    check_name("id", id)?;
    let space = keyspace(namespace)?;
    let len = ScopeCharges::count(scopes);
    if len > MAX_CHARGES {
        return Err(Invalid::Charges(len));
    }
    let mut groups: Vec<Group<'a>> = Vec::with_capacity(1);
    let mut counters = HashMap::with_capacity(len);
    let charges = scopes.iter().flat_map(|of| of.charges.iter().map(|charge| (&*of.scope, charge)));
    for (at, (scope, charge)) in charges.enumerate() {
        check(at, scope, charge)?;
        let counter = (scope, &*charge.identity, &*charge.name, charge.window.counted());
        if let Some(first) = counters.insert(counter, at) {
            return Err(Invalid::Twice { first, second: at });
        }
        match groups.iter_mut().find(|group| group.scope == scope) {
            Some(group) => group.charges.push((at, charge)),
            None => groups.push(Group { space, scope, charges: vec![(at, charge)], is_shared: false }),
        }
    }
    Ok(groups)
}

/// The keys of `namespace`.
///
/// # Errors
/// [`Invalid::Namespace`].
pub fn keyspace(namespace: &str) -> Result<Keyspace<'_>, Invalid> {
    if keys::is_namespace(namespace) { Ok(Keyspace::new(namespace)) } else { Err(Invalid::Namespace) }
}

fn check_name(field: &'static str, name: &str) -> Result<(), Invalid> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES { Err(Invalid::Name { field }) } else { Ok(()) }
}

/// Checks that `scope` and `identity` can be part of keys.
///
/// # Errors
/// [`Invalid::Name`] or [`Invalid::Scope`].
pub fn check_owner(at: usize, scope: &str, identity: &str) -> Result<(), Invalid> {
    check_name("scope", scope)?;
    check_name("identity", identity)?;
    if scope.contains(['{', '}']) { Err(Invalid::Scope { at }) } else { Ok(()) }
}

fn check(at: usize, scope: &str, charge: &Charge) -> Result<(), Invalid> {
    check_owner(at, scope, &charge.identity)?;
    check_name("name", &charge.name)?;
    let (segments, burst) = match charge.window.algorithm {
        Algorithm::SlidingWindow { segments } => (segments.get(), Units::ZERO),
        Algorithm::TokenBucket { burst } => (0, burst),
        Algorithm::FixedWindow
        | Algorithm::CalendarMonth
        | Algorithm::CalendarWindow(_)
        | Algorithm::Concurrency => (0, Units::ZERO),
    };
    if let Algorithm::CalendarWindow(Calendar { edges, .. }) = charge.window.algorithm {
        let edges = edges.get();
        if edges.iter().any(|edge| *edge > MAX_EDGE) || edges == Edges::UNKNOWN.get() {
            return Err(Invalid::Edges { at });
        }
    }
    for (field, value) in [("cost", charge.cost), ("limit", charge.limit), ("burst", burst)] {
        if value.get() > MAX_EXACT {
            return Err(Invalid::TooMany { at, field, value });
        }
    }
    if charge.window.length.get() > MAX_WINDOW || segments > MAX_SEGMENTS {
        return Err(Invalid::Window { at });
    }
    Ok(())
}

/// The third argument of a window, after its algorithm and its length. The three also begin its entry in the index.
pub(super) fn parameter(window: &Window) -> Cow<'static, str> {
    match window.algorithm {
        Algorithm::SlidingWindow { segments } => segments.to_string().into(),
        Algorithm::TokenBucket { burst } => burst.get().to_string().into(),
        Algorithm::CalendarWindow(Calendar { name, edges }) => {
            let [a, b, c, d] = edges.get();
            format!("{},{a},{b},{c},{d}", name.as_str()).into()
        }
        Algorithm::FixedWindow | Algorithm::CalendarMonth | Algorithm::Concurrency => "0".into(),
    }
}

/// The calendar with this third argument.
fn calendar(parameter: &str) -> Option<Calendar> {
    let mut parts = parameter.split(',');
    let name = CalendarName::new(parts.next()?)?;
    let edges: Vec<Millis> =
        parts.map(|edge| edge.parse().map(Millis::new)).collect::<Result<_, _>>().ok()?;
    Some(Calendar { name, edges: Edges::new(edges.try_into().ok()?) })
}

/// The window with these first three arguments; `None` if there is no such window.
pub fn window([algorithm, length_ms, parameter]: [&str; 3]) -> Option<Window> {
    let algorithm = match algorithm {
        "sliding_window" => Algorithm::SlidingWindow { segments: parameter.parse().ok()? },
        "fixed_window" => Algorithm::FixedWindow,
        "calendar_month" => Algorithm::CalendarMonth,
        "calendar_window" => Algorithm::CalendarWindow(calendar(parameter)?),
        "token_bucket" => Algorithm::TokenBucket { burst: Units::new(parameter.parse().ok()?) },
        "concurrency" => Algorithm::Concurrency,
        _ => return None,
    };
    Some(Window { length: NonZeroMillis::new(length_ms.parse().ok()?)?, algorithm })
}

impl<'a> Group<'a> {
    /// Whether these are the charges of an identity to counters of its own, which no group, model or request shares.
    pub fn is_own(&self) -> bool {
        !is_shared(self.scope) && self.charges.iter().all(|(_, charge)| *charge.identity == *self.scope)
    }

    /// The same charges to the counters that new identities share.
    #[must_use]
    pub fn shared(&self) -> Self {
        Self { scope: NEW_IDENTITIES, is_shared: true, ..self.clone() }
    }

    /// The namespace and the scope, by which an identity is told from others.
    pub fn owner(&self) -> (&'a str, &'a str) {
        (self.space.namespace(), self.scope)
    }

    /// The longest window.
    pub fn longest(&self) -> Millis {
        self.charges.iter().map(|(_, charge)| charge.window.length.get()).max().unwrap_or_default()
    }

    /// The places of its charges in the request, in the order of the call's windows.
    pub fn places(&self) -> impl Iterator<Item = usize> + '_ {
        self.charges.iter().map(|(at, _)| *at)
    }

    /// The call that reserves all or nothing. `now_ms` is 0 for Redis's clock.
    pub fn reserve<'c>(&self, id: &'c str, now_ms: u64) -> Call<'c>
    where
        'a: 'c,
    {
        self.reserve_if(id, IfNew::Reserve, false, now_ms)
    }

    /// The call that reserves all or nothing, and asks whether the identity is new. Unless `is_final`, a settlement
    /// follows. `now_ms` is 0 for Redis's clock.
    pub fn reserve_if<'c>(&self, id: &'c str, if_new: IfNew, is_final: bool, now_ms: u64) -> Call<'c>
    where
        'a: 'c,
    {
        let if_new = match if_new {
            IfNew::Reserve => "any",
            IfNew::Tell => "tell",
            IfNew::Leave => "known",
        };
        self.call(
            &script::RESERVE,
            Some(id),
            vec![if_new, if is_final { "final" } else { "open" }],
            now_ms,
            units,
        )
    }

    /// The call that settles, or extends, the reservation of `one` to the costs of its charges. `now_ms` is 0 for
    /// Redis's clock.
    pub fn settle<'c>(&self, one: &'c Settle, now_ms: u64) -> Call<'c>
    where
        'a: 'c,
    {
        let if_absent = match one.if_absent {
            None => "ignore",
            Some(IfAbsent::Charge) => "charge",
            Some(IfAbsent::Mark) => "mark",
        };
        let (then, cost): (_, fn(&Charge) -> Units) =
            if one.extend { ("extend", units) } else { ("end", units_kept) };
        self.call(&script::SETTLE, Some(&one.id), vec![if_absent, then], now_ms, cost)
    }

    /// The call that ends the leases of a reservation whose cost is still to come. `now_ms` is 0 for Redis's clock.
    pub fn detach<'c>(&self, open: &'c OpenResponse, now_ms: u64) -> Call<'c>
    where
        'a: 'c,
    {
        self.call(&script::SETTLE, Some(&open.id), vec!["ignore", "detach"], now_ms, units)
    }

    /// The call that gives back the whole reservation.
    pub fn release<'c>(&self, id: &'c str, now_ms: u64) -> Call<'c>
    where
        'a: 'c,
    {
        self.call(&script::SETTLE, Some(id), vec!["ignore", "end"], now_ms, |_| Units::ZERO)
    }

    /// The call that reads the windows and whether the costs would fit. `now_ms` is 0 for Redis's clock.
    pub fn peek(&self, now_ms: u64) -> Call<'a> {
        self.call(&script::PEEK, None, Vec::new(), now_ms, units)
    }

    fn call<'c>(
        &self,
        script: &'static Script,
        id: Option<&'c str>,
        values: Vec<&'static str>,
        now_ms: u64,
        cost: impl Fn(&Charge) -> Units,
    ) -> Call<'c>
    where
        'a: 'c,
    {
        let charges = self.charges.iter().map(|(_, charge)| (*charge, cost(charge))).collect();
        let Self { space, scope, is_shared, .. } = *self;
        Call { script, now_ms, space, scope, is_shared, id, values, charges }
    }
}

/// Units that `charge` takes while its request runs.
fn units(charge: &Charge) -> Units {
    charge.window.algorithm.units(charge.cost)
}

/// Units that `charge` keeps when its request is over.
fn units_kept(charge: &Charge) -> Units {
    charge.window.algorithm.units_kept(charge.cost)
}

/// What a script does for one request in one scope. [`super::invocation`] makes commands of calls.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    pub(super) script: &'static Script,
    /// The time at which the script counts; 0 for Redis's clock.
    pub(super) now_ms: u64,
    pub(super) space: Keyspace<'a>,
    pub(super) scope: &'a str,
    is_shared: bool,
    id: Option<&'a str>,
    /// Its values before its windows.
    pub(super) values: Vec<&'static str>,
    /// Its charges, and what each costs.
    pub(super) charges: Vec<(&'a Charge, Units)>,
}

impl<'a> Call<'a> {
    /// The identity whose counters `charge` goes to.
    pub(super) fn identity(&self, charge: &'a Charge) -> &'a str {
        if self.is_shared { NEW_IDENTITIES } else { &charge.identity }
    }

    /// The key of its reservation's record, if it has one.
    pub fn record(&self) -> Option<String> {
        self.id.map(|id| self.space.record(self.scope, id))
    }

    /// The keys of the counter and of its identity's index for each of its charges.
    pub fn keys(&self) -> impl Iterator<Item = [String; 2]> + '_ {
        self.charges.iter().map(|(charge, _)| {
            let identity = self.identity(charge);
            [
                self.space.counter(self.scope, identity, &charge.name, &charge.window),
                self.space.index(self.scope, identity),
            ]
        })
    }
}

/// The invocation that brings an open response and its usage together.
///
/// # Errors
/// See [`Invalid`].
pub fn background(one: &Background) -> Result<Invocation, Invalid> {
    let (namespace, response, kind, text, keep, most) = match one {
        Background::Open(open) => {
            (&open.namespace, &open.response, "open", &open.record, open.keep_ms, MAX_RECORD_BYTES)
        }
        Background::Usage(usage) => {
            (&usage.namespace, &usage.response, "usage", &usage.usage, usage.keep_ms, MAX_USAGE_BYTES)
        }
    };
    if response.len() != 64 || !response.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(Invalid::Response);
    }
    if text.is_empty() || text.len() > most {
        let field = if kind == "open" { "record" } else { "usage" };
        return Err(Invalid::Size { field, most: u64::try_from(most).unwrap_or(u64::MAX) });
    }
    if keep.is_zero() || keep > MAX_WINDOW {
        return Err(Invalid::Size { field: "keep_ms", most: MAX_WINDOW.get() });
    }
    let key = keyspace(namespace)?.response(response);
    let args = [kind, text, &keep.to_string(), &KEPT_FOR_REPETITION.to_string()];
    Ok(Invocation::of_key(&script::BACKGROUND, &key, &args))
}

/// Reads a reply of integers, four for each window: used, reset_ms, retry_after_ms and what is granted. `None` if it is
/// not one.
pub fn window_states(reply: &[i64]) -> Option<Vec<WindowState>> {
    let (windows, []) = reply.as_chunks::<4>() else { return None };
    windows
        .iter()
        .map(|[used, reset_ms, retry_after_ms, granted]| {
            Some(WindowState {
                used: Units::new(u64::try_from(*used).ok()?),
                reset: Millis::new(u64::try_from(*reset_ms).ok()?),
                fit: wire::fit(*retry_after_ms),
                granted: Units::new(u64::try_from(*granted).ok()?),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{charge, in_scope};
    use llm_rate_limit::window::Fit;

    fn one(scope: &str, name: &str) -> ScopeCharges {
        in_scope(scope, &[charge(name)])
    }

    fn refusal(charges: &[ScopeCharges]) -> String {
        groups("", "id", charges).unwrap_err().to_string()
    }

    /// Days from this time on.
    fn days(first: u64) -> Window {
        let edges = Edges::new([0, 1, 2, 3].map(|days| Millis::new(first) + Millis::DAY * days));
        let name = CalendarName::new("1d-America/Argentina/Buenos_Aires").unwrap();
        Window::calendar(NonZeroMillis::DAY, Calendar { name, edges })
    }

    #[test]
    fn charges_are_grouped_by_scope_and_keep_their_places() {
        let charges = [one("a", "requests"), one("b", "requests"), one("a", "total_tokens")];
        let groups = groups("", "id", &charges).unwrap();
        let places: Vec<Vec<usize>> = groups.iter().map(|group| group.places().collect()).collect();
        assert_eq!(places, [vec![0, 2], vec![1]]);
    }

    #[test]
    fn a_call_names_record_counters_and_indexes_under_one_tag() {
        let charges = [one("a", "requests")];
        let call = groups("", "id", &charges).unwrap()[0].reserve("id", 7);
        assert_eq!(call.record().unwrap(), "llmrl:3::{a}:reservation:id");
        assert_eq!(call.keys().collect::<Vec<_>>(), [["llmrl:3::{a}:key:requests:1m", "llmrl:3::{a}:key"]]);
    }

    #[test]
    fn what_new_identities_share_has_one_tag_and_one_counter_for_each_limit() {
        let own = |identity: &str| {
            in_scope(identity, &[Charge { identity: identity.into(), ..charge("requests") }])
        };
        let charges = [own("ab12"), own("group-team"), own("global"), one("ab13", "requests")];
        let groups = groups("staging", "id", &charges).unwrap();
        assert_eq!(groups.iter().map(Group::is_own).collect::<Vec<_>>(), [true, false, false, false]);
        let call = groups[0].shared().reserve_if("id", IfNew::Leave, false, 7);
        assert_eq!(call.record().unwrap(), "llmrl:3:staging:{new-identities}:reservation:id");
        assert_eq!(
            call.keys().next().unwrap(),
            [
                "llmrl:3:staging:{new-identities}:new-identities:requests:1m",
                "llmrl:3:staging:{new-identities}:new-identities",
            ]
        );
        assert_eq!((call.values[0], groups[0].owner()), ("known", ("staging", "ab12")));
    }

    #[test]
    fn releasing_settles_to_nothing() {
        let charges = [one("a", "requests")];
        let call = groups("", "id", &charges).unwrap()[0].release("id", 0);
        assert_eq!(call.values, ["ignore", "end"]);
        assert_eq!(call.charges[0].1, 0);
    }

    #[test]
    fn charges_that_the_scripts_would_get_wrong_are_refused() {
        let too_many = Units::new(MAX_EXACT + 1);
        let too_dear = in_scope("a", &[Charge { cost: too_many, ..charge("requests") }]);
        assert_eq!(
            refusal(&[one("a", "x"), too_dear]),
            "charges[1]: cost is 9007199254740992, more than 9007199254740991 (2^53 - 1)"
        );
        let limit = in_scope("a", &[Charge { limit: Units::new(u64::MAX), ..charge("requests") }]);
        assert!(refusal(&[limit]).starts_with("charges[0]: limit is 18446744073709551615"));
        let long = Window::sliding(NonZeroMillis::new(MAX_WINDOW.get() + 1).unwrap());
        let long = in_scope("a", &[Charge { window: long, ..charge("x") }]);
        assert!(refusal(&[long]).starts_with("charges[0]: the window is"));
        let bucket = |burst| {
            let window = Window::token_bucket(NonZeroMillis::MINUTE, burst);
            in_scope("a", &[Charge { window, ..charge("x") }])
        };
        assert!(refusal(&[bucket(too_many)]).starts_with("charges[0]: burst is 9007199254740992"));
        assert_eq!(
            refusal(&[bucket(Units::new(1)), bucket(Units::new(2))]),
            "charges[0] and charges[1] are the same counter"
        );
        for first in [MAX_EDGE.get(), u64::MAX] {
            let late = in_scope("a", &[Charge { window: days(first), ..charge("x") }]);
            assert!(refusal(&[late]).starts_with("charges[0]: the edges of the calendar"));
        }
        let days = |first| in_scope("a", &[Charge { window: days(first), ..charge("x") }]);
        assert_eq!(refusal(&[days(7), days(9)]), "charges[0] and charges[1] are the same counter");
        assert_eq!(refusal(&[one("a}b", "x")]), "charges[0]: scope has a brace, so it cannot be a hash tag");
        assert_eq!(refusal(&[one("", "x")]), "scope is empty or longer than 512 bytes");
        assert_eq!(
            refusal(&[one("a", "x"), one("b", "x"), one("a", "x")]),
            "charges[0] and charges[2] are the same counter"
        );
        assert_eq!(groups("", "", &[]).unwrap_err(), Invalid::Name { field: "id" });
        let many: Vec<_> = (0..=MAX_CHARGES).map(|at| one("a", &at.to_string())).collect();
        assert_eq!(refusal(&many), "2049 charges are more than a request may have, 2048");
        assert!(groups("", "id", &many[1..]).is_ok());
    }

    #[test]
    fn a_lease_is_one_slot_while_its_request_runs_and_none_after() {
        let window = Window::concurrency(NonZeroMillis::MINUTE);
        let charges = [in_scope("a", &[Charge { window, cost: Units::new(3), ..charge("concurrency") }])];
        let group = &groups("", "id", &charges).unwrap()[0];
        let settle =
            |extend| Settle { id: "id".into(), extend, charges: charges.to_vec(), ..Settle::default() };
        assert_eq!(group.reserve("id", 0).charges[0].1, 1);
        for (extend, then, units) in [(true, "extend", 1), (false, "end", 0)] {
            let settle = settle(extend);
            let call = group.settle(&settle, 0);
            assert_eq!((call.values[1], call.charges[0].1), (then, Units::new(units)));
        }
    }

    #[test]
    fn every_window_round_trips_through_its_arguments() {
        let minute = NonZeroMillis::MINUTE;
        for it in [
            Window::sliding(minute),
            Window::fixed(minute),
            Window::calendar_month(),
            days(7),
            Window::token_bucket(minute, Units::new(7)),
            Window::concurrency(minute),
        ] {
            let length_ms = it.length.get().get().to_string();
            assert_eq!(window([it.algorithm.name(), &length_ms, &parameter(&it)]), Some(it));
        }
        for none in [
            ["leaky", "1", "1"],
            ["fixed_window", "0", "0"],
            ["token_bucket", "1", "x"],
            ["calendar_window", "1", "1d-UTC,1,2,3"],
        ] {
            assert_eq!(window(none), None, "{none:?}");
        }
    }

    #[test]
    fn the_largest_numbers_are_accepted() {
        let most = Units::new(MAX_EXACT);
        let largest = in_scope("a", &[Charge { cost: most, limit: most, ..charge("x") }]);
        assert!(groups("", "id", &[largest]).is_ok());
    }

    #[test]
    fn a_reply_that_has_not_four_numbers_a_window_is_none() {
        assert_eq!(window_states(&[1, 2, 3]), None);
        assert_eq!(window_states(&[-1, 2, 3, 0]), None);
        assert_eq!(
            window_states(&[1, 2, -1, 5]),
            Some(vec![WindowState {
                used: Units::new(1),
                reset: Millis::new(2),
                fit: Fit::Never,
                granted: Units::new(5)
            }])
        );
    }
}
