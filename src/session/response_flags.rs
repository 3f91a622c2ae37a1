//! Envoy's response flags: why a stream ended, or why Envoy answered in the upstream's place.

use crate::usage::EndedBy;

/// The attribute `response.flags`: a bit for each reason.
///
/// The bits are those of `CoreResponseFlag` in Envoy's `envoy/stream_info/stream_info.h`; the letters are those of its
/// access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags(pub u64);

impl ResponseFlags {
    /// UR: the upstream reset the stream.
    const UPSTREAM_RESET: u64 = 1 << 4;
    /// UC: the upstream closed the connection.
    const UPSTREAM_CLOSED: u64 = 1 << 6;
    /// UPE: the upstream's answer was no HTTP.
    const UPSTREAM_PROTOCOL_ERROR: u64 = 1 << 23;

    /// Who ended a response before its end.
    pub const fn ended_by(self) -> EndedBy {
        let upstream = Self::UPSTREAM_RESET | Self::UPSTREAM_CLOSED | Self::UPSTREAM_PROTOCOL_ERROR;
        if self.0 & upstream == 0 { EndedBy::Other } else { EndedBy::Upstream }
    }
}
