//! Answers to clients: rate-limit headers on every limited response, and the status and body of a refusal.
//!
//! Each API has names and shapes of its own, which its clients know: they back off and raise `RateLimitError` by
//! themselves. This file writes the text of refusals, `shape` their bodies, `families`, `ietf` and `warning` write the
//! headers, and `units` writes amounts, durations and dates. [`refusal`] has the reasons as data; [`crate::session`]
//! decides whether to refuse.

mod families;
mod ietf;
pub mod refusal;
mod shape;
pub(crate) mod units;
mod warning;

pub use units::{amount, amount_of_limit, date, go_duration, metric as metric_name, parse_date};

use crate::answer::refusal::{BadBody, BadCap, OverLimit, Refusal};
use crate::config::{self, Message, Placeholder};
use crate::policy::limit::Metric;
use crate::policy::status::LimitStatus;
use crate::policy::{Forbidden, Owner};
use crate::quantity::Millis;
use crate::request::{Api, Endpoint};
use shape::ApiError;

/// The longest wait that is worth a client's retry.
const MAX_RETRY: Millis = Millis::MINUTE;

/// The content codings of request bodies that can be read.
const CODINGS: &str = "gzip, deflate, br, zstd";

/// Headers to set, in order.
pub type Headers = Vec<(&'static str, String)>;

/// Who has refused a request that is answered 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This filter, or something else in Envoy.
    Gateway,
    /// The upstream.
    Upstream,
}

/// The header of a 429 that says who has refused the request.
pub const SOURCE: &str = "x-ratelimit-source";

impl Source {
    /// The header that says so.
    pub fn header(self) -> (&'static str, String) {
        let name = match self {
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        };
        (SOURCE, name.to_owned())
    }
}

/// A response made by the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u32,
    /// Headers, `content-type` included.
    pub headers: Headers,
    /// JSON.
    pub body: Vec<u8>,
}

/// The names and shapes that one client understands.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// The headers that the configuration chooses.
    pub headers: config::Headers,
    /// The API that the client calls.
    pub endpoint: Endpoint,
}

/// The form of a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Wording<'a> {
    /// The configured message of a 429; none for the default message.
    pub message: Option<&'a Message>,
    /// The names and shapes that the client understands.
    pub dialect: Dialect,
    /// The time, since the epoch.
    pub now: Millis,
}

impl Dialect {
    /// The rate-limit headers of `statuses` at `now`.
    pub fn rate_limit_headers(self, statuses: &[LimitStatus], now: Millis) -> Headers {
        self.headers_of(statuses, None, now)
    }

    fn headers_of(self, statuses: &[LimitStatus], refused_by: Option<&LimitStatus>, now: Millis) -> Headers {
        let mut headers = match self.headers {
            config::Headers::None => return Headers::new(),
            config::Headers::Ietf => ietf::headers(statuses),
            config::Headers::Openai => families::openai(statuses, refused_by),
            config::Headers::Anthropic => families::anthropic(statuses, now),
            config::Headers::Auto => {
                let mut headers = families::openai(statuses, refused_by);
                if self.endpoint.api() == Api::Anthropic {
                    headers.extend(families::anthropic(statuses, now));
                }
                headers
            }
        };
        headers.extend(warning::header(statuses));
        headers
    }
}

/// The headers to remove from an upstream's response before the filter adds its own: they report the upstream's limits,
/// not the client's.
pub fn replaced_headers() -> Vec<&'static str> {
    [families::NAMES, &ietf::NAMES, &[warning::NAME, SOURCE]].concat()
}

