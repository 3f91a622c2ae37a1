//! The JSON that the filter and the sidecar exchange: the bodies of `POST /v1/reserve`, `POST /v1/settle` and
//! `POST /v1/background`.
//!
//! All take an array with one element per request and answer with an array in the same order. Each call carries its
//! limits, so that the sidecar needs no configuration of them.
//!
//! Two types have another form on the wire, which only this file knows. The charges of an element are one flat array,
//! in which each charge names its scope; and [`Fit`] is the number `retry_after_ms`: 0, -1, or a wait.

pub use super::charge::{Charge, ScopeCharges};

use crate::quantity::{Millis, NonZeroMillis, Units};
use crate::usage::learned_prompt::Lesson;
use crate::window::{Fit, Window, WindowState};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The sidecar's paths.
pub mod path {
    /// Takes reservations.
    pub const RESERVE: &str = "/v1/reserve";
    /// Takes settlements.
    pub const SETTLE: &str = "/v1/settle";
    /// Takes background responses and their usage. A sidecar that does not know it answers 404.
    pub const BACKGROUND: &str = "/v1/background";
    /// Shows the windows that reservations would charge, and whether they would fit. Takes what [`RESERVE`] takes, and
    /// changes nothing.
    pub const PEEK: &str = "/v1/peek";
    /// Shows and resets an identity's windows.
    pub const USAGE: &str = "/v1/usage";
    /// Raises a limit for a while, or gives units back by hand, and shows who did so.
    pub const GRANTS: &str = "/v1/grants";
    /// Shows the busiest identities, and those closest to a limit.
    pub const TOP: &str = "/v1/top";
    /// Shows what Redis says of itself.
    pub const STORE: &str = "/v1/store";
    /// Whether the process is alive.
    pub const HEALTH: &str = "/healthz";
    /// Whether Redis answers.
    pub const READY: &str = "/readyz";
    /// Prometheus's metrics.
    pub const METRICS: &str = "/metrics";
}

/// The maximum number of elements of a call. The sidecar answers a call with more 413, which the filter must never
/// cause.
pub const MAX_ELEMENTS: usize = 1024;

/// The most bytes of a request's id. Envoy's own have 36.
pub const MAX_REQUEST_ID: usize = 64;

const _: () = assert!(super::sidecar::MAX_BATCH <= MAX_ELEMENTS);

/// One element of `POST /v1/reserve`: charge all of `charges` or none.
///
/// A call of one element without charges is a probe: it is admitted if Redis takes writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// An id that no other reservation of the fleet has. Reserving an id again changes nothing and answers the same.
    pub id: String,
    /// The namespace of the configuration: counters of another are others. Empty by default.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub namespace: Arc<str>,
    /// How many identities without counters may get some in a second, if that is bounded. This one's own are those
    /// whose scope is its identity; if it may get none, it is charged to the counters of
    /// [`NEW_IDENTITIES`](crate::policy::NEW_IDENTITIES) instead. Its settlement need not know, unless the answer was
    /// lost ([`Settle::may_share`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_identities_per_second: Option<NonZeroU32>,
    /// Whether the costs are final, so that no settlement follows unless the request is not served. The store
    /// remembers the reservation for a minute then, and otherwise for as long as its charges can be given back.
    #[serde(rename = "final", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_final: bool,
    /// The id by which Envoy knows the request (`x-request-id`), for the log: at most [`MAX_REQUEST_ID`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Arc<str>>,
    /// For each charge, the requests under its counter that the filter has refused since it last asked, without asking.
    /// They come beside the body ([`unasked`](super::unasked)).
    #[serde(skip)]
    pub refused_unasked: Vec<u32>,
    /// The counters to charge, by scope.
    #[serde(with = "flat")]
    pub charges: Vec<ScopeCharges>,
}

/// One element of the answer to `POST /v1/reserve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "AnyReserved", try_from = "AnyReserved")]
pub enum Reserved {
    /// The store has decided.
    Decided {
        /// Whether the request was charged.
        admitted: bool,
        /// One element per charge, in order.
        windows: Vec<WindowState>,
    },
    /// The store has not decided. It may have decided other elements.
    Failed {
        /// The reason, for the log.
        error: String,
        /// Whether the store could not: Redis has failed. Otherwise the element is at fault, and no store takes it.
        unavailable: bool,
    },
}

