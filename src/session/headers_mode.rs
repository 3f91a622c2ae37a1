//! Whether request bodies reach the filter while it holds the headers (docs/envoy.md#held-headers).
//!
//! They do if the plugin is configured with `allow_on_headers_stop_iteration: true` (Envoy 1.35 or later). Without it
//! Envoy keeps the body behind the headers, and the request would hang. No call reports the option, so the filter
//! watches: until a body first follows held headers, it releases headers after [`GRACE`], and after some such requests
//! in a row it stops holding headers. It still enforces limits, on the body; but by then a refused request has already
//! taken an upstream connection.

use crate::quantity::Millis;

/// How long the filter holds headers without a body.
pub const GRACE: Millis = Millis::new(300);

/// Requests without a body, in a row, after which the filter stops holding headers. One slow client is not enough.
const STRIKES: u32 = 3;

/// The evidence from the requests so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadersMode {
    /// No body has followed held headers yet.
    Unknown {
        /// Requests without a body so far.
        strikes: u32,
    },
    /// Bodies follow held headers: the filter holds headers as long as it takes.
    Held,
    /// Bodies do not follow held headers: the filter lets the headers go first.
    First,
}

impl Default for HeadersMode {
    fn default() -> Self {
        Self::Unknown { strikes: 0 }
    }
}

impl HeadersMode {
    /// Whether to hold headers until the body has arrived.
    pub const fn holds(self) -> bool {
        !matches!(self, Self::First)
    }

    /// When to release headers held since `since` if no body follows; none once bodies are known to follow.
    pub fn release_at(self, since: Millis) -> Option<Millis> {
        matches!(self, Self::Unknown { .. }).then(|| since + GRACE)
    }

    /// Whether to release headers at their deadline.
    pub const fn releases(self) -> bool {
        !matches!(self, Self::Held)
    }

    /// The mode after a body has followed held headers.
    #[must_use]
    pub const fn after_body(self) -> Self {
        match self {
            Self::Unknown { .. } | Self::Held => Self::Held,
            Self::First => Self::First,
        }
    }

    /// The mode after headers were released because no body followed.
    #[must_use]
    pub fn after_release(self) -> Self {
        let Self::Unknown { strikes } = self else { return self };
        let strikes = strikes.saturating_add(1);
        log::warn!(
            "no body arrived within {GRACE} ms of a request's headers: unless the client is slow, set \
             allow_on_headers_stop_iteration: true in the plugin's configuration"
        );
        if strikes < STRIKES { Self::Unknown { strikes } } else { Self::First }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_proves_that_headers_can_be_held() {
        let mode = HeadersMode::default();
        assert!(mode.holds() && mode.releases());
        assert_eq!(mode.release_at(Millis::ZERO), Some(GRACE));
        let mode = mode.after_release().after_body();
        assert!(mode.holds() && !mode.releases());
        assert_eq!(mode.release_at(Millis::ZERO), None);
    }

    #[test]
    fn three_requests_without_a_body_end_the_holding_of_headers() {
        let mode = HeadersMode::default().after_release().after_release();
        assert!(mode.holds());
        assert!(!mode.after_release().holds());
    }
}
