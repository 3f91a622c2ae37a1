//! How large calls to the sidecar are, and how long they take.

use crate::quantity::Millis;
use crate::store::sidecar::{Callout, Kind};
use crate::telemetry::series::Distribution;
use crate::telemetry::stats::Stats;
use std::collections::HashMap;

/// The callouts under way, and when they began.
#[derive(Debug, Default)]
pub(super) struct UnderWay(HashMap<Kind, Millis>);

impl UnderWay {
    /// These callouts begin.
    pub(super) fn began(&mut self, callouts: &[Callout], now: Millis, stats: &mut Stats) {
        for callout in callouts {
            self.0.insert(callout.kind, now);
            if callout.kind != Kind::Probe {
                let elements = u64::try_from(callout.elements).unwrap_or(u64::MAX);
                stats.record(Distribution::BatchSize { call: callout.kind.name() }, elements);
            }
        }
    }

    /// The callout of this kind has ended, with or without an answer.
    pub(super) fn ended(&mut self, kind: Kind, now: Millis, stats: &mut Stats) {
        // A clock that was set back says nothing about it.
        if let Some(since) = self.0.remove(&kind).filter(|since| *since <= now) {
            stats.record(Distribution::CalloutMs { call: kind.name() }, (now - since).get());
        }
    }
}
