//! Whether request bodies reach the filter while it holds the headers (docs/envoy.md#held-headers).
//!
//! They do if the plugin is configured with `allow_on_headers_stop_iteration: true` (Envoy 1.35 or later). Without it
//! Envoy keeps the body behind the headers, and the request would hang. No call reports the option, so unless the
//! configuration says it, the filter watches: until a body first follows held headers, it releases headers after
//! [`GRACE`]. A body that comes at once then was kept behind them; one that comes later was on its way, and says
//! nothing. After some such requests the filter stops holding headers, and tries it again now and then. It still
//! enforces limits, on the body; but by then a refused request has already taken an upstream connection.

use crate::config;
use crate::quantity::Millis;

/// How long the filter holds headers without a body.
pub const GRACE: Millis = Millis::new(300);

/// How long after its headers a body comes that Envoy has kept: it comes in the same turn of the event loop.
const AT_ONCE: Millis = Millis::new(10);

/// Bodies in a row that came at once after their headers, after which the filter stops holding headers: a client may
/// send one just then.
const STRIKES: u32 = 3;

/// How long the filter lets headers go first before it tries again to hold them: a request in so much waits for
/// [`GRACE`] if it is in vain.
const RETRY: Millis = Millis::MINUTE;

/// The evidence from the requests so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadersMode {
    /// No body has followed held headers yet.
    Unknown {
        /// Bodies that came at once after their headers.
        strikes: u32,
    },
    /// Bodies follow held headers: the filter holds headers as long as it takes.
    Held,
    /// Bodies do not follow held headers: the filter lets the headers go first.
    First {
        /// When to try again.
        until: Millis,
    },
    /// The configuration says that the headers go first.
    Stated,
}

impl HeadersMode {
    /// The mode before the first request.
    pub const fn new(stated: config::HeadersMode) -> Self {
        match stated {
            config::HeadersMode::Auto => Self::Unknown { strikes: 0 },
            config::HeadersMode::HeadersFirst => Self::Stated,
        }
    }

    /// Whether to hold the headers of a request that comes `now`, until its body has arrived.
    pub fn holds(&mut self, now: Millis) -> bool {
        if let Self::First { until } = *self
            && until <= now
        {
            // One request is enough to see whether it is in vain.
            *self = Self::Unknown { strikes: STRIKES.saturating_sub(1) };
            return true;
        }
        matches!(self, Self::Unknown { .. } | Self::Held)
    }

    /// When to release headers held since `since` if no body follows; none once bodies are known to follow.
    pub fn release_at(self, since: Millis) -> Option<Millis> {
        self.releases().then(|| since + GRACE)
    }

    /// Whether to release headers at their deadline.
    pub const fn releases(self) -> bool {
        !matches!(self, Self::Held)
    }

    /// The mode after a body has followed held headers.
    #[must_use]
    pub const fn after_body(self) -> Self {
        match self {
            Self::Unknown { .. } | Self::Held | Self::First { .. } => Self::Held,
            Self::Stated => Self::Stated,
        }
    }

    /// The mode after a body has come `now` behind headers that were `released`.
    #[must_use]
    pub fn after_release(self, released: Millis, now: Millis) -> Self {
        let Self::Unknown { strikes } = self else { return self };
        if now - released > AT_ONCE {
            return self;
        }
        let strikes = strikes.saturating_add(1);
        if strikes < STRIKES {
            return Self::Unknown { strikes };
        }
        log::warn!(
            "bodies of requests come only when their headers have gone, so a refused request takes a connection to the \
             upstream: set allow_on_headers_stop_iteration: true in the plugin's configuration, or headers_mode: \
             headers_first in this one if that cannot be set"
        );
        Self::First { until: now + RETRY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis::new(1_000_000);

    fn auto() -> HeadersMode {
        HeadersMode::new(config::HeadersMode::Auto)
    }

    #[test]
    fn a_body_proves_that_headers_can_be_held() {
        let mut mode = auto();
        assert!(mode.holds(NOW) && mode.releases());
        assert_eq!(mode.release_at(NOW), Some(NOW + GRACE));
        let mut mode = mode.after_release(NOW, NOW).after_body();
        assert!(mode.holds(NOW) && !mode.releases());
        assert_eq!(mode.release_at(NOW), None);
        assert_eq!(mode.after_release(NOW, NOW), HeadersMode::Held);
    }

    #[test]
    fn bodies_that_come_at_once_behind_their_headers_end_the_holding_for_a_while() {
        let mut mode = auto().after_release(NOW, NOW).after_release(NOW, NOW + AT_ONCE);
        assert!(mode.holds(NOW));
        let mut mode = mode.after_release(NOW, NOW);
        assert!(!mode.holds(NOW) && !mode.holds(NOW + RETRY - Millis::new(1)));
        assert!(mode.holds(NOW + RETRY), "it is tried again");
        let mut in_vain = mode.after_release(NOW + RETRY, NOW + RETRY);
        assert!(!in_vain.holds(NOW + RETRY));
        assert_eq!(mode.after_body(), HeadersMode::Held);
    }

    #[test]
    fn a_body_that_comes_later_says_nothing() {
        let mut mode = auto();
        for _ in 0..100 {
            mode = mode.after_release(NOW, NOW + AT_ONCE + Millis::new(1));
        }
        assert_eq!(mode, auto());
    }

    #[test]
    fn what_the_configuration_says_is_not_tried() {
        let mut mode = HeadersMode::new(config::HeadersMode::HeadersFirst);
        assert!(!mode.holds(NOW) && !mode.after_body().holds(NOW));
        assert!(!mode.after_release(NOW, NOW).holds(NOW + RETRY));
    }
}
