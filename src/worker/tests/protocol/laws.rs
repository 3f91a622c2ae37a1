//! The laws of the protocol.

use super::fleet::{Event, Fleet, Life, Protocol, Request};
use super::{ESTIMATE, LIMIT};
use crate::quantity::Millis;
use stateright::Model;

type Law = fn(&Protocol, &Fleet) -> bool;

pub(super) const NEVER_OVER: &str =
    "what Redis admits is never over the limit, nor what an Envoy admits alone over its share";
pub(super) const ONCE: &str = "no request is charged twice";
pub(super) const HOLDS: &str = "a request that runs holds what it has reserved";
pub(super) const ENDS: &str = "in the end, nobody waits, and nothing is open or on its way";
pub(super) const EXACT: &str =
    "in the end, each request is charged what it has cost, and nothing if it was refused";
pub(super) const LOCAL: &str = "in the end, an Envoy that has a share counts all that it has admitted";
pub(super) const EXPIRES: &str = "whatever is left leaves its window";

pub(super) const ALL: [(&str, Law); 7] = [
    (NEVER_OVER, never_over),
    (ONCE, once),
    (HOLDS, holds),
    (ENDS, ends),
    (EXACT, exact),
    (LOCAL, local),
    (EXPIRES, expires),
];

/// The part of the limit that a request has for itself, if it was forwarded. What it costs beyond its estimate is spent
/// already, and later requests wait for it.
pub(super) fn claim(request: &Request) -> u64 {
    match request.life {
        Life::Forwarded { .. } | Life::Lost { was_forwarded: true } => ESTIMATE,
        Life::Over { cost, .. } => cost.min(ESTIMATE),
        _ => 0,
    }
}

fn never_over(protocol: &Protocol, fleet: &Fleet) -> bool {
    let is_made = |request: &&Request| fleet.redis.has_made(&request.id);
    let is_shared = |request: &&Request| {
        matches!(request.life, Life::Forwarded { by_redis: false } | Life::Over { by_redis: false, .. })
    };
    let all = fleet.requests.iter().filter(is_made).map(claim).sum::<u64>() <= LIMIT;
    let share = |at| {
        let here = fleet.requests.iter().filter(|request| request.at == at);
        here.filter(is_shared).map(claim).sum::<u64>() <= LIMIT / 2
    };
    all && !fleet.is_over_share && (!protocol.scope.has_shares() || share(0) && share(1))
}

fn once(_: &Protocol, fleet: &Fleet) -> bool {
    fleet.requests.iter().all(|request| {
        let charged = fleet.redis.charged(&request.id);
        (0..=request.most.cast_signed()).contains(&charged)
    })
}

fn holds(_: &Protocol, fleet: &Fleet) -> bool {
    fleet.requests.iter().enumerate().all(|(at, request)| {
        let runs = matches!(request.life, Life::Forwarded { .. });
        !(runs && fleet.is_held_in_redis(at)) || fleet.redis.charged(&request.id) >= ESTIMATE.cast_signed()
    })
}

fn is_end(protocol: &Protocol, fleet: &Fleet) -> bool {
    let mut events: Vec<Event> = Vec::new();
    protocol.actions(fleet, &mut events);
    events.is_empty()
}

fn ends(protocol: &Protocol, fleet: &Fleet) -> bool {
    let is_lost = |id: &str| {
        fleet.requests.iter().any(|request| request.id == id && matches!(request.life, Life::Lost { .. }))
    };
    !is_end(protocol, fleet)
        || fleet.is_idle()
            && fleet.redis.open().all(is_lost)
            && fleet.requests.iter().all(|request| request.life != Life::Paused)
}

fn exact(protocol: &Protocol, fleet: &Fleet) -> bool {
    !is_end(protocol, fleet) || fleet.requests.iter().all(|request| is_exact(request, fleet))
}

fn is_exact(request: &Request, fleet: &Fleet) -> bool {
    let charged = fleet.redis.charged(&request.id);
    match request.life {
        Life::Over { cost, counted, .. } => {
            // A request that was forwarded uncounted is charged if its reservation was made all the same.
            let is_charged = counted || fleet.redis.has_made(&request.id);
            charged == if is_charged { cost.cast_signed() } else { 0 }
        }
        Life::Lost { .. } => true,
        _ => charged == 0,
    }
}

fn local(protocol: &Protocol, fleet: &Fleet) -> bool {
    let is_counted = |at: usize| {
        let here = fleet.requests.iter().filter(|request| request.at == at);
        let cost = |request: &Request| match request.life {
            Life::Over { cost, .. } => Some(cost),
            // Nobody is left to settle it.
            Life::Lost { .. } => None,
            _ => Some(0),
        };
        let all = here.map(cost).sum::<Option<u64>>();
        all.is_none_or(|all| fleet.used_locally(at, &protocol.charges) == all)
    };
    !protocol.scope.has_shares() || !is_end(protocol, fleet) || is_counted(0) && is_counted(1)
}

fn expires(_: &Protocol, fleet: &Fleet) -> bool {
    fleet.redis.used_after(Millis::HOUR * 2) == 0
}
