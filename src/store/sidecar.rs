//! Group commit: reservations and settlements gather while a callout is under way, and the next callout sends them
//! together (docs/envoy.md#group-commit).
//!
//! One callout per request costs two thirds of the throughput; one callout at a time costs nothing and still answers a
//! lone request in one round trip. This file fills callouts and reads their answers. It sends nothing.

use super::{Answer, Decision, Failure, HeldIn};
use crate::quantity::Millis;
use crate::store::wire::{Reserve, Reserved, ScopeCharges, Settle, Settled, path};
use std::collections::VecDeque;
use std::time::Duration;

/// The most elements of one callout: some hundred kilobytes of JSON, and a few milliseconds of Redis's time.
pub(super) const MAX_BATCH: usize = 512;

/// The most settlements that wait while the sidecar does not answer. Beyond it the oldest are dropped: their
/// reservations stay charged until they leave their windows, so that no limit admits too much.
const MAX_SETTLEMENTS: usize = 20_000;

/// The timeout of a callout of settlements. No request waits for it.
pub(super) const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause after a callout of settlements has failed. It doubles with each failure, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Millis = Millis::new(100);

/// The longest pause between two attempts to settle.
const MAX_PAUSE: Millis = Millis::new(2_000);

/// A callout to make: `POST` `body` to `path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callout {
    /// The queue that it comes from.
    pub kind: Kind,
    /// A JSON array.
    pub body: Vec<u8>,
    /// The duration after which it fails.
    pub timeout: Duration,
}

/// The queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `POST /v1/reserve`
    Reserve,
    /// `POST /v1/settle`
    Settle,
    /// `POST /v1/background`
    Background,
}

impl Kind {
    /// The sidecar's path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Reserve => path::RESERVE,
            Self::Settle => path::SETTLE,
            Self::Background => path::BACKGROUND,
        }
    }
}

/// A reservation that has not been sent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    stream: u32,
    since: Millis,
    reserve: Reserve,
}

/// Reservations on their way to the sidecar.
#[derive(Debug)]
pub struct ReserveQueue {
    timeout: Millis,
    gathering: VecDeque<Pending>,
    /// The streams of the callout under way, in its order. Streams that have ended stay in the list, because the answer
    /// has an element for them.
    in_flight: Option<Vec<Sent>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    stream: u32,
    charges: usize,
}

impl ReserveQueue {
    /// A queue in which no request waits longer than `timeout`.
    pub const fn new(timeout: Millis) -> Self {
        Self { timeout, gathering: VecDeque::new(), in_flight: None }
    }

    /// Adds the reservation of `stream`.
    pub fn push(&mut self, stream: u32, reserve: Reserve, now: Millis) {
        self.gathering.push_back(Pending { stream, since: now, reserve });
    }

    /// Withdraws the reservation of `stream`. Returns false if it has been sent or was never queued. The search is
    /// short, because the first in the queue times out first.
    pub fn withdraw(&mut self, stream: u32) -> bool {
        let at = self.gathering.iter().position(|pending| pending.stream == stream);
        at.and_then(|at| self.gathering.remove(at)).is_some()
    }

    /// The next callout, if none is under way and a reservation waits. It times out when its oldest reservation does.
    pub fn next_callout(&mut self, now: Millis) -> Option<Callout> {
        if self.in_flight.is_some() {
            return None;
        }
        let since = self.gathering.front()?.since;
        let batch: Vec<Pending> = self.gathering.drain(..self.gathering.len().min(MAX_BATCH)).collect();
        self.in_flight = Some(
            batch
                .iter()
                .map(|w| Sent { stream: w.stream, charges: ScopeCharges::flat(&w.reserve.charges).count() })
                .collect(),
        );
        let reserves: Vec<&Reserve> = batch.iter().map(|pending| &pending.reserve).collect();
        let left = (since + self.timeout - now).max(Millis::new(1));
        Some(Callout {
            kind: Kind::Reserve,
            body: json(&reserves),
            timeout: Duration::from_millis(left.get()),
        })
    }

    /// Ends the callout and returns the answer to each stream. `answer` is the body of a 200, or the reason why there
    /// is none.
    pub fn callout_ended(&mut self, answer: Result<&[u8], Failure>) -> Vec<(u32, Answer)> {
        let sent = self.in_flight.take().unwrap_or_default();
        match answer.and_then(|body| parse::<Reserved>(body, sent.len())) {
            Ok(answers) => {
                sent.iter().zip(answers).map(|(sent, answer)| (sent.stream, sent.read(answer))).collect()
            }
            Err(failure) => sent.iter().map(|sent| (sent.stream, failure.clone().answer())).collect(),
        }
    }
}

