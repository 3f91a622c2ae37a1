//! One worker of Envoy: its requests, its store, and what waits to be sent.
//!
//! Each method is one of Envoy's callbacks, with what it says as arguments and what to do as its result. Nothing here
//! calls Envoy, so all of it runs in native tests; time is an argument, in milliseconds since the epoch.

mod admission;
mod decision;
mod response;
#[cfg(test)]
mod tests;
use crate::config::{Config, Store};
use crate::pricing::Unpriced;
use crate::session::headers_mode::HeadersMode;
use crate::session::waiting_room::WaitingRoom;
use crate::session::{Directive, Session};
use crate::store::local::{LocalStore, SharedData};
use crate::store::sidecar::{Callout, Kind, ReserveQueue, SettleQueue};
use crate::store::wire::Settle;
use crate::telemetry::access_log::{Field, LogFields};
use crate::telemetry::stats::{Stat, Stats};
use crate::usage::learned_output::Learned;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// At most one line a second says that the store does not answer.
const LOG_PERIOD_MS: u64 = 1_000;

/// A worker.
#[derive(Debug)]
pub struct Worker<S> {
    config: Arc<Config>,
    /// Whether anybody's tokens are limited.
    counts_tokens: bool,
    /// None if nothing is ever counted here.
    local: Option<LocalStore<S>>,
    reserves: ReserveQueue,
    settles: SettleQueue,
    sessions: HashMap<u32, Session>,
    learned: Learned,
    waiting: WaitingRoom,
    headers_mode: HeadersMode,
    /// Prefix and number of the next reservation.
    next_id: (u64, u64),
    stats: Stats,
    notes: HashMap<u32, LogFields>,
    /// Whether something was queued since [`Worker::take_wake`] was last asked.
    wake: bool,
    logged_ms: u64,
    /// When leases were last looked through.
    renewed_ms: u64,
    unpriced: Unpriced,
}

/// What a turn of the event loop brought: callouts to make, and requests to resume or answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// To send.
    pub callouts: Vec<Callout>,
    /// What to do with which stream.
    pub directives: Vec<(u32, Directive)>,
}

impl<S: SharedData> Worker<S> {
    /// A worker with `config`. `seed` is random, so that no two workers of a fleet make the same reservation id.
    pub fn new(config: Arc<Config>, data: S, seed: u64) -> Self {
        let timeout_ms = match config.store() {
            Store::Local(_) => 0,
            Store::Redis(redis) => u64::try_from(redis.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let local = config.store().local().map(|local| LocalStore::new(data, local.max_identities));
        if let Some(local) = &local {
            local.prepare();
        }
        let waiting = WaitingRoom::new(config.max_waiting());
        Self {
            counts_tokens: config.needs_tokens(),
            config,
            local,
            reserves: ReserveQueue::new(timeout_ms),
            settles: SettleQueue::default(),
            sessions: HashMap::new(),
            learned: Learned::default(),
            waiting,
            headers_mode: HeadersMode::default(),
            next_id: (seed, 0),
            stats: Stats::default(),
            notes: HashMap::new(),
            wake: false,
            logged_ms: 0,
            renewed_ms: 0,
            unpriced: Unpriced::default(),
        }
    }

    /// What was counted since this was last asked.
    pub fn take_stats(&mut self) -> Vec<(Cow<'static, str>, u64)> {
        let dropped = self.settles.take_dropped();
        self.stats.add(Stat::SettlementsDropped, dropped);
        self.stats.take()
    }

    /// What the access log is to say of `stream`, as far as it was noted since this was last asked.
    pub fn take_notes(&mut self, stream: u32) -> Vec<(Field, String)> {
        self.notes.remove(&stream).unwrap_or_default().into_iter().collect()
    }

    fn note(&mut self, stream: u32, field: Field, value: impl ToString) {
        self.notes.entry(stream).or_default().add(field, value);
    }

    /// Whether [`Worker::turn`] has something to send that it had not when this was last asked.
    pub fn take_wake(&mut self) -> bool {
        std::mem::take(&mut self.wake)
    }

    /// Whether all that was to be sent has arrived.
    pub fn is_idle(&self) -> bool {
        self.settles.is_empty()
    }

    /// Whether anything is to be done about the rest of `stream`.
    pub fn knows(&self, stream: u32) -> bool {
        self.sessions.contains_key(&stream)
    }

    /// Whether [`Worker::response_body`] wants to see the response of `stream`.
    pub fn reads_response(&self, stream: u32) -> bool {
        matches!(self.sessions.get(&stream), Some(Session::Responding(_) | Session::Settled(Some(_))))
    }

    /// Something was queued, or time has passed.
    pub fn turn(&mut self, now_ms: u64) -> Turn {
        let mut directives = Vec::new();
        for stream in self.reserves.expired(now_ms) {
            directives.extend(self.unanswered(stream, "it was not asked in time", now_ms));
        }
        directives.extend(self.let_headers_go(now_ms));
        directives.extend(self.call_waiting(now_ms));
        self.renew_leases(now_ms);
        let callouts =
            self.reserves.next_callout(now_ms).into_iter().chain(self.settles.next_callout(now_ms)).collect();
        Turn { callouts, directives }
    }

    /// A callout ended with the body of a 200, or without.
    pub fn callout_answered(&mut self, kind: Kind, answer: Result<&[u8], String>, now_ms: u64) -> Turn {
        let directives = match kind {
            Kind::Settle => {
                let answer = self.settles.answered(answer, now_ms);
                if let Some(why) = answer.why {
                    self.log_store_error(&why, now_ms);
                }
                if !answer.over.is_empty() {
                    self.passed_limits(&answer.over);
                }
                Vec::new()
            }
            Kind::Reserve => {
                let answers = self.reserves.answered(answer);
                answers
                    .into_iter()
                    .filter_map(|(stream, answer)| self.answered(stream, answer, now_ms))
                    .collect()
            }
        };
        let turn = self.turn(now_ms);
        Turn { directives: directives.into_iter().chain(turn.directives).collect(), ..turn }
    }

    /// Headers that were held too long for a body that never came go on.
    fn let_headers_go(&mut self, now_ms: u64) -> Vec<(u32, Directive)> {
        let mode = self.headers_mode;
        let mut gone = Vec::new();
        for (stream, session) in &mut self.sessions {
            if let Session::AwaitBody(arrival) = session
                && arrival.headers_held
                && mode.gives_up(arrival.since_ms, now_ms)
            {
                arrival.headers_held = false;
                gone.push((*stream, Directive::Continue));
            }
        }
        for _ in &gone {
            self.headers_mode = self.headers_mode.gave_up();
        }
        gone
    }

    fn send_settlement(&mut self, settle: Settle) {
        self.settles.push(settle);
        self.wake = true;
    }

    fn log_store_error(&mut self, why: &str, now_ms: u64) {
        if now_ms >= self.logged_ms.saturating_add(LOG_PERIOD_MS) {
            self.logged_ms = now_ms;
            log::warn!("the store did not answer: {why}");
        }
    }
}
