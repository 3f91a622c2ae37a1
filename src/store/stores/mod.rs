//! The stores of one worker behind one interface.
//!
//! This file reserves, in whichever store there is. `settling` ends reservations or keeps them open, and `callouts`
//! asks the sidecar and takes its answers.

mod callouts;
mod settling;

pub use callouts::CalloutOutcome;
pub use settling::Kept;

use super::charge::ScopeCharges;
use super::corrections::Corrections;
use super::local::{self, LocalStore, SharedData};
use super::mirror::Mirror;
use super::responses::OpenResponses;
use super::said::Said;
use super::shard::Step;
use super::wire::Reserve;
use super::{Answer, HeldIn, Noticeboard};
use crate::calendar::Calendars;
use crate::config::{OnError, Store};
use crate::quantity::Millis;
use crate::window::WindowState;
use callouts::Sidecar;
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The stores that a configuration uses.
#[derive(Clone, Debug)]
pub struct Stores<S> {
    /// Whose counters these are, on what the stores share with other configurations.
    namespace: Arc<str>,
    /// None if this Envoy never counts by itself.
    local: Option<LocalStore<S>>,
    /// None if the configuration has no sidecar.
    sidecar: Option<Sidecar>,
    /// What Redis has admitted, on its way into the local store; none unless that counts while Redis does not answer.
    mirror: Option<Mirror>,
    /// What the workers of this Envoy tell each other.
    notices: Noticeboard<S>,
    /// What the log has said about the store.
    said: Said,
    /// What is learned about the counts of prompts.
    corrections: Corrections<S>,
    /// The calendars of windows that have one.
    calendars: Calendars,
}

/// A reservation to make.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// An id that no other reservation of the fleet has.
    pub id: &'a str,
    /// The charges.
    pub charges: Vec<ScopeCharges>,
    /// How many new identities may get counters in a second, for Redis to hold. The local store has room for so many
    /// at a time.
    pub max_new_identities: Option<NonZeroU32>,
    /// Whether the request will cost just that, if it is served.
    pub is_final: bool,
    /// The id by which Envoy knows the request, for the sidecar's log.
    pub request_id: Option<Arc<str>>,
    /// As in [`Reserve`].
    pub refused_unasked: Vec<u32>,
}

/// What becomes of a reservation when it is made.
#[derive(Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The store answered at once.
    Answered(Answer),
    /// The sidecar is asked in the next turn: the answer is one of [`CalloutOutcome::answers`].
    Queued {
        /// After this, the answer is late.
        answer_by: Millis,
    },
}

impl<S: SharedData> Stores<S> {
    /// The stores of `config` for the counters of `namespace`, and for the ids that the configuration names. Creates
    /// missing shards of the local store, and the noticeboard.
    pub fn new(config: &Store, namespace: Arc<str>, configured: BTreeSet<Arc<str>>, data: S) -> Self {
        let notices = Noticeboard::new(data.clone());
        notices.prepare();
        let mut local = config.local().map(|local| {
            LocalStore::new(data, Arc::clone(&namespace), local.max_identities, Arc::new(configured))
        });
        if let Some(local) = &mut local {
            local.prepare();
            if let Store::Local(_) = config {
                open_responses(local).prepare();
            }
        }
        let sidecar = match config {
            Store::Local(_) => None,
            Store::Redis(redis) => Some(Sidecar::new(redis)),
        };
        let mirror = (sidecar.is_some() && local.is_some()).then(Mirror::default);
        let (said, corrections, calendars) = (Said::default(), Corrections::none(), Calendars::default());
        Self { namespace, local, sidecar, mirror, notices, said, corrections, calendars }
    }

    /// The same stores, which also learn about the counts of prompts, if `is_wanted`.
    #[must_use]
    pub fn learning(self, is_wanted: bool) -> Self {
        let corrections = match (&self.sidecar, &self.local) {
            _ if !is_wanted => Corrections::none(),
            (Some(_), _) => Corrections::of_sidecar(),
            (None, Some(local)) => Corrections::shared(local.data().clone(), &self.namespace),
            (None, None) => Corrections::none(),
        };
        Self { corrections, ..self }
    }

    /// What is learned about the counts of prompts.
    pub const fn corrections(&self) -> &Corrections<S> {
        &self.corrections
    }

