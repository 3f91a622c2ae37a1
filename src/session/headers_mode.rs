//! Whether request bodies reach the filter while it holds the headers back.
//!
//! They do if the plugin is configured with `allow_on_headers_stop_iteration: true` (Envoy 1.35 or later). Without it
//! Envoy keeps the body behind the headers, and the request would hang (docs/envoy.md). No call reports the option, so
//! the filter watches for it: until the first body comes to held headers, it releases them after a grace time, and
//! after some such requests it holds no more headers. Limits are enforced all the same, on the body; the request has
//! only taken an upstream connection before the decision.

use crate::quantity::Millis;

/// How long headers are held without a body before they are released.
pub const GRACE: Millis = Millis::new(300);

/// Requests in a row without a body after which no headers are held any more. One slow client is not a reason.
const STRIKES: u32 = 3;

/// What the requests so far have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadersMode {
    /// No body has come to held headers yet.
    Unknown {
        /// Requests whose headers were released.
        strikes: u32,
    },
    /// Bodies come while headers are held: they may be held as long as it takes.
    Held,
    /// Bodies do not come while headers are held.
    First,
}

impl Default for HeadersMode {
    fn default() -> Self {
        Self::Unknown { strikes: 0 }
    }
}

impl HeadersMode {
    /// Whether to hold headers back until the body has come.
    pub const fn holds(self) -> bool {
        !matches!(self, Self::First)
    }

    /// When to release headers that are held from `since` on, if no body comes; none once bodies are known to come.
    pub fn release_at(self, since: Millis) -> Option<Millis> {
        matches!(self, Self::Unknown { .. }).then(|| since + GRACE)
    }

    /// Whether held headers whose time has come are released.
    pub const fn releases(self) -> bool {
        !matches!(self, Self::Held)
    }

    /// A body came to headers that were held.
    #[must_use]
    pub const fn body_came(self) -> Self {
        match self {
            Self::Unknown { .. } | Self::Held => Self::Held,
            Self::First => Self::First,
        }
    }

    /// Headers were released because no body came.
    #[must_use]
    pub fn released(self) -> Self {
        let Self::Unknown { strikes } = self else { return self };
        let strikes = strikes.saturating_add(1);
        log::warn!(
            "a request was held for {GRACE} ms and no body came: set allow_on_headers_stop_iteration: true in the \
             plugin's configuration if this is not a slow client"
        );
        if strikes < STRIKES { Self::Unknown { strikes } } else { Self::First }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_settles_it_and_nothing_is_released_after() {
        let mode = HeadersMode::default();
        assert!(mode.holds() && mode.releases());
        assert_eq!(mode.release_at(Millis::ZERO), Some(GRACE));
        let mode = mode.released().body_came();
        assert!(mode.holds() && !mode.releases());
        assert_eq!(mode.release_at(Millis::ZERO), None);
    }

    #[test]
    fn headers_are_not_held_any_more_after_some_strikes() {
        let mode = HeadersMode::default().released().released();
        assert!(mode.holds());
        assert!(!mode.released().holds());
    }
}
