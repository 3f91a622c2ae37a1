//! The stores of one worker behind one interface.

use super::arrears::{Arrears, Owed};
use super::charge::ScopeCharges;
use super::corrections::Corrections;
use super::health::{Health, Standing};
use super::latency::Latency;
use super::local::{LocalStore, SharedData};
use super::mirror::Mirror;
use super::reservations::{ReserveOutcome, ReserveQueue};
use super::responses::{OpenResponses, USAGE_WAITS};
use super::responses_queue::ResponsesQueue;
use super::said::{self, Said};
use super::settlements::SettleQueue;
use super::shard::Step;
use super::sidecar::{Callout, Kind, MAX_PAUSE};
use super::wire::{self, Background, IfAbsent, Reserve, Settle};
use super::{Answer, Extended, Failure, HeldIn, Met, Noticeboard, OpenResponse, Settlement, local};
use crate::config::{OnError, Store};
use crate::quantity::Millis;
use crate::telemetry::series::Count;
use crate::telemetry::stats::Stats;
use crate::usage::learned_prompt::{Factors, Lesson};
use crate::window::WindowState;
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
}

#[derive(Clone, Debug)]
struct Sidecar {
    reserves: ReserveQueue,
    settles: SettleQueue,
    responses: ResponsesQueue,
    /// What it must learn of what this Envoy has admitted alone.
    arrears: Arrears,
    /// Whether it has not decided since the last callout that failed.
    is_missed: bool,
    health: Health,
    latency: Latency,
    cluster: String,
    /// When settlements were last hastened because it had come back.
    hastened: Option<Millis>,
    timeout: Millis,
    on_error: OnError,
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

/// What became of an open response or of a usage.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The two that have met, and must be settled.
    pub met: Option<Met>,
    /// Whether a call to the sidecar was queued.
    pub queued: bool,
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
            Store::Redis(redis) => {
                let timeout = Millis::new(u64::try_from(redis.timeout.as_millis()).unwrap_or(u64::MAX));
                Some(Sidecar {
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
                })
            }
        };
        let mirror = (sidecar.is_some() && local.is_some()).then(Mirror::default);
        let (said, corrections) = (Said::default(), Corrections::none());
        Self { namespace, local, sidecar, mirror, notices, said, corrections }
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

    /// Whether counts of prompts are corrected.
    pub const fn corrects(&self) -> bool {
        self.corrections.is_on()
    }

    /// The factors that correct them.
    pub const fn factors(&self) -> &Factors {
        self.corrections.factors()
    }

    /// Takes what an answer teaches about the count of its prompt.
    pub fn teach(&mut self, lesson: Lesson) {
        self.corrections.teach(lesson);
    }

    /// The value of [`HEADER`](super::corrections::HEADER) in calls to the sidecar, if they have one.
    pub fn asks_for_corrections(&self) -> Option<String> {
        self.corrections.asks()
    }

    /// Takes the value of that header in the sidecar's answer to a call of this `kind`.
    pub fn hear_of_corrections(&mut self, kind: Kind, header: Option<&str>) {
        // Answers about background responses have none.
        if kind != Kind::Background {
            self.corrections.hear(header);
        }
    }

    /// What the workers of this Envoy tell each other.
    pub const fn notices(&self) -> &Noticeboard<S> {
        &self.notices
    }

    /// Reserves all that is `wanted` or none, for the request of `stream`.
    pub fn reserve(&mut self, stream: u32, wanted: Wanted<'_>, now: Millis) -> Reserved {
        let Wanted { id, charges, max_new_identities, is_final, request_id } = wanted;
        match &mut self.sidecar {
            Some(sidecar) => {
                let reserve = Reserve {
                    id: id.to_owned(),
                    namespace: Arc::clone(&self.namespace),
                    max_new_identities_per_second: max_new_identities,
                    is_final,
                    request_id,
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
        shares: &[ScopeCharges],
        whole: impl FnOnce() -> Vec<ScopeCharges>,
        now: Millis,
    ) -> Answer {
        self.write_mirror(now);
        let answer = self.reserve_locally(shares, HeldIn::LocalShare, now);
        if answer.is_admission()
            && let Some(sidecar) = &mut self.sidecar
        {
            sidecar.arrears.admitted(id, whole(), now);
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
    pub fn reserve_share_alone(&mut self, charges: &[ScopeCharges], now: Millis) -> Answer {
        self.write_mirror(now);
        self.reserve_locally(charges, HeldIn::Local, now)
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

    /// Charges what a running request has cost beyond its earlier charges: of the reservation with this id, of the
    /// request that Envoy knows by the other. The costs in `charges` are absolute, so that a second call with the same
    /// charges changes nothing.
    pub fn extend(
        &mut self,
        stream: u32,
        (id, request_id): (&str, Option<&Arc<str>>),
        charges: Vec<ScopeCharges>,
        held: &mut HeldIn,
        may_share: bool,
        now: Millis,
    ) -> Extended {
        let is_share = matches!(held, HeldIn::LocalShare(_));
        match held {
            HeldIn::Local(receipt) | HeldIn::LocalShare(receipt) => {
                let extended = self.local.as_ref().map(|local| local.extend(&charges, receipt, now));
                let is_over = match extended {
                    Some(Ok(is_over)) => is_over,
                    Some(Err(error)) => {
                        log::error!("{error}");
                        false
                    }
                    None => false,
                };
                Extended {
                    is_over,
                    queued: is_share && self.extend_arrears(stream, id, &charges, may_share, now),
                }
            }
            HeldIn::Redis => {
                self.follow(id, Step::Runs, &charges, now);
                let request_id = request_id.cloned();
                let settle =
                    Settle { may_share, request_id, ..self.call(id.to_owned(), None, true, charges) };
                Extended { is_over: false, queued: self.send(Some(stream), settle) }
            }
            HeldIn::Uncounted | HeldIn::Nowhere => Extended::default(),
        }
    }

    /// Tells Redis of the growth of a request that this Envoy has admitted alone, if it has learned of the request.
    /// Where nothing else would show that Redis answers again, this does. Returns whether a call to the sidecar was
    /// queued.
    fn extend_arrears(
        &mut self,
        stream: u32,
        id: &str,
        charges: &[ScopeCharges],
        may_share: bool,
        now: Millis,
    ) -> bool {
        let Some(sidecar) = &mut self.sidecar else { return false };
        let owed = sidecar.arrears.grown(id, charges, sidecar.settles.is_empty(), now);
        owed.is_some_and(|owed| self.send_arrears(Some(stream), id.to_owned(), owed, may_share))
    }

    /// Queues the charges of a running request that this Envoy has admitted alone.
    fn send_arrears(&mut self, stream: Option<u32>, id: String, owed: Owed, may_share: bool) -> bool {
        let settle = Settle { may_share, ..self.call(id, Some(IfAbsent::Charge), true, owed.charges) };
        self.send_since(Some(owed.since), stream, settle)
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

    /// Ends a reservation. Returns whether a call to the sidecar was queued.
    pub fn settle(&mut self, settlement: Settlement, now: Millis) -> bool {
        let Settlement { id, charges, held, is_unchanged, is_final, may_share, request_id } = settlement;
        match held {
            HeldIn::Nowhere => false,
            HeldIn::Local(_) if is_unchanged => false,
            HeldIn::Local(receipt) => {
                self.settle_locally(&charges, receipt, now);
                false
            }
            HeldIn::Redis => {
                if is_unchanged {
                    self.mirror.iter_mut().for_each(|mirror| mirror.ended_unchanged(&id));
                } else {
                    self.follow(&id, Step::Ends, &charges, now);
                }
                // Redis forgets it by itself.
                if is_final && is_unchanged && !may_share {
                    return false;
                }
                self.send(None, Settle { may_share, request_id, ..self.call(id, None, false, charges) })
            }
            HeldIn::Uncounted => {
                let settle = self.call(id, Some(IfAbsent::Mark), false, charges);
                let settle = Settle { may_share, request_id, ..settle };
                let due = self.sidecar.as_mut().and_then(|sidecar| sidecar.reserves.settle_late(settle));
                due.is_some_and(|settle| self.send(None, settle))
            }
            // The fleet's counters miss what the share admitted, so Redis charges it now.
            HeldIn::LocalShare(receipt) => {
                let since = self.sidecar.as_mut().and_then(|it| it.arrears.ended(&id, &charges, now));
                self.settle_locally(&charges, receipt, now);
                let settle = self.call(id, Some(IfAbsent::Charge), false, charges);
                let settle = Settle { may_share, request_id, ..settle };
                self.send_since(since, None, settle)
            }
        }
    }

    fn settle_locally(&self, charges: &[ScopeCharges], receipt: local::Receipt, now: Millis) {
        if let Some(local) = &self.local
            && let Err(error) = local.settle(charges, receipt, now)
        {
            log::error!("{error}");
        }
    }

    /// Keeps a reservation open after its request, until [`Stores::report_usage`] has the usage of its response or
    /// `keep` has passed, and ends its leases. Where nobody can wait for the usage, settles it as it is charged so far.
    pub fn keep_open(&mut self, open: OpenResponse, now: Millis) -> Kept {
        match (open.held, &self.local) {
            // With a sidecar, the usage goes there, and would never meet what is kept here.
            (HeldIn::Local(mut receipt), Some(local)) if self.sidecar.is_none() => {
                let kept = local.detach(&open.charges, &mut receipt, now).and_then(|()| {
                    open_responses(local).open(&open.response, &open.record, &receipt, open.keep, now)
                });
                let usage = kept.unwrap_or_else(|error| {
                    log::error!("{error}");
                    None
                });
                let met = usage.map(|usage| Met { record: open.record, usage, held: HeldIn::Local(receipt) });
                Kept { met, queued: false }
            }
            (HeldIn::Redis, _) => {
                self.follow(&open.id, Step::Leaves, &open.charges, now);
                let call = Background::Open(wire::OpenResponse {
                    response: open.response,
                    namespace: Arc::clone(&self.namespace),
                    id: open.id,
                    charges: open.charges,
                    record: open.record,
                    keep_ms: open.keep,
                });
                Kept { met: None, queued: self.send_background(call) }
            }
            (held, _) => {
                let OpenResponse { id, charges, .. } = open;
                let settlement = Settlement {
                    id,
                    charges,
                    held,
                    is_unchanged: false,
                    is_final: false,
                    may_share: false,
                    request_id: None,
                };
                Kept { met: None, queued: self.settle(settlement, now) }
            }
        }
    }

    /// Takes the usage of a response, for the reservation that is or will be open for it.
    pub fn report_usage(&mut self, response: String, usage: String, now: Millis) -> Kept {
        if self.sidecar.is_some() {
            let namespace = Arc::clone(&self.namespace);
            let call = wire::ResponseUsage { response, namespace, usage, keep_ms: USAGE_WAITS };
            return Kept { met: None, queued: self.send_background(Background::Usage(call)) };
        }
        let Some(local) = &self.local else { return Kept::default() };
        let met = open_responses(local).report(&response, &usage, now).unwrap_or_else(|error| {
            log::error!("{error}");
            None
        });
        let met = met.map(|(record, receipt)| Met { record, usage, held: HeldIn::Local(receipt) });
        Kept { met, queued: false }
    }

    fn send_background(&mut self, call: Background) -> bool {
        let Some(sidecar) = &mut self.sidecar else { return false };
        if let Some(settle) = sidecar.responses.push(call) {
            sidecar.settles.push(None, settle);
        }
        true
    }

    /// Undoes what Redis may have charged for a reservation, because its request is not forwarded. If the reservation
    /// arrives later than this, Redis charges nothing. Returns whether a call to the sidecar was queued.
    pub fn cancel(
        &mut self,
        (id, nothing): (String, Vec<ScopeCharges>),
        request_id: Option<Arc<str>>,
        may_share: bool,
        now: Millis,
    ) -> bool {
        self.follow(&id, Step::Ends, &nothing, now);
        let settle = self.call(id, Some(IfAbsent::Charge), false, nothing);
        self.send(None, Settle { may_share, request_id, ..settle })
    }

    fn call(
        &self,
        id: String,
        if_absent: Option<IfAbsent>,
        extend: bool,
        charges: Vec<ScopeCharges>,
    ) -> Settle {
        let namespace = Arc::clone(&self.namespace);
        Settle { id, namespace, if_absent, extend, charges, ..Settle::default() }
    }

    /// Queues a settlement, or an extension for `stream`. Returns whether there is a sidecar.
    fn send(&mut self, stream: Option<u32>, settle: Settle) -> bool {
        self.send_since(None, stream, settle)
    }

    /// Queues a settlement or an extension all of whose cost has counted `since` then, if that is known.
    fn send_since(&mut self, since: Option<Millis>, stream: Option<u32>, settle: Settle) -> bool {
        let Some(sidecar) = &mut self.sidecar else { return false };
        let lesson = self.corrections.next_lesson();
        sidecar.settles.push_since(since, stream, Settle { lesson, ..settle });
        true
    }

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
    pub fn failure(&self) -> Option<String> {
        self.sidecar.as_ref().and_then(|sidecar| sidecar.health.failure()).map(|failure| failure.why.clone())
    }

    /// The windows of one scope in the local store, which stays as it is; none if there is none.
    pub fn peek(&self, scope: &ScopeCharges, now: Millis) -> Vec<WindowState> {
        self.local.as_ref().and_then(|local| local.peek(scope, now)).unwrap_or_default()
    }

    /// Looks after the sidecar, or leaves that to others if it `stands_by`, and logs what has become of it.
    pub fn look_after(&mut self, stands_by: bool, now: Millis) {
        let Some(sidecar) = &mut self.sidecar else { return };
        sidecar.health.stand_by(stands_by, now);
        if let Some(news) = sidecar.health.news(now) {
            log::warn!("{}", said::line(&news, &sidecar.cluster, sidecar.on_error));
        }
    }

    /// Handles the end of a callout. `answer` is the body of a 200, or the reason why there is none. How long it took is
    /// recorded in `stats`.
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

    /// When to take the next [`Stores::tick`] and [`Stores::turn`] if no event comes first: when reservations that
    /// gather may leave, at the end of a pause between settlements, or when what Redis has admitted must be written.
    pub fn next_due(&self) -> Option<Millis> {
        let write = self.mirror.as_ref().and_then(Mirror::next_due);
        [self.next_callout_due(), write].into_iter().flatten().min()
    }

    /// When the next callout is due if no event comes first.
    pub(crate) fn next_callout_due(&self) -> Option<Millis> {
        let sidecar = self.sidecar.as_ref()?;
        let due = [sidecar.reserves.next_due(), sidecar.settles.next_due(), sidecar.responses.next_due()];
        due.into_iter().flatten().min()
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
        if let Some(sidecar) = &mut timeless.sidecar {
            sidecar.health = Health::default();
            sidecar.latency = Latency::default();
            sidecar.arrears.forget_times();
            sidecar.settles.forget_times();
        }
        timeless
    }
}

fn open_responses<S: SharedData>(local: &LocalStore<S>) -> OpenResponses<'_, S> {
    OpenResponses { data: local.data(), namespace: local.namespace() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::store::charge::tests::charge;
    use crate::store::local::Receipt;
    use crate::store::local::tests::Memory;

    /// Both stores, as `on_error: local` needs them.
    fn stores(memory: &Memory) -> Stores<&Memory> {
        let config = br#"{"store": {"type": "redis", "cluster": "s", "on_error": "local"}}"#;
        Stores::new(Config::from_bytes(config).unwrap().store(), "".into(), BTreeSet::new(), memory)
    }

    fn charges(cost: u64) -> Vec<ScopeCharges> {
        vec![ScopeCharges { scope: "scope".into(), charges: vec![charge("me", 100, cost)] }]
    }

    /// The local store's count after a settlement of 40, and the settlement that the sidecar gets.
    fn settled(held: fn(Receipt) -> HeldIn, is_unchanged: bool) -> (u64, Option<Settle>) {
        let memory = Memory::default();
        let mut stores = stores(&memory);
        let mut local =
            LocalStore::new(&memory, "".into(), std::num::NonZeroU32::new(65_536).unwrap(), Arc::default());
        local.prepare();
        let receipt = local.reserve(&charges(5), Millis::ZERO).unwrap().held.unwrap();
        let (id, held) = ("id".into(), held(receipt));
        let dearer = charges(40);
        let settlement = Settlement {
            id,
            charges: dearer,
            held,
            is_unchanged,
            is_final: false,
            may_share: false,
            request_id: Some("r-1".into()),
        };
        let queued = stores.settle(settlement, Millis::ZERO);
        let used = local.reserve(&charges(0), Millis::ZERO).unwrap().states[0].used.get();
        let callout = stores.turn(Millis::ZERO, &mut Stats::default()).pop();
        assert_eq!(queued, callout.is_some());
        let sent =
            callout.map(|callout| serde_json::from_slice::<Vec<Settle>>(&callout.body).unwrap().remove(0));
        (used, sent)
    }

    #[test]
    fn a_settlement_goes_to_the_store_that_has_the_reservation() {
        assert_eq!(settled(HeldIn::Local, true), (5, None), "the charges are final already");
        assert_eq!(settled(HeldIn::Local, false), (40, None));
        let (used, redis) = settled(|_| HeldIn::Redis, false);
        let redis = redis.unwrap();
        assert_eq!((used, &redis.charges), (5, &charges(40)));
        assert_eq!(redis.if_absent, None, "settling a reservation again must change nothing");
        assert_eq!(redis.request_id.as_deref(), Some("r-1"));
        let (used, instead) = settled(HeldIn::LocalShare, false);
        assert_eq!((used, instead.unwrap().if_absent), (40, Some(IfAbsent::Charge)));
        assert_eq!(settled(|_| HeldIn::Uncounted, false).1.unwrap().if_absent, Some(IfAbsent::Mark));
    }

    #[test]
    fn a_cancellation_keeps_a_late_reservation_from_charging() {
        let memory = Memory::default();
        let mut stores = stores(&memory);
        assert!(stores.cancel(("id".into(), charges(0)), None, false, Millis::ZERO));
        let callout = stores.turn(Millis::ZERO, &mut Stats::default()).pop().unwrap();
        let cancel = serde_json::from_slice::<Vec<Settle>>(&callout.body).unwrap().remove(0);
        assert_eq!((cancel.charges, cancel.if_absent), (charges(0), Some(IfAbsent::Charge)));
    }

    #[test]
    fn a_probe_that_is_answered_lets_redis_learn_what_it_missed() {
        let memory = Memory::default();
        let mut stores = stores(&memory);
        let answer = stores.reserve_share("id", &charges(5), || charges(9), Millis::ZERO);
        assert!(answer.is_admission());
        stores.look_after(false, Millis::ZERO);
        let mut sent = |now, answer: Result<&[u8], Failure>| {
            let now = Millis::new(now);
            let kinds = |callouts: &[Callout]| callouts.iter().map(|it| it.kind).collect::<Vec<_>>();
            assert_eq!(kinds(&stores.turn(now, &mut Stats::default())), [Kind::Probe]);
            stores.callout_ended(Kind::Probe, answer, now, &mut Stats::default());
            let callout = stores.turn(now, &mut Stats::default()).pop()?;
            Some(serde_json::from_slice::<Vec<Settle>>(&callout.body).unwrap())
        };
        assert_eq!(sent(0, Err("no answer".into())), None);
        assert_eq!(sent(100, Ok(br#"[{"error":"Redis takes no writes","unavailable":true}]"#)), None);
        let settle = sent(300, Ok(br#"[{"admitted":true,"windows":[]}]"#)).unwrap().remove(0);
        assert_eq!((settle.charges, settle.if_absent), (charges(9), Some(IfAbsent::Charge)));
        assert!(settle.extend, "the request still runs");
    }

    #[test]
    fn an_extension_sends_redis_the_whole_cost_so_far() {
        let memory = Memory::default();
        let mut stores = stores(&memory);
        let extended = stores.extend(1, ("id", None), charges(9), &mut HeldIn::Redis, false, Millis::ZERO);
        assert_eq!(extended, Extended { is_over: false, queued: true });
        let callout = stores.turn(Millis::ZERO, &mut Stats::default()).pop().unwrap();
        let settle = serde_json::from_slice::<Vec<Settle>>(&callout.body).unwrap().remove(0);
        assert_eq!((settle.charges, settle.extend), (charges(9), true));
    }
}
