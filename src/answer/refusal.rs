//! The reasons why requests are refused, as data. [`crate::answer`] turns them into responses.

use crate::codec::loose_json::Fault;
use crate::policy::Forbidden;
use crate::policy::status::LimitStatus;
use crate::quantity::Millis;

/// The reason why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request is over a limit.
    OverLimit(OverLimit),
    /// The configuration does not list the identity, and rejects unknown identities.
    UnknownIdentity,
    /// The configuration rejects requests to the endpoint.
    ClosedEndpoint,
    /// The sender may not use this model.
    ForbiddenModel(Forbidden),
    /// An upgrade to a WebSocket, in which requests would be neither seen nor counted.
    WebSocket,
    /// The store did not answer, and the configuration denies requests then.
    NoStore,
    /// The upstream objects to the filter's request for usage. Sent again, the request goes as it came.
    StreamUsage,
    /// It asks for more output than its sender may have.
    OutputCap(BadCap),
    /// Nobody can tell what its body says.
    BadBody(BadBody),
}

/// Why a request cannot be given the most output tokens, `most`, that each of its answers may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants say it")]
pub enum BadCap {
    /// It asks for more.
    TooLarge { asked: u64, most: u64 },
    /// It asks for thinking that takes all of it.
    Thinking { budget: u64, most: u64 },
    /// Its body cannot be changed.
    Unchangeable { most: u64 },
    /// Nobody can tell what its body says.
    Unread { most: u64 },
}

/// Why nobody can tell what a body says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadBody {
    /// It is in a content coding that the filter does not know.
    UnknownCoding,
    /// It has more bytes than this.
    TooLarge(u64),
    /// It has more bytes than this for each byte of its coded form.
    TooCompressed(u64),
    /// No reader of JSON reads it.
    Unreadable(Fault),
}

impl BadBody {
    /// Its name in the log. The status tells a coding that is not known from one that is, and decodes to too much.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::UnknownCoding | Self::TooLarge(_) | Self::TooCompressed(_) => "encoding",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

impl Refusal {
    /// The reasons for which requests are refused for what they are.
    pub const REASONS: [&'static str; 6] = ["unreadable", "encoding", "endpoint", "upgrade", "model", "cap"];

    /// Why, in a word for the access log; none if the decision says it.
    pub const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::ClosedEndpoint => Some("endpoint"),
            Self::ForbiddenModel(_) => Some("model"),
            Self::WebSocket => Some("upgrade"),
            Self::StreamUsage => Some("stream_options"),
            Self::OutputCap(_) => Some("cap"),
            Self::BadBody(bad) => Some(bad.reason()),
            Self::OverLimit(_) | Self::UnknownIdentity | Self::NoStore => None,
        }
    }
}

/// The limit that refuses a request, and the status of all limits that apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverLimit {
    /// All limits that apply.
    statuses: Vec<LimitStatus>,
    /// The index of the limit that refuses the request.
    refused_by: usize,
    /// The key's name, if it has one.
    name: Option<String>,
    /// Whether only a part of the prompt has been counted.
    is_partial: bool,
    /// Whether the states of the counters are known.
    shows_counters: bool,
}

impl OverLimit {
    /// The refusal by the limit with the longest wait: the request fits under all limits only after that. None if it
    /// fits under all of them now.
    pub fn new(statuses: Vec<LimitStatus>, name: Option<String>) -> Option<Self> {
        let (refused_by, longest) = statuses
            .iter()
            .map(|status| status.wait().map_or(u64::MAX, Millis::get))
            .enumerate()
            .reduce(|longest, next| if next.1 > longest.1 { next } else { longest })?;
        (longest > 0).then_some(Self { statuses, refused_by, name, is_partial: false, shows_counters: true })
    }

    /// The same refusal. `is_partial`: only a part of the prompt has been counted.
    #[must_use]
    pub fn with_partial_prompt(self, is_partial: bool) -> Self {
        Self { is_partial, ..self }
    }

    /// The same refusal by a filter that no store has told how much is left: it shows no counters.
    #[must_use]
    pub fn without_counters(self) -> Self {
        Self { shows_counters: false, ..self }
    }

    /// Whether the states of the counters are known.
    pub const fn shows_counters(&self) -> bool {
        self.shows_counters
    }

    /// Whether the cost under the limit that refuses is only a lower bound.
    pub fn is_lower_bound(&self) -> bool {
        self.is_partial && self.by().is_some_and(|by| by.limit.metric.is_of_prompt())
    }

    /// All limits that apply.
    pub fn statuses(&self) -> &[LimitStatus] {
        &self.statuses
    }

    /// The limit that refuses the request.
    pub fn by(&self) -> Option<&LimitStatus> {
        self.statuses.get(self.refused_by)
    }

    /// The key's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The wait until the request fits if no other request is charged; none if it never fits.
    pub fn retry_after(&self) -> Option<Millis> {
        self.by()?.wait()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limit::Metric;
    use crate::policy::status::tests::status;

    #[test]
    fn the_limit_with_the_longest_wait_refuses_and_never_is_the_longest() {
        let requests = status(Metric::Requests, 5, 1, (5, 60_000, 1_500));
        let tokens = status(Metric::InputTokens, 100, 90, (50, 60_000, 9_000));
        let never = status(Metric::OutputTokens, 100, 101, (0, 0, -1));
        let by =
            |statuses: Vec<LimitStatus>| OverLimit::new(statuses, None).map(|o| o.by().unwrap().limit.metric);
        assert_eq!(by(vec![requests.clone(), tokens.clone()]), Some(Metric::InputTokens));
        assert_eq!(by(vec![tokens.clone(), requests.clone()]), Some(Metric::InputTokens));
        assert_eq!(by(vec![never, requests]), Some(Metric::OutputTokens));
        assert_eq!(by(vec![status(Metric::Requests, 5, 1, (1, 0, 0))]), None);
        assert_eq!(OverLimit::new(vec![tokens], None).unwrap().retry_after(), Some(Millis::new(9_000)));
    }
}
