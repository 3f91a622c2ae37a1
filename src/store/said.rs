//! What the log says about the store: each thing in words that help, and as often as it helps.

use super::Failure;
use super::health::{LOG_PERIOD, News};
use crate::config::OnError;
use crate::quantity::Millis;

/// What has been said lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// When the log last reported a failure.
    failure: Option<Millis>,
    /// The settlements that can never be done since they were last counted.
    refused: u64,
    /// Why the last of them cannot, and when the log said so.
    refusal: Option<(String, Millis)>,
}

impl Said {
    /// Says that a store does not answer, at most once a second, and not while the log says that it `is_away`.
    pub(super) fn no_answer(&mut self, why: &str, is_away: bool, now: Millis) {
        if self.may_say(is_away, now) {
            log::warn!("the store did not answer: {why}");
        }
    }

    /// Says that the sidecar refuses a call, as often.
    pub(super) fn refused_call(&mut self, why: &str, is_away: bool, now: Millis) {
        if self.may_say(is_away, now) {
            log::error!("the sidecar refused a reservation: {why}");
        }
    }

    fn may_say(&mut self, is_away: bool, now: Millis) -> bool {
        let may = !is_away && self.failure.is_none_or(|last| now >= last + LOG_PERIOD);
        if may {
            self.failure = Some(now);
        }
        may
    }

    /// Counts a settlement that can never be done, and says why: each reason once, and again after a minute.
    pub(super) fn refused(&mut self, why: String, now: Millis) {
        self.refused = self.refused.saturating_add(1);
        let is_known = |(known, at): &(String, Millis)| *known == why && now < *at + Millis::MINUTE;
        if !self.refusal.as_ref().is_some_and(is_known) {
            log::error!("a settlement can never be done, and is dropped: {why}");
            self.refusal = Some((why, now));
        }
    }

    /// The settlements that can never be done since the last call.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// The clock was set back: what was said by the old one keeps nothing from being said.
    pub(super) fn clock_was_set_back(&mut self) {
        (self.failure, self.refusal) = (None, None);
    }
}

/// The line for `news` of the sidecar that is Envoy's `cluster`.
pub(super) fn line(news: &News, cluster: &str, on_error: OnError) -> String {
    match news {
        News::Away(Failure { why, is_refusal, .. }) => {
            let consequence = match (on_error, is_refusal) {
                (OnError::Local(_), _) => "this Envoy enforces its share of the limits (on_error: local)",
                (OnError::Allow, false) => "requests are forwarded uncounted (on_error: allow)",
                (OnError::Deny, _) | (OnError::Allow, true) => "limited requests are answered 503",
            };
            let why = why.trim_end_matches(['.', '\n']);
            format!(
                "the store does not answer (store.cluster: {cluster:?}): {why}. Until it does, {consequence}"
            )
        }
        News::Back { after, without } => {
            let (seconds, tenths) = (after.get() / 1_000, after.get() % 1_000 / 100);
            format!(
                "the store answers again (store.cluster: {cluster:?}), after {seconds}.{tenths} s, in which this \
                 worker decided {without} requests without it"
            )
        }
    }
}
