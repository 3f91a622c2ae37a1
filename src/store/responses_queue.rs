//! Background responses and their usage on their way to the sidecar, in callouts of their own: a sidecar that is older
//! than the filter does not know them, and must not lose settlements for that.
//!
//! A call that fails a few times, or can never be done, is given up. A reservation that was to stay open is then
//! settled as reserved, and a usage may pass by again.

use super::outbox::{Outbox, Queued};
use super::sidecar::{Body, Callout, Kind, MAX_BATCH, SETTLE_TIMEOUT, parse};
use super::wire::{Background, Met, Settle};
use super::{Failure, HeldIn, Met as MetResponse};
use crate::quantity::Millis;

/// How often a call is sent.
const MAX_ATTEMPTS: u32 = 5;

/// The most calls that wait.
const MAX_WAITING: usize = 4_096;

/// Calls on their way to the sidecar.
#[derive(Clone, Debug, Default)]
pub(super) struct ResponsesQueue(Outbox<Sent>);

#[derive(Clone, Debug)]
struct Sent {
    attempts: u32,
    call: Background,
}

/// The outcome of a callout.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The reason why calls failed, if any did.
    pub(super) why: Option<String>,
    /// Open responses that have met their usage.
    pub(super) met: Vec<MetResponse>,
    /// The settlements of reservations that were to stay open, and cannot.
    pub(super) given_up: Vec<Settle>,
}

impl ResponsesQueue {
    /// Adds a call. If the queue is full, the oldest usage loses its place for it, since it may pass by again; anybody
    /// can make usages pass, so they never take the place of a reservation. Returns the settlement of a reservation
    /// that has lost its place for another.
    pub(super) fn push(&mut self, call: Background) -> Option<Settle> {
        let mut lost = None;
        if self.0.waiting() >= MAX_WAITING && !self.0.remove(|sent| matches!(sent.call, Background::Usage(_)))
        {
            match call {
                Background::Usage(_) => return None,
                Background::Open(_) => lost = self.0.pop(),
            }
        }
        self.0.push(Sent { attempts: 0, call });
        lost.and_then(|lost| given_up(lost.call))
    }

    /// Lets all leave soon that waits for the sidecar to answer again.
    pub(super) fn hasten(&mut self) {
        self.0.hasten();
    }

    /// Takes all calls that have not arrived, as far as anybody knows: they may be sent again.
    pub(super) fn leave(&mut self) -> Vec<Background> {
        self.0.take_all().into_iter().map(|sent| sent.call).collect()
    }

    /// Whether nothing waits or is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When a pause or a rest ends for which calls wait.
    pub(super) fn next_due(&self) -> Option<Millis> {
        self.0.next_due()
    }

    /// The next callout, if none is under way, calls wait, and no pause is in force.
    pub(super) fn next_callout(&mut self, now: Millis) -> Option<Callout> {
        let mut body = Body::default();
        self.0.send(MAX_BATCH, |sent| body.add(&sent.call), now);
        body.callout(Kind::Background, SETTLE_TIMEOUT)
    }

    /// Ends the callout.
    pub(super) fn callout_ended(&mut self, answer: Result<&[u8], Failure>, now: Millis) -> Outcome {
        let mut outcome = Outcome::default();
        match answer.and_then(|body| parse::<Met>(body, self.0.in_flight())) {
            Ok(answers) => {
                for (queued, answer) in self.0.answered().into_iter().zip(answers) {
                    match answer {
                        Met::Done { found } => {
                            outcome.met.extend(found.map(|found| met(queued.call.call, found)));
                        }
                        Met::Failed { error, permanent } => {
                            outcome.why = Some(error);
                            if let Some(queued) = outcome.again(queued, permanent) {
                                self.0.rest(queued, now);
                            }
                        }
                    }
                }
            }
            Err(Failure { why, .. }) => {
                outcome.why = Some(why);
                let sent = self.0.unanswered(now);
                let again = sent.into_iter().filter_map(|queued| outcome.again(queued, false)).collect();
                self.0.put_back(again);
            }
        }
        outcome
    }
}

impl Outcome {
    /// The call if it is to be sent again, after an attempt that has failed. It is given up otherwise.
    fn again(&mut self, mut queued: Queued<Sent>, is_permanent: bool) -> Option<Queued<Sent>> {
        queued.call.attempts = queued.call.attempts.saturating_add(1);
        if queued.call.attempts < MAX_ATTEMPTS && !is_permanent {
            return Some(queued);
        }
        self.given_up.extend(given_up(queued.call.call));
        None
    }
}

/// What a call and the one that it `found` make together.
fn met(call: Background, found: String) -> MetResponse {
    let (record, usage) = match call {
        Background::Open(open) => (open.record, found),
        Background::Usage(reported) => (found, reported.usage),
    };
    MetResponse { record, usage, held: HeldIn::Redis }
}

