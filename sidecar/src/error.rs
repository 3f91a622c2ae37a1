//! What can go wrong, as the answer that says so: `{"error": "..."}` with a status.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Redis cannot be asked: nothing of a batch is known to be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// There is no connection.
    #[error("Redis is away: {0}")]
    NotConnected(Arc<str>),
    /// The connection broke and there is no other.
    #[error("the connection to Redis broke: {0}")]
    Broke(Arc<str>),
    /// No answer came in time.
    #[error("Redis gave no answer within {0} ms")]
    NoAnswer(u128),
}

/// Why a call is not answered with a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Redis cannot be asked.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Redis answered a single call with an error.
    #[error("Redis: {0}")]
    Redis(String),
    /// As many calls are under way as may be.
    #[error("the queue is full: {0} calls are under way")]
    QueueFull(usize),
    /// The body is not what the call takes; says where.
    #[error("{0}")]
    Malformed(String),
    /// The body is larger than allowed.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    TooSlow,
    /// The token is missing or wrong.
    #[error("the authorization header does not hold the token that AUTH_TOKEN asks for")]
    Unauthorized,
    /// A call came to no end.
    #[error("the call crashed")]
    Crashed,
    /// There is no such call.
    #[error("no such path")]
    NotFound,
    /// The path exists, but not with this method.
    #[error("no such method on this path")]
    Method,
}

impl Refusal {
    /// What metrics call it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "redis_away",
            Self::Redis(_) => "redis",
            Self::QueueFull(_) => "queue_full",
            Self::Malformed(_) => "malformed",
            Self::TooLarge(_) => "too_large",
            Self::TooSlow => "too_slow",
            Self::Unauthorized => "unauthorized",
            Self::Crashed => "crashed",
            Self::NotFound => "not_found",
            Self::Method => "method",
        }
    }

    /// The status of its answer.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Unavailable(_) | Self::QueueFull(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Redis(_) => StatusCode::BAD_GATEWAY,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Crashed => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({"error": self.to_string()}).to_string();
        let mut response =
            (self.status(), [(header::CONTENT_TYPE, "application/json")], body).into_response();
        if self == Self::Unauthorized {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, axum::http::HeaderValue::from_static("Bearer"));
        }
        // For whoever counts and logs it on the way out.
        response.extensions_mut().insert(self);
        response
    }
}
