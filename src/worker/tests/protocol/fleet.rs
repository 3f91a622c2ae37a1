//! Two Envoys, the network between them and Redis, and all that may happen to their requests.

use super::envoy::{Envoy, Outcome, Seen};
use super::redis::Redis;
use super::{ESTIMATE, GROWN, LIMIT, MOST_GROWN, Mutant, Scope, laws};
use crate::config::Config;
use crate::quantity::Units;
use crate::store::HeldIn;
use crate::store::sidecar::{Callout, Kind};
use crate::store::wire::{Charge, IfAbsent, ScopeCharges, Settle, Settled};
use stateright::{Model, Property};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The life of a request, as far as everybody can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Life {
    /// It has not come.
    Unborn,
    /// It waits for the store.
    Paused,
    /// It has been forwarded: with a decision of Redis, or without.
    Forwarded { by_redis: bool },
    /// It was refused, or its client left while it waited.
    Refused,
    /// It is over, and has cost so many tokens. `counted`: by Redis, as far as its Envoy knew.
    Over { by_redis: bool, cost: u64, counted: bool },
    /// Its worker died. `was_forwarded`: before that.
    Lost { was_forwarded: bool },
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    /// Its Envoy.
    pub(super) at: usize,
    pub(super) life: Life,
    /// The id of its reservation.
    pub(super) id: String,
    /// Whether it has grown beyond its estimate.
    pub(super) has_grown: bool,
    /// The most that it may ever be charged: its estimate, or what it has cost if that is more.
    pub(super) most: u64,
}

/// A callout on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Message {
    at: usize,
    /// The worker that waits for the answer; none if it does not wait any more.
    awaited: bool,
    /// The number of a batch of reservations; none for settlements.
    reserves: Option<u32>,
    batch: Vec<u8>,
    /// None if it has not reached the sidecar.
    answer: Option<Vec<u8>>,
}

impl Message {
    fn kind(&self) -> Kind {
        self.reserves.map_or(Kind::Settle, Kind::Reserve)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Fleet {
    envoys: [Arc<Envoy>; 2],
    /// In an order that does not depend on that in which they were sent.
    messages: Vec<Message>,
    pub(super) redis: Arc<Redis>,
    pub(super) requests: Vec<Request>,
    /// How much may still go wrong.
    faults: u8,
    deaths: u8,
    /// Whether an Envoy has admitted more alone than its share, counting what Redis had admitted for it.
    pub(super) is_over_share: bool,
}

impl Hash for Fleet {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.envoys.iter().for_each(|envoy| envoy.print.hash(hasher));
        self.redis.print.hash(hasher);
        (&self.messages, &self.requests, self.faults, self.deaths, self.is_over_share).hash(hasher);
    }
}

impl PartialEq for Fleet {
    fn eq(&self, other: &Self) -> bool {
        let print = |fleet: &Self| {
            let mut hasher = std::hash::DefaultHasher::new();
            fleet.hash(&mut hasher);
            hasher.finish()
        };
        print(self) == print(other)
    }
}

/// Something that happens. Messages and requests are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Arrive(usize),
    /// The client leaves.
    Leave(usize),
    /// The response comes and reports this cost.
    Respond(usize, u64),
    /// The upstream answers with an error.
    Fail(usize),
    /// The response begins and outgrows the estimate.
    Grow(usize),
    /// The root context of an Envoy takes a turn.
    Turn(usize),
    /// A tick of an Envoy writes to its local store what Redis has admitted for it.
    Write(usize),
    /// Redis answers a probe of an Envoy.
    AnswerProbe(usize),
    /// Time passes in an Envoy until something is due.
    Pass(usize),
    /// A batch reaches Redis.
    Reach(usize),
    /// An answer reaches its Envoy.
    Answer(usize),
    /// A batch is lost on the way there, and its Envoy is told so.
    Lose(usize),
    /// An answer is lost on the way back.
    LoseAnswer(usize),
    /// A batch takes too long: its Envoy does not wait for it any more, and it may still reach Redis.
    Delay(usize),
    /// A batch for which nobody waits is lost.
    Vanish(usize),
    /// The worker of an Envoy dies, and with it all that it knew.
    Die(usize),
}

/// The model.
pub(super) struct Protocol {
    pub(super) scope: Scope,
    pub(super) mutant: Mutant,
    pub(super) charge: Charge,
    /// What each request charges.
    pub(super) charges: Vec<ScopeCharges>,
    pub(super) config: Arc<Config>,
}

