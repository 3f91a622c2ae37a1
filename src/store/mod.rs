//! The stores that count: in this Envoy (`local`, in shards of shared data), or in Redis behind the sidecar (`sidecar`,
//! by group commit).
//!
//! [`Stores`] hides which: sessions reserve, extend, settle, cancel and keep open, and the worker fetches the callouts
//! to make; `unasked` says what was refused without them. Both stores take the same charges and give the same answers.
//! [`crate::session`] decides what happens to a request without an answer.

mod arrears;
mod charge;
pub mod corrections;
mod failure;
mod health;
pub mod keys;
mod latency;
pub mod local;
mod mirror;
pub mod noticeboard;
mod outbox;
pub mod reservations;
mod responses;
mod responses_queue;
pub mod roll;
mod said;
mod scope;
pub mod settlements;
pub mod shard;
pub mod sidecar;
mod stores;
#[cfg(not(target_family = "wasm"))]
pub mod twin;
pub mod unasked;
pub mod version;
pub mod wire;

pub use failure::Failure;
pub use health::Standing;
pub use noticeboard::Noticeboard;
pub use responses::USAGE_WAITS;
pub use stores::{CalloutOutcome, Kept, Reserved, Stores, Wanted};

use crate::quantity::Millis;
use crate::window::WindowState;
use charge::ScopeCharges;
use local::Receipt;
use std::sync::Arc;

/// A store's answer to a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The store has decided.
    Decided(Decision),
    /// The store has not decided, or not in time. It may have charged the request all the same.
    Unavailable {
        /// The reason, for the log.
        why: String,
    },
    /// The sidecar has answered that it does not take the call. It has charged nothing, and would not take the call a
    /// second time either.
    Refused {
        /// The reason, for the log.
        why: String,
    },
}

impl Answer {
    /// Whether the reservation has been made.
    const fn is_admission(&self) -> bool {
        matches!(self, Self::Decided(Decision { held: Some(_), .. }))
    }

    /// Whether the reservation has been made, or may have been.
    const fn may_hold(&self) -> bool {
        self.is_admission() || matches!(self, Self::Unavailable { .. })
    }
}

/// A store's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<H = HeldIn> {
    /// The store that has the reservation, if the request was admitted.
    pub held: Option<H>,
    /// The state of each charge's counter after the decision, in order.
    pub states: Vec<WindowState>,
}

impl<H> Decision<H> {
    /// The same decision, with `change` made to the place that holds the reservation.
    fn map<T>(self, change: impl FnOnce(H) -> T) -> Decision<T> {
        Decision { held: self.held.map(change), states: self.states }
    }
}

/// The store that has the reservation of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldIn {
    /// The local store.
    Local(Receipt),
    /// Redis.
    Redis,
    /// The local store, for this Envoy's share of the limits, and perhaps Redis: it did not answer in time.
    LocalShare(Receipt),
    /// Perhaps Redis: it did not answer in time, and the request was forwarded uncounted.
    Uncounted,
    /// None: no limit applies to the request, which is only metered.
    Nowhere,
}

/// The end of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The reservation's id.
    pub id: String,
    /// The charges that replace those of the reservation.
    pub charges: Vec<ScopeCharges>,
    /// The store that has the reservation.
    pub held: HeldIn,
    /// Whether the charges equal those so far, and no lease ends.
    pub is_unchanged: bool,
    /// Whether the reservation was said to be final.
    pub is_final: bool,
    /// Whether Redis may have charged the counters that new identities share, and did not say so.
    pub may_share: bool,
    /// The id by which Envoy knows the request, for the sidecar's log.
    pub request_id: Option<Arc<str>>,
    /// The tokens that it was measured to use, for the sidecar's status page.
    pub tokens: Option<u64>,
}

impl Settlement {
    /// That of a reservation whose request nobody knows any more.
    pub const fn without_request(id: String, charges: Vec<ScopeCharges>, held: HeldIn) -> Self {
        let (is_unchanged, is_final, may_share, request_id) = (false, false, false, None);
        Self { id, charges, held, is_unchanged, is_final, may_share, request_id, tokens: None }
    }
}

/// A reservation that is to stay open after its request, until the usage of its response comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenResponse {
    /// The SHA-256 of the response's id, in hexadecimal.
    pub response: String,
    /// The reservation's id.
    pub id: String,
    /// The charges with the costs so far.
    pub charges: Vec<ScopeCharges>,
    /// Whatever is needed to settle it.
    pub record: String,
    /// How long to wait for the usage.
    pub keep: Millis,
    /// The store that has the reservation.
    pub held: HeldIn,
}

/// An open response and its usage, which have met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// Whatever is needed to settle the reservation.
    pub record: String,
    /// The usage, as it was reported.
    pub usage: String,
    /// The store that has the reservation.
    pub held: HeldIn,
}

/// The outcome of an extension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// Whether a counter is past its limit, as far as is known: Redis answers later.
    pub is_over: bool,
    /// Whether a call to the sidecar was queued.
    pub queued: bool,
}
