//! Group commit: reservations and settlements gather while a callout is under way and leave together in the next.
//!
//! One callout per request costs a gateway two thirds of its throughput; one callout at a time costs nothing and still
//! answers a lone request in one round trip. This file decides what goes into which callout and what its answer means
//! for whom; it sends nothing.

use crate::store::wire::{Reserve, Reserved, ScopeCharges, Settle, Settled, path};
use crate::window::WindowState;
use std::collections::VecDeque;
use std::time::Duration;

/// Elements of one callout. A batch of this size is some hundred kilobytes of JSON and a few milliseconds of Redis.
const MAX_BATCH: usize = 512;

/// Settlements that wait while the sidecar is away. The oldest are dropped beyond it: their reservations stay charged
/// until they leave their windows, so that what is lost is never a limit.
const MAX_SETTLEMENTS: usize = 20_000;

/// How long a settlement's callout may take. Nobody waits for it.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after a settlement callout that failed, doubled each time up to [`MAX_PAUSE_MS`].
const FIRST_PAUSE_MS: u64 = 100;

/// The longest pause between two attempts to settle.
const MAX_PAUSE_MS: u64 = 2_000;

/// A callout to make: `POST` `body` to `path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callout {
    /// Which queue it is from.
    pub kind: Kind,
    /// The JSON array.
    pub body: Vec<u8>,
    /// When to give up.
    pub timeout: Duration,
}

/// The two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `POST /v1/reserve`
    Reserve,
    /// `POST /v1/settle`
    Settle,
}

impl Kind {
    /// The sidecar's path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Reserve => path::RESERVE,
            Self::Settle => path::SETTLE,
        }
    }
}

/// What the store said about one reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreAnswer {
    /// It has decided; one state per charge.
    Decided {
        /// Whether the request was charged.
        admitted: bool,
        /// The counters.
        states: Vec<WindowState>,
    },
    /// It has not, or not in time. The request may have been charged all the same.
    Unknown {
        /// Why, for the log.
        why: String,
    },
}

/// A request that waits for the store's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Waiting {
    stream: u32,
    since_ms: u64,
    reserve: Reserve,
}

/// Reservations on their way to the sidecar.
#[derive(Debug)]
pub struct ReserveQueue {
    timeout_ms: u64,
    gathering: VecDeque<Waiting>,
    /// The streams of the callout under way, in its order. A stream that has ended is still in it: its place in the
    /// answer must be known.
    in_flight: Option<Vec<Sent>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    stream: u32,
    charges: usize,
}

impl ReserveQueue {
    /// A queue in which nobody waits longer than `timeout_ms`.
    pub const fn new(timeout_ms: u64) -> Self {
        Self { timeout_ms, gathering: VecDeque::new(), in_flight: None }
    }

    /// Adds the reservation of `stream`.
    pub fn push(&mut self, stream: u32, reserve: Reserve, now_ms: u64) {
        self.gathering.push_back(Waiting { stream, since_ms: now_ms, reserve });
    }

    /// Takes back what `stream` has not sent yet; false if it has been sent or never was here.
    pub fn withdraw(&mut self, stream: u32) -> bool {
        let before = self.gathering.len();
        self.gathering.retain(|waiting| waiting.stream != stream);
        self.gathering.len() < before
    }

    /// The streams that have waited too long without having been sent.
    pub fn expired(&mut self, now_ms: u64) -> Vec<u32> {
        let timeout_ms = self.timeout_ms;
        let count =
            self.gathering.iter().take_while(|w| w.since_ms.saturating_add(timeout_ms) <= now_ms).count();
        self.gathering.drain(..count).map(|waiting| waiting.stream).collect()
    }

    /// The next callout, if none is under way and somebody waits. It times out when the first of it has waited
    /// long enough.
    pub fn next_callout(&mut self, now_ms: u64) -> Option<Callout> {
        if self.in_flight.is_some() {
            return None;
        }
        let since_ms = self.gathering.front()?.since_ms;
        let batch: Vec<Waiting> = self.gathering.drain(..self.gathering.len().min(MAX_BATCH)).collect();
        self.in_flight = Some(
            batch
                .iter()
                .map(|w| Sent { stream: w.stream, charges: ScopeCharges::flat(&w.reserve.charges).count() })
                .collect(),
        );
        let reserves: Vec<&Reserve> = batch.iter().map(|waiting| &waiting.reserve).collect();
        let left_ms = since_ms.saturating_add(self.timeout_ms).saturating_sub(now_ms).max(1);
        Some(Callout { kind: Kind::Reserve, body: json(&reserves), timeout: Duration::from_millis(left_ms) })
    }

