//! Settlements on their way to the sidecar: they outlive their requests and are sent until they arrive.
//!
//! They wait in an outbox. One that can never be done is dropped. If the sidecar refuses a batch,
//! something in it is the reason, and smaller batches find out what.

use super::Failure;
use super::outbox::Outbox;
use super::sidecar::{Body, Callout, Kind, MAX_BATCH, SETTLE_TIMEOUT, parse};
use super::wire::{IfAbsent, Settle, Settled};
use crate::calendar::Calendars;
use crate::quantity::{Millis, Units};
use std::borrow::Cow;

/// The most settlements that wait while the sidecar does not answer. Beyond it the oldest are dropped. What Redis has
/// reserved for them stays charged until it leaves its window; what this Envoy has admitted alone is never charged
/// there.
const MAX_SETTLEMENTS: usize = 20_000;

/// Settlements on their way to the sidecar.
#[derive(Clone, Debug)]
pub struct SettleQueue {
    outbox: Outbox<Sent>,
    /// The most elements of the next callout.
    most: usize,
    dropped: u64,
    /// The calendars of those that have waited for longer than their period.
    calendars: Calendars,
}

/// A settlement or an extension.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// The stream of an extension, which must learn whether it passed a limit.
    stream: Option<u32>,
    settle: Settle,
    /// Since when all of its cost has counted, if it tells Redis what was admitted without it.
    since: Option<Millis>,
    /// Whether the sidecar has refused it as a batch of one.
    goes_alone: bool,
}

impl Sent {
    /// The call as it is to be made at `now`: Redis charges on arrival, and has nothing to charge to a window that has
    /// passed since. What else it charges belongs to the period of the calendar that is there by then.
    fn at(&self, now: Millis, calendars: &mut Calendars) -> Cow<'_, Settle> {
        if self.since.is_none() && !Calendars::have_passed(&self.settle.charges, now) {
            return Cow::Borrowed(&self.settle);
        }
        let mut settle = self.settle.clone();
        if let Some(since) = self.since {
            for charge in settle.charges.iter_mut().flat_map(|scope| &mut scope.charges) {
                if charge.window.has_passed(charge.limit, since, now) {
                    charge.cost = Units::ZERO;
                }
            }
        }
        calendars.keep_up(&mut settle.charges, now);
        Cow::Owned(settle)
    }
}

impl Default for SettleQueue {
    fn default() -> Self {
        Self { outbox: Outbox::default(), most: MAX_BATCH, dropped: 0, calendars: Calendars::default() }
    }
}

impl SettleQueue {
    /// Adds a settlement, or an extension of the reservation of `stream`.
    pub fn push(&mut self, stream: Option<u32>, settle: Settle) {
        self.push_since(None, stream, settle);
    }