impl Refusal {
    /// The response to the client.
    pub fn reply(&self, wording: &Wording<'_>) -> Reply {
        let error = match self {
            Self::OverLimit(over) => return over_limit(over, wording),
            Self::OutputCap(bad) => return bad_cap(*bad, wording.dialect),
            Self::BadBody(bad) => return bad_body(bad, wording.dialect),
            Self::ForbiddenModel(model) => return forbidden_model(model, wording.dialect),
            Self::UnknownIdentity => ApiError {
                status: 401,
                message: "Unknown API key.",
                openai: ("invalid_request_error", "invalid_api_key"),
                anthropic: "authentication_error",
            },
            Self::ClosedEndpoint => ApiError {
                status: 403,
                message: "This endpoint is not available here.",
                openai: ("invalid_request_error", "endpoint_not_available"),
                anthropic: "permission_error",
            },
            Self::WebSocket => ApiError {
                status: 426,
                message: "WebSocket connections to this endpoint are not available here. Please use HTTP.",
                openai: ("invalid_request_error", "websocket_not_available"),
                anthropic: "invalid_request_error",
            },
            Self::StreamUsage => ApiError {
                status: 503,
                message: "The upstream does not report the usage of streams. Please send the request again.",
                openai: ("server_error", "stream_usage_unavailable"),
                anthropic: "api_error",
            },
            Self::NoStore => ApiError {
                status: 503,
                message: "The rate limiter is unavailable. Please try again.",
                openai: ("server_error", "rate_limit_unavailable"),
                anthropic: "api_error",
            },
        };
        let headers: &[_] = match self {
            Self::NoStore => &[("retry-after", "1")],
            // The clients of OpenAI and of Anthropic follow both, and send the request again after this wait.
            Self::StreamUsage => &[("x-should-retry", "true"), ("retry-after-ms", "1")],
            // docs/envoy.md#upgrades: Envoy removes `upgrade` from an answer without this `connection`, and both from
            // an answer over HTTP/2, which forbids them.
            Self::WebSocket => &[("connection", "upgrade"), ("upgrade", "HTTP/1.1")],
            Self::OverLimit(_)
            | Self::UnknownIdentity
            | Self::ClosedEndpoint
            | Self::ForbiddenModel(_)
            | Self::OutputCap(_)
            | Self::BadBody(_) => &[],
        };
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
        error.reply(wording.dialect, headers.collect())
    }
}

/// OpenAI has this code for models that a project may not use.
fn forbidden_model(model: &Forbidden, dialect: Dialect) -> Reply {
    let message = match model {
        Forbidden::Named(name) => format!("The model \"{name}\" is not available to this key."),
        Forbidden::Unknown => {
            "Not every model is available to this key, and nobody can tell which one the request is for: please name \
             one in \"model\"."
                .to_owned()
        }
    };
    let openai = ("invalid_request_error", "model_not_found");
    let error = ApiError { status: 403, message: &message, openai, anthropic: "permission_error" };
    error.reply(dialect, Headers::new())
}

fn bad_cap(bad: BadCap, dialect: Dialect) -> Reply {
    let message = match bad {
        BadCap::TooLarge { asked, most } => format!(
            "The maximum of output tokens is too large: {asked}. This key may have at most {most} for an answer."
        ),
        BadCap::Thinking { budget, most } => format!(
            "The thinking budget of {budget} tokens is too large: this key may have at most {most} output tokens for \
             an answer, thinking included."
        ),
        BadCap::Unchangeable { most } => format!(
            "This key may have at most {most} output tokens for an answer, and this body cannot be given that maximum: \
             please set it."
        ),
        BadCap::Unread { most } => format!(
            "This key may have at most {most} output tokens for an answer, and nobody can tell how many this body asks \
             for."
        ),
    };
    let openai = ("invalid_request_error", "invalid_value");
    let error = ApiError { status: 400, message: &message, openai, anthropic: "invalid_request_error" };
    error.reply(dialect, Headers::new())
}

