//! The errors of a call and their answers: `{"error": "..."}` with a status, and `"permanent": true` where a batch must
//! not be sent again as it is.

use crate::metrics::ErrorKind;
use crate::store::error::{Unavailable, UsageError};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use llm_rate_limit::store::version::{NEWEST, OLDEST};
use llm_rate_limit::store::wire::MAX_ELEMENTS;

/// Why a call gets an error instead of a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Redis is unavailable.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Redis answered a command with an error.
    #[error("Redis: {0}")]
    Redis(String),
    /// The maximum number of calls is in flight.
    #[error("the queue is full: {0} calls are in flight")]
    QueueFull(usize),
    /// The body or the query is invalid; the text names the place.
    #[error("{0}")]
    Malformed(String),
    /// The body is too large.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The batch has too many elements.
    #[error("{0} elements are more than a call may have, {MAX_ELEMENTS}: send them in several calls")]
    TooMany(usize),
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The body made room for others.
    #[error("too many bytes of bodies are in flight")]
    Crowded,
    /// The token is missing or wrong.
    #[error("the authorization header does not carry the token that AUTH_TOKEN sets")]
    Unauthorized,
    /// The caller speaks another version of the wire.
    #[error(
        "this sidecar speaks versions {OLDEST} to {NEWEST} of the wire, and the caller speaks version {0}"
    )]
    Version(String),
    /// The call's task panicked.
    #[error("the call crashed")]
    Crashed,
    /// No route has this path.
    #[error("no such path")]
    NotFound,
    /// The path does not take this method.
    #[error("this path does not take this method")]
    Method,
}

impl Refusal {
    /// Its kind in metrics.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable(_) => ErrorKind::RedisAway,
            Self::Redis(_) => ErrorKind::Redis,
            Self::QueueFull(_) => ErrorKind::QueueFull,
            Self::Malformed(_) => ErrorKind::Malformed,
            Self::TooLarge(_) => ErrorKind::TooLarge,
            Self::TooMany(_) => ErrorKind::TooMany,
            Self::TooSlow => ErrorKind::TooSlow,
            Self::Crowded => ErrorKind::Crowded,
            Self::Unauthorized => ErrorKind::Unauthorized,
            Self::Version(_) => ErrorKind::Version,
            Self::Crashed => ErrorKind::Crashed,
            Self::NotFound => ErrorKind::NotFound,
            Self::Method => ErrorKind::Method,
        }
    }

    /// The status of its answer.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Unavailable(_) | Self::QueueFull(_) | Self::Crowded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Redis(_) => StatusCode::BAD_GATEWAY,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) | Self::TooMany(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            // The call is not at fault, so this is not of the 400s, which say that no sidecar would take it.
            Self::Version(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Crashed => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

impl Refusal {
    /// Whether the answer says that the same call would get it again. For most refusals the status says so; this one
    /// comes to a batch of good elements, which its sender must not keep and send again.
    const fn is_permanent(&self) -> bool {
        matches!(self, Self::TooMany(_))
    }
}

impl From<UsageError> for Refusal {
    fn from(error: UsageError) -> Self {
        match error {
            UsageError::Unavailable(why) => Self::Unavailable(why),
            UsageError::Redis(why) => Self::Redis(why),
            UsageError::Owner(why) => Self::Malformed(why),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = self.to_string();
        let body = if self.is_permanent() {
            serde_json::json!({"error": error, "permanent": true})
        } else {
            serde_json::json!({"error": error})
        };
        let body = body.to_string();
        let mut response =
            (self.status(), [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if self == Self::Unauthorized {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, axum::http::HeaderValue::from_static("Bearer"));
        }
        // The outermost layer counts and logs it.
        response.extensions_mut().insert(self);
        response
    }
}
