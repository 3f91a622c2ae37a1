//! What the log says about the elements of a batch, with the id by which Envoy knows the request (`x-request-id`).
//!
//! At the level `debug`, each element has a line. One that failed has it at `warn`, but whatever fails for one fails
//! for many: so one line a second, which says how many there were.

use super::Ended;
use llm_rate_limit::store::wire::{Reserve, Reserved, Settle, Settled};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The shortest time between two lines about failures.
const PERIOD: Duration = Duration::from_secs(1);

/// How many elements have failed since the last line about them, and when that was.
static FAILED: Mutex<(u64, Option<Instant>)> = Mutex::new((0, None));

/// Logs the answers to a batch of reservations.
pub(super) fn reserved(batch: &[Reserve], answers: &[Reserved]) {
    for (Reserve { id, request_id, .. }, answer) in batch.iter().zip(answers) {
        let request_id = request_id.as_deref();
        match answer {
            Reserved::Decided { admitted, .. } => {
                tracing::debug!(request_id, id, admitted, "decided a reservation");
            }
            Reserved::Failed { error, .. } => failed("a reservation failed", id, request_id, error),
        }
    }
}

/// Logs the answers to a batch of settlements.
pub(super) fn settled(batch: &[Settle], ended: &[Ended]) {
    for (Settle { id, request_id, extend, .. }, Ended { answer, .. }) in batch.iter().zip(ended) {
        let request_id = request_id.as_deref();
        match answer {
            Settled::Done { settled, .. } => {
                tracing::debug!(request_id, id, extend, settled, "settled a reservation");
            }
            Settled::Failed { error, .. } => failed("a settlement failed", id, request_id, error),
        }
    }
}

fn failed(what: &str, id: &str, request_id: Option<&str>, why: &str) {
    if let Some(failed) = due(Instant::now()) {
        tracing::warn!(request_id, id, why, failed, "{what}");
    } else {
        tracing::debug!(request_id, id, why, "{what}");
    }
}

/// Counts a failure. Returns how many there were since the last line, if another is due.
fn due(now: Instant) -> Option<u64> {
    let mut known = FAILED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (failed, said) = &mut *known;
    *failed = failed.saturating_add(1);
    if said.is_some_and(|said| now < said + PERIOD) {
        return None;
    }
    *said = Some(now);
    Some(std::mem::take(failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_a_line_a_second() {
        let begin = Instant::now() + Duration::from_secs(3_600);
        let at = |ms: u64| due(begin + Duration::from_millis(ms));
        let first = at(0);
        assert!(first.is_some());
        assert_eq!([at(1), at(999), at(1_000), at(1_001)], [None, None, Some(3), None]);
    }
}
