//! One worker of Envoy: its requests by stream, its stores, and the deadlines of both.
//!
//! The worker delivers events to requests, which handle them ([`crate::session`]), and collects their effects. Nothing
//! here calls Envoy, and time is an argument, so that all of it runs in native tests.

mod deadlines;
#[cfg(test)]
mod tests;

use crate::config::Config;
use crate::quantity::Millis;
use crate::session::{Cx, Effects, Event, Session, Shared, settle_met};
use crate::store::local::SharedData;
use crate::store::sidecar::{Callout, Kind};
use crate::store::{CalloutOutcome, Failure, Stores};
use crate::telemetry::stats::Stats;
use deadlines::Deadlines;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// A worker under one configuration.
#[derive(Debug)]
pub struct Worker<S> {
    config: Arc<Config>,
    stores: Stores<S>,
    /// The requests that are not idle, by stream.
    sessions: HashMap<u32, Session>,
    deadlines: Deadlines,
    shared: Shared,
    stats: Stats,
}

/// The outcome of a turn of the root context.
#[derive(Debug, Default)]
pub struct Turn {
    /// Callouts to make.
    pub callouts: Vec<Callout>,
    /// Effects on requests, by stream, each with a directive or fields for the log.
    pub effects: Vec<(u32, Effects)>,
    /// The counts since the last tick, by metric; only a tick has any.
    pub metrics: Vec<(Cow<'static, str>, u64)>,
}

impl<S: SharedData> Worker<S> {
    /// A worker with `config`. `seed` is random, so that no two workers of a fleet make the same reservation id.
    pub fn new(config: Arc<Config>, data: S, seed: u64) -> Self {
        Self {
            stores: Stores::new(config.store(), config.namespace(), data),
            sessions: HashMap::new(),
            deadlines: Deadlines::default(),
            shared: Shared::new(&config, seed),
            stats: Stats::default(),
            config,
        }
    }

    /// Delivers `event` to the request of `stream`, and returns its effects.
    pub fn on(&mut self, stream: u32, event: Event<'_>, now: Millis) -> Effects {
        let effects = self.deliver(stream, event, now);
        if let Some(next) = effects.next_in_queue {
            // That request only moves its deadline, which the next turn serves: it has no effects.
            self.deliver(next, Event::FirstInQueue, now);
        }
        effects
    }

    fn deliver(&mut self, stream: u32, event: Event<'_>, now: Millis) -> Effects {
        let session = self.sessions.remove(&stream).unwrap_or_default();
        let mut cx = Cx {
            stream,
            now,
            config: &self.config,
            stores: &mut self.stores,
            shared: &mut self.shared,
            effects: Effects::default(),
        };
        let session = session.on(event, &mut cx);
        let mut effects = cx.effects;
        self.stats.merge(std::mem::take(&mut effects.metrics));
        self.deadlines.set(stream, session.due());
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

    /// Takes a turn, with the counts since the last tick.
    pub fn tick(&mut self, now: Millis) -> Turn {
        let mut turn = self.turn(now);
        turn.metrics = self.stats.take();
        turn
    }

    /// Handles the end of a callout. `answer` is the body of a 200, or the reason why there is none.
    pub fn callout_ended(&mut self, kind: Kind, answer: Result<&[u8], Failure>, now: Millis) -> Turn {
        let mut turn = Turn::default();
        let CalloutOutcome { answers, over, met } = self.stores.callout_ended(kind, answer, now);
        for (stream, answer) in answers {
            let effects = self.on(stream, Event::StoreAnswered(answer), now);
            turn.add(stream, effects);
        }
        for stream in over {
            let effects = self.on(stream, Event::LimitPassed, now);
            turn.add(stream, effects);
        }
        for met in met {
            // The settlement goes out with this turn's callouts.
            settle_met(met, &self.config, &mut self.stores, &mut self.stats, now);
        }
        self.finish(&mut turn, now);
        turn
    }

    /// Handles the deadlines that have come, and then collects the callouts, to which they may have added.
    fn finish(&mut self, turn: &mut Turn, now: Millis) {
        while let Some(stream) = self.deadlines.pop(now) {
            let effects = self.on(stream, Event::Due, now);
            turn.add(stream, effects);
        }
        turn.callouts = self.stores.turn(now, &mut self.stats);
    }

    /// When the next turn is due if no event comes first.
    pub fn next_due(&self) -> Option<Millis> {
        [self.deadlines.next_due(), self.stores.next_due()].into_iter().flatten().min()
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