/// One element of `POST /v1/settle`: replace the charges of a reservation by its real cost, or by its cost so far.
///
/// The store charges an excess now, which may take a counter above its limit. It refunds a surplus to the place of the
/// charge, while that is still in the window. Settling an id again changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// The reservation's id.
    pub id: String,
    /// The namespace of the configuration.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub namespace: Arc<str>,
    /// What to do if the store knows no such reservation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_absent: Option<IfAbsent>,
    /// Whether the request still runs. If so, the store charges its cost so far beyond the earlier charges, refunds
    /// nothing, renews its leases, and keeps the reservation open. Costs are absolute, so that sending the same element
    /// again changes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extend: bool,
    /// Whether a reservation of this id that named [`Reserve::max_new_identities_per_second`] has had no answer. What
    /// it may have charged to the counters of [`NEW_IDENTITIES`](crate::policy::NEW_IDENTITIES) goes back, unless the
    /// request has no other charges.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_share: bool,
    /// As in [`Reserve`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<Arc<str>>,
    /// What an answer has taught about the count of its prompt. A sidecar that does not answer in
    /// [`HEADER`](super::corrections::HEADER) does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lesson: Option<Lesson>,
    /// The tokens that the request was measured to use, prompt and answer, whether or not they are limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// The charges of the reservation, in its order, with the real costs.
    #[serde(with = "flat")]
    pub charges: Vec<ScopeCharges>,
}

/// What a settlement does if the store knows no such reservation. By default it does nothing: the reservation has been
/// settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfAbsent {
    /// Charge the cost now and remember the id. The store did not answer in time, so the reservation may arrive after
    /// its settlement, and must charge nothing then.
    Charge,
    /// Charge nothing and remember the id. The request was forwarded uncounted; its reservation may arrive after its
    /// settlement, and must charge nothing then.
    Mark,
}

/// One element of the answer to `POST /v1/settle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "AnySettled", try_from = "AnySettled")]
pub enum Settled {
    /// The settlement has taken effect.
    Done {
        /// False if there was nothing to settle or extend: the reservation was settled before, or its windows have
        /// passed.
        settled: bool,
        /// Whether an extension took a counter past its limit.
        over: bool,
    },
    /// The settlement has failed.
    Failed {
        /// The reason, for the log.
        error: String,
        /// Whether it can never be done. Otherwise it may be sent again.
        permanent: bool,
    },
}

/// One element of `POST /v1/background`: a background response whose request is over, or the usage of one. The two meet
/// under the hash of the response's id, whichever comes first, and the answer to the second has what the first said.
/// Sending an element again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Background {
    /// The reservation stays open until the usage comes.
    Open(OpenResponse),
    /// The usage has come.
    Usage(ResponseUsage),
}

/// A reservation that stays open, because its request is over and its cost is still to come. Its leases end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenResponse {
    /// The SHA-256 of the response's id, in hexadecimal.
    pub response: String,
    /// The namespace of the configuration.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub namespace: Arc<str>,
    /// The reservation's id.
    pub id: String,
    /// The charges of the reservation, in its order, with the costs so far.
    #[serde(with = "flat")]
    pub charges: Vec<ScopeCharges>,
    /// Whatever a filter needs to settle the reservation; only filters read it.
    pub record: String,
    /// How long to wait for the usage.
    pub keep_ms: Millis,
}

/// The usage of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResponseUsage {
    /// The SHA-256 of the response's id, in hexadecimal.
    pub response: String,
    /// The namespace of the configuration.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub namespace: Arc<str>,
    /// The usage; only filters read it.
    pub usage: String,
    /// How long to wait for the reservation, if it is not open yet.
    pub keep_ms: Millis,
}

/// One element of the answer to `POST /v1/background`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Met {
    /// It has failed.
    Failed {
        /// The reason, for the log.
        error: String,
        /// Whether it can never be done. Otherwise it may be sent again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        permanent: bool,
    },
    /// It has taken effect.
    Done {
        /// What was waiting: the usage of the response that is to stay open, or the record that the usage settles.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        found: Option<String>,
    },
}

