//! How requests and their responses are accounted for, checked.

use super::error::{Path, Problems};
use super::number::MAX_AMOUNT;
use super::raw::{self, AcceptEncoding, OnStreamOver, OutputMode, StreamUsage};

/// Tokens reserved for the output of a request that sets no maximum, if the configuration does not say.
const DEFAULT_OUTPUT_TOKENS: u64 = 512;

/// How requests and their responses are accounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accounting {
    /// How the output of a request that sets no maximum is guessed.
    pub output_mode: OutputMode,
    /// Tokens to reserve for it as long as nothing better is known. Zero reserves nothing.
    pub default_output_tokens: u64,
    /// Where a stream's usage comes from if the client did not ask for it.
    pub stream_usage: StreamUsage,
    /// What happens to a stream that has passed a limit.
    pub on_stream_over: OnStreamOver,
    /// Whether a request that the upstream answered with an error is given back.
    pub refund_requests_on_error: bool,
    /// What becomes of `accept-encoding` where tokens are limited.
    pub accept_encoding: AcceptEncoding,
}

impl Accounting {
    /// Checks what `raw` says of it.
    pub(super) fn new(raw: &raw::Root, root: &Path<'_>, problems: &mut Problems) -> Option<Self> {
        let reservation = &raw.output_reservation;
        let default_output_tokens = problems.whole_or(
            &root.member("output_reservation").member("default_tokens"),
            reservation.default_tokens,
            0..=MAX_AMOUNT,
            DEFAULT_OUTPUT_TOKENS,
        )?;
        Some(Self {
            output_mode: reservation.mode,
            default_output_tokens,
            stream_usage: raw.stream_usage,
            on_stream_over: raw.on_stream_over,
            refund_requests_on_error: raw.refund_requests_on_error,
            accept_encoding: raw.accept_encoding,
        })
    }
}
