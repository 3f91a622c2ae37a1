//! Calls to the sidecar: what they take along, what their answers bring, and what that says of it.

use super::Stores;
use crate::config::{OnError, RedisStore};
use crate::quantity::Millis;
use crate::store::arrears::Arrears;
use crate::store::health::{Health, Standing};
use crate::store::latency::Latency;
use crate::store::local::SharedData;
use crate::store::reservations::{ReserveOutcome, ReserveQueue};
use crate::store::responses_queue::ResponsesQueue;
use crate::store::said;
use crate::store::settlements::SettleQueue;
use crate::store::sidecar::{Callout, Kind, MAX_PAUSE};
use crate::store::{Answer, Failure, Met};
use crate::telemetry::series::Count;
use crate::telemetry::stats::Stats;

/// The sidecar, and all that is on its way there.
#[derive(Clone, Debug)]
pub(super) struct Sidecar {
    pub(super) reserves: ReserveQueue,
    pub(super) settles: SettleQueue,
    pub(super) responses: ResponsesQueue,
    /// What it must learn of what this Envoy has admitted alone.
    pub(super) arrears: Arrears,
    /// Whether it has not decided since the last callout that failed.
    pub(super) is_missed: bool,
    pub(super) health: Health,
    pub(super) latency: Latency,
    pub(super) cluster: String,
    /// When settlements were last hastened because it had come back.
    pub(super) hastened: Option<Millis>,
    pub(super) timeout: Millis,
    pub(super) on_error: OnError,
}

impl Sidecar {
    /// The sidecar of `redis`, of which nothing is known yet.
    pub(super) fn new(redis: &RedisStore) -> Self {
        let timeout = Millis::new(u64::try_from(redis.timeout.as_millis()).unwrap_or(u64::MAX));
        Self {
            reserves: ReserveQueue::new(timeout),
            settles: SettleQueue::default(),
            responses: ResponsesQueue::default(),
            arrears: Arrears::default(),
            is_missed: false,
            health: Health::default(),
            latency: Latency::default(),
            cluster: redis.cluster.clone(),
            hastened: None,
            timeout,
            on_error: redis.on_error,
        }
    }

    /// Forgets what has happened when.
    #[cfg(test)]
    pub(super) fn forget_times(&mut self) {
        self.health = Health::default();
        self.latency = Latency::default();
        self.arrears.forget_times();
        self.settles.forget_times();
    }
}

/// The outcome of a callout for the requests of the worker.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CalloutOutcome {
    /// Answers to reservations, by stream.
    pub answers: Vec<(u32, Answer)>,
    /// The streams that had given their reservations up, which have been made all the same.
    pub late: Vec<u32>,
    /// The streams whose reservations were extended past a limit.
    pub over: Vec<u32>,
    /// Open responses that have met their usage, and must be settled.
    pub met: Vec<Met>,
}

impl<S: SharedData> Stores<S> {
    /// The callouts to make now. How large they are is recorded in `stats`, and settlements that were dropped since the
    /// last turn are counted there.
    pub fn turn(&mut self, now: Millis, stats: &mut Stats) -> Vec<Callout> {
        let Some(sidecar) = &mut self.sidecar else { return Vec::new() };
        stats.add(Count::SettlementsDropped, sidecar.settles.take_dropped());
        stats.add(Count::SettlementsRefused, self.said.take_refused());
        let mut callouts: Vec<Callout> = std::iter::from_fn(|| sidecar.reserves.next_callout(now)).collect();
        callouts.extend(sidecar.settles.next_callout(now));
        callouts.extend(sidecar.responses.next_callout(now));
        callouts.extend(sidecar.health.next_callout(&self.namespace, sidecar.timeout, now));
        sidecar.latency.began(&callouts, now, stats);
        callouts
    }

    /// What this worker knows of its store.
    pub fn standing(&self) -> Standing {
        self.sidecar.as_ref().map_or(Standing::Absent, |sidecar| sidecar.health.standing())
    }

    /// How long the sidecar took for its last answer.
    pub fn answered_in(&self) -> Option<Millis> {
        self.sidecar.as_ref().and_then(|sidecar| sidecar.latency.last())
    }

    /// The last failure since the store's last sign of life.
    pub fn failure(&self) -> Option<&Failure> {
        self.sidecar.as_ref().and_then(|sidecar| sidecar.health.failure())
    }

    /// Looks after the sidecar, or leaves that to others if it `stands_by`, and logs what has become of it.
    pub fn look_after(&mut self, stands_by: bool, now: Millis) {
        let Some(sidecar) = &mut self.sidecar else { return };
        sidecar.health.stand_by(stands_by, now);
        if let Some(news) = sidecar.health.news(now) {
            log::warn!("{}", said::line(&news, &sidecar.cluster, sidecar.on_error));
        }
    }

