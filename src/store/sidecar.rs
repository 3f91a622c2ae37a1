//! Callouts to the sidecar: what they are, and how their bodies are written and answers read. The queues that fill
//! them are [`super::reservations`], [`super::settlements`] and `responses_queue`; probes come from `health`. Nothing
//! here sends anything.

use super::Failure;
use crate::quantity::Millis;
use crate::store::wire::path;
use std::time::Duration;

/// The most elements of one callout: some hundred kilobytes of JSON, and a few milliseconds of Redis's time.
pub(super) const MAX_BATCH: usize = 512;

/// The timeout of a callout for which no request waits.
pub(super) const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause after a callout has failed for which no request waits. It doubles with each failure, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Millis = Millis::new(100);

/// The longest pause between two such attempts.
pub(super) const MAX_PAUSE: Millis = Millis::new(2_000);

/// A callout to make: `POST` `body` to `path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callout {
    /// The queue that it comes from.
    pub kind: Kind,
    /// A JSON array.
    pub body: Vec<u8>,
    /// The duration after which it fails.
    pub timeout: Duration,
}

/// The queues, and probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `POST /v1/reserve`, with the number by which the queue knows this one among those under way.
    Reserve(u32),
    /// `POST /v1/settle`
    Settle,
    /// `POST /v1/background`
    Background,
    /// `POST /v1/reserve`, to see whether the store answers.
    Probe,
}

impl Kind {
    /// The sidecar's path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Reserve(_) | Self::Probe => path::RESERVE,
            Self::Settle => path::SETTLE,
            Self::Background => path::BACKGROUND,
        }
    }
}

/// A pause after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) until: Millis,
    length: Millis,
}

impl Pause {
    /// The pause after a failure at `now`, if `last` was the pause before.
    pub(super) fn after(last: Option<Self>, now: Millis) -> Self {
        let length = last.map_or(FIRST_PAUSE, |pause| (pause.length * 2).min(MAX_PAUSE));
        Self { until: now + length, length }
    }
}

/// `elements` as a JSON array.
pub(super) fn json<T: serde::Serialize>(elements: &[T]) -> Vec<u8> {
    serde_json::to_vec(elements).unwrap_or_else(|error| {
        log::error!("cannot write a batch as JSON: {error}");
        b"[]".to_vec()
    })
}

/// Reads an array of `len` answers.
pub(super) fn parse<T: serde::de::DeserializeOwned>(body: &[u8], len: usize) -> Result<Vec<T>, Failure> {
    let answers: Vec<T> =
        serde_json::from_slice(body).map_err(|error| format!("cannot read the sidecar's answer: {error}"))?;
    if answers.len() == len {
        Ok(answers)
    } else {
        Err(format!("the sidecar gave {} answers to {len} calls", answers.len()).into())
    }
}