    /// The callout has ended: what it means for each stream. `answer` is the body of a 200, or why there is none.
    pub fn answered(&mut self, answer: Result<&[u8], String>) -> Vec<(u32, StoreAnswer)> {
        let sent = self.in_flight.take().unwrap_or_default();
        match answer.and_then(|body| parse::<Reserved>(body, sent.len())) {
            Ok(answers) => {
                sent.iter().zip(answers).map(|(sent, answer)| (sent.stream, sent.read(answer))).collect()
            }
            Err(why) => sent.iter().map(|s| (s.stream, StoreAnswer::Unknown { why: why.clone() })).collect(),
        }
    }
}

impl Sent {
    fn read(self, answer: Reserved) -> StoreAnswer {
        match answer {
            Reserved::Decided { admitted, windows } if windows.len() == self.charges => {
                StoreAnswer::Decided { admitted, states: windows }
            }
            Reserved::Decided { windows, .. } => StoreAnswer::Unknown {
                why: format!("{} windows in the answer to {} charges", windows.len(), self.charges),
            },
            Reserved::Failed { error } => StoreAnswer::Unknown { why: error },
        }
    }
}

/// Settlements on their way to the sidecar; they outlive their requests and are sent until they arrive.
#[derive(Debug, Default)]
pub struct SettleQueue {
    gathering: VecDeque<Settle>,
    in_flight: Vec<Settle>,
    pause: Option<Pause>,
    dropped: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    until_ms: u64,
    length_ms: u64,
}

impl SettleQueue {
    /// Adds a settlement.
    pub fn push(&mut self, settle: Settle) {
        if self.gathering.len() >= MAX_SETTLEMENTS {
            self.gathering.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.gathering.push_back(settle);
    }

    /// Whether nothing waits or is under way.
    pub fn is_empty(&self) -> bool {
        self.gathering.is_empty() && self.in_flight.is_empty()
    }

    /// How many were dropped since this was last asked.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// The next callout, if none is under way, something waits, and the last one has not just failed.
    pub fn next_callout(&mut self, now_ms: u64) -> Option<Callout> {
        let paused = self.pause.is_some_and(|pause| now_ms < pause.until_ms);
        if paused || !self.in_flight.is_empty() || self.gathering.is_empty() {
            return None;
        }
        self.in_flight = self.gathering.drain(..self.gathering.len().min(MAX_BATCH)).collect();
        Some(Callout { kind: Kind::Settle, body: json(&self.in_flight), timeout: SETTLE_TIMEOUT })
    }

    /// The callout has ended. What did not arrive is sent again later, which is safe: settling twice is settling once.
    pub fn answered(&mut self, answer: Result<&[u8], String>, now_ms: u64) -> SettleAnswer {
        let sent = std::mem::take(&mut self.in_flight);
        let (mut why, mut over) = (None, Vec::new());
        let again: Vec<Settle> = match answer.and_then(|body| parse::<Settled>(body, sent.len())) {
            Ok(answers) => sent
                .into_iter()
                .zip(answers)
                .filter_map(|(settle, answer)| match answer {
                    Settled::Done { over: is_over, .. } => {
                        over.extend(is_over.then_some(settle.id));
                        None
                    }
                    Settled::Failed { error } => {
                        why = Some(error);
                        Some(settle)
                    }
                })
                .collect(),
            Err(error) => {
                why = Some(error);
                sent
            }
        };
        self.pause = why.as_ref().map(|_| {
            let length_ms =
                self.pause.map_or(FIRST_PAUSE_MS, |p| p.length_ms.saturating_mul(2).min(MAX_PAUSE_MS));
            Pause { until_ms: now_ms.saturating_add(length_ms), length_ms }
        });
        for settle in again.into_iter().rev() {
            self.gathering.push_front(settle);
        }
        SettleAnswer { why, over }
    }
}

/// What came of a callout of settlements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettleAnswer {
    /// Why something has to be sent again, if it has.
    pub why: Option<String>,
    /// The reservations that were extended past a limit.
    pub over: Vec<String>,
}

/// `elements` as a JSON array.
fn json<T: serde::Serialize>(elements: &[T]) -> Vec<u8> {
    serde_json::to_vec(elements).unwrap_or_else(|error| {
        log::error!("a batch could not be written as JSON: {error}");
        b"[]".to_vec()
    })
}