    /// Handles the end of a callout. `answer` is the body of a 200, or the reason why there is none. `stats` records
    /// how long it took.
    pub fn callout_ended(
        &mut self,
        kind: Kind,
        answer: Result<&[u8], Failure>,
        now: Millis,
        stats: &mut Stats,
    ) -> CalloutOutcome {
        let Some(sidecar) = &mut self.sidecar else { return CalloutOutcome::default() };
        let failure = answer.as_ref().err().cloned();
        if let Some(failure) = failure.filter(|failure| kind != Kind::Probe && !failure.blames_batch) {
            sidecar.health.heard(Err(failure), now);
        }
        let is_answered = answer.is_ok();
        sidecar.latency.ended(kind, is_answered, now, stats);
        match kind {
            Kind::Probe => {
                if sidecar.health.callout_ended(answer, now) {
                    self.is_back(now);
                }
                CalloutOutcome::default()
            }
            Kind::Reserve(number) => {
                let ReserveOutcome { answers, admitted, late, settles, has_decided, why } =
                    sidecar.reserves.callout_ended(number, answer, now);
                sidecar.is_missed |= !has_decided;
                if is_answered {
                    sidecar.health.heard(why.map_or(Ok(()), |why| Err(why.into())), now);
                }
                for settle in settles {
                    sidecar.settles.push(None, settle);
                }
                if let Some(mirror) = &mut self.mirror {
                    for (id, charges) in admitted {
                        mirror.admitted(id, charges, now);
                    }
                    if mirror.is_full() {
                        self.write_mirror(now);
                    }
                }
                if has_decided {
                    self.is_back(now);
                }
                CalloutOutcome { answers, late, ..CalloutOutcome::default() }
            }
            Kind::Settle => {
                let settled = sidecar.settles.callout_ended(answer, now);
                if settled.lessons_refused {
                    self.corrections.hear(None);
                }
                if is_answered {
                    let why = settled.why.clone().filter(|_| !settled.has_settled);
                    sidecar.health.heard(why.map_or(Ok(()), |why| Err(why.into())), now);
                }
                for why in settled.refused {
                    self.said.refused(why, now);
                }
                if let Some(why) = settled.why {
                    self.log_unavailable(&why, now);
                }
                if settled.has_settled {
                    self.is_back(now);
                }
                CalloutOutcome { over: settled.over, ..CalloutOutcome::default() }
            }
            Kind::Background => {
                let outcome = sidecar.responses.callout_ended(answer, now);
                for settle in outcome.given_up {
                    sidecar.settles.push(None, settle);
                }
                if let Some(why) = outcome.why {
                    self.log_unavailable(&why, now);
                }
                CalloutOutcome { met: outcome.met, ..CalloutOutcome::default() }
            }
        }
    }

    /// Notes that a request is decided without the store, which does not answer, and logs why.
    pub fn decided_without_answer(&mut self, why: &str, now: Millis) {
        self.decided_without();
        self.log_unavailable(why, now);
    }

    /// Notes that a request is decided without the store, because the sidecar refuses the call, and logs why.
    pub fn decided_without_call(&mut self, why: &str, now: Millis) {
        self.decided_without();
        let is_away = self.sidecar.as_ref().is_some_and(|sidecar| sidecar.health.is_said());
        self.said.refused_call(why, is_away, now);
    }

    fn decided_without(&mut self) {
        if let Some(sidecar) = &mut self.sidecar {
            sidecar.health.decided_without();
        }
    }

    /// Logs that a store does not answer, but not while others say so.
    fn log_unavailable(&mut self, why: &str, now: Millis) {
        let health = self.sidecar.as_ref().map(|sidecar| &sidecar.health);
        if !health.is_some_and(Health::stands_by) {
            self.said.no_answer(why, health.is_some_and(Health::is_said), now);
        }
    }

    /// Tells Redis what it missed, now that it answers. Where only a part of it answers, now and then, settlements for
    /// the other part rest all the same.
    fn is_back(&mut self, now: Millis) {
        let Some(sidecar) = &mut self.sidecar else { return };
        let rests_long = sidecar.hastened.is_none_or(|last| now >= last + MAX_PAUSE || now < last);
        if std::mem::take(&mut sidecar.is_missed) && rests_long {
            sidecar.hastened = Some(now);
            sidecar.settles.hasten();
        }
        for (id, owed) in sidecar.arrears.take_untold() {
            // What is shared besides goes back with the next extension or the settlement.
            self.send_arrears(None, id, owed, false);
        }
    }

    /// When the next callout is due if no event comes first.
    pub(crate) fn next_callout_due(&self) -> Option<Millis> {
        let sidecar = self.sidecar.as_ref()?;
        let due = [sidecar.reserves.next_due(), sidecar.settles.next_due(), sidecar.responses.next_due()];
        due.into_iter().flatten().min()
    }
}
