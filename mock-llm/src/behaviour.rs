//! How one request is answered, as its own `x-mock-*` headers say.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::str::FromStr;
use std::time::Duration;

/// The most words of a completion: enough for any test, and no header can exhaust the memory.
const MAX_COMPLETION_TOKENS: u64 = 1_000_000;

/// What a request asks of the mock beyond the API itself. The default is an answer at once, in whole events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// `x-mock-status`: answer with this status, and an error body unless it is 200.
    pub status: StatusCode,
    /// `x-mock-fail-attempts`: answer this many attempts with 503 first, by `x-envoy-attempt-count`.
    pub fail_attempts: u64,
    /// `x-mock-delay-ms`: the time before the answer begins.
    pub delay: Duration,
    /// `x-mock-chunk-delay-ms`: the time between two pieces of the body.
    pub chunk_delay: Duration,
    /// `x-mock-gate`: each piece of the body waits at the gate of this name ([`crate::gates`]).
    pub gate: Option<String>,
    /// `x-mock-chunk-bytes`: cut the body into pieces of this size, whatever it holds. Else each event is a piece.
    pub chunk_bytes: Option<usize>,
    /// `x-mock-prompt-tokens`: the prompt tokens that `usage` tells. Else the body's bytes divided by four.
    pub prompt_tokens: Option<u64>,
    /// `x-mock-completion-tokens`: words in each choice. Else 16, or the request's own cap if that is less.
    pub completion_tokens: Option<u64>,
    /// `x-mock-no-usage`: tell no usage, whatever the request asks.
    pub no_usage: bool,
    /// `x-mock-no-done`: end a stream without its `[DONE]`.
    pub no_done: bool,
    /// `x-mock-reset-after`: break the connection off instead of sending the piece after this many.
    pub reset_after: Option<usize>,
    /// `x-mock-trailers`: end the answer with a trailer.
    pub trailers: bool,
    /// `x-mock-compress`: compress the answer, as `accept-encoding` allows.
    pub compress: bool,
    /// `x-mock-header`, as often as wanted: `name: value` to answer with.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Behaviour {
    /// Reads the `x-mock-*` headers.
    ///
    /// # Errors
    /// Names the header whose value cannot be read, or that is not one of these.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, String> {
        let mut behaviour = Self::default();
        for (name, value) in headers {
            let name = name.as_str();
            let Some(wish) = name.strip_prefix("x-mock-") else { continue };
            let text = value.to_str().map_err(|_| format!("{name}: expected text"))?;
            match wish {
                "status" => behaviour.status = read(name, text, "an HTTP status")?,
                "fail-attempts" => behaviour.fail_attempts = read(name, text, "a number")?,
                "delay-ms" => behaviour.delay = Duration::from_millis(read(name, text, "a number")?),
                "chunk-delay-ms" => {
                    behaviour.chunk_delay = Duration::from_millis(read(name, text, "a number")?)
                }
                "gate" => behaviour.gate = Some(text.to_owned()),
                "chunk-bytes" => {
                    behaviour.chunk_bytes =
                        Some(read::<std::num::NonZeroUsize>(name, text, "a number above 0")?.get());
                }
                "prompt-tokens" => behaviour.prompt_tokens = Some(read(name, text, "a number")?),
                "completion-tokens" => {
                    behaviour.completion_tokens =
                        Some(read::<u64>(name, text, "a number")?.min(MAX_COMPLETION_TOKENS));
                }
                "no-usage" => behaviour.no_usage = true,
                "no-done" => behaviour.no_done = true,
                "reset-after" => behaviour.reset_after = Some(read(name, text, "a number")?),
                "trailers" => behaviour.trailers = true,
                "compress" => behaviour.compress = true,
                "header" => {
                    let (key, value) =
                        text.split_once(':').ok_or(format!("{name}: expected \"name: value\""))?;
                    behaviour.headers.push((
                        read(name, key.trim(), "a header name")?,
                        read(name, value.trim(), "a header value")?,
                    ));
                }
                _ => return Err(format!("{name}: the mock knows no such wish")),
            }
        }
        Ok(behaviour)
    }

    /// The status to refuse a request with these headers with, if it is to be refused.
    pub fn fails(&self, headers: &HeaderMap) -> Option<StatusCode> {
        let attempt: Option<u64> =
            headers.get("x-envoy-attempt-count").and_then(|count| count.to_str().ok()?.parse().ok());
        if attempt.unwrap_or(1) <= self.fail_attempts {
            return Some(StatusCode::SERVICE_UNAVAILABLE);
        }
        (self.status != StatusCode::OK).then_some(self.status)
    }

    /// Adds what `x-mock-header` asked for.
    pub fn add_headers(&self, response: &mut HeaderMap) {
        for (name, value) in &self.headers {
            response.append(name, value.clone());
        }
    }
}

fn read<T: FromStr>(name: &str, text: &str, expected: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name}: expected {expected}, found {text:?}"))
}