/// An array of `len` answers.
fn parse<T: serde::de::DeserializeOwned>(body: &[u8], len: usize) -> Result<Vec<T>, String> {
    let answers: Vec<T> = serde_json::from_slice(body)
        .map_err(|error| format!("the sidecar's answer cannot be read: {error}"))?;
    if answers.len() == len {
        Ok(answers)
    } else {
        Err(format!("the sidecar gave {} answers to {len} calls", answers.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve(id: &str) -> Reserve {
        Reserve { id: id.into(), charges: Vec::new() }
    }

    fn settle(id: &str) -> Settle {
        Settle { id: id.into(), if_absent: None, extend: false, charges: Vec::new() }
    }

    const ADMITTED: StoreAnswer = StoreAnswer::Decided { admitted: true, states: Vec::new() };

    #[test]
    fn what_comes_while_a_callout_is_under_way_leaves_together_in_the_next() {
        let mut queue = ReserveQueue::new(50);
        queue.push(1, reserve("a"), 0);
        let first = queue.next_callout(0).unwrap();
        assert_eq!(first.body, br#"[{"id":"a","charges":[]}]"#);
        queue.push(2, reserve("b"), 1);
        queue.push(3, reserve("c"), 2);
        assert_eq!(queue.next_callout(2), None);
        assert_eq!(queue.answered(Ok(br#"[{"admitted":true,"windows":[]}]"#)), [(1, ADMITTED)]);
        let second = queue.next_callout(11).unwrap();
        assert_eq!(second.body, br#"[{"id":"b","charges":[]},{"id":"c","charges":[]}]"#);
        assert_eq!(second.timeout, Duration::from_millis(40), "who came first has waited ten already");
    }

    #[test]
    fn an_answer_that_does_not_match_is_unknown_for_all() {
        for answer in [
            r#"{"#,
            "[]",
            r#"[{"admitted":true,"windows":[]},{"admitted":true,"windows":[]}]"#,
            r#"[{"error":"x"}]"#,
        ] {
            let mut queue = ReserveQueue::new(50);
            queue.push(1, reserve("a"), 0);
            queue.next_callout(0).unwrap();
            let answers = queue.answered(Ok(answer.as_bytes()));
            assert!(
                matches!(answers.as_slice(), [(1, StoreAnswer::Unknown { .. })]),
                "{answer}: {answers:?}"
            );
        }
    }

    #[test]
    fn nobody_waits_longer_than_the_timeout() {
        let mut queue = ReserveQueue::new(50);
        queue.push(1, reserve("a"), 0);
        queue.next_callout(0).unwrap();
        queue.push(2, reserve("b"), 10);
        queue.push(3, reserve("c"), 30);
        assert_eq!(queue.expired(59), Vec::<u32>::new());
        assert_eq!(queue.expired(60), [2]);
        assert!(queue.withdraw(3));
        assert!(!queue.withdraw(1), "it has been sent");
    }

    #[test]
    fn settlements_are_sent_until_they_arrive_and_pause_in_between() {
        let mut queue = SettleQueue::default();
        queue.push(settle("a"));
        queue.push(settle("b"));
        queue.next_callout(0).unwrap();
        let answer = queue.answered(Ok(br#"[{"settled":true,"over":true},{"error":"busy"}]"#), 0);
        assert_eq!((answer.why.as_deref(), answer.over), (Some("busy"), vec!["a".to_owned()]));
        assert_eq!(queue.next_callout(99), None);
        let again = queue.next_callout(100).unwrap();
        assert_eq!(again.body, br#"[{"id":"b","charges":[]}]"#);
        assert!(queue.answered(Err("away".into()), 100).why.is_some());
        assert_eq!(queue.next_callout(299), None, "the second pause is twice as long");
        queue.next_callout(300).unwrap();
        assert_eq!(queue.answered(Ok(br#"[{"settled":false}]"#), 300), SettleAnswer::default());
        assert!(queue.is_empty());
    }

    #[test]
    fn the_oldest_settlements_give_way() {
        let mut queue = SettleQueue::default();
        for n in 0..MAX_SETTLEMENTS + 3 {
            queue.push(settle(&n.to_string()));
        }
        assert_eq!((queue.take_dropped(), queue.take_dropped()), (3, 0));
        assert!(queue.next_callout(0).unwrap().body.starts_with(br#"[{"id":"3""#));
    }
}
