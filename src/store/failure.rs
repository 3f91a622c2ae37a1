//! Why a callout to the sidecar brought no decision: there is no answer, or the answer refuses the call.
//!
//! The difference decides whether `on_error` applies. It is for stores that are slow, down or wrong; a call that the
//! sidecar does not take would otherwise be a way past every limit.

use super::Answer;

/// Why a callout brought no decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason, for the log.
    pub why: String,
    /// Whether the sidecar has answered that it does not take the call.
    pub is_refusal: bool,
    /// Whether something in the batch may be the reason for that, so that other batches may be taken.
    pub blames_batch: bool,
}

impl Failure {
    /// The failure of a callout with an answer of this `status` that is not 200, and this `body`.
    ///
    /// A status of 400 to 499 says that the call is at fault, apart from 408 and 429, which say that it came at a bad
    /// time. All others say that the sidecar is.
    pub fn of_status(status: Option<&str>, body: &[u8]) -> Self {
        let shown = String::from_utf8_lossy(body.get(..200).unwrap_or(body));
        let why = format!("the sidecar answered {}: {shown}", status.unwrap_or("without a status"));
        let is_of_call = |status: u16| (400..500).contains(&status) && !matches!(status, 408 | 429);
        let status = status.and_then(|status| status.parse().ok());
        let blames_batch = matches!(status, Some(400 | 413 | 422));
        Self { why, is_refusal: status.is_some_and(is_of_call), blames_batch }
    }

    /// The answer to a reservation of the callout.
    pub fn answer(self) -> Answer {
        let Self { why, is_refusal, .. } = self;
        if is_refusal { Answer::Refused { why } } else { Answer::Unavailable { why } }
    }
}

/// A missing answer.
impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, is_refusal: false, blames_batch: false }
    }
}

/// A missing answer.
impl From<&str> for Failure {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_blames_the_call_refuses_it() {
        for (status, expected) in [
            ("400", true),
            ("401", true),
            ("404", true),
            ("413", true),
            ("422", true),
            ("408", false),
            ("429", false),
            ("500", false),
            ("503", false),
            ("204", false),
            ("302", false),
        ] {
            assert_eq!(Failure::of_status(Some(status), b"no").is_refusal, expected, "{status}");
        }
        let failure = Failure::of_status(None, &[b'x'; 300]);
        assert_eq!((failure.why.len(), failure.is_refusal), (239, false));
    }
}
