//! The errors of the store: Redis is unavailable, or it cannot answer this one question.

use std::sync::Arc;

/// Redis did not answer a batch, which may or may not have taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// There is no connection.
    #[error("Redis is unavailable: {0}")]
    NotConnected(Arc<str>),
    /// The connection broke, and no other could be opened.
    #[error("the connection to Redis broke: {0}")]
    Broke(Arc<str>),
    /// Redis did not answer in time.
    #[error("Redis did not answer within {0} ms")]
    NoAnswer(u128),
}

/// Why an owner's windows cannot be read or reset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// Redis is unavailable.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Redis answered a command with an error.
    #[error("Redis: {0}")]
    Redis(String),
    /// The owner cannot be part of a key.
    #[error("{0}")]
    Owner(String),
}
