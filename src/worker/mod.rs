//! One worker of Envoy: its requests by stream, its stores, and the deadlines of both.
//!
//! The worker delivers events to requests, which handle them ([`crate::session`]), and collects their effects. Nothing
//! here calls Envoy, and time is an argument, so that all of it runs in native tests.

mod by_stream;
mod deadlines;
mod lines;
mod steps;
#[cfg(test)]
mod tests;

use crate::config::{Config, Fingerprint};
use crate::quantity::Millis;
use crate::session::{Buffer, Cx, Effects, Event, Session, Shared, settle_met};
use crate::store::local::SharedData;
use crate::store::roll::{Called, Member, Roll, Seat};
use crate::store::sidecar::{Callout, Kind};
use crate::store::{CalloutOutcome, Failure, Stores};
use crate::telemetry::series::Gauge;
use crate::telemetry::stats::{Report, Stats};
use by_stream::ByStream;
use deadlines::Deadlines;
use lines::Lines;
use std::ops::Range;
use std::sync::Arc;
use steps::{Pace, Steps};

/// A worker under one configuration.
#[derive(Debug)]
pub struct Worker<S> {
    config: Arc<Config>,
    stores: Stores<S>,
    /// The requests that are not idle, by stream.
    sessions: ByStream<Session>,
    deadlines: Deadlines,
    /// Those of answers of the store, which ticks alone serve.
    answers: Deadlines,
    /// When the last tick came. Since then, the event loop has read all that had arrived by then.
    ticked: Millis,
    steps: Steps,
    lines: Lines,
    shared: Shared,
    stats: Stats,
    /// The roll of this Envoy's workers. Without one, this worker is the only one.
    roll: Option<Roll<S>>,
    is_retired: bool,
}

/// The time, which goes on while a turn works.
pub type Clock<'a> = dyn Fn() -> Millis + 'a;

/// Reads some bytes of what has arrived of the body of a stream.
pub type Bodies<'a> = dyn Fn(u32, Range<usize>) -> Vec<u8> + 'a;

/// The outcome of a turn of the root context.
#[derive(Debug, Default)]
pub struct Turn {
    /// Callouts to make.
    pub callouts: Vec<Callout>,
    /// Effects on requests, by stream, each with a directive or fields for the log.
    pub effects: Vec<(u32, Effects)>,
    /// What was counted and measured since the last tick; only a tick has any.
    pub metrics: Report,
    /// The changes of gauges; only a tick has any.
    pub gauges: Vec<(Gauge, i64)>,
}

impl<S: SharedData> Worker<S> {
    /// A worker with `config`. `seed` is random, so that no two workers of a fleet make the same reservation id.
    pub fn new(config: Arc<Config>, data: S, seed: u64) -> Self {
        Self {
            stores: Stores::new(config.store(), config.namespace(), config.ids(), data)
                .learning(config.learns_prompts()),
            sessions: ByStream::default(),
            deadlines: Deadlines::default(),
            answers: Deadlines::default(),
            ticked: Millis::ZERO,
            steps: Steps::default(),
            lines: Lines::default(),
            shared: Shared::new(&config, seed),
            stats: Stats::default(),
            roll: None,
            is_retired: false,
            config,
        }
    }

    /// The same worker, one of several of an Envoy, whose roll is in `data`. Its configuration has this fingerprint.
    #[must_use]
    pub fn on_roll(self, data: S, member: Member, config: Fingerprint) -> Self {
        Self { roll: Some(Roll::new(data, member, config)), shared: self.shared.of(config), ..self }
    }

    /// A request comes to this worker. It is there until its seat is dropped.
    pub fn serve(&self) -> Option<Seat> {
        self.roll.as_ref().map(Roll::serve)
    }

    /// Ends this configuration in this worker: its requests are over. Returns the changes of gauges.
    pub fn retire(&mut self, now: Millis) -> Vec<(Gauge, i64)> {
        self.is_retired = true;
        self.roll.take().map_or_else(Vec::new, |mut roll| roll.leave(now))
    }

    /// Takes over what `other`, which has been retired, has not brought to the same sidecar. Returns false if it
    /// cannot.
    pub fn take_over(&mut self, other: &mut Self, now: Millis) -> bool {
        !self.is_retired && self.stores.take_over(&mut other.stores, now)
    }

