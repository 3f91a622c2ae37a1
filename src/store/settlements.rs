//! Settlements on their way to the sidecar: they outlive their requests and are sent until they arrive.

use super::Failure;
use super::sidecar::{Callout, Kind, MAX_BATCH, Pause, SETTLE_TIMEOUT, json, parse};
use super::wire::{Settle, Settled};
use crate::quantity::Millis;
use std::collections::VecDeque;

/// The most settlements that wait while the sidecar does not answer. Beyond it the oldest are dropped: their
/// reservations stay charged until they leave their windows, so that no limit admits too much.
const MAX_SETTLEMENTS: usize = 20_000;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(id: &str) -> Settle {
        Settle { id: id.into(), ..Settle::default() }
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