/// The settlement of a reservation that cannot stay open: what it has cost so far stays charged.
fn given_up(call: Background) -> Option<Settle> {
    match call {
        Background::Open(open) => Some(Settle {
            id: open.id,
            namespace: open.namespace,
            charges: open.charges,
            ..Settle::default()
        }),
        Background::Usage(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::wire::{OpenResponse, ResponseUsage};

    fn open(id: &str) -> Background {
        Background::Open(OpenResponse {
            id: id.into(),
            record: format!("record of {id}"),
            ..OpenResponse::default()
        })
    }

    fn usage(text: &str) -> Background {
        Background::Usage(ResponseUsage { usage: text.into(), ..ResponseUsage::default() })
    }

    #[test]
    fn what_meets_is_returned_from_either_side() {
        let mut queue = ResponsesQueue::default();
        queue.push(open("a"));
        queue.push(usage("u"));
        queue.push(open("b"));
        let callout = queue.next_callout(Millis::ZERO).unwrap();
        assert_eq!(callout.kind.path(), "/v1/background");
        assert_eq!(queue.next_callout(Millis::ZERO), None);
        let answer = br#"[{"found":"v"},{"found":"record of c"},{}]"#;
        let outcome = queue.callout_ended(Ok(answer), Millis::ZERO);
        let met = |record: &str, usage: &str| MetResponse {
            record: record.into(),
            usage: usage.into(),
            held: HeldIn::Redis,
        };
        assert_eq!(outcome.met, [met("record of a", "v"), met("record of c", "u")]);
        assert!(queue.is_empty() && outcome.why.is_none());
    }

    #[test]
    fn a_call_that_fails_too_often_is_given_up_and_its_reservation_settled() {
        let mut queue = ResponsesQueue::default();
        queue.push(open("a"));
        queue.push(usage("u"));
        let mut now = Millis::ZERO;
        for attempt in 1..=MAX_ATTEMPTS {
            queue.next_callout(now).unwrap();
            let outcome = queue.callout_ended(Err("the sidecar answered 404".into()), now);
            assert_eq!(outcome.why.as_deref(), Some("the sidecar answered 404"));
            let is_last = attempt == MAX_ATTEMPTS;
            assert_eq!(
                outcome.given_up.iter().map(|settle| &*settle.id).collect::<Vec<_>>(),
                vec!["a"; is_last.into()]
            );
            if let Some(due) = queue.next_due() {
                assert_eq!(queue.next_callout(now), None);
                now = due;
            }
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn a_call_that_fails_by_itself_delays_no_other_and_one_that_can_never_be_done_is_given_up() {
        let mut queue = ResponsesQueue::default();
        for id in ["a", "b"] {
            queue.push(open(id));
        }
        queue.next_callout(Millis::ZERO).unwrap();
        let answer = br#"[{"error":"Redis: BUSY"},{"error":"Redis: WRONGTYPE","permanent":true}]"#;
        let outcome = queue.callout_ended(Ok(answer), Millis::ZERO);
        assert_eq!(outcome.given_up.iter().map(|settle| &*settle.id).collect::<Vec<_>>(), ["b"]);
        queue.push(open("c"));
        let callout = queue.next_callout(Millis::ZERO).unwrap();
        assert!(callout.body.starts_with(br#"[{"open":{"response":"","id":"c""#), "{callout:?}");
        queue.callout_ended(Ok(b"[{}]"), Millis::ZERO);
        assert_eq!(queue.next_due(), Some(Millis::new(100)));
        assert!(queue.next_callout(Millis::new(100)).is_some());
    }

    #[test]
    fn a_full_queue_settles_the_oldest_reservation() {
        let mut queue = ResponsesQueue::default();
        for n in 0..MAX_WAITING {
            assert_eq!(queue.push(open(&n.to_string())), None);
        }
        assert_eq!(queue.push(usage("u")), None, "a usage takes the place of no reservation");
        assert_eq!(queue.push(open("one more")).unwrap().id, "0");
        assert_eq!(queue.0.waiting(), MAX_WAITING);
    }

    #[test]
    fn usages_make_way_for_reservations() {
        let mut queue = ResponsesQueue::default();
        queue.push(open("first"));
        for n in 0..2 * MAX_WAITING {
            assert_eq!(queue.push(usage(&n.to_string())), None);
        }
        assert_eq!((queue.push(open("second")), queue.0.waiting()), (None, MAX_WAITING));
        let sent: Vec<Background> =
            serde_json::from_slice(&queue.next_callout(Millis::ZERO).unwrap().body).unwrap();
        assert!(sent.contains(&open("first")));
    }
}
