//! Whether this worker reaches its store: asked at the first tick, heard in every answer, and said in the log.
//!
//! An answer to a batch says that the store is there, so nobody asks while requests come and are answered. A batch
//! without an answer brings doubt, and only a probe that fails as well says that the store is away: a lone wrong answer
//! is no outage. Probes go on until the store is back, with pauses, so that its return is seen without a request. A
//! probe decides that too: while a part of a cluster is away, some batches have answers and some do not.
//!
//! A probe is a reservation without charges, for which the sidecar asks Redis whether it takes writes.

use super::Failure;
use super::sidecar::{Body, Callout, Kind, Pause, parse};
use super::wire::{Reserve, Reserved};
use crate::quantity::Millis;
use std::sync::Arc;
use std::time::Duration;

/// The log has at most one line about a store in this time.
pub(super) const LOG_PERIOD: Millis = Millis::SECOND;

/// The shortest time between the end of a probe and the next one.
const SHORTEST_PAUSE: Millis = Millis::new(100);

/// The failures in a row after which the store is away. The last of them is a probe's.
const ENOUGH_FAILURES: u32 = 2;

/// What a worker knows of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is nothing to know: the configuration has no sidecar.
    Absent,
    /// Nothing yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// The health of the store, as one worker sees it.
#[derive(Clone, Debug)]
pub(super) struct Health {
    standing: Standing,
    /// Whether another worker looks after the store in this one's place.
    stands_by: bool,
    is_under_way: bool,
    /// When the next probe is due; none if none is.
    due: Option<Millis>,
    pause: Option<Pause>,
    /// When the last probe ended.
    probed: Option<Millis>,
    /// The failures since the last sign of life, and the last of them.
    failures: u32,
    failure: Option<Failure>,
    /// When the first of them was.
    since: Option<Millis>,
    /// The requests without the store's decision since then.
    without: u64,
    /// Whether the log says that the store is away, and when it last said something.
    is_said: bool,
    said: Option<Millis>,
}

/// Something for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The store is away.
    Away(Failure),
    /// It is back.
    Back {
        /// How long it was away.
        after: Millis,
        /// How many requests were decided without it.
        without: u64,
    },
}

impl Default for Health {
    fn default() -> Self {
        Self {
            standing: Standing::Unknown,
            stands_by: true,
            is_under_way: false,
            due: None,
            pause: None,
            probed: None,
            failures: 0,
            failure: None,
            since: None,
            without: 0,
            is_said: false,
            said: None,
        }
    }
}

impl Health {
    /// What is known.
    pub(super) const fn standing(&self) -> Standing {
        self.standing
    }