impl Sent {
    fn read(self, answer: Reserved) -> Answer {
        match answer {
            Reserved::Decided { admitted, windows } if windows.len() == self.charges => {
                Answer::Decided(Decision { held: admitted.then_some(HeldIn::Redis), states: windows })
            }
            Reserved::Decided { windows, .. } => Answer::Unavailable {
                why: format!("{} windows in the answer to {} charges", windows.len(), self.charges),
            },
            Reserved::Failed { error, unavailable } => {
                Failure { why: error, is_refusal: !unavailable }.answer()
            }
        }
    }
}

/// Settlements on their way to the sidecar. They outlive their requests and are sent until they arrive.
#[derive(Debug, Default)]
pub struct SettleQueue {
    gathering: VecDeque<Queued>,
    in_flight: Vec<Queued>,
    pause: Option<Pause>,
    dropped: u64,
}

#[derive(Debug)]
struct Queued {
    /// The stream of an extension, which must learn whether it passed a limit.
    stream: Option<u32>,
    settle: Settle,
}

/// A pause after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) until: Millis,
    length: Millis,
}

impl Pause {
    /// The pause after a failure at `now`, if `last` was the pause before.
    pub(super) fn after(last: Option<Self>, now: Millis) -> Self {
        let length = last.map_or(FIRST_PAUSE, |pause| (pause.length * 2).min(MAX_PAUSE));
        Self { until: now + length, length }
    }
}

impl SettleQueue {
    /// Adds a settlement, or an extension of the reservation of `stream`.
    pub fn push(&mut self, stream: Option<u32>, settle: Settle) {
        if self.gathering.len() >= MAX_SETTLEMENTS {
            self.gathering.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.gathering.push_back(Queued { stream, settle });
    }

    /// Whether nothing waits or is under way.
    pub fn is_empty(&self) -> bool {
        self.gathering.is_empty() && self.in_flight.is_empty()
    }

    /// The number of settlements that were dropped since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// When the pause after a failure ends, if settlements wait for that.
    pub fn next_due(&self) -> Option<Millis> {
        self.pause
            .filter(|_| !self.gathering.is_empty() && self.in_flight.is_empty())
            .map(|pause| pause.until)
    }

    /// The next callout, if none is under way, settlements wait, and no pause is in force.
    pub fn next_callout(&mut self, now: Millis) -> Option<Callout> {
        let paused = self.pause.is_some_and(|pause| now < pause.until);
        if paused || !self.in_flight.is_empty() || self.gathering.is_empty() {
            return None;
        }
        self.in_flight = self.gathering.drain(..self.gathering.len().min(MAX_BATCH)).collect();
        let settles: Vec<&Settle> = self.in_flight.iter().map(|queued| &queued.settle).collect();
        Some(Callout { kind: Kind::Settle, body: json(&settles), timeout: SETTLE_TIMEOUT })
    }

    /// Ends the callout. Queues again what did not arrive, which is safe: settling twice has the effect of settling
    /// once.
    pub fn callout_ended(&mut self, answer: Result<&[u8], Failure>, now: Millis) -> SettleOutcome {
        let sent = std::mem::take(&mut self.in_flight);
        let (mut why, mut over) = (None, Vec::new());
        let again: Vec<Queued> = match answer.and_then(|body| parse::<Settled>(body, sent.len())) {
            Ok(answers) => sent
                .into_iter()
                .zip(answers)
                .filter_map(|(queued, answer)| match answer {
                    Settled::Done { over: is_over, .. } => {
                        over.extend(queued.stream.filter(|_| is_over));
                        None
                    }
                    Settled::Failed { error } => {
                        why = Some(error);
                        Some(queued)
                    }
                })
                .collect(),
            Err(failure) => {
                why = Some(failure.why);
                sent
            }
        };
        self.pause = why.as_ref().map(|_| Pause::after(self.pause, now));
        for queued in again.into_iter().rev() {
            self.gathering.push_front(queued);
        }
        SettleOutcome { why, over }
    }
}

/// The outcome of a callout of settlements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettleOutcome {
    /// The reason why settlements must be sent again, if they must.
    pub why: Option<String>,
    /// The streams whose reservations were extended past a limit.
    pub over: Vec<u32>,
}

/// `elements` as a JSON array.
pub(super) fn json<T: serde::Serialize>(elements: &[T]) -> Vec<u8> {
    serde_json::to_vec(elements).unwrap_or_else(|error| {
        log::error!("cannot write a batch as JSON: {error}");
        b"[]".to_vec()
    })
}

