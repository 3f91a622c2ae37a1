//! Reservations on their way to the sidecar, by group commit: they gather while a callout is under way, and the next
//! sends them together (docs/envoy.md#group-commit).
//!
//! One callout per request costs two thirds of the throughput; one callout at a time costs nothing and still answers a
//! lone request in one round trip. But where a round trip takes a large part of the timeout, whoever arrives just after
//! a callout has left would wait for two of them. So a further callout leaves while others are under way, as soon as
//! the newest of these is old: then nobody waits longer than that and a round trip.
//!
//! A callout has the whole timeout, whenever its reservations came. A request does not wait as long: it gives its
//! reservation up at its own deadline, and if it is forwarded all the same, its settlement waits here until the answer
//! says whether there is something to settle.

use super::sidecar::{Body, Callout, Kind, MAX_BATCH, parse};
use super::wire::{Reserve, Reserved, ScopeCharges, Settle};
use super::{Answer, Decision, Failure, HeldIn, unasked};
use crate::quantity::Millis;
use std::collections::VecDeque;
use std::time::Duration;

/// The most callouts under way. With a quarter of the timeout between them, one of them ends before a fifth is due.
const MAX_UNDER_WAY: usize = 4;

/// A reservation that has not been sent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    stream: u32,
    reserve: Reserve,
}

/// Reservations on their way to the sidecar.
#[derive(Clone, Debug)]
pub struct ReserveQueue {
    timeout: Millis,
    gathering: VecDeque<Pending>,
    /// Whether the last callout had no room for the first of these.
    overflows: bool,
    /// The callouts under way, the oldest first.
    under_way: Vec<Batch>,
    next_number: u32,
    /// How long the last answer took.
    round_trip: Millis,
}

/// A callout under way.
#[derive(Clone, Debug)]
struct Batch {
    number: u32,
    since: Millis,
    /// Its reservations, in its order. Those of requests that have ended stay, because the answer has an element for
    /// each.
    sent: Vec<Sent>,
}

#[derive(Clone, Debug)]
struct Sent {
    stream: u32,
    id: String,
    charges: Vec<ScopeCharges>,
    fate: Fate,
}

/// Who waits for the answer to a reservation.
#[derive(Clone, Debug)]
enum Fate {
    /// The request does.
    Awaited,
    /// Nobody: the request has gone on without it.
    GivenUp,
    /// The settlement of the request, which is over.
    Settles(Settle),
}

/// The outcome of a callout.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReserveOutcome {
    /// The answers to the requests that wait, by stream.
    pub answers: Vec<(u32, Answer)>,
    /// The reservations among them that have been made: their ids and their charges.
    pub admitted: Vec<(String, Vec<ScopeCharges>)>,
    /// The streams that had given their reservations up, which have been made all the same.
    pub late: Vec<u32>,
    /// Settlements of reservations that may have been made.
    pub settles: Vec<Settle>,
    /// Whether the store has decided any of them.
    pub has_decided: bool,
    /// Why the store has decided none of them, if it has not.
    pub why: Option<String>,
}

impl ReserveQueue {
    /// A queue whose callouts fail after `timeout`.
    pub const fn new(timeout: Millis) -> Self {
        Self {
            timeout,
            gathering: VecDeque::new(),
            overflows: false,
            under_way: Vec::new(),
            next_number: 0,
            round_trip: timeout,
        }
    }

    /// Adds the reservation of `stream`.
    pub fn push(&mut self, stream: u32, reserve: Reserve) {
        self.gathering.push_back(Pending { stream, reserve });
    }

    /// Withdraws the reservation of `stream`. Returns false if it has been sent or was never queued. The search is
    /// short, because the first in the queue times out first.
    pub fn withdraw(&mut self, stream: u32) -> bool {
        let at = self.gathering.iter().position(|pending| pending.stream == stream);
        at.and_then(|at| self.gathering.remove(at)).is_some()
    }

    /// Gives the reservation of `stream` up: nobody waits for its answer any more.
    pub fn give_up(&mut self, stream: u32) {
        let mut sent = self.under_way.iter_mut().flat_map(|batch| &mut batch.sent);
        if let Some(sent) = sent.find(|sent| sent.stream == stream && matches!(sent.fate, Fate::Awaited)) {
            sent.fate = Fate::GivenUp;
        }
    }