    /// The last failure since the last sign of life.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref().filter(|_| self.failures > 0)
    }

    /// Whether the log says already that the store is away.
    pub(super) const fn is_said(&self) -> bool {
        self.is_said
    }

    /// Whether others look after the store, and say when it is away.
    pub(super) const fn stands_by(&self) -> bool {
        self.stands_by
    }

    /// Leaves the store to others, or looks after it from now on.
    pub(super) fn stand_by(&mut self, stands_by: bool, now: Millis) {
        if self.stands_by == stands_by {
            return;
        }
        let is_under_way = self.is_under_way;
        *self = Self { stands_by, is_under_way, due: (!stands_by).then_some(now), ..Self::default() };
    }

    /// A batch had an answer of the store, or none.
    pub(super) fn heard(&mut self, answer: Result<(), Failure>, now: Millis) {
        match answer {
            Err(failure) => {
                self.failed(failure, now);
                if self.standing != Standing::Down {
                    self.ask(now);
                }
            }
            Ok(()) if self.standing == Standing::Down => self.ask(now),
            Ok(()) if self.standing == Standing::Unknown => self.answered(),
            Ok(()) => {}
        }
    }

    /// Asks as soon as it may.
    fn ask(&mut self, now: Millis) {
        self.due = Some(self.probed.map_or(now, |probed| (probed + SHORTEST_PAUSE).max(now)));
    }

    fn failed(&mut self, failure: Failure, now: Millis) {
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(failure);
        self.since.get_or_insert(now);
    }

    fn answered(&mut self) {
        self.standing = Standing::Up;
        (self.due, self.pause, self.failures) = (None, None, 0);
        if !self.is_said {
            (self.since, self.without) = (None, 0);
        }
    }

    /// A request is decided without the store.
    pub(super) const fn decided_without(&mut self) {
        self.without = self.without.saturating_add(1);
    }

    /// The probe to send now, if one is due: a reservation without charges in `namespace`.
    pub(super) fn next_callout(
        &mut self,
        namespace: &Arc<str>,
        timeout: Millis,
        now: Millis,
    ) -> Option<Callout> {
        if self.stands_by || self.is_under_way {
            return None;
        }
        self.due.filter(|due| *due <= now)?;
        self.is_under_way = true;
        let probe = Reserve { id: "probe".into(), namespace: Arc::clone(namespace), ..Reserve::default() };
        let timeout = Duration::from_millis(timeout.get());
        let mut body = Body::default();
        body.add(&probe);
        body.callout(Kind::Probe, timeout)
    }

    /// The probe has ended. Returns whether the store has answered it.
    pub(super) fn callout_ended(&mut self, answer: Result<&[u8], Failure>, now: Millis) -> bool {
        self.is_under_way = false;
        let answer = answer.and_then(|body| match parse::<Reserved>(body, 1)?.as_slice() {
            [Reserved::Failed { error, .. }] => Err(error.clone().into()),
            _ => Ok(()),
        });
        let is_answered = answer.is_ok();
        if self.stands_by {
            return is_answered;
        }
        self.probed = Some(now);
        match answer {
            Ok(()) => self.answered(),
            Err(failure) => {
                self.failed(failure, now);
                if self.failures >= ENOUGH_FAILURES {
                    self.standing = Standing::Down;
                }
                let pause = Pause::after(self.pause, now);
                (self.due, self.pause) = (Some(pause.until), Some(pause));
            }
        }
        is_answered
    }

    /// The clock was set back to `now`: it is due now what was due by the old one.
    pub(super) fn clock_was_set_back(&mut self, now: Millis) {
        self.due = self.due.map(|due| due.min(now));
        self.since = self.since.map(|since| since.min(now));
        (self.probed, self.said) = (None, None);
    }

    /// What the log is to say now: nothing as long as it is right, and nothing sooner than a second after its last
    /// line.
    pub(super) fn news(&mut self, now: Millis) -> Option<News> {
        let is_away = self.standing == Standing::Down;
        if is_away == self.is_said || self.said.is_some_and(|said| now < said + LOG_PERIOD) {
            return None;
        }
        (self.is_said, self.said) = (is_away, Some(now));
        if is_away {
            return self.failure.clone().map(News::Away);
        }
        let (since, without) = (self.since.take(), std::mem::take(&mut self.without));
        Some(News::Back { after: now - since.unwrap_or(now), without })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YES: &[u8] = br#"[{"admitted":true,"windows":[]}]"#;
    const NO: &[u8] = br#"[{"error":"Redis takes no writes","unavailable":true}]"#;

    fn at(ms: u64) -> Millis {
        Millis::new(ms)
    }

    /// A worker that looks after its store from time 0.
    fn health() -> Health {
        let mut health = Health::default();
        health.stand_by(false, at(0));
        health
    }

    fn asks(health: &mut Health, now: u64) -> bool {
        health.next_callout(&"".into(), at(50), at(now)).is_some()
    }

    fn probe(health: &mut Health, answer: Result<&[u8], Failure>, now: u64) {
        assert!(asks(health, now), "a probe is due at {now}");
        assert!(!asks(health, now), "one at a time");
        let is_yes = matches!(answer, Ok(YES));
        assert_eq!(health.callout_ended(answer, at(now)), is_yes);
    }

    fn no_answer() -> Failure {
        "no answer".into()
    }

    /// A worker whose store has been away since time 0, as the log said at 100.
    fn away() -> Health {
        let mut health = health();
        for now in [0, 100] {
            probe(&mut health, Err(no_answer()), now);
        }
        assert_eq!(health.standing(), Standing::Down);
        assert_eq!(health.news(at(100)), Some(News::Away(no_answer())));
        health
    }

    #[test]
    fn the_store_is_asked_at_once_and_not_again_while_batches_are_answered() {
        let mut health = health();
        assert_eq!(health.standing(), Standing::Unknown);
        probe(&mut health, Ok(YES), 0);
        for now in 1..10_000 {
            assert_eq!((health.standing(), asks(&mut health, now)), (Standing::Up, false));
            health.heard(Ok(()), at(now));
        }
        assert_eq!(health.news(at(10_000)), None);
        let mut heard = super::tests::health();
        heard.heard(Ok(()), at(0));
        assert_eq!((heard.standing(), asks(&mut heard, 0)), (Standing::Up, false), "an answer is enough");
    }

    #[test]
    fn the_probe_is_a_reservation_without_charges() {
        let callout = health().next_callout(&"staging".into(), at(50), at(0)).unwrap();
        assert_eq!(callout.kind.path(), "/v1/reserve");
        assert_eq!(callout.body, br#"[{"id":"probe","namespace":"staging","charges":[]}]"#);
        assert_eq!(callout.timeout, Duration::from_millis(50));
    }

    #[test]
    fn a_store_that_never_answers_is_asked_with_pauses_and_the_log_says_it_once() {
        let mut health = health();
        let mut asked = Vec::new();
        let mut lines = Vec::new();
        for now in 0..10_000 {
            if asks(&mut health, now) {
                asked.push(now);
                let answer = if now % 200 == 0 { Err(no_answer()) } else { Ok(NO) };
                health.callout_ended(answer, at(now));
            }
            lines.extend(health.news(at(now)).map(|_| now));
            assert_eq!(health.standing() == Standing::Down, now >= 100);
        }
        assert_eq!(asked, [0, 100, 300, 700, 1_500, 3_100, 5_100, 7_100, 9_100]);
        assert_eq!(lines, [100]);
    }

    #[test]
    fn a_lone_failure_is_no_outage() {
        let mut health = health();
        probe(&mut health, Ok(YES), 0);
        health.heard(Err(no_answer()), at(500));
        health.decided_without();
        assert_eq!(health.standing(), Standing::Up);
        probe(&mut health, Ok(YES), 500);
        for now in 501..2_000 {
            // It fails again and again, and the probes do not.
            health.heard(Err(no_answer()), at(now));
            if asks(&mut health, now) {
                health.callout_ended(Ok(YES), at(now));
                assert_eq!(now % 100, 0, "not more often than that");
            }
            assert_eq!((health.standing(), health.news(at(now))), (Standing::Up, None));
        }
    }

    #[test]
    fn a_probe_that_fails_after_a_batch_did_is_an_outage() {
        let mut health = health();
        probe(&mut health, Ok(YES), 0);
        for now in [5_000, 5_001, 5_002] {
            health.heard(Err(no_answer()), at(now));
            health.decided_without();
            assert_eq!((health.standing(), health.news(at(now))), (Standing::Up, None));
        }
        probe(&mut health, Err("away".into()), 5_003);
        assert_eq!(health.news(at(5_003)), Some(News::Away("away".into())));
        assert!(health.is_said());
        health.decided_without();
        probe(&mut health, Ok(YES), 9_000);
        assert_eq!(health.standing(), Standing::Up);
        assert_eq!(health.news(at(9_000)), Some(News::Back { after: at(4_000), without: 4 }));
        assert_eq!((health.news(at(60_000)), health.is_said()), (None, false));
    }

    #[test]
    fn an_answer_to_a_batch_makes_a_store_that_is_away_be_asked_at_once() {
        let mut health = away();
        health.heard(Ok(()), at(101));
        assert_eq!(health.standing(), Standing::Down, "it may be the answer of another part of a cluster");
        assert!(!asks(&mut health, 199));
        probe(&mut health, Err(no_answer()), 200);
        health.heard(Ok(()), at(450));
        probe(&mut health, Ok(YES), 450);
        assert_eq!(health.standing(), Standing::Up);
    }

    #[test]
    fn a_store_that_comes_and_goes_gets_one_line_a_second_and_the_last_one_is_right() {
        let mut health = away();
        let mut lines = Vec::new();
        for now in 101..20_000_u64 {
            if asks(&mut health, now) {
                let is_up = (now / 150) % 2 == 0 || now > 15_000;
                health.callout_ended(if is_up { Ok(YES) } else { Err(no_answer()) }, at(now));
            }
            health.heard(if now > 15_000 { Ok(()) } else { Err(no_answer()) }, at(now));
            lines.extend(health.news(at(now)).map(|news| (now, matches!(news, News::Away(_)))));
        }
        assert!(lines.len() > 3 && lines.len() < 20, "{lines:?}");
        assert!(lines.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 1_000), "{lines:?}");
        assert!(lines.windows(2).all(|pair| pair[1].1 != pair[0].1), "{lines:?}");
        assert_eq!(lines.last().map(|(_, is_away)| *is_away), Some(false));
    }

    #[test]
    fn who_stands_by_neither_asks_nor_says_anything() {
        let mut health = away();
        health.stand_by(true, at(200));
        assert_eq!((health.standing(), health.news(at(5_000))), (Standing::Unknown, None));
        health.heard(Err(no_answer()), at(5_000));
        assert!(!asks(&mut health, 5_000));
        health.stand_by(false, at(6_000));
        probe(&mut health, Ok(YES), 6_000);
        assert_eq!(health.standing(), Standing::Up);
    }

    #[test]
    fn a_clock_that_is_set_back_delays_no_probe_and_no_line() {
        let mut health = health();
        for now in [3_600_000, 3_600_200] {
            health.stand_by(false, at(now));
            health.due = Some(at(now));
            assert!(asks(&mut health, now));
            health.callout_ended(Ok(NO), at(now));
        }
        assert!(matches!(health.news(at(3_600_200)), Some(News::Away(_))));
        health.clock_was_set_back(at(1_000));
        assert!(asks(&mut health, 1_000));
        health.callout_ended(Ok(YES), at(1_001));
        assert!(matches!(health.news(at(1_001)), Some(News::Back { .. })));
    }
}