/// The fit that `retry_after_ms` encodes: 0 for now, -1 for never, else the wait.
pub fn fit(retry_after_ms: i64) -> Fit {
    match u64::try_from(retry_after_ms) {
        Ok(wait) => NonZeroMillis::new(wait).map_or(Fit::Now, Fit::After),
        Err(_) => Fit::Never,
    }
}

/// `fit` as `retry_after_ms`.
fn retry_after_ms(fit: Fit) -> i64 {
    match fit {
        Fit::Now => 0,
        Fit::After(wait) => i64::try_from(wait.get().get()).unwrap_or(i64::MAX),
        Fit::Never => -1,
    }
}

/// A window's state on the wire.
#[derive(Serialize, Deserialize)]
struct State {
    used: Units,
    reset_ms: Millis,
    retry_after_ms: i64,
    #[serde(default, skip_serializing_if = "is_nothing")]
    granted: Units,
}

const fn is_nothing(units: &Units) -> bool {
    units.is_zero()
}

impl From<WindowState> for State {
    fn from(state: WindowState) -> Self {
        let WindowState { used, reset, fit, granted } = state;
        Self { used, reset_ms: reset, retry_after_ms: retry_after_ms(fit), granted }
    }
}

impl From<State> for WindowState {
    fn from(state: State) -> Self {
        let State { used, reset_ms, retry_after_ms, granted } = state;
        Self { used, reset: reset_ms, fit: fit(retry_after_ms), granted }
    }
}

/// A [`Reserved`] on the wire. Deriving that (`untagged`) would read each answer into a tree first.
#[derive(Default, Serialize, Deserialize)]
struct AnyReserved {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admitted: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    windows: Option<Vec<State>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unavailable: bool,
}

impl From<Reserved> for AnyReserved {
    fn from(reserved: Reserved) -> Self {
        match reserved {
            Reserved::Decided { admitted, windows } => Self {
                admitted: Some(admitted),
                windows: Some(windows.into_iter().map(State::from).collect()),
                ..Self::default()
            },
            Reserved::Failed { error, unavailable } => {
                Self { error: Some(error), unavailable, ..Self::default() }
            }
        }
    }
}

impl TryFrom<AnyReserved> for Reserved {
    type Error = &'static str;

    fn try_from(any: AnyReserved) -> Result<Self, Self::Error> {
        match any {
            AnyReserved { admitted: Some(admitted), windows: Some(windows), .. } => {
                Ok(Self::Decided { admitted, windows: windows.into_iter().map(WindowState::from).collect() })
            }
            AnyReserved { error: Some(error), unavailable, .. } => Ok(Self::Failed { error, unavailable }),
            _ => Err("expected `admitted` and `windows`, or `error`"),
        }
    }
}

/// A [`Settled`] on the wire, as [`AnyReserved`].
#[derive(Default, Serialize, Deserialize)]
struct AnySettled {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled: Option<bool>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    over: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    permanent: bool,
}

impl From<Settled> for AnySettled {
    fn from(settled: Settled) -> Self {
        match settled {
            Settled::Done { settled, over } => Self { settled: Some(settled), over, ..Self::default() },
            Settled::Failed { error, permanent } => Self { error: Some(error), permanent, ..Self::default() },
        }
    }
}

impl TryFrom<AnySettled> for Settled {
    type Error = &'static str;

    fn try_from(any: AnySettled) -> Result<Self, Self::Error> {
        match any {
            AnySettled { settled: Some(settled), over, .. } => Ok(Self::Done { settled, over }),
            AnySettled { error: Some(error), permanent, .. } => Ok(Self::Failed { error, permanent }),
            _ => Err("expected `settled` or `error`"),
        }
    }
}

/// A charge on the wire, with its scope.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "struct Charge")]
struct FlatCharge<'a> {
    #[serde(borrow)]
    scope: Cow<'a, str>,
    #[serde(borrow)]
    identity: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    window: Window,
    limit: Units,
    cost: Units,
    #[serde(default = "enforced", skip_serializing_if = "is_enforced")]
    enforced: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warn_at: Option<Units>,
}

