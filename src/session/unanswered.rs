//! Whether a request that ended in an error had been sent to an upstream that nobody has heard of since.
//!
//! Envoy answers by itself when a route times out, an upstream breaks off or nothing can be sent. Its reply looks like
//! an upstream's error, which has cost no tokens; but an upstream that was sent the request may have worked on it.
//! Envoy's attributes distinguish the three (docs/envoy.md#envoys-own-replies).

use super::response::ResponseView;

/// The value of `response.code_details` for an upstream's own response.
const VIA_UPSTREAM: &[u8] = b"via_upstream";

/// Bits of `response.flags`, an integer in which Envoy sets the bit of each flag by its place in `CoreResponseFlag`
/// (envoy/stream_info/stream_info.h). The names are those of `%RESPONSE_FLAGS%`.
mod flag {
    pub(super) const LH: u64 = 1;
    pub(super) const UH: u64 = 1 << 1;
    pub(super) const UF: u64 = 1 << 5;
    pub(super) const UO: u64 = 1 << 7;
    pub(super) const NR: u64 = 1 << 8;
    pub(super) const DI: u64 = 1 << 9;
    pub(super) const FI: u64 = 1 << 10;
    pub(super) const RL: u64 = 1 << 11;
    pub(super) const UAEX: u64 = 1 << 12;
    pub(super) const RLSE: u64 = 1 << 13;
    pub(super) const IH: u64 = 1 << 17;
    pub(super) const NFCF: u64 = 1 << 21;
    pub(super) const NC: u64 = 1 << 24;
    pub(super) const OM: u64 = 1 << 25;
    pub(super) const DF: u64 = 1 << 26;
    pub(super) const DO: u64 = 1 << 27;
    pub(super) const UDO: u64 = 1 << 29;
}

/// The flags of which each alone says that the last attempt sent nothing.
const NOT_SENT: u64 = flag::LH
    | flag::UH
    | flag::UF
    | flag::UO
    | flag::NR
    | flag::FI
    | flag::RL
    | flag::UAEX
    | flag::RLSE
    | flag::IH
    | flag::NFCF
    | flag::NC
    | flag::OM
    | flag::DF
    | flag::DO
    | flag::UDO;

/// Whether the upstream has made this `response`, and not Envoy in its place.
pub(super) fn is_upstreams(response: &dyn ResponseView) -> bool {
    response.property(&["response", "code_details"]).as_deref() == Some(VIA_UPSTREAM)
}

/// Whether the request with this `response`, which is no success, was sent to an upstream that has not answered. A
/// request that Envoy tried again may have been sent by an earlier attempt.
pub(super) fn is_unanswered(response: &dyn ResponseView) -> bool {
    if is_upstreams(response) {
        return false;
    }
    let number =
        |path| response.property(path).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
    // A request that was only delayed says nothing about its end.
    let flags = number(&["response", "flags"]).unwrap_or(0) & !flag::DI;
    let attempts = number(&["upstream", "request_attempt_count"]).unwrap_or(0);
    match (flags, attempts) {
        // A filter has answered, or Envoy for a reason that has no flag.
        (0, attempts) => attempts > 0,
        // One flag may say why nothing was sent again, and another that it had been sent.
        (flags, attempts) => flags & !NOT_SENT != 0 || attempts > 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Reply {
        details: Option<&'static str>,
        flags: Option<u64>,
        attempts: Option<u64>,
    }

    impl ResponseView for Reply {
        fn header(&self, _name: &str) -> Option<String> {
            None
        }

        fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
            let number = |number: Option<u64>| number.map(|number| number.to_le_bytes().to_vec());
            match path {
                ["response", "code_details"] => self.details.map(|details| details.as_bytes().to_vec()),
                ["response", "flags"] => number(self.flags),
                ["upstream", "request_attempt_count"] => number(self.attempts),
                _ => None,
            }
        }
    }

    #[test]
    fn what_was_sent_and_got_no_answer_is_unanswered() {
        const UT: u64 = 1 << 2;
        const UC: u64 = 1 << 6;
        const URX: u64 = 1 << 15;
        let (local, upstream) = (Some("response_timeout"), Some("via_upstream"));
        for (details, flags, attempts, expected) in [
            // The upstream's own errors, whatever came before them.
            (upstream, Some(0), Some(1), false),
            (upstream, Some(URX), Some(3), false),
            (upstream, Some(flag::UO), Some(1), false),
            (upstream, Some(flag::DI), Some(1), false),
            // Envoy's, after it had sent the request.
            (local, Some(UT), Some(1), true),
            (local, Some(UC), Some(1), true),
            (local, Some(flag::DI | UT), Some(1), true),
            (local, Some(flag::UO | UC), Some(1), true),
            (Some("max_duration_timeout"), Some(0), Some(1), true),
            // Envoy's, with nothing sent.
            (local, Some(flag::UF), Some(1), false),
            (local, Some(flag::UH), None, false),
            (local, Some(flag::NR), None, false),
            (local, Some(flag::DI | flag::FI), None, false),
            (local, Some(flag::UDO), Some(0), false),
            // An earlier attempt may have been sent.
            (local, Some(flag::UF | URX), Some(3), true),
            (local, Some(flag::UF), Some(2), true),
            (local, Some(flag::UF | URX), None, true),
            // A filter's, before the request was sent.
            (Some("direct_response"), Some(0), None, false),
            (None, None, None, false),
        ] {
            let reply = Reply { details, flags, attempts };
            assert_eq!(is_unanswered(&reply), expected, "{details:?} {flags:?} {attempts:?}");
        }
    }
}
