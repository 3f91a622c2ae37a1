//! This machine's clock, in milliseconds since the epoch.

use llm_rate_limit::quantity::Millis;
use std::time::{SystemTime, UNIX_EPOCH};

/// What it shows.
pub fn now() -> Millis {
    since_epoch(SystemTime::now())
}

/// `time` since the epoch. What was before that is the epoch.
pub fn since_epoch(time: SystemTime) -> Millis {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