    /// Adds one that tells Redis what was admitted without it, and all of which has counted `since` then.
    pub fn push_since(&mut self, since: Option<Millis>, stream: Option<u32>, settle: Settle) {
        if self.outbox.waiting() >= MAX_SETTLEMENTS && !self.makes_room() {
            if settle.extend {
                return;
            }
            self.outbox.pop();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.outbox.push(Sent { stream, settle, since, goes_alone: false });
    }

    /// Makes room by what costs the least. Returns false if only settlements are left that charge something: an
    /// extension is repeated by the settlement of its request, and where a reservation has been made, a missing
    /// settlement leaves it charged.
    fn makes_room(&mut self) -> bool {
        if self.outbox.remove(|sent| sent.settle.extend) {
            return true;
        }
        let is_removed = self.outbox.remove(|sent| sent.settle.if_absent != Some(IfAbsent::Charge));
        self.dropped = self.dropped.saturating_add(u64::from(is_removed));
        is_removed
    }

    /// Lets all leave soon that waits for the store to answer again.
    pub fn hasten(&mut self) {
        self.outbox.hasten();
    }

    /// Forgets since when costs have counted.
    #[cfg(test)]
    pub(super) fn forget_times(&mut self) {
        self.outbox.calls_mut().for_each(|sent| sent.since = None);
    }

    /// Takes all that has not arrived, as far as anybody knows: it may be sent again.
    pub(super) fn leave(&mut self) -> Vec<Sent> {
        self.outbox.take_all()
    }

    /// Adds what another queue has left.
    pub(super) fn inherit(&mut self, left: Vec<Sent>) {
        for Sent { settle, since, .. } in left {
            self.push_since(since, None, settle);
        }
    }

    /// Whether nothing waits or is under way.
    pub fn is_empty(&self) -> bool {
        self.outbox.is_empty()
    }

    /// The number of settlements that were dropped since the last call, because too many waited.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// When a pause or a rest ends for which settlements wait.
    pub fn next_due(&self) -> Option<Millis> {
        self.outbox.next_due()
    }

    /// The next callout, if none is under way, settlements wait, and no pause is in force.
    pub fn next_callout(&mut self, now: Millis) -> Option<Callout> {
        let (mut body, mut is_alone) = (Body::default(), false);
        let calendars = &mut self.calendars;
        let joins = |sent: &Sent| {
            let joins = body.is_empty() || !(is_alone || sent.goes_alone);
            is_alone |= sent.goes_alone;
            joins && body.add(&sent.at(now, calendars))
        };
        self.outbox.send(self.most, joins, now);
        body.callout(Kind::Settle, SETTLE_TIMEOUT)
    }

    /// Ends the callout. Queues again what did not arrive, which is safe: settling twice has the effect of settling
    /// once.
    pub fn callout_ended(&mut self, answer: Result<&[u8], Failure>, now: Millis) -> SettleOutcome {
        let mut outcome = SettleOutcome::default();
        match answer.and_then(|body| parse::<Settled>(body, self.outbox.in_flight())) {
            Ok(answers) => {
                self.most = self.most.saturating_mul(2).min(MAX_BATCH);
                for (queued, answer) in self.outbox.answered().into_iter().zip(answers) {
                    match answer {
                        Settled::Done { over, .. } => {
                            outcome.has_settled = true;
                            outcome.over.extend(queued.call.stream.filter(|_| over));
                        }
                        Settled::Failed { error, permanent: true } => outcome.refused.push(error),
                        Settled::Failed { error, permanent: false } => {
                            outcome.why = Some(error);
                            self.outbox.rest(queued, now);
                        }
                    }
                }
            }
            Err(failure) if failure.blames_batch => {
                outcome.why = Some(failure.why);
                // An older sidecar refuses lessons, and whatever comes with them.
                outcome.lessons_refused = self.forget_lessons();
                self.divide(now);
            }
            Err(failure) => {
                outcome.why = Some(failure.why);
                let sent = self.outbox.unanswered(now);
                self.outbox.put_back(sent);
            }
        }
        outcome
    }

    /// Takes the lessons out of everything that waits. Returns whether there were any.
    fn forget_lessons(&mut self) -> bool {
        let lessons = self.outbox.calls_mut().map(|sent| sent.settle.lesson.take().is_some());
        lessons.fold(false, |any, one| any | one)
    }

    /// Sends what was refused together in smaller batches. What was refused alone rests, since the sidecar does not say
    /// that nobody will ever take it: a newer one may.
    fn divide(&mut self, now: Millis) {
        let mut sent = self.outbox.answered();
        self.most = (sent.len() / 2).max(1);
        if sent.len() > 1 {
            self.outbox.put_back(sent);
            return;
        }
        self.most = MAX_BATCH;
        for mut queued in sent.drain(..) {
            queued.call.goes_alone = true;
            self.outbox.rest(queued, now);
        }
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
    /// Whether Redis has answered any of them.
    pub has_settled: bool,
    /// Whether a batch with lessons was refused. They are lost.
    pub lessons_refused: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sidecar::MAX_BATCH_BYTES;

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
        assert_eq!(outcome, SettleOutcome { over: vec![7], has_settled: true, ..SettleOutcome::default() });
        assert!(queue.is_empty() && queue.next_due().is_none());
        queue.push(None, settle("c"));
        assert_eq!(sent(&mut queue, 700), ["c"]);
        queue.callout_ended(Err("no answer".into()), Millis::new(700));
        assert_eq!(queue.next_due(), Some(Millis::new(800)), "the success has ended the pauses");
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
    fn settlements_go_without_lessons_to_a_sidecar_that_refuses_them() {
        use crate::tokens::PromptKind;
        use crate::usage::learned_prompt::{Cell, Lesson};
        let mut queue = SettleQueue::default();
        let lesson = Lesson::new(Cell::new("m", PromptKind::Plain), "me", 10, 13);
        assert!(lesson.is_some());
        for id in ["a", "b", "c"] {
            queue.push(None, Settle { lesson, ..settle(id) });
        }
        assert_eq!(sent(&mut queue, 0), ["a", "b", "c"]);
        let refusal = || Failure::of_status(Some("400"), br#"{"error":"unknown field `lesson`"}"#);
        assert!(queue.callout_ended(Err(refusal()), Millis::ZERO).lessons_refused);
        let callout = queue.next_callout(Millis::ZERO).unwrap();
        assert!(!String::from_utf8(callout.body).unwrap().contains("lesson"));
        assert!(!queue.callout_ended(Err(refusal()), Millis::ZERO).lessons_refused);
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
        while arrived < 99 && callouts < 40 {
            let ids = sent(&mut queue, 0);
            callouts += 1;
            let is_bad = ids.contains(&"37".to_owned());
            let refusal = Failure::of_status(Some("400"), b"[37].cost: no");
            let yes = format!("[{}]", vec![r#"{"settled":true}"#; ids.len()].join(","));
            arrived += if is_bad { 0 } else { ids.len() };
            queue.callout_ended(if is_bad { Err(refusal) } else { Ok(yes.as_bytes()) }, Millis::ZERO);
        }
        assert_eq!(arrived, 99, "in {callouts} callouts");
        queue.push(None, settle("later"));
        assert_eq!(sent(&mut queue, 200), ["later"], "the refused one goes alone");
        queue.callout_ended(Ok(br#"[{"settled":true}]"#), Millis::new(200));
        assert_eq!(sent(&mut queue, 200), ["37"]);
    }

    #[test]
    fn what_redis_learns_too_late_is_not_charged() {
        use crate::store::charge::tests::charge;
        use crate::store::wire::ScopeCharges;
        let charges = || ScopeCharges::group([("me", charge("me", 9, 5))]);
        let costs = |since, now| {
            let mut queue = SettleQueue::default();
            queue.push_since(since, None, Settle { charges: charges(), ..settle("a") });
            let callout = queue.next_callout(Millis::new(now)).unwrap();
            let sent: Vec<Settle> = serde_json::from_slice(&callout.body).unwrap();
            sent[0].charges[0].charges[0].cost.get()
        };
        let since = Some(Millis::new(1_000));
        assert_eq!((costs(since, 62_000), costs(since, 62_001)), (5, 0), "a window of a minute has passed");
        assert_eq!(costs(None, 62_001), 5, "Redis has charged it in time, and only gets the real cost");
    }

    #[test]
    fn nothing_waits_any_longer_when_the_store_is_back() {
        let mut queue = SettleQueue::default();
        queue.push(None, settle("a"));
        queue.push(None, settle("b"));
        sent(&mut queue, 0);
        queue.callout_ended(Ok(br#"[{"error":"Redis: gone"},{"error":"Redis: gone"}]"#), Millis::ZERO);
        queue.push(None, settle("c"));
        assert_eq!(sent(&mut queue, 1), ["c"]);
        queue.callout_ended(Err("no answer".into()), Millis::new(1));
        assert_eq!(sent(&mut queue, 2), [""; 0]);
        queue.hasten();
        assert_eq!(sent(&mut queue, 2), ["c", "a", "b"]);
    }

    #[test]
    fn large_settlements_go_in_several_callouts() {
        let mut queue = SettleQueue::default();
        for n in 0..5 {
            queue.push(None, settle(&n.to_string().repeat(MAX_BATCH_BYTES / 2 - 50)));
        }
        let mut lengths = Vec::new();
        for _ in 0..3 {
            let ids = sent(&mut queue, 0);
            lengths.push(ids.len());
            let yes = format!("[{}]", vec![r#"{"settled":true}"#; ids.len()].join(","));
            assert_eq!(queue.callout_ended(Ok(yes.as_bytes()), Millis::ZERO).why, None);
        }
        assert_eq!(lengths, [2, 2, 1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_full_queue_gives_up_last_what_redis_would_miss() {
        let owed = |id: &str, extend| Settle { if_absent: Some(IfAbsent::Charge), extend, ..settle(id) };
        let mut queue = SettleQueue::default();
        queue.push(None, owed("running", true));
        queue.push(None, settle("less"));
        for n in 2..MAX_SETTLEMENTS {
            queue.push(None, owed(&n.to_string(), false));
        }
        queue.push(None, owed("first", false));
        assert_eq!(queue.take_dropped(), 0, "the settlement of the running request says it again");
        queue.push(None, owed("second", false));
        assert_eq!(queue.take_dropped(), 1);
        queue.push(None, owed("running too", true));
        assert_eq!(queue.take_dropped(), 0);
        let all: Vec<String> = std::iter::from_fn(|| {
            let ids = sent(&mut queue, 0);
            let yes = format!("[{}]", vec![r#"{"settled":true}"#; ids.len()].join(","));
            (!ids.is_empty()).then(|| {
                queue.callout_ended(Ok(yes.as_bytes()), Millis::ZERO);
                ids
            })
        })
        .flatten()
        .collect();
        assert_eq!(all.len(), MAX_SETTLEMENTS);
        assert!(!["running", "less", "running too"].iter().any(|id| all.contains(&(*id).to_owned())));
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
