//! How long the sidecar took to answer the last call that it has answered.

use super::sidecar::{Callout, Kind};
use crate::quantity::Millis;

/// The calls under way, and the duration of the last one with an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    under_way: Vec<(Kind, Millis)>,
    last: Option<Millis>,
}

impl Latency {
    /// These callouts begin.
    pub(super) fn began(&mut self, callouts: &[Callout], now: Millis) {
        self.under_way.extend(callouts.iter().map(|callout| (callout.kind, now)));
    }

    /// A callout has ended, with an answer or without.
    pub(super) fn ended(&mut self, kind: Kind, is_answered: bool, now: Millis) {
        let Some(at) = self.under_way.iter().position(|(under_way, _)| *under_way == kind) else { return };
        let (_, since) = self.under_way.swap_remove(at);
        // A clock that was set back says nothing about it.
        if is_answered && since <= now {
            self.last = Some(now - since);
        }
    }

    /// The duration of the last one with an answer.
    pub(super) const fn last(&self) -> Option<Millis> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_last_answer_counts() {
        let at = Millis::new;
        let callout = |kind| Callout { kind, body: Vec::new(), elements: 1, timeout: Duration::ZERO };
        let mut latency = Latency::default();
        latency.began(&[callout(Kind::Settle), callout(Kind::Probe)], at(5));
        latency.ended(Kind::Probe, true, at(7));
        assert_eq!(latency.last(), Some(at(2)));
        latency.ended(Kind::Settle, false, at(90));
        assert_eq!(latency.last(), Some(at(2)), "that was no answer");
        latency.began(&[callout(Kind::Settle)], at(100));
        latency.ended(Kind::Settle, true, at(40));
        assert_eq!(latency.last(), Some(at(2)), "the clock was set back");
        latency.ended(Kind::Settle, true, at(400));
        assert_eq!(latency.last(), Some(at(2)), "nobody has sent it");
    }
}
