//! A model check of reservations: [`stateright`] visits every state that two Envoys, a few requests, Redis and the
//! network between them can get into, and looks whether the [laws] hold there.
//!
//! The Envoys run the filter's own code: a [`Worker`](crate::worker::Worker) handles the events of its requests, and
//! its callouts are the messages of the network. Redis is the scripts' twin ([`crate::store::twin`]), which
//! `tests/histories.rs` holds to the scripts. Clients come and leave, responses cost less or more than was reserved,
//! outgrow it while they run, or are errors. Batches and answers are lost; a batch is delayed until nobody waits for
//! it, and then arrives or does not; deadlines pass before answers come; a worker dies. Redis answers a probe, and
//! ticks write to the local store what Redis has admitted. Each may happen at any time, and as often as a [`Scope`]
//! allows.
//!
//! It has found that a reservation that arrived after the settlement of a request that `on_error: allow` had forwarded
//! stayed charged. That it finds nothing else means something, because it finds each [`Mutant`], and has found each of
//! these changes of the filter, which were made by hand:
//!
//! - The reservation of a client that has left while it waited is not given back.
//! - That of a request that was refused for want of an answer is not given back, or only if it has arrived already.
//! - The settlement that waits for a late answer is dropped with it.
//! - A batch of settlements without an answer is not sent again.
//! - The settlement of a request under this Envoy's share charges nothing if the reservation has not arrived.
//! - This Envoy does not count what Redis has admitted, or not before its own decision, or not when that is over or is
//!   cancelled, or not if it has been written before that.
//! - Redis is not told of a running request that this Envoy has admitted alone, or charges it only if it was reserved.
//!
//! It leaves out time limits of records and windows, several scopes in one request (`tests/hierarchy.rs`), leases, and
//! requests that wait until they fit.

mod envoy;
mod fleet;
mod laws;
mod redis;

use crate::config::Config;
use crate::quantity::{Millis, Units};
use crate::store::wire::Charge;
use crate::window::Window;
use envoy::Envoy;
use fleet::Protocol;
use serde_json::json;
use stateright::{Checker, HasDiscoveries, Model};
use std::sync::Arc;
use std::time::Instant;

/// The limit on output tokens.
const LIMIT: u64 = 100;

/// What each request reserves.
const ESTIMATE: u64 = 50;

/// The tokens of a response so far that has outgrown its estimate.
const GROWN: u64 = 70;

/// The most that they are taken for while the response runs, by their bytes.
const MOST_GROWN: u64 = 90;

/// A fault that is put into the protocol, to see that a law finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    /// The protocol as it is.
    None,
    /// What was reserved for a request that was refused is not given back.
    CancelsNothing,
    /// What was reserved too late for a request that was forwarded is given back.
    CancelsWhatIsForwarded,
    /// A callout without an answer never ends.
    WaitsForever,
    /// A settlement that was lost is not sent again.
    SendsOnce,
    /// A reservation that comes after its cancellation or settlement, or a second time, charges.
    ReservesAgain,
    /// A settlement that comes a second time charges.
    SettlesAgain,
    /// A settlement that may find no reservation charges as if there were none.
    ChargesWhatIsThere,
    /// An extension charges all of the cost so far, and not only what is new in it.
    AddsExtensions,
    /// An extension charges nothing if there is no reservation, so that nothing holds a request that an Envoy has
    /// admitted alone.
    ExtendsWhatIsThere,
    /// A settlement charges after everything else has left the window.
    SettlesInTheFuture,
    /// The sidecar says that it has admitted what it has refused.
    AdmitsAll,
}

/// What may happen.
#[derive(Clone, Copy, Debug)]
struct Scope {
    on_error: &'static str,
    /// The Envoy of each request, and what it may cost.
    requests: &'static [(usize, &'static [u64])],
    leaves: bool,
    /// Whether ticks write to the local store, and Redis answers probes, without another event.
    ticks: bool,
    /// Batches and answers that are lost or delayed, at most.
    faults: u8,
    /// Workers that die, at most.
    deaths: u8,
}

impl Scope {
    fn has_shares(&self) -> bool {
        self.on_error == "local"
    }

