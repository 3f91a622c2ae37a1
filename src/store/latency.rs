//! How large calls to the sidecar are, and how long it takes to answer.

use super::sidecar::{Callout, Kind};
use crate::quantity::Millis;
use crate::telemetry::series::Distribution;
use crate::telemetry::stats::Stats;
use std::collections::HashMap;

/// The calls under way, with when they began, and the duration of the last one with an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    under_way: HashMap<Kind, Millis>,
    last: Option<Millis>,
}

impl Latency {
    /// These callouts begin.
    pub(super) fn began(&mut self, callouts: &[Callout], now: Millis, stats: &mut Stats) {
        for callout in callouts {
            self.under_way.insert(callout.kind, now);
            if callout.kind != Kind::Probe {
                let elements = u64::try_from(callout.elements).unwrap_or(u64::MAX);
                stats.record(Distribution::BatchSize { call: callout.kind.name() }, elements);
            }
        }
    }

    /// A callout has ended, with an answer or without.
    pub(super) fn ended(&mut self, kind: Kind, is_answered: bool, now: Millis, stats: &mut Stats) {
        // A clock that was set back says nothing about it.
        let Some(since) = self.under_way.remove(&kind).filter(|since| *since <= now) else { return };
        stats.record(Distribution::CalloutMs { call: kind.name() }, (now - since).get());
        if is_answered {
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
    fn every_call_is_measured_and_the_last_answer_counts() {
        let (at, mut stats) = (Millis::new, Stats::default());
        let callout =
            |kind| Callout { kind, body: Vec::new(), elements: 3, timeout: Duration::ZERO, unasked: None };
        let mut latency = Latency::default();
        latency.began(&[callout(Kind::Settle), callout(Kind::Probe)], at(5), &mut stats);
        latency.ended(Kind::Probe, true, at(7), &mut stats);
        assert_eq!(latency.last(), Some(at(2)));
        latency.ended(Kind::Settle, false, at(90), &mut stats);
        assert_eq!(latency.last(), Some(at(2)), "that was no answer");
        let (settle, probe) = ("settle", "probe");
        let expected = [
            (Distribution::BatchSize { call: settle }, 3),
            (Distribution::CalloutMs { call: probe }, 2),
            (Distribution::CalloutMs { call: settle }, 85),
        ];
        assert_eq!(stats.take().values, expected);
        latency.began(&[callout(Kind::Settle)], at(100), &mut stats);
        latency.ended(Kind::Settle, true, at(40), &mut stats);
        assert_eq!(latency.last(), Some(at(2)), "the clock was set back");
        latency.ended(Kind::Settle, true, at(400), &mut stats);
        assert_eq!(latency.last(), Some(at(2)), "nobody has sent it");
        assert_eq!(stats.take().values.len(), 1, "of the batch");
    }
}
