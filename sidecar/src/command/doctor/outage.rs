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

    /// Whether the sidecar refuses the filter's calls, as far as that is known: by what the filter says, or because it
    /// has another token than the one that the sidecar took.
    fn calls_are_refused(&self) -> bool {
        let by_filter = self.inspection.as_ref().is_some_and(|it| it.store.refuses_calls);
        by_filter || (self.has_another_token && self.report.is_some())
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

/// Says what an outage would do, and what refused calls do now.
pub(super) fn foresee(facts: &Facts, findings: &mut Findings) {
    if facts.calls_are_refused() {
        // A call that is refused is no missing answer: it would be a way past every limit.
        let what = match facts.on_error() {
            Some(("local", replicas)) => {
                format!("this Envoy admits 1/{replicas} of each limit by itself (on_error: local)")
            }
            Some((on_error, _)) => {
                format!("limited requests are answered 503, which on_error: {on_error} does not change")
            }
            None => "limited requests are answered 503, unless on_error is \"local\"".to_owned(),
        };
        findings.finding(format!("the sidecar refuses the filter's calls: {what}"));
    }
    match facts.on_error() {
        Some(("allow", _)) => findings.hint(
            "while the store does not answer, every request is forwarded uncounted (on_error: allow): nothing is \
             limited. A call that the sidecar refuses, for its token for example, is answered 503 all the same",
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