    fn protocol(self, mutant: Mutant) -> Protocol {
        let mut store = json!({"type": "redis", "cluster": "s", "on_error": self.on_error, "timeout_ms": 50});
        if self.has_shares() {
            store["replicas"] = json!(2);
            store["max_identities"] = json!(1);
        }
        let window = json!({"metric": "output_tokens", "limit": LIMIT, "window": "1h"});
        let config = json!({"store": store, "default": {"windows": [window]}, "stream_usage": "count"});
        let charge = Charge {
            identity: "me".into(),
            name: "output_tokens".into(),
            window: Window::sliding(Millis::HOUR.at_least_one()),
            limit: Units::new(LIMIT),
            cost: Units::ZERO,
            enforced: true,
            warn_at: None,
        };
        let config = Arc::new(Config::from_bytes(config.to_string().as_bytes()).unwrap());
        let charges = Envoy::charges(&config, ESTIMATE);
        Protocol { scope: self, mutant, charge, charges, config }
    }
}

/// Visits every state, until one breaks any of `laws`. Returns the law and the way there.
fn broken(scope: Scope, mutant: Mutant, laws: &[&'static str]) -> Option<(&'static str, String)> {
    let begin = Instant::now();
    let until = HasDiscoveries::AnyOf(laws.iter().copied().collect());
    let checker = scope.protocol(mutant).checker().threads(2).finish_when(until).spawn_bfs().join();
    let (states, events) = (checker.unique_state_count(), checker.state_count());
    eprintln!("{mutant:?}, {scope:?}: {states} states, {events} events, {:?}", begin.elapsed());
    let mut broken = checker.discoveries().into_iter().filter(|(law, _)| laws.contains(law));
    broken.next().map(|(law, path)| (law, format!("{path}{:#?}", path.last_state().requests)))
}

/// Two Envoys with a request each, and a network that fails twice.
const TWO: Scope = Scope {
    on_error: "deny",
    requests: &[(0, &[20]), (1, &[50])],
    leaves: true,
    ticks: false,
    faults: 2,
    deaths: 0,
};

/// Three requests, of which two share batches.
const THREE: Scope =
    Scope { requests: &[(0, &[0]), (0, &[20]), (1, &[50])], leaves: false, faults: 1, ..TWO };

/// Two requests that share batches, or leave before they do. One outgrows its estimate.
const BATCH: Scope = Scope { requests: &[(0, &[20]), (0, &[80])], ticks: true, faults: 1, ..TWO };

/// A worker that dies, perhaps while a response outgrows its estimate.
const DEATH: Scope =
    Scope { requests: &[(0, &[20]), (1, &[80])], leaves: false, ticks: true, faults: 1, deaths: 1, ..TWO };

fn holds(scope: Scope) {
    for on_error in ["deny", "allow", "local"] {
        let laws = laws::ALL.map(|(law, _)| law);
        if let Some((law, how)) = broken(Scope { on_error, ..scope }, Mutant::None, &laws) {
            panic!("{on_error}: not true that {law}: {how}");
        }
    }
}

#[test]
fn the_laws_hold_between_two_envoys() {
    holds(TWO);
}

#[test]
fn the_laws_hold_while_batches_compete() {
    holds(THREE);
}

#[test]
fn the_laws_hold_while_clients_leave_their_batches() {
    holds(BATCH);
}

#[test]
fn the_laws_hold_when_a_worker_dies() {
    holds(DEATH);
}

#[test]
fn every_fault_that_is_put_in_is_found() {
    let admits_all = broken(THREE, Mutant::AdmitsAll, &[laws::NEVER_OVER]);
    assert!(admits_all.is_some(), "{:?} is not found", Mutant::AdmitsAll);
    let scope = Scope { requests: DEATH.requests, leaves: false, faults: 1, ..TWO };
    for (mutant, on_error, law) in [
        (Mutant::SettlesAgain, "deny", laws::ONCE),
        (Mutant::ChargesWhatIsThere, "local", laws::ONCE),
        (Mutant::AddsExtensions, "deny", laws::ONCE),
        (Mutant::ExtendsWhatIsThere, "local", laws::HOLDS),
        (Mutant::CancelsWhatIsForwarded, "allow", laws::HOLDS),
        (Mutant::WaitsForever, "deny", laws::ENDS),
        (Mutant::CancelsNothing, "deny", laws::EXACT),
        (Mutant::SendsOnce, "deny", laws::EXACT),
        (Mutant::ReservesAgain, "deny", laws::EXACT),
        (Mutant::SettlesInTheFuture, "deny", laws::EXPIRES),
    ] {
        assert!(broken(Scope { on_error, ..scope }, mutant, &[law]).is_some(), "{mutant:?} is not found");
    }
}