    /// Delivers `event` to the request of `stream`, and returns its effects. Reads the clock only if there can be any.
    pub fn on(&mut self, stream: u32, event: Event<'_>, clock: &Clock<'_>) -> Effects {
        if !self.heeds(stream, &event) {
            return Effects::default();
        }
        if matches!(event, Event::RequestHeaders { .. }) || self.passes(stream) {
            // Reading the clock is a call to Envoy, which a request takes for itself if it is limited.
            return self.deliver(stream, event, self.ticked, Some(clock));
        }
        self.at(stream, event, clock())
    }

    /// Whether nothing limits the request of `stream`.
    fn passes(&self, stream: u32) -> bool {
        matches!(self.sessions.get(&stream), Some(Session::Passing))
    }

    fn heeds(&self, stream: u32, event: &Event<'_>) -> bool {
        self.sessions.get(&stream).map_or_else(|| Session::Idle.heeds(event), |session| session.heeds(event))
    }

    fn at(&mut self, stream: u32, event: Event<'_>, now: Millis) -> Effects {
        let effects = self.deliver(stream, event, now, None);
        if let Some(next) = effects.next_in_queue {
            // That request only moves its deadline, which the next turn serves: it has no effects.
            self.deliver(next, Event::FirstInQueue, now, None);
        }
        effects
    }

    /// Delivers a part of the body of `stream`: `buffer` reads what has arrived of it, `size` bytes if that is known.
    /// Does the first of the work that a large body is; most bodies need no more.
    pub fn body(
        &mut self,
        stream: u32,
        buffer: &Buffer<'_>,
        size: Option<usize>,
        end_of_stream: bool,
        clock: &Clock<'_>,
    ) -> Effects {
        let event = Event::RequestBody { buffer, size, end_of_stream };
        if !self.heeds(stream, &event) {
            return Effects::default();
        }
        let now = clock();
        let mut effects = self.at(stream, event, now);
        let mut pace = Pace::new(now);
        while self.steps.has(stream) && pace.may_go_on(clock) {
            let step = self.at(stream, Event::Step { buffer }, now);
            let has_worked = step.work > 0;
            pace.worked(step.work, self.steps.len());
            effects = effects.then(step);
            if !has_worked {
                // There is no memory for it yet.
                break;
            }
        }
        // The root context takes its next turn soon.
        effects.wake |= self.steps.has(stream);
        effects
    }

    /// `clock` is to be read if the time matters; `now` is that of the last tick then.
    fn deliver(&mut self, stream: u32, event: Event<'_>, now: Millis, clock: Option<&Clock<'_>>) -> Effects {
        let session = self.sessions.remove(&stream).unwrap_or_default();
        let mut cx = Cx {
            stream,
            now,
            clock,
            config: &self.config,
            stores: &mut self.stores,
            shared: &mut self.shared,
            effects: Effects::default(),
        };
        let session = session.on(event, &mut cx);
        let mut effects = cx.effects;
        self.stats.merge(std::mem::take(&mut effects.metrics));
        effects.log = self.lines.add(stream, std::mem::take(&mut effects.log), session.may_log());
        let (answer, other) =
            if session.awaits_answer() { (session.due(), None) } else { (None, session.due()) };
        self.answers.set(stream, answer);
        self.deadlines.set(stream, other);
        self.steps.set(stream, session.has_work());
        if !session.is_idle() {
            self.sessions.insert(stream, session);
        }
        effects
    }

    /// Handles the deadlines that have come by `now`, and collects the callouts that wait.
    pub fn turn(&mut self, now: Millis) -> Turn {
        let mut turn = Turn::default();
        self.finish(&mut turn, now);
        turn
    }