impl Model for Protocol {
    type State = Fleet;
    type Action = Event;

    fn init_states(&self) -> Vec<Fleet> {
        let request = |at: &usize| Request {
            at: *at,
            life: Life::Unborn,
            id: String::new(),
            has_grown: false,
            most: ESTIMATE,
        };
        vec![Fleet {
            envoys: [0, 1].map(|number| Arc::new(Envoy::new(&self.config, number))),
            messages: Vec::new(),
            redis: Arc::new(Redis::new(&self.charge)),
            requests: self.scope.requests.iter().map(|(at, _)| request(at)).collect(),
            faults: self.scope.faults,
            deaths: self.scope.deaths,
            is_over_share: false,
        }]
    }

    fn actions(&self, fleet: &Fleet, events: &mut Vec<Event>) {
        for (at, request) in fleet.requests.iter().enumerate() {
            let costs = self.scope.requests[at].1;
            match request.life {
                // All requests of an Envoy are alike, so that their order may be that of their numbers.
                Life::Unborn => {
                    let before = fleet.requests[..at].iter();
                    if before.filter(|other| other.at == request.at).all(|other| other.life != Life::Unborn) {
                        events.push(Event::Arrive(at));
                    }
                }
                Life::Paused if self.scope.leaves => events.push(Event::Leave(at)),
                Life::Forwarded { .. } => {
                    for cost in costs.iter().filter(|cost| !request.has_grown || **cost >= GROWN) {
                        events.push(if *cost == 0 { Event::Fail(at) } else { Event::Respond(at, *cost) });
                    }
                    if !request.has_grown && costs.iter().any(|cost| *cost >= GROWN) {
                        events.push(Event::Grow(at));
                    }
                    if self.scope.leaves && !request.has_grown {
                        events.push(Event::Leave(at));
                    }
                }
                _ => {}
            }
        }
        for (at, message) in fleet.messages.iter().enumerate() {
            match (&message.answer, message.awaited) {
                (None, true) => {
                    events.push(Event::Reach(at));
                    if fleet.faults > 0 {
                        events.extend([Event::Lose(at), Event::Delay(at)]);
                    }
                }
                (Some(_), true) => {
                    events.push(Event::Answer(at));
                    if fleet.faults > 0 {
                        events.push(Event::LoseAnswer(at));
                    }
                }
                (_, false) => events.extend([Event::Reach(at), Event::Vanish(at)]),
            }
        }
        for (at, envoy) in fleet.envoys.iter().enumerate() {
            if envoy.wakes() {
                events.push(Event::Turn(at));
            }
            if envoy.awaits_time() && (fleet.faults > 0 || !fleet.is_slow(at)) {
                events.push(Event::Pass(at));
            }
            // Once all of its requests are over, it decides nothing what is written.
            let is_quiet = |request: &Request| {
                request.at != at
                    || !matches!(request.life, Life::Unborn | Life::Paused | Life::Forwarded { .. })
            };
            if self.scope.ticks && envoy.has_unwritten() && !fleet.requests.iter().all(is_quiet) {
                events.push(Event::Write(at));
            }
            if self.scope.ticks && envoy.has_untold() {
                events.push(Event::AnswerProbe(at));
            }
            let has_requests =
                fleet.requests.iter().any(|request| request.at == at && request.life != Life::Unborn);
            if fleet.deaths > 0 && has_requests {
                events.push(Event::Die(at));
            }
        }
    }

    fn next_state(&self, fleet: &Fleet, event: Event) -> Option<Fleet> {
        let mut fleet = fleet.clone();
        fleet.happen(event, self);
        Some(fleet)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        laws::ALL.iter().map(|(name, law)| Property::always(name, *law)).collect()
    }
}

