//! What the filter and the sidecar say to each other: the JSON bodies of `POST /v1/reserve` and `POST /v1/settle`.
//!
//! Both take an array with one element per request and answer an array in the same order. Policy travels in each
//! call, so that the sidecar keeps none. Names of keys in Redis are made here, once, for both.

use crate::window::{Fit, Window};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;

/// One counter that a request is charged to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// The hash tag: whatever shares it is charged in one atomic step.
    pub scope: String,
    /// Whose counter it is.
    pub identity: String,
    /// The limit's name.
    pub name: String,
    /// Its window.
    pub window: Window,
    /// The most that the window admits. Not used by a settlement.
    pub limit: u64,
    /// To reserve; in a settlement, what it really was.
    pub cost: u64,
    /// False: the cost is charged whether or not it fits, and whether it did is told. For limits in a dry run.
    #[serde(default = "enforced", skip_serializing_if = "is_enforced")]
    pub enforced: bool,
}

const fn enforced() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_enforced(enforced: &bool) -> bool {
    *enforced
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_over(extend: &bool) -> bool {
    !*extend
}

impl Charge {
    /// The counter's key in Redis: `llmrl:{<scope>}:<identity>:<limit name>:<window>`.
    pub fn key(&self) -> String {
        format!("llmrl:{{{}}}:{}:{}:{}", self.scope, self.identity, self.name, self.window.label())
    }
}

/// One element of `POST /v1/reserve`: charge all of `charges` or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// Unique to the reservation, across the fleet. Reserving an id again changes nothing and answers the same.
    pub id: String,
    /// The counters, those of one scope next to each other.
    pub charges: Vec<Charge>,
}

/// One element of the answer to `POST /v1/reserve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reserved {
    /// The store has decided.
    Decided {
        /// Whether the request was charged.
        admitted: bool,
        /// One element per charge, in order.
        windows: Vec<WindowState>,
    },
    /// This reservation could not be decided; others of the batch may have been.
    Failed {
        /// What went wrong, for the log.
        error: String,
    },
}

/// One counter after the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowState {
    /// Units charged to the window, those of this request included if it was admitted.
    pub used: u64,
    /// Milliseconds until the window is empty if nobody spends.
    pub reset_ms: u64,
    /// 0: the cost fits (or was charged); -1: it is larger than the limit; else the milliseconds until it fits.
    pub retry_after_ms: i64,
}

impl WindowState {
    /// What `retry_after_ms` says.
    pub fn fit(&self) -> Fit {
        match u64::try_from(self.retry_after_ms) {
            Err(_) => Fit::Never,
            Ok(ms) => NonZeroU64::new(ms).map_or(Fit::Now, Fit::After),
        }
    }

    /// `fit` as `retry_after_ms` writes it.
    pub fn retry_after(fit: Fit) -> i64 {
        match fit {
            Fit::Now => 0,
            Fit::After(ms) => i64::try_from(ms.get()).unwrap_or(i64::MAX),
            Fit::Never => -1,
        }
    }
}

/// One element of `POST /v1/settle`: replace what a reservation charged by what it really cost, or what it has cost so
/// far.
///
/// An excess is charged now, and may take a counter above its limit; what was too much goes back to the segment
/// that was charged, while that is still in the window. Settling an id again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// The reservation's id.
    pub id: String,
    /// What to do if the store knows no such reservation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_absent: Option<IfAbsent>,
    /// True: the request still runs. What it has cost so far beyond what is charged is charged now, nothing is given
    /// back, its leases begin anew, and the reservation stays open. Costs are absolute, so that saying the same again
    /// changes nothing.
    #[serde(default, skip_serializing_if = "is_over")]
    pub extend: bool,
    /// The charges of the reservation, in its order, with what they really were.
    pub charges: Vec<Charge>,
}

/// What a settlement does when the store knows no such reservation. Without it: nothing, it has been settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfAbsent {
    /// Charge the cost now and remember the id: whether the reservation reached the store is not known (no answer
    /// came in time), the request went ahead, and a reservation that comes late must charge nothing.
    Charge,
}

/// One element of the answer to `POST /v1/settle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Settled {
    /// It is settled.
    Done {
        /// False if there was nothing to settle or extend: it had been settled before, or its windows have passed.
        settled: bool,
        /// Whether an extension took a counter past its limit.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        over: bool,
    },
    /// It could not be settled and may be tried again.
    Failed {
        /// What went wrong, for the log.
        error: String,
    },
}