    /// The same, to teach it.
    pub const fn corrections_mut(&mut self) -> &mut Corrections<S> {
        &mut self.corrections
    }

    /// What the workers of this Envoy tell each other.
    pub const fn notices(&self) -> &Noticeboard<S> {
        &self.notices
    }

    /// Reserves all that is `wanted` or none, for the request of `stream`.
    pub fn reserve(&mut self, stream: u32, wanted: Wanted<'_>, now: Millis) -> Reserved {
        let Wanted { id, mut charges, max_new_identities, is_final, request_id, refused_unasked } = wanted;
        self.calendars.keep_up(&mut charges, now);
        match &mut self.sidecar {
            Some(sidecar) => {
                let reserve = Reserve {
                    id: id.to_owned(),
                    namespace: Arc::clone(&self.namespace),
                    max_new_identities_per_second: max_new_identities,
                    is_final,
                    request_id,
                    refused_unasked,
                    charges,
                };
                sidecar.reserves.push(stream, reserve);
                Reserved::Queued { answer_by: now + sidecar.timeout }
            }
            None => Reserved::Answered(self.reserve_locally(&charges, HeldIn::Local, now)),
        }
    }

    /// Reserves `shares`, this Envoy's part of the limits, while Redis does not answer. Redis is to charge the `whole`
    /// later.
    pub fn reserve_share(
        &mut self,
        id: &str,
        mut shares: Vec<ScopeCharges>,
        whole: impl FnOnce() -> Vec<ScopeCharges>,
        now: Millis,
    ) -> Answer {
        self.write_mirror(now);
        self.calendars.keep_up(&mut shares, now);
        let answer = self.reserve_locally(&shares, HeldIn::LocalShare, now);
        if answer.is_admission()
            && let Some(sidecar) = &mut self.sidecar
        {
            let mut whole = whole();
            self.calendars.keep_up(&mut whole, now);
            sidecar.arrears.admitted(id, whole, now);
        }
        answer
    }

    fn reserve_locally(
        &self,
        charges: &[ScopeCharges],
        held: impl FnOnce(local::Receipt) -> HeldIn,
        now: Millis,
    ) -> Answer {
        let Some(local) = &self.local else {
            return Answer::Unavailable { why: "no local store is configured".into() };
        };
        match local.reserve(charges, now) {
            Ok(decision) => Answer::Decided(decision.map(held)),
            Err(error) => Answer::Unavailable { why: error.to_string() },
        }
    }

    /// Reserves this Envoy's share of the limits for a request whose call the sidecar has refused. Redis gets none of
    /// its charges: the sidecar would refuse them too.
    pub fn reserve_share_alone(&mut self, mut charges: Vec<ScopeCharges>, now: Millis) -> Answer {
        self.write_mirror(now);
        self.calendars.keep_up(&mut charges, now);
        self.reserve_locally(&charges, HeldIn::Local, now)
    }

    /// Notes a step of a reservation that Redis has made, for the local store.
    fn follow(&mut self, id: &str, step: Step, charges: &[ScopeCharges], now: Millis) {
        if let Some(mirror) = &mut self.mirror {
            mirror.follow(id, step, charges, now);
            if mirror.is_full() {
                self.write_mirror(now);
            }
        }
    }

    /// Writes to the local store what Redis has admitted.
    fn write_mirror(&mut self, now: Millis) {
        if let (Some(mirror), Some(local)) = (&mut self.mirror, &self.local)
            && !mirror.is_empty()
        {
            mirror.write(local, now);
        }
    }

    /// Does what a tick is for: writes to the local store what Redis has admitted, and what has been learned.
    pub fn tick(&mut self, now: Millis) {
        self.corrections.tick(now);
        if self.mirror.as_ref().is_some_and(|mirror| mirror.may_write(now)) {
            self.write_mirror(now);
        }
    }

    /// The clock was set back: what waits for a time by the old one would wait for too long.
    pub fn clock_was_set_back(&mut self, now: Millis) {
        self.said.clock_was_set_back();
        if let Some(sidecar) = &mut self.sidecar {
            sidecar.settles.hasten();
            sidecar.responses.hasten();
            sidecar.health.clock_was_set_back(now);
        }
    }

