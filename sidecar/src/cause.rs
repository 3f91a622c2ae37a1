//! Why a call over HTTP has failed.

use std::error::Error;

/// The last cause of `why`, which says more than the message of an HTTP client.
pub fn last_cause(why: &dyn Error) -> String {
    let mut cause = why;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