    /// Takes a turn, with the counts since the last tick, in which requests do some of the work that is too much for
    /// one turn. `body` reads what has arrived of the body of a stream.
    ///
    /// Between two ticks the event loop serves everything else that waits.
    pub fn tick(&mut self, body: &Bodies<'_>, clock: &Clock<'_>) -> Turn {
        let mut turn = Turn::default();
        let now = clock();
        let mut pace = Pace::new(now);
        while pace.may_go_on(clock)
            && let Some(stream) = self.steps.next()
        {
            let buffer = |range: Range<usize>| body(stream, range);
            let effects = self.at(stream, Event::Step { buffer: &buffer }, now);
            pace.worked(effects.work, self.steps.len());
            turn.add(stream, effects);
        }
        if now < self.ticked {
            self.clock_was_set_back(&mut turn, now);
        }
        self.expire_answers(&mut turn, now);
        self.stores.tick(now);
        let alone = Called::default();
        let waiting = self.shared.waiting();
        let called = self.roll.as_mut().map_or(alone, |roll| roll.call(self.stores.standing(), waiting, now));
        self.stores.look_after(called.stands_by || self.is_retired, now);
        self.finish(&mut turn, now);
        turn.gauges = called.gauges;
        turn.metrics = self.stats.take();
        turn
    }

    /// Handles the end of a callout. `answer` is the body of a 200, or the reason why there is none.
    pub fn callout_ended(&mut self, kind: Kind, answer: Result<&[u8], Failure>, now: Millis) -> Turn {
        let mut turn = Turn::default();
        let outcome = self.stores.callout_ended(kind, answer, now, &mut self.stats);
        let CalloutOutcome { answers, late, over, met } = outcome;
        for (stream, answer) in answers {
            let effects = self.at(stream, Event::StoreAnswered(answer), now);
            turn.add(stream, effects);
        }
        for stream in late {
            let effects = self.at(stream, Event::ReservationStands, now);
            turn.add(stream, effects);
        }
        for stream in over {
            let effects = self.at(stream, Event::LimitPassed, now);
            turn.add(stream, effects);
        }
        for met in met {
            // The settlement goes out with this turn's callouts.
            settle_met(met, &self.config, &mut self.stores, &mut self.stats, now);
        }
        self.finish(&mut turn, now);
        turn
    }

    /// The value of the header of calls that asks for corrections of prompts' counts, if they have one.
    pub fn asks_for_corrections(&self) -> Option<String> {
        self.stores.corrections().asks()
    }

    /// Takes the value of that header in the answer to a callout, before [`Worker::callout_ended`] takes the answer.
    pub fn hear_of_corrections(&mut self, kind: Kind, header: Option<&str>) {
        // Answers about background responses have none.
        if kind != Kind::Background {
            self.stores.corrections_mut().hear(header);
        }
    }

    /// The clock was set back: every deadline has come, since by the new clock it may be hours away. A request that has
    /// one waits anew, or no longer.
    fn clock_was_set_back(&mut self, turn: &mut Turn, now: Millis) {
        // The answers to whatever these requests reserve anew are due by the new clock.
        self.ticked = now;
        let streams = [self.answers.streams(), self.deadlines.streams()].concat();
        for stream in streams {
            let effects = self.at(stream, Event::Due, now);
            turn.add(stream, effects);
        }
        self.stores.clock_was_set_back(now);
    }

    /// Ends the wait for answers that were due by the last tick. One that came in time has been read since, however
    /// busy the worker is: a worker that is late must not take the store to be late
    /// (docs/envoy.md#waking-the-root-context).
    fn expire_answers(&mut self, turn: &mut Turn, now: Millis) {
        let due = std::mem::replace(&mut self.ticked, now);
        while let Some(stream) = self.answers.pop(due) {
            let effects = self.at(stream, Event::Due, now);
            turn.add(stream, effects);
        }
    }

    /// Handles the deadlines that have come, and then collects the callouts, to which they may have added.
    fn finish(&mut self, turn: &mut Turn, now: Millis) {
        while let Some(stream) = self.deadlines.pop(now) {
            let effects = self.at(stream, Event::Due, now);
            turn.add(stream, effects);
        }
        turn.callouts = self.stores.turn(now, &mut self.stats);
    }

    /// When the next turn is due if no event comes first. While there is work, the next tick is due at once.
    pub fn next_due(&self) -> Option<Millis> {
        let work = (self.steps.len() > 0).then_some(Millis::ZERO);
        [work, self.deadlines.next_due(), self.answers.next_due(), self.stores.next_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether every settlement has arrived.
    pub fn is_idle(&self) -> bool {
        self.stores.is_idle()
    }
}

impl Turn {
    fn add(&mut self, stream: u32, effects: Effects) {
        if effects.directive.is_some() || !effects.log.is_empty() {
            self.effects.push((stream, effects));
        }
    }
}