    /// Withdraws the reservation of `stream`. Returns false if it has been sent or was never made.
    pub fn withdraw(&mut self, stream: u32) -> bool {
        self.sidecar.as_mut().is_some_and(|sidecar| sidecar.reserves.withdraw(stream))
    }

    /// Gives up the answer to the reservation of `stream`, which comes too late. If it is an admission all the same,
    /// the stream is one of [`CalloutOutcome::late`].
    pub fn give_up(&mut self, stream: u32) {
        if let Some(sidecar) = &mut self.sidecar {
            sidecar.reserves.give_up(stream);
        }
    }

    /// Whether Redis counts for the whole fleet.
    pub const fn is_shared(&self) -> bool {
        self.sidecar.is_some()
    }

    /// What to do with a request when its reservation gets no answer.
    pub fn on_error(&self) -> OnError {
        self.sidecar.as_ref().map_or(OnError::Deny, |sidecar| sidecar.on_error)
    }

    /// The windows of one scope in the local store, which stays as it is; none if there is none.
    pub fn peek(&self, mut scope: ScopeCharges, now: Millis) -> Vec<WindowState> {
        self.calendars.clone().keep_up(std::slice::from_mut(&mut scope), now);
        self.local.as_ref().and_then(|local| local.peek(&scope, now)).unwrap_or_default()
    }

    /// When to take the next [`Stores::tick`] and [`Stores::turn`] if no event comes first: when reservations that
    /// gather may leave, at the end of a pause between settlements, or when what Redis has admitted must be written.
    pub fn next_due(&self) -> Option<Millis> {
        let write = self.mirror.as_ref().and_then(Mirror::next_due);
        [self.next_callout_due(), write].into_iter().flatten().min()
    }

    /// Takes over what the stores of a replaced configuration, whose requests are over, have not brought to the same
    /// sidecar. Returns false if it is another one, or an answer is outstanding there that may bring more.
    pub fn take_over(&mut self, other: &mut Self, now: Millis) -> bool {
        let (Some(sidecar), Some(left)) = (&mut self.sidecar, &mut other.sidecar) else { return false };
        if sidecar.cluster != left.cluster || !left.reserves.is_empty() {
            return false;
        }
        sidecar.settles.inherit(left.settles.leave());
        for call in left.responses.leave() {
            if let Some(settle) = sidecar.responses.push(call) {
                sidecar.settles.push(None, settle);
            }
        }
        other.write_mirror(now);
        true
    }

    /// Whether every settlement has arrived, in the local store too, and no answer is outstanding that could bring one.
    pub fn is_idle(&self) -> bool {
        let is_mirrored = self.mirror.as_ref().is_none_or(Mirror::is_empty);
        is_mirrored
            && self.sidecar.as_ref().is_none_or(|sidecar| {
                sidecar.reserves.is_empty() && sidecar.settles.is_empty() && sidecar.responses.is_empty()
            })
    }

    /// Whether something that Redis has admitted has not been written to the local store.
    #[cfg(test)]
    pub(crate) fn has_unwritten(&self) -> bool {
        self.mirror.as_ref().is_some_and(|mirror| !mirror.is_empty())
    }

    /// Whether Redis has not been told of a running request that this Envoy has admitted alone.
    #[cfg(test)]
    pub(crate) fn has_untold(&self) -> bool {
        self.sidecar.as_ref().is_some_and(|sidecar| sidecar.arrears.has_untold())
    }

    /// Whether all that Redis was to be told has arrived.
    #[cfg(test)]
    pub(crate) fn has_told_all(&self) -> bool {
        !self.has_untold() && self.sidecar.as_ref().is_none_or(|sidecar| sidecar.settles.is_empty())
    }

    /// The same stores, as long as nothing leaves its window, but for what decides only when to probe, when to write,
    /// and what the log says.
    #[cfg(test)]
    pub(crate) fn timeless(&self) -> Self {
        let mut timeless = self.clone();
        timeless.said.clock_was_set_back();
        timeless.mirror.iter_mut().for_each(Mirror::forget_times);
        timeless.sidecar.iter_mut().for_each(Sidecar::forget_times);
        timeless
    }
}

fn open_responses<S: SharedData>(local: &LocalStore<S>) -> OpenResponses<'_, S> {
    OpenResponses { data: local.data(), namespace: local.namespace() }
}

#[cfg(test)]
mod tests;