/// Reads an array of `len` answers.
pub(super) fn parse<T: serde::de::DeserializeOwned>(body: &[u8], len: usize) -> Result<Vec<T>, Failure> {
    let answers: Vec<T> =
        serde_json::from_slice(body).map_err(|error| format!("cannot read the sidecar's answer: {error}"))?;
    if answers.len() == len {
        Ok(answers)
    } else {
        Err(format!("the sidecar gave {} answers to {len} calls", answers.len()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve(id: &str) -> Reserve {
        Reserve { id: id.into(), ..Reserve::default() }
    }

    fn settle(id: &str) -> Settle {
        Settle { id: id.into(), ..Settle::default() }
    }

    const ADMITTED: Answer = Answer::Decided(Decision { held: Some(HeldIn::Redis), states: Vec::new() });

    #[test]
    fn reservations_that_arrive_during_a_callout_share_the_next() {
        let mut queue = ReserveQueue::new(Millis::new(50));
        queue.push(1, reserve("a"), Millis::new(0));
        let first = queue.next_callout(Millis::new(0)).unwrap();
        assert_eq!(first.body, br#"[{"id":"a","charges":[]}]"#);
        queue.push(2, reserve("b"), Millis::new(1));
        queue.push(3, reserve("c"), Millis::new(2));
        assert_eq!(queue.next_callout(Millis::new(2)), None);
        assert_eq!(queue.callout_ended(Ok(br#"[{"admitted":true,"windows":[]}]"#)), [(1, ADMITTED)]);
        let second = queue.next_callout(Millis::new(11)).unwrap();
        assert_eq!(second.body, br#"[{"id":"b","charges":[]},{"id":"c","charges":[]}]"#);
        assert_eq!(second.timeout, Duration::from_millis(40), "the oldest has waited ten already");
    }

    #[test]
    fn an_answer_that_does_not_match_decides_nothing() {
        for answer in [
            r#"{"#,
            "[]",
            r#"[{"admitted":true,"windows":[]},{"admitted":true,"windows":[]}]"#,
            r#"[{"error":"x","unavailable":true}]"#,
        ] {
            let mut queue = ReserveQueue::new(Millis::new(50));
            queue.push(1, reserve("a"), Millis::new(0));
            queue.next_callout(Millis::new(0)).unwrap();
            let answers = queue.callout_ended(Ok(answer.as_bytes()));
            assert!(matches!(answers.as_slice(), [(1, Answer::Unavailable { .. })]), "{answer}: {answers:?}");
        }
    }

    #[test]
    fn an_answer_that_refuses_a_call_is_not_a_missing_answer() {
        let refusal = Failure::of_status(Some("413"), b"too large");
        for answer in [Ok(&br#"[{"error":"charges[0]: cost"}]"#[..]), Err(refusal)] {
            let mut queue = ReserveQueue::new(Millis::new(50));
            queue.push(1, reserve("a"), Millis::new(0));
            queue.next_callout(Millis::new(0)).unwrap();
            let answers = queue.callout_ended(answer);
            assert!(matches!(answers.as_slice(), [(1, Answer::Refused { .. })]), "{answers:?}");
        }
    }

    #[test]
    fn a_reservation_can_be_withdrawn_until_it_is_sent() {
        let mut queue = ReserveQueue::new(Millis::new(50));
        queue.push(1, reserve("a"), Millis::ZERO);
        queue.next_callout(Millis::ZERO).unwrap();
        queue.push(2, reserve("b"), Millis::new(10));
        queue.push(3, reserve("c"), Millis::new(30));
        assert!(queue.withdraw(3) && queue.withdraw(2) && !queue.withdraw(2));
        assert!(!queue.withdraw(1), "it has been sent");
    }

    #[test]
    fn settlements_are_sent_until_they_arrive_with_pauses_in_between() {
        let mut queue = SettleQueue::default();
        queue.push(Some(7), settle("a"));
        queue.push(None, settle("b"));
        queue.next_callout(Millis::new(0)).unwrap();
        let answer =
            queue.callout_ended(Ok(br#"[{"settled":true,"over":true},{"error":"busy"}]"#), Millis::new(0));
        assert_eq!((answer.why.as_deref(), answer.over), (Some("busy"), vec![7]));
        assert_eq!(queue.next_callout(Millis::new(99)), None);
        let again = queue.next_callout(Millis::new(100)).unwrap();
        assert_eq!(again.body, br#"[{"id":"b","charges":[]}]"#);
        assert!(queue.callout_ended(Err("no answer".into()), Millis::new(100)).why.is_some());
        assert_eq!(queue.next_callout(Millis::new(299)), None, "the second pause is twice as long");
        queue.next_callout(Millis::new(300)).unwrap();
        assert_eq!(
            queue.callout_ended(Ok(br#"[{"settled":false}]"#), Millis::new(300)),
            SettleOutcome::default()
        );
        assert!(queue.is_empty());
    }

    #[test]
    fn a_full_queue_drops_the_oldest_settlements() {
        let mut queue = SettleQueue::default();
        for n in 0..MAX_SETTLEMENTS + 3 {
            queue.push(None, settle(&n.to_string()));
        }
        assert_eq!((queue.take_dropped(), queue.take_dropped()), (3, 0));
        assert!(queue.next_callout(Millis::new(0)).unwrap().body.starts_with(br#"[{"id":"3""#));
    }
}