impl Fleet {
    fn happen(&mut self, event: Event, protocol: &Protocol) {
        match event {
            Event::Arrive(at) => {
                self.requests[at].life = Life::Paused;
                self.request(at, |envoy, stream| envoy.arrive(stream, ESTIMATE));
                let request = &self.requests[at];
                let (id, _) = self.envoys[request.at].reservation(stream_of(at)).unwrap();
                self.requests[at].id = id.to_owned();
            }
            Event::Leave(at) => {
                let life = match self.requests[at].life {
                    Life::Paused => Life::Refused,
                    _ => self.over(at, ESTIMATE),
                };
                self.requests[at].life = life;
                self.request(at, Envoy::leave);
            }
            Event::Respond(at, cost) => {
                self.requests[at].life = self.over(at, cost);
                self.requests[at].most = cost.max(self.requests[at].most);
                self.request(at, |envoy, stream| envoy.respond(stream, Some(cost)));
            }
            Event::Fail(at) => {
                self.requests[at].life = self.over(at, 0);
                self.request(at, |envoy, stream| envoy.respond(stream, None));
            }
            Event::Grow(at) => {
                self.requests[at].has_grown = true;
                self.requests[at].most = MOST_GROWN;
                self.request(at, |envoy, stream| envoy.grow(stream, GROWN));
            }
            Event::Turn(at) => self.envoy(at, Envoy::turn),
            Event::Write(at) => self.envoy(at, Envoy::write),
            Event::AnswerProbe(at) => self.envoy(at, Envoy::probe_answered),
            Event::Pass(at) => {
                self.faults -= u8::from(self.is_slow(at));
                let before = self.requests.clone();
                self.envoy(at, Envoy::pass_time);
                if protocol.mutant == Mutant::CancelsWhatIsForwarded {
                    self.cancel_given_up(&before, protocol);
                }
            }
            Event::Reach(at) => {
                let message = &mut self.messages[at];
                let answer =
                    Arc::make_mut(&mut self.redis).take(message.kind(), &message.batch, protocol.mutant);
                message.answer = Some(answer);
                if !message.awaited {
                    self.messages.remove(at);
                }
                self.messages.sort();
            }
            Event::Answer(at) => {
                let message = self.messages.remove(at);
                let answer = message.answer.unwrap();
                self.envoy(message.at, |envoy| {
                    envoy.callout_ended(message.reserves.map_or(Kind::Settle, Kind::Reserve), Ok(&answer))
                });
            }
            Event::Lose(at) | Event::LoseAnswer(at) => {
                self.faults -= 1;
                let message = self.messages.remove(at);
                self.fail(&message, protocol.mutant);
            }
            Event::Delay(at) => {
                self.faults -= 1;
                let message = self.messages[at].clone();
                self.messages[at].awaited = false;
                self.messages.sort();
                self.fail(&message, protocol.mutant);
            }
            Event::Vanish(at) => drop(self.messages.remove(at)),
            Event::Die(at) => {
                self.deaths -= 1;
                for request in self.requests.iter_mut().filter(|request| request.at == at) {
                    request.life = match request.life {
                        Life::Paused => Life::Lost { was_forwarded: false },
                        Life::Forwarded { .. } | Life::Over { .. } => Life::Lost { was_forwarded: true },
                        Life::Refused => Life::Lost { was_forwarded: false },
                        life => life,
                    };
                }
                for message in self.messages.iter_mut().filter(|message| message.at == at) {
                    message.awaited = false;
                }
                self.messages.retain(|message| message.awaited || message.answer.is_none());
                self.messages.sort();
                self.envoy(at, |envoy| {
                    envoy.die();
                    Outcome::default()
                });
            }
        }
    }

    /// A callout ends without an answer.
    fn fail(&mut self, message: &Message, mutant: Mutant) {
        let kind = message.kind();
        if mutant == Mutant::WaitsForever {
            return;
        }
        let len = serde_json::from_slice::<Vec<serde_json::Value>>(&message.batch).unwrap().len();
        let settled = serde_json::to_vec(&vec![Settled::Done { settled: true, over: false }; len]).unwrap();
        self.envoy(message.at, |envoy| match kind {
            Kind::Settle if mutant == Mutant::SendsOnce => envoy.callout_ended(kind, Ok(&settled)),
            _ => envoy.callout_ended(kind, Err("no answer".into())),
        });
    }

    /// Cancels what requests have given up that are forwarded all the same.
    fn cancel_given_up(&mut self, before: &[Request], protocol: &Protocol) {
        for (before, now) in before.iter().zip(&self.requests) {
            if before.life == Life::Paused && matches!(now.life, Life::Forwarded { .. }) {
                let nothing = Charge { cost: 0_u64.into(), ..protocol.charge.clone() };
                let charges = vec![ScopeCharges { scope: "me".into(), charges: vec![nothing] }];
                let (id, if_absent) = (now.id.clone(), Some(IfAbsent::Charge));
                let settle = Settle { id, if_absent, charges, ..Settle::default() };
                let batch = serde_json::to_vec(&[settle]).unwrap();
                self.messages.push(Message {
                    at: now.at,
                    awaited: false,
                    reserves: None,
                    batch,
                    answer: None,
                });
            }
        }
        self.messages.sort();
    }