    /// Keeps the settlement of a reservation that was given up until its answer comes: settling it now might be too
    /// early. Returns the settlement if its reservation is not under way.
    pub fn settle_late(&mut self, settle: Settle) -> Option<Settle> {
        let mut sent = self.under_way.iter_mut().flat_map(|batch| &mut batch.sent);
        match sent.find(|sent| sent.id == settle.id) {
            Some(sent) => {
                sent.fate = Fate::Settles(settle);
                None
            }
            None => Some(settle),
        }
    }

    /// Whether no callout is under way.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// When the reservations that gather may leave; none if nothing gathers, or not before a callout has ended.
    pub fn next_due(&self) -> Option<Millis> {
        if self.gathering.is_empty() || self.under_way.len() >= MAX_UNDER_WAY {
            return None;
        }
        let newest = self.under_way.last().map(|batch| batch.since + self.spacing());
        // A full callout gains nothing by waiting.
        let is_full = self.overflows || self.gathering.len() >= MAX_BATCH;
        Some(newest.filter(|_| !is_full).unwrap_or(Millis::ZERO))
    }

    /// The time between two callouts while none ends: such that as many as may be under way cover a round trip, and
    /// long enough that those of a near store stay one at a time.
    fn spacing(&self) -> Millis {
        let shortest = (self.timeout / 16).max(Millis::new(1));
        (self.round_trip / 4).clamp(shortest, (self.timeout / 4).max(shortest))
    }

    /// The next callout, if reservations wait and may leave.
    pub fn next_callout(&mut self, now: Millis) -> Option<Callout> {
        self.next_due().filter(|at| *at <= now)?;
        let mut body = Body::default();
        let candidates = self.gathering.iter().take(MAX_BATCH);
        let len = candidates.take_while(|pending| body.add(&pending.reserve)).count();
        let batch: Vec<Pending> = self.gathering.drain(..len).collect();
        self.overflows = len < MAX_BATCH && !self.gathering.is_empty();
        let number = self.next_number;
        let timeout = Duration::from_millis(self.timeout.get());
        let callout = body.callout(Kind::Reserve(number), timeout)?;
        let unasked = unasked::write(batch.iter().map(|pending| &pending.reserve));
        self.next_number = number.wrapping_add(1);
        self.under_way.push(Batch { number, since: now, sent: batch.into_iter().map(Sent::new).collect() });
        Some(Callout { unasked, ..callout })
    }

    /// Ends the callout of this number. `answer` is the body of a 200, or the reason why there is none.
    pub fn callout_ended(
        &mut self,
        number: u32,
        answer: Result<&[u8], Failure>,
        now: Millis,
    ) -> ReserveOutcome {
        let mut outcome = ReserveOutcome::default();
        let Some(at) = self.under_way.iter().position(|batch| batch.number == number) else { return outcome };
        let Batch { sent, since, .. } = self.under_way.remove(at);
        self.round_trip = now - since;
        let answers: Vec<Answer> = match answer.and_then(|body| parse::<Reserved>(body, sent.len())) {
            Ok(answers) => sent.iter().zip(answers).map(|(sent, answer)| sent.read(answer)).collect(),
            Err(failure) => sent.iter().map(|_| failure.clone().answer()).collect(),
        };
        outcome.has_decided = answers.iter().any(|answer| matches!(answer, Answer::Decided(_)));
        let unavailable = |answer: &Answer| match answer {
            Answer::Unavailable { why } => Some(why.clone()),
            Answer::Decided(_) | Answer::Refused { .. } => None,
        };
        let all: Option<Vec<String>> = answers.iter().map(unavailable).collect();
        outcome.why = all.and_then(|all| all.into_iter().next());
        for (sent, answer) in sent.into_iter().zip(answers) {
            match sent.fate {
                Fate::Awaited => {
                    outcome.admitted.extend(answer.is_admission().then_some((sent.id, sent.charges)));
                    outcome.answers.push((sent.stream, answer));
                }
                Fate::GivenUp => outcome.late.extend(answer.is_admission().then_some(sent.stream)),
                Fate::Settles(settle) => outcome.settles.extend(answer.may_hold().then_some(settle)),
            }
        }
        outcome
    }
}

