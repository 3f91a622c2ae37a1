//! Settlements on their way to the sidecar: they outlive their requests and are sent until they arrive.
//!
//! Whatever keeps one of them from arriving delays no other. A settlement that fails by itself rests for a while of its
//! own, and one that can never be done is dropped. Only a callout without an answer makes all of them wait. If the
//! sidecar refuses a batch, something in it is the reason, and smaller batches find out what.

use super::Failure;
use super::sidecar::{Callout, Kind, MAX_BATCH, Pause, SETTLE_TIMEOUT, json, parse};
use super::wire::{Settle, Settled};
use crate::quantity::Millis;
use std::collections::{BTreeMap, VecDeque};

/// The most settlements that wait while the sidecar does not answer. Beyond it the oldest are dropped: their
/// reservations stay charged until they leave their windows, so that no limit admits too much.
const MAX_SETTLEMENTS: usize = 20_000;

/// Settlements on their way to the sidecar.
#[derive(Debug)]
pub struct SettleQueue {
    gathering: VecDeque<Queued>,
    /// Those that have failed by themselves, by the end of their rest.
    resting: BTreeMap<(Millis, u64), Queued>,
    in_flight: Vec<Queued>,
    /// The pause of all after a callout without an answer.
    pause: Option<Pause>,
    /// The most elements of the next callout.
    most: usize,
    dropped: u64,
    next_rest: u64,
}

#[derive(Debug)]
struct Queued {
    /// The stream of an extension, which must learn whether it passed a limit.
    stream: Option<u32>,
    settle: Settle,
    /// Its last rest, if it has failed by itself.
    rest: Option<Pause>,
    /// Whether the sidecar has refused it as a batch of one.
    goes_alone: bool,
}

impl Default for SettleQueue {
    fn default() -> Self {
        Self {
            gathering: VecDeque::new(),
            resting: BTreeMap::new(),
            in_flight: Vec::new(),
            pause: None,
            most: MAX_BATCH,
            dropped: 0,
            next_rest: 0,
        }
    }
}

impl SettleQueue {
    /// Adds a settlement, or an extension of the reservation of `stream`.
    pub fn push(&mut self, stream: Option<u32>, settle: Settle) {
        if self.gathering.len().saturating_add(self.resting.len()) >= MAX_SETTLEMENTS {
            if self.resting.pop_first().is_none() {
                self.gathering.pop_front();
            }
            self.dropped = self.dropped.saturating_add(1);
        }
        self.gathering.push_back(Queued { stream, settle, rest: None, goes_alone: false });
    }

    /// Whether nothing waits or is under way.
    pub fn is_empty(&self) -> bool {
        self.gathering.is_empty() && self.resting.is_empty() && self.in_flight.is_empty()
    }

    /// The number of settlements that were dropped since the last call, because too many waited.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// When a pause or a rest ends for which settlements wait.
    pub fn next_due(&self) -> Option<Millis> {
        if !self.in_flight.is_empty() {
            return None;
        }
        let pause = self.pause.map(|pause| pause.until);
        if !self.gathering.is_empty() {
            return pause;
        }
        let (rested, _) = self.resting.first_key_value()?.0;
        Some(pause.map_or(*rested, |pause| pause.max(*rested)))
    }

    /// The next callout, if none is under way, settlements wait, and no pause is in force.
    pub fn next_callout(&mut self, now: Millis) -> Option<Callout> {
        let paused = self.pause.is_some_and(|pause| now < pause.until);
        if paused || !self.in_flight.is_empty() {
            return None;
        }
        while let Some(rested) = self.resting.first_entry().filter(|first| first.key().0 <= now) {
            self.gathering.push_back(rested.remove());
        }
        let together = self.gathering.iter().take(self.most).take_while(|queued| !queued.goes_alone).count();
        self.in_flight = self.gathering.drain(..together.max(1).min(self.gathering.len())).collect();
        if self.in_flight.is_empty() {
            return None;
        }
        let settles: Vec<&Settle> = self.in_flight.iter().map(|queued| &queued.settle).collect();
        Some(Callout { kind: Kind::Settle, body: json(&settles), timeout: SETTLE_TIMEOUT })
    }

    /// Ends the callout. Queues again what did not arrive, which is safe: settling twice has the effect of settling
    /// once.
    pub fn callout_ended(&mut self, answer: Result<&[u8], Failure>, now: Millis) -> SettleOutcome {
        let sent = std::mem::take(&mut self.in_flight);
        let mut outcome = SettleOutcome::default();
        match answer.and_then(|body| parse::<Settled>(body, sent.len())) {
            Ok(answers) => {
                self.pause = None;
                self.most = self.most.saturating_mul(2).min(MAX_BATCH);
                for (queued, answer) in sent.into_iter().zip(answers) {
                    match answer {
                        Settled::Done { over, .. } => outcome.over.extend(queued.stream.filter(|_| over)),
                        Settled::Failed { error, permanent: true } => outcome.refused.push(error),
                        Settled::Failed { error, permanent: false } => {
                            outcome.why = Some(error);
                            self.rest(queued, now);
                        }
                    }
                }
            }
            Err(failure) => {
                outcome.why = Some(failure.why);
                let is_one = sent.len() == 1;
                self.pause = if failure.blames_batch { None } else { Some(Pause::after(self.pause, now)) };
                self.most = if failure.blames_batch { (sent.len() / 2).max(1) } else { self.most };
                for queued in sent.into_iter().rev() {
                    if failure.blames_batch && is_one {
                        // The sidecar does not say that nobody will ever take it: a newer one may.
                        self.most = MAX_BATCH;
                        self.rest(Queued { goes_alone: true, ..queued }, now);
                    } else {
                        self.gathering.push_front(queued);
                    }
                }
            }
        }
        outcome
    }