const fn enforced() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_enforced(enforced: &bool) -> bool {
    *enforced
}

/// Charges by scope, as a flat array of [`FlatCharge`].
mod flat {
    use super::{Charge, Cow, Deserialize, Deserializer, FlatCharge, ScopeCharges, Serializer};

    pub(super) fn serialize<S: Serializer>(scopes: &[ScopeCharges], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(scopes.iter().flat_map(|ScopeCharges { scope, charges }| {
            charges.iter().map(|charge| FlatCharge {
                scope: Cow::Borrowed(scope),
                identity: Cow::Borrowed(&charge.identity),
                name: Cow::Borrowed(&charge.name),
                window: charge.window,
                limit: charge.limit,
                cost: charge.cost,
                enforced: charge.enforced,
                warn_at: charge.warn_at,
            })
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ScopeCharges>, D::Error> {
        let charges = Vec::<FlatCharge<'_>>::deserialize(from)?.into_iter();
        Ok(ScopeCharges::group(charges.map(|flat| {
            let charge = Charge {
                identity: flat.identity.into(),
                name: flat.name.into(),
                window: flat.window,
                limit: flat.limit,
                cost: flat.cost,
                enforced: flat.enforced,
                warn_at: flat.warn_at,
            };
            (flat.scope, charge)
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::charge::tests::charge;

    fn charges() -> Vec<ScopeCharges> {
        let window = Window::token_bucket(NonZeroMillis::MINUTE, Units::new(9));
        let charge =
            |name: &str, enforced| Charge { name: name.into(), window, enforced, ..charge("me", 5, 2) };
        let charges = [("a", "requests", true), ("a", "tokens", false), ("b", "requests", true)];
        ScopeCharges::group(charges.map(|(scope, name, enforced)| (scope, charge(name, enforced))))
    }

    /// The charges of [`charges`].
    const CHARGES: &str = concat!(
        r#"[{"scope":"a","identity":"me","name":"requests","#,
        r#""window":{"window_ms":60000,"algorithm":"token_bucket","burst":9},"limit":5,"cost":2},"#,
        r#"{"scope":"a","identity":"me","name":"tokens","#,
        r#""window":{"window_ms":60000,"algorithm":"token_bucket","burst":9},"limit":5,"cost":2,"enforced":false},"#,
        r#"{"scope":"b","identity":"me","name":"requests","#,
        r#""window":{"window_ms":60000,"algorithm":"token_bucket","burst":9},"limit":5,"cost":2}]"#,
    );

    #[test]
    fn charges_are_flat_on_the_wire_and_grouped_in_the_process() {
        let reserve = Reserve { id: "x".into(), charges: charges(), ..Reserve::default() };
        assert_eq!(reserve.charges.iter().map(|scope| scope.charges.len()).collect::<Vec<_>>(), [2, 1]);
        let json = format!(r#"{{"id":"x","charges":{CHARGES}}}"#);
        assert_eq!(serde_json::to_string(&reserve).unwrap(), json);
        assert_eq!(serde_json::from_str::<Reserve>(&json).unwrap(), reserve);
        let settle = Settle {
            id: "x".into(),
            namespace: "staging".into(),
            if_absent: Some(IfAbsent::Charge),
            extend: true,
            may_share: true,
            request_id: Some("r-1".into()),
            lesson: "0123456789abcdefp".parse().ok().and_then(|cell| Lesson::new(cell, "me", 10, 13)),
            tokens: Some(17),
            charges: charges(),
        };
        let lesson = serde_json::to_string(&settle.lesson).unwrap();
        let json = format!(
            concat!(
                r#"{{"id":"x","namespace":"staging","if_absent":"charge","extend":true,"may_share":true,"#,
                r#""request_id":"r-1","lesson":{},"tokens":17,"charges":{}}}"#
            ),
            lesson, CHARGES
        );
        assert_eq!(serde_json::to_string(&settle).unwrap(), json);
        assert_eq!(serde_json::from_str::<Settle>(&json).unwrap(), settle);
    }

    #[test]
    fn background_responses_and_their_usage_are_told_apart_by_name() {
        let open = OpenResponse {
            response: "ab".into(),
            id: "x".into(),
            charges: charges(),
            record: "r".into(),
            keep_ms: Millis::MINUTE,
            ..OpenResponse::default()
        };
        let json = format!(
            r#"{{"open":{{"response":"ab","id":"x","charges":{CHARGES},"record":"r","keep_ms":60000}}}}"#
        );
        assert_eq!(serde_json::to_string(&Background::Open(open.clone())).unwrap(), json);
        assert_eq!(serde_json::from_str::<Background>(&json).unwrap(), Background::Open(open));
        let usage = ResponseUsage {
            response: "ab".into(),
            namespace: "staging".into(),
            usage: "u".into(),
            keep_ms: Millis::SECOND,
        };
        let json = r#"{"usage":{"response":"ab","namespace":"staging","usage":"u","keep_ms":1000}}"#;
        assert_eq!(serde_json::to_string(&Background::Usage(usage.clone())).unwrap(), json);
        assert_eq!(serde_json::from_str::<Background>(json).unwrap(), Background::Usage(usage));
        for (met, json) in [
            (Met::Done { found: None }, "{}"),
            (Met::Done { found: Some("r".into()) }, r#"{"found":"r"}"#),
            (Met::Failed { error: "busy".into(), permanent: false }, r#"{"error":"busy"}"#),
            (Met::Failed { error: "no".into(), permanent: true }, r#"{"error":"no","permanent":true}"#),
        ] {
            assert_eq!(serde_json::to_string(&met).unwrap(), json);
            assert_eq!(serde_json::from_str::<Met>(json).unwrap(), met);
        }
    }

    #[test]
    fn scopes_that_alternate_keep_their_order() {
        let [a, b] = charges().try_into().unwrap();
        let reserve = Reserve { id: "x".into(), charges: vec![a.clone(), b, a], ..Reserve::default() };
        let json = serde_json::to_string(&reserve).unwrap();
        assert_eq!(serde_json::from_str::<Reserve>(&json).unwrap(), reserve);
    }

    #[test]
    fn a_fit_is_a_number_on_the_wire() {
        let fits = [(Fit::Now, "0"), (Fit::Never, "-1"), (Fit::After(NonZeroMillis::new(7).unwrap()), "7")];
        for (fit, number) in fits {
            let state = WindowState { used: Units::new(3), reset: Millis::new(4), fit, granted: Units::ZERO };
            let reserved = Reserved::Decided { admitted: false, windows: vec![state] };
            let json = format!(
                r#"{{"admitted":false,"windows":[{{"used":3,"reset_ms":4,"retry_after_ms":{number}}}]}}"#
            );
            assert_eq!(serde_json::to_string(&reserved).unwrap(), json);
            assert_eq!(serde_json::from_str::<Reserved>(&json).unwrap(), reserved);
        }
    }

    #[test]
    fn a_mistake_in_a_charge_is_reported_as_one() {
        let charge = concat!(
            r#"{"scope":"a","identity":"a","name":"n","limit":1,"cost":1,"#,
            r#""window":{"window_ms":0,"algorithm":"fixed_window"}}"#,
        );
        for (charges, mistake) in [
            (format!("[{charge}]"), "invalid value: integer `0`, expected a nonzero u64"),
            (r#"[{"scope":"a"}]"#.into(), "missing field `identity`"),
            (
                r#"[{"scope":"a","x":1}]"#.into(),
                "unknown field `x`, expected one of `scope`, `identity`, `name`, `window`, `limit`, `cost`, \
                 `enforced`, `warn_at`",
            ),
            ("[7]".into(), "invalid type: integer `7`, expected struct Charge"),
            ("{}".into(), "invalid type: map, expected a sequence"),
        ] {
            let json = format!(r#"{{"id":"a","charges":{charges}}}"#);
            let found = serde_json::from_str::<Reserve>(&json).unwrap_err().to_string();
            assert!(found.starts_with(mistake), "{found}");
        }
    }
}