impl Sent {
    fn new(pending: Pending) -> Self {
        let Pending { stream, reserve } = pending;
        Self { stream, id: reserve.id, charges: reserve.charges, fate: Fate::Awaited }
    }

    fn read(&self, answer: Reserved) -> Answer {
        let count = ScopeCharges::count(&self.charges);
        match answer {
            Reserved::Decided { admitted, windows } if windows.len() == count => {
                Answer::Decided(Decision { held: admitted.then_some(HeldIn::Redis), states: windows })
            }
            Reserved::Decided { windows, .. } => Answer::Unavailable {
                why: format!("{} windows in the answer to {count} charges", windows.len()),
            },
            Reserved::Failed { error, unavailable } => {
                Failure { why: error, is_refusal: !unavailable, blames_batch: false }.answer()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sidecar::MAX_BATCH_BYTES;

    fn reserve(id: &str) -> Reserve {
        Reserve { id: id.into(), ..Reserve::default() }
    }

    fn settle(id: &str) -> Settle {
        Settle { id: id.into(), ..Settle::default() }
    }

    fn at(ms: u64) -> Millis {
        Millis::new(ms)
    }

    /// A queue with a timeout of 50 ms.
    fn queue() -> ReserveQueue {
        ReserveQueue::new(at(50))
    }

    const ADMITTED: Answer = Answer::Decided(Decision { held: Some(HeldIn::Redis), states: Vec::new() });
    const YES: &[u8] = br#"[{"admitted":true,"windows":[]}]"#;
    const NO: &[u8] = br#"[{"admitted":false,"windows":[]}]"#;

    #[test]
    fn reservations_that_arrive_during_a_callout_share_the_next() {
        let mut queue = queue();
        queue.push(1, reserve("a"));
        let first = queue.next_callout(at(0)).unwrap();
        assert_eq!(first.body, br#"[{"id":"a","charges":[]}]"#);
        queue.push(2, reserve("b"));
        queue.push(3, reserve("c"));
        assert_eq!(queue.next_callout(at(2)), None);
        assert_eq!(queue.callout_ended(0, Ok(YES), at(50)).answers, [(1, ADMITTED)]);
        let second = queue.next_callout(at(3)).unwrap();
        assert_eq!(second.body, br#"[{"id":"b","charges":[]},{"id":"c","charges":[]}]"#);
        assert_eq!(second.timeout, Duration::from_millis(50), "the whole timeout");
    }

    #[test]
    fn a_further_callout_leaves_when_the_newest_under_way_is_old() {
        let mut queue = queue();
        let mut leave = Vec::new();
        for now in 0..60 {
            queue.push(now, reserve("a"));
            leave.extend(queue.next_callout(at(now.into())).map(|_| now));
            let due = queue.next_due();
            assert!(leave.len() == MAX_UNDER_WAY || due.is_none_or(|due| due > at(now.into())));
        }
        assert_eq!(leave, [0, 12, 24, 36], "a quarter of the timeout apart, and four at most");
        queue.callout_ended(2, Ok(b"[]"), at(60));
        assert_eq!(queue.next_due(), Some(at(45)), "they are told apart by number, and the last took 36 ms");
        assert!(queue.next_callout(at(60)).is_some());
    }

    #[test]
    fn a_near_store_gets_one_callout_at_a_time() {
        let mut queue = queue();
        for now in (0..40).step_by(2) {
            queue.push(now, reserve("a"));
            assert!(queue.next_callout(at(now.into())).is_some());
            queue.push(now, reserve("a"));
            assert_eq!(queue.next_callout(at(u64::from(now) + 1)), None);
            queue.callout_ended(now / 2, Ok(b"[]"), at(u64::from(now) + 2));
            queue.withdraw(now);
        }
    }

    #[test]
    fn a_full_callout_leaves_at_once() {
        let mut queue = queue();
        for stream in 0..2 * MAX_BATCH + 1 {
            queue.push(u32::try_from(stream).unwrap(), reserve("a"));
        }
        assert!(queue.next_callout(at(0)).is_some() && queue.next_callout(at(0)).is_some());
        assert_eq!((queue.next_callout(at(0)), queue.next_due()), (None, Some(at(12))));
    }

    #[test]
    fn large_reservations_leave_in_several_callouts_at_once() {
        let mut queue = queue();
        for stream in 0..6 {
            queue.push(stream, reserve(&"x".repeat(MAX_BATCH_BYTES / 2 - 50)));
        }
        let callouts: Vec<_> = std::iter::from_fn(|| queue.next_callout(at(0))).collect();
        assert_eq!(callouts.len(), 3);
        assert!(callouts.iter().all(|callout| callout.body.len() <= MAX_BATCH_BYTES));
        assert_eq!(queue.callout_ended(2, Ok(b"{"), at(1)).answers.len(), 2);
        queue.push(6, reserve("small"));
        assert_eq!(queue.next_callout(at(1)), None, "it has room in the next one");
    }

    #[test]
    fn an_answer_that_does_not_match_decides_nothing() {
        for answer in [
            r#"{"#,
            "[]",
            r#"[{"admitted":true,"windows":[]},{"admitted":true,"windows":[]}]"#,
            r#"[{"error":"x","unavailable":true}]"#,
        ] {
            let mut queue = queue();
            queue.push(1, reserve("a"));
            queue.next_callout(at(0)).unwrap();
            let answers = queue.callout_ended(0, Ok(answer.as_bytes()), at(50)).answers;
            assert!(matches!(answers.as_slice(), [(1, Answer::Unavailable { .. })]), "{answer}: {answers:?}");
        }
    }

    #[test]
    fn an_answer_that_refuses_a_call_is_not_a_missing_answer() {
        let refusal = Failure::of_status(Some("413"), b"too large");
        for answer in [Ok(&br#"[{"error":"charges[0]: cost"}]"#[..]), Err(refusal)] {
            let mut queue = queue();
            queue.push(1, reserve("a"));
            queue.next_callout(at(0)).unwrap();
            let answers = queue.callout_ended(0, answer, at(50)).answers;
            assert!(matches!(answers.as_slice(), [(1, Answer::Refused { .. })]), "{answers:?}");
        }
    }

    #[test]
    fn a_reservation_can_be_withdrawn_until_it_is_sent() {
        let mut queue = queue();
        queue.push(1, reserve("a"));
        queue.next_callout(at(0)).unwrap();
        queue.push(2, reserve("b"));
        queue.push(3, reserve("c"));
        assert!(queue.withdraw(3) && queue.withdraw(2) && !queue.withdraw(2));
        assert!(!queue.withdraw(1), "it has been sent");
    }

    #[test]
    fn an_admission_that_comes_late_stands_and_is_settled_with_its_request() {
        for (answer, late, settles) in [
            (Ok(YES), vec![1], vec![settle("a")]),
            (Ok(NO), vec![], vec![]),
            // The reservation may have been made.
            (Err("no answer".into()), vec![], vec![settle("a")]),
        ] {
            for is_over in [false, true] {
                let mut queue = queue();
                queue.push(1, reserve("a"));
                queue.next_callout(at(0)).unwrap();
                queue.give_up(1);
                if is_over {
                    assert_eq!(queue.settle_late(settle("a")), None, "it waits for the answer");
                }
                let outcome = queue.callout_ended(0, answer.clone(), at(50));
                assert_eq!(outcome.answers, []);
                let (late, settles) =
                    if is_over { (vec![], settles.clone()) } else { (late.clone(), vec![]) };
                assert_eq!((outcome.late, outcome.settles), (late, settles));
                assert_eq!(queue.settle_late(settle("a")), Some(settle("a")), "nothing is under way");
            }
        }
    }

    #[test]
    fn a_request_that_reserves_again_waits_for_the_second_answer() {
        let mut queue = queue();
        queue.push(1, reserve("a"));
        queue.next_callout(at(0)).unwrap();
        queue.give_up(1);
        queue.push(1, reserve("a"));
        queue.next_callout(at(50)).unwrap();
        assert_eq!(queue.callout_ended(0, Ok(YES), at(50)).answers, []);
        assert_eq!(queue.callout_ended(1, Ok(YES), at(50)).answers, [(1, ADMITTED)]);
    }
}
