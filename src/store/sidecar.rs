//! Callouts to the sidecar: what they are, and how their bodies are written and answers read. The queues that fill
//! them are [`super::reservations`], [`super::settlements`] and `responses_queue`; probes come from `health`. Nothing
//! here sends anything.

use super::Failure;
use crate::quantity::Millis;
use crate::store::wire::path;
use std::time::Duration;

/// The most elements of one callout: some hundred kilobytes of JSON, and a few milliseconds of Redis's time.
pub(super) const MAX_BATCH: usize = 512;

/// The most bytes of the body of one callout, unless it has a single element. Requests with many limits have many
/// charges, and the sidecar refuses a body of more than its `MAX_BODY_BYTES`, by default eight times this.
pub(super) const MAX_BATCH_BYTES: usize = 1 << 20;

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
    /// How many elements it has.
    pub elements: usize,
    /// The duration after which it fails.
    pub timeout: Duration,
    /// The value of the header [`unasked::HEADER`](super::unasked::HEADER), if it has one.
    pub unasked: Option<String>,
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
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reserve(_) => "reserve",
            Self::Settle => "settle",
            Self::Background => "background",
            Self::Probe => "probe",
        }
    }

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

/// The body of a callout that is being written: a JSON array.
#[derive(Debug, Default)]
pub(super) struct Body {
    bytes: Vec<u8>,
    elements: usize,
}

impl Body {
    /// Adds `element`, if it fits or is the first. Returns whether it did.
    pub(super) fn add(&mut self, element: &impl serde::Serialize) -> bool {
        let before = self.bytes.len();
        self.bytes.push(if before == 0 { b'[' } else { b',' });
        if let Err(error) = serde_json::to_writer(&mut self.bytes, element) {
            log::error!("cannot write an element of a batch as JSON: {error}");
        }
        let fits = before == 0 || self.bytes.len() < MAX_BATCH_BYTES;
        if fits {
            self.elements = self.elements.saturating_add(1);
        } else {
            self.bytes.truncate(before);
        }
        fits
    }

    /// Whether nothing has been added.
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The callout with this body, unless nothing has been added.
    pub(super) fn callout(mut self, kind: Kind, timeout: Duration) -> Option<Callout> {
        self.bytes.push(b']');
        let Self { bytes: body, elements } = self;
        (elements > 0).then_some(Callout { kind, body, elements, timeout, unasked: None })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_as_many_elements_as_fit_and_at_least_one() {
        let callout = |body: Body| body.callout(Kind::Settle, SETTLE_TIMEOUT);
        assert_eq!(callout(Body::default()), None);
        for (sizes, added) in [
            (vec![1; 3], vec![true; 3]),
            (vec![MAX_BATCH_BYTES * 2, 1], vec![true, false]),
            // With the brackets, the quotes and a comma.
            (vec![MAX_BATCH_BYTES / 2, MAX_BATCH_BYTES / 2 - 7, 1], vec![true, true, false]),
            (vec![MAX_BATCH_BYTES / 2, MAX_BATCH_BYTES / 2 - 6, 1], vec![true, false, true]),
        ] {
            let mut body = Body::default();
            let elements: Vec<String> = sizes.iter().map(|size| "x".repeat(*size)).collect();
            let fits: Vec<bool> = elements.iter().map(|element| body.add(element)).collect();
            assert_eq!(fits, added, "{sizes:?}");
            let callout = callout(body).unwrap();
            let written: Vec<String> = serde_json::from_slice(&callout.body).unwrap();
            assert_eq!(callout.elements, written.len());
            let expected = elements.into_iter().zip(added).filter(|(_, added)| *added);
            assert!(written.into_iter().eq(expected.map(|(element, _)| element)), "{sizes:?}");
        }
    }
}
