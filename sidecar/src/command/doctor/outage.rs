//! What follows from the answers together: what an outage of the store would do.

use super::Facts;
use super::findings::Findings;
use llm_rate_limit::config::{OnError, Store};
use llm_rate_limit::policy::Candidates;
use llm_rate_limit::quantity::Millis;

impl Facts {
    /// Whether Envoy counts by itself, as far as that is known.
    pub(super) fn uses_local_store(&self) -> bool {
        let inspected = self.inspection.as_ref().map(|inspection| inspection.store.kind == "local");
        let configured = || self.config.as_ref().map(|config| matches!(config.store(), Store::Local(_)));
        inspected.or_else(configured).unwrap_or(false)
    }

    /// The longest window that is limited, if the configuration is known.
    pub(super) fn longest_window(&self) -> Option<Millis> {
        let config = self.config.as_ref()?;
        let subjects = config.subjects().chain(config.strangers());
        let windows = subjects.flat_map(|subject| {
            let any = Candidates::UNKNOWN;
            let windows: Vec<_> = subject.limits(&any).map(|it| it.limit.window.length.get()).collect();
            windows
        });
        windows.max()
    }

    /// What happens without an answer of the store, and how many Envoys share the limits then.
    fn on_error(&self) -> Option<(&str, u32)> {
        if let Some(inspection) = &self.inspection {
            let store = &inspection.store;
            return store.on_error.as_deref().map(|on_error| (on_error, store.replicas.unwrap_or(1)));
        }
        match self.config.as_ref()?.store() {
            Store::Local(_) => None,
            Store::Redis(redis) => Some(match redis.on_error {
                OnError::Allow => ("allow", 1),
                OnError::Deny => ("deny", 1),
                OnError::Local(share) => ("local", share.replicas.get()),
            }),
        }
    }
}

/// Says what an outage would do.
pub(super) fn foresee(facts: &Facts, findings: &mut Findings) {
    match facts.on_error() {
        Some(("allow", _)) => findings.hint(
            "while the store does not answer, every request is forwarded uncounted (on_error: allow): nothing is \
             limited",
        ),
        Some(("deny", _)) => findings
            .fine("while the store does not answer, limited requests are answered 503 (on_error: deny)"),
        Some((_, 1)) => findings.hint(
            "while the store does not answer, this Envoy admits whole limits by itself (on_error: local, replicas: 1): \
             set \"replicas\" to the number of Envoys that share them",
        ),
        Some((_, replicas)) => findings.fine(format!(
            "while the store does not answer, this Envoy admits 1/{replicas} of each limit by itself (on_error: local)"
        )),
        None if facts.uses_local_store() => {
            findings.fine("no outage of a store can reach it; a restart of Envoy empties the counters");
        }
        None => findings.unseen("what happens while the store does not answer"),
    }
}
