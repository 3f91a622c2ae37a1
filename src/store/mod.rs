//! Where counters live: in this Envoy (`local`, in shards of shared data), or in Redis behind the sidecar (`sidecar`,
//! by group commit).
//!
//! [`Stores`] hides which: requests reserve, extend, settle and cancel, and the root context takes turns. Both stores
//! take the same charges and give the same answers. What happens to a request that gets no answer is the request's
//! business.

mod charge;
pub mod keys;
pub mod local;
pub mod shard;
pub mod sidecar;
mod stores;
pub mod wire;

pub use stores::{Ended, Stores};

use crate::window::WindowState;
use charge::ScopeCharges;
use local::Receipt;

/// What a store answers to a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has decided.
    Decided(Decision),
    /// It has not, or not in time. The request may have been charged all the same.
    Unavailable {
        /// Why, for the log.
        why: String,
    },
}

/// A store's decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The store that holds the reservation, if the request was admitted.
    pub reserved_in: Option<ReservedIn>,
    /// Per charge, in order: the counter after the decision.
    pub states: Vec<WindowState>,
}

/// The store that holds the reservation of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReservedIn {
    /// The local store.
    Local(Receipt),
    /// Redis.
    Redis,
    /// The local store, for this Envoy's share, and perhaps Redis: no answer came in time.
    LocalShare(Receipt),
    /// Perhaps Redis: no answer came in time, and the request went ahead uncounted.
    Uncounted,
}

/// The end of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The reservation's id.
    pub id: String,
    /// The charges that replace those of the reservation.
    pub charges: Vec<ScopeCharges>,
    /// The store that holds it.
    pub reserved_in: ReservedIn,
    /// Whether the charges are what was charged already, and no lease ends.
    pub is_unchanged: bool,
}

/// What became of an extension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// Whether a counter is known to be past its limit. Redis answers later.
    pub is_over: bool,
    /// Whether a call to the sidecar was queued.
    pub queued: bool,
}
