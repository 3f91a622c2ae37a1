//! Why a request was not forwarded, as data. How it is told to the client is [`crate::answer`]'s business.

use crate::policy::limit::Metric;
use crate::policy::status::LimitStatus;
use crate::quantity::Millis;

/// Why a request was not forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is over a limit.
    OverLimit(OverLimit),
    /// Its identity is not in the configuration, which rejects such.
    UnknownIdentity,
    /// The store gave no answer, and the configuration says to deny then.
    NoStore,
}

/// Which limit refused, and how the others stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverLimit {
    /// All limits that applied.
    standings: Vec<LimitStatus>,
    /// Which of them refused.
    refused_by: usize,
    /// What the key is called, if it is.
    name: Option<String>,
    /// Whether the prompt is larger than was counted.
    is_partial: bool,
}

impl OverLimit {
    /// The refusal that follows from `standings`: by the limit for which the request has to wait longest, since only
    /// then does it fit into all. None if it fits into all of them now.
    pub fn new(standings: Vec<LimitStatus>, name: Option<String>) -> Option<Self> {
        let (refused_by, longest) = standings
            .iter()
            .map(|standing| standing.wait().map_or(u64::MAX, Millis::get))
            .enumerate()
            .reduce(|longest, next| if next.1 > longest.1 { next } else { longest })?;
        (longest > 0).then_some(Self { standings, refused_by, name, is_partial: false })
    }

    /// The same of a prompt that `is_partial`: larger than was counted.
    #[must_use]
    pub fn of_part(self, is_partial: bool) -> Self {
        Self { is_partial, ..self }
    }

    /// Whether the request asked for more of the limit that refused it than was counted.
    pub fn asked_for_more(&self) -> bool {
        let of_prompt = |metric: Metric| metric.needs_tokens() && metric != Metric::OutputTokens;
        self.is_partial && self.by().is_some_and(|by| of_prompt(by.limit.metric))
    }

    /// All limits that applied.
    pub fn standings(&self) -> &[LimitStatus] {
        &self.standings
    }

    /// The limit that refused.
    pub fn by(&self) -> Option<&LimitStatus> {
        self.standings.get(self.refused_by)
    }

    /// What the key is called, if it is.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Milliseconds after which this request would fit if nobody else spends; none if it never does.
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.by()?.wait().map(Millis::get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::status::tests::status;

    #[test]
    fn the_longest_wait_refuses_and_never_is_longest() {
        let requests = status(Metric::Requests, 5, 1, (5, 60_000, 1_500));
        let tokens = status(Metric::InputTokens, 100, 90, (50, 60_000, 9_000));
        let never = status(Metric::OutputTokens, 100, 101, (0, 0, -1));
        let by = |standings: Vec<LimitStatus>| {
            OverLimit::new(standings, None).map(|o| o.by().unwrap().limit.metric)
        };
        assert_eq!(by(vec![requests.clone(), tokens.clone()]), Some(Metric::InputTokens));
        assert_eq!(by(vec![tokens.clone(), requests.clone()]), Some(Metric::InputTokens));
        assert_eq!(by(vec![never, requests]), Some(Metric::OutputTokens));
        assert_eq!(by(vec![status(Metric::Requests, 5, 1, (1, 0, 0))]), None);
        assert_eq!(OverLimit::new(vec![tokens], None).unwrap().retry_after_ms(), Some(9_000));
    }
}