fn bad_body(bad: &BadBody, dialect: Dialect) -> Reply {
    let (status, message) = match bad {
        BadBody::UnknownCoding => {
            (415, format!("The content-encoding of the request body is not supported. Supported: {CODINGS}."))
        }
        BadBody::TooLarge(most) => {
            (413, format!("The decoded request body is too large: the maximum is {most} bytes."))
        }
        BadBody::TooCompressed(ratio) => {
            (413, format!("The request body is too large: it decodes to more than {ratio} times its size."))
        }
        BadBody::Unreadable(fault) => (400, format!("The request body cannot be read: {fault}.")),
    };
    let (code, anthropic) = match status {
        413 => ("request_too_large", "request_too_large"),
        415 => ("unsupported_content_encoding", "invalid_request_error"),
        _ => ("invalid_body", "invalid_request_error"),
    };
    // RFC 9110, section 12.5.3: a 415 because of a coding says which ones are known.
    let accepted = (status == 415).then(|| ("accept-encoding", CODINGS.to_owned()));
    let openai = ("invalid_request_error", code);
    let error = ApiError { status, message: &message, openai, anthropic };
    error.reply(dialect, accepted.into_iter().collect())
}

fn over_limit(over: &OverLimit, wording: &Wording<'_>) -> Reply {
    let mut headers = if over.shows_counters() {
        wording.dialect.headers_of(over.statuses(), over.by(), wording.now)
    } else {
        Headers::new()
    };
    if let Some(wait) = over.retry_after() {
        headers.push(("retry-after", wait.seconds_rounded_up().to_string()));
        headers.push(("retry-after-ms", wait.to_string()));
    }
    if over.retry_after().is_none_or(|wait| wait > MAX_RETRY) {
        headers.push(("x-should-retry", "false".into()));
    }
    if wording.dialect.headers != config::Headers::None {
        headers.push(Source::Gateway.header());
    }
    let is_requests = |by: &LimitStatus| matches!(by.limit.metric, Metric::Requests | Metric::Concurrency);
    let kind = if over.by().is_none_or(is_requests) { "requests" } else { "tokens" };
    let message = message(over, wording.message);
    let openai = (kind, "rate_limit_exceeded");
    let error = ApiError { status: 429, message: &message, openai, anthropic: "rate_limit_error" };
    error.reply_after(over.retry_after(), wording.dialect, headers)
}

/// The message of a 429.
fn message(over: &OverLimit, custom: Option<&Message>) -> String {
    let Some(by) = over.by() else { return String::new() };
    let amount = |units| units::amount(by.limit.metric, units);
    let name = over.name().unwrap_or("this key");
    let metric = units::metric(&by.limit);
    let window = units::window(&by.limit.window);
    let limit = amount(by.limit.amount + by.state.granted);
    let retry_after = over.retry_after().map(go_duration);
    if let Some(message) = custom {
        return message.render(|placeholder| match placeholder {
            Placeholder::Name => name.to_owned(),
            Placeholder::Metric => metric.clone(),
            Placeholder::Window => window.clone(),
            Placeholder::Limit => limit.clone(),
            Placeholder::RetryAfter => retry_after.clone().unwrap_or_else(|| "never".to_owned()),
        });
    }
    let owner = match &by.owner {
        Owner::Key => name.to_owned(),
        other => other.to_string(),
    };
    // Requests in flight have no window.
    let per_window = match by.limit.metric {
        Metric::Concurrency => String::new(),
        _ => format!(" per {window}"),
    };
    let at_least = if over.is_lower_bound() { "at least " } else { "" };
    let requested = format!("{at_least}{}", amount(by.cost));
    let (used, maximum) = (amount(by.state.used), amount(by.capacity()));
    match retry_after {
        Some(retry_after) => format!(
            "Rate limit reached for {owner} on {metric}{per_window}: limit {limit}, used {used}, \
             requested {requested}. Please try again in {retry_after}."
        ),
        None => format!(
            "Request too large for {owner} on {metric}{per_window}: limit {limit}, requested {requested}. \
             This request can never be admitted: the maximum is {maximum}."
        ),
    }
}

#[cfg(test)]
mod tests;