    /// Lets a settlement rest that has failed by itself, each time for longer.
    fn rest(&mut self, queued: Queued, now: Millis) {
        let rest = Pause::after(queued.rest, now);
        self.next_rest = self.next_rest.wrapping_add(1);
        self.resting.insert((rest.until, self.next_rest), Queued { rest: Some(rest), ..queued });
    }
}

/// The outcome of a callout of settlements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettleOutcome {
    /// The reason why settlements must be sent again, if they must.
    pub why: Option<String>,
    /// The reasons why settlements were dropped, because they can never be done: one for each.
    pub refused: Vec<String>,
    /// The streams whose reservations were extended past a limit.
    pub over: Vec<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(id: &str) -> Settle {
        Settle { id: id.into(), ..Settle::default() }
    }

    /// The ids of the next callout.
    fn sent(queue: &mut SettleQueue, now: u64) -> Vec<String> {
        let callout = queue.next_callout(Millis::new(now));
        let settles = callout.map(|callout| serde_json::from_slice::<Vec<Settle>>(&callout.body).unwrap());
        settles.unwrap_or_default().into_iter().map(|settle| settle.id).collect()
    }

    #[test]
    fn settlements_are_sent_until_they_arrive_with_pauses_while_nobody_answers() {
        let mut queue = SettleQueue::default();
        queue.push(Some(7), settle("a"));
        queue.push(None, settle("b"));
        for (now, next) in [(0, 100), (100, 300), (300, 700)] {
            assert_eq!(sent(&mut queue, now), ["a", "b"]);
            assert!(queue.callout_ended(Err("no answer".into()), Millis::new(now)).why.is_some());
            assert_eq!(sent(&mut queue, next - 1), [""; 0], "each pause is twice as long");
            assert_eq!(queue.next_due(), Some(Millis::new(next)));
        }
        assert_eq!(sent(&mut queue, 700), ["a", "b"]);
        let answer = br#"[{"settled":true,"over":true},{"settled":false}]"#;
        let outcome = queue.callout_ended(Ok(answer), Millis::new(700));
        assert_eq!(outcome, SettleOutcome { over: vec![7], ..SettleOutcome::default() });
        assert!(queue.is_empty() && queue.next_due().is_none());
        queue.push(None, settle("c"));
        assert_eq!(sent(&mut queue, 700), ["c"], "the success has ended the pauses");
    }

    #[test]
    fn a_settlement_that_fails_by_itself_rests_and_delays_no_other() {
        let mut queue = SettleQueue::default();
        queue.push(None, settle("bad"));
        let mut attempts = Vec::new();
        for now in 0..1_000 {
            queue.push(None, settle("good"));
            let ids = sent(&mut queue, now);
            assert!(ids.contains(&"good".to_owned()), "{now}");
            let answers = ids.iter().map(|id| match id.as_str() {
                "good" => r#"{"settled":true}"#,
                _ => r#"{"error":"Redis: OOM"}"#,
            });
            let answer = format!("[{}]", answers.collect::<Vec<_>>().join(","));
            attempts.extend(ids.contains(&"bad".to_owned()).then_some(now));
            assert_eq!(queue.callout_ended(Ok(answer.as_bytes()), Millis::new(now)).refused, [""; 0]);
        }
        assert_eq!(attempts, [0, 100, 300, 700]);
        assert_eq!(queue.next_due(), Some(Millis::new(1_500)));
    }

    #[test]
    fn a_settlement_that_can_never_be_done_is_dropped() {
        let mut queue = SettleQueue::default();
        queue.push(None, settle("a"));
        queue.push(None, settle("b"));
        assert_eq!(sent(&mut queue, 0), ["a", "b"]);
        let answer = br#"[{"error":"Redis: WRONGTYPE","permanent":true},{"settled":true}]"#;
        let outcome = queue.callout_ended(Ok(answer), Millis::ZERO);
        assert_eq!((outcome.refused, outcome.why), (vec!["Redis: WRONGTYPE".to_owned()], None));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_batch_that_is_refused_for_one_of_its_elements_arrives_without_that() {
        let mut queue = SettleQueue::default();
        for n in 0..100 {
            queue.push(None, settle(&n.to_string()));
        }
        let (mut arrived, mut callouts) = (0, 0);
        while arrived < 99 {
            let ids = sent(&mut queue, 0);
            callouts += 1;
            let is_bad = ids.contains(&"37".to_owned());
            let refusal = Failure::of_status(Some("400"), b"[37].cost: no");
            let yes = format!("[{}]", vec![r#"{"settled":true}"#; ids.len()].join(","));
            arrived += if is_bad { 0 } else { ids.len() };
            queue.callout_ended(if is_bad { Err(refusal) } else { Ok(yes.as_bytes()) }, Millis::ZERO);
        }
        assert!(callouts < 40, "{callouts}");
        queue.push(None, settle("later"));
        assert_eq!(sent(&mut queue, 200), ["later"], "the refused one goes alone");
        queue.callout_ended(Ok(br#"[{"settled":true}]"#), Millis::new(200));
        assert_eq!(sent(&mut queue, 200), ["37"]);
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