    /// The life of a request that ends now, and has cost so much.
    fn over(&self, at: usize, cost: u64) -> Life {
        let request = &self.requests[at];
        let by_redis = request.life == Life::Forwarded { by_redis: true };
        let held = self.envoys[request.at].reservation(stream_of(at)).and_then(|(_, held)| held);
        Life::Over { by_redis, cost, counted: !matches!(held, Some(HeldIn::Uncounted)) }
    }

    /// Something happens to a request at its Envoy.
    fn request(&mut self, at: usize, happens: impl FnOnce(&mut Envoy, u32) -> Outcome) {
        let (stream, here) = (stream_of(at), self.requests[at].at);
        let others = self.requests.iter().filter(|request| request.at == here).count() - 1;
        let gathers = self.requests[at].id.is_empty() && others > 0;
        self.envoy(self.requests[at].at, |envoy| {
            let outcome = happens(envoy, stream);
            // Reservations gather if there are several; whatever else leaves, leaves at once.
            if gathers || !envoy.wakes() {
                return outcome;
            }
            let turn = envoy.turn();
            Outcome { seen: [outcome.seen, turn.seen].concat(), callouts: turn.callouts }
        });
    }

    /// Something happens at an Envoy: requests go on, and callouts leave.
    fn envoy(&mut self, at: usize, happens: impl FnOnce(&mut Envoy) -> Outcome) {
        let mut envoy = Envoy::clone(&self.envoys[at]);
        let Outcome { seen, callouts } = happens(&mut envoy);
        for (stream, seen) in seen {
            let held = envoy.reservation(stream).and_then(|(_, held)| held);
            let by_redis = held == Some(&HeldIn::Redis);
            if seen == Seen::Forwarded && matches!(held, Some(HeldIn::LocalShare(_))) {
                let others = self.requests.iter().filter(|request| request.at == at);
                let used = others.filter(|other| !matches!(other.life, Life::Lost { .. })).map(laws::claim);
                self.is_over_share |= used.sum::<u64>() + ESTIMATE > LIMIT / 2;
            }
            let request = &mut self.requests[stream as usize];
            request.life = match (request.life, seen) {
                (Life::Paused, Seen::Forwarded) => Life::Forwarded { by_redis },
                (Life::Paused, Seen::Refused) => Life::Refused,
                (life, _) => life,
            };
        }
        self.messages.extend(callouts.into_iter().map(|callout| Message::new(at, callout)));
        self.messages.sort();
        self.envoys[at] = Arc::new(envoy.print());
    }

    /// Whether an Envoy waits for an answer, so that the network is slow if something else is due before.
    fn is_slow(&self, at: usize) -> bool {
        self.messages.iter().any(|message| message.at == at && message.awaited)
    }

    /// Whether the Envoys are idle.
    pub(super) fn is_idle(&self) -> bool {
        self.envoys.iter().all(|envoy| envoy.is_idle())
    }

    /// The units in the local store of an Envoy.
    pub(super) fn used_locally(&self, at: usize, charges: &[ScopeCharges]) -> Units {
        self.envoys[at].used_locally(charges)
    }

    /// Whether the reservation of a running request is in Redis, as far as its Envoy knows.
    pub(super) fn is_held_in_redis(&self, at: usize) -> bool {
        let envoy = &self.envoys[self.requests[at].at];
        match envoy.reservation(stream_of(at)).and_then(|(_, held)| held) {
            Some(HeldIn::Redis) => true,
            // Redis has learned of it since.
            Some(HeldIn::LocalShare(_)) => envoy.has_told_all(),
            _ => false,
        }
    }
}

impl Message {
    fn new(at: usize, callout: Callout) -> Self {
        let reserves = match callout.kind {
            Kind::Reserve(number) => Some(number),
            Kind::Settle => None,
            Kind::Background | Kind::Probe => panic!("no request asks for that"),
        };
        Self { at, awaited: true, reserves, batch: callout.body, answer: None }
    }
}

fn stream_of(request: usize) -> u32 {
    u32::try_from(request).unwrap()
}
