//! The choices that a request makes about its answer in `x-mock-*` headers.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::str::FromStr;
use std::time::Duration;

/// The largest number of words in a completion: enough for any test, and too few to exhaust the memory.
const MAX_COMPLETION_TOKENS: u64 = 1_000_000;

/// How the mock answers one request. The default is an answer at once, in whole events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// `x-mock-status`: answer with this status, and an error body unless it is 200.
    pub status: StatusCode,
    /// `x-mock-no-stream-options`: if the body has `stream_options`, answer with this status, and an error that names
    /// it.
    pub no_stream_options: Option<StatusCode>,
    /// `x-mock-error-message`: the message of an error, whatever it is for.
    pub error_message: Option<String>,
    /// `x-mock-fail-attempts`: answer this many attempts with 503 first, by `x-envoy-attempt-count`.
    pub fail_attempts: u64,
    /// `x-mock-delay-ms`: the pause before the answer begins.
    pub delay: Duration,
    /// `x-mock-chunk-delay-ms`: the pause between two pieces of the body.
    pub chunk_delay: Duration,
    /// `x-mock-gate`: each piece of the body waits at the gate of this name ([`crate::gates`]).
    pub gate: Option<String>,
    /// `x-mock-chunk-bytes`: cut the body into pieces of this size. Without it, each event is a piece, and each error.
    pub chunk_bytes: Option<usize>,
    /// `x-mock-prompt-tokens`: the prompt tokens in `usage`. Without it, the body's bytes divided by four.
    pub prompt_tokens: Option<u64>,
    /// `x-mock-completion-tokens`: words in each choice. Without it, 16, or the request's own maximum if that is less.
    pub completion_tokens: Option<u64>,
    /// `x-mock-model`: the model that the answer names. Without it, the request's.
    pub model: Option<String>,
    /// `x-mock-response-id`: the id of a response. Without it, `resp_mock`, or the one in the path.
    pub response_id: Option<String>,
    /// `x-mock-response-status`: the status of a response. Without it, a response in the background is queued when it
    /// is created, and has ended when it is asked for.
    pub response_status: Option<String>,
    /// `x-mock-lax`: answer a body that is not JSON, as a reader would that reads more.
    pub lax: bool,
    /// `x-mock-no-usage`: report no usage, even if the request asks for it.
    pub no_usage: bool,
    /// `x-mock-no-done`: end a stream without its `[DONE]`.
    pub no_done: bool,
    /// `x-mock-reset-after`: break the connection off instead of sending the piece after this many.
    pub reset_after: Option<usize>,
    /// `x-mock-trailers`: end the answer with a trailer.
    pub trailers: bool,
    /// `x-mock-answer`: answer with what was given under this name.
    pub answer: Option<String>,
    /// `x-mock-compress`: compress the answer, as `accept-encoding` allows.
    pub compress: bool,
    /// `x-mock-compress: always`: even if `accept-encoding` does not allow it.
    pub always_compress: bool,
    /// `x-mock-header`, any number of times: a `name: value` to answer with.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Behaviour {
    /// Reads the `x-mock-*` headers.
    ///
    /// # Errors
    /// Names the header with an unreadable value, or an unknown one.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, String> {
        let mut behaviour = Self::default();
        for (name, value) in headers {
            let name = name.as_str();
            let Some(choice) = name.strip_prefix("x-mock-") else { continue };
            let text = value.to_str().map_err(|_| format!("{name}: expected text"))?;
            match choice {
                "status" => behaviour.status = read(name, text, "an HTTP status")?,
                "no-stream-options" => {
                    behaviour.no_stream_options = Some(read(name, text, "an HTTP status")?);
                }
                "error-message" => behaviour.error_message = Some(text.to_owned()),
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
                "model" => behaviour.model = Some(text.to_owned()),
                "response-id" => behaviour.response_id = Some(text.to_owned()),
                "response-status" => behaviour.response_status = Some(text.to_owned()),
                "lax" => behaviour.lax = true,
                "no-usage" => behaviour.no_usage = true,
                "no-done" => behaviour.no_done = true,
                "reset-after" => behaviour.reset_after = Some(read(name, text, "a number")?),
                "trailers" => behaviour.trailers = true,
                "answer" => behaviour.answer = Some(text.to_owned()),
                "compress" => {
                    behaviour.compress = true;
                    behaviour.always_compress = text == "always";
                }
                "header" => {
                    let (key, value) =
                        text.split_once(':').ok_or(format!("{name}: expected \"name: value\""))?;
                    behaviour.headers.push((
                        read(name, key.trim(), "a header name")?,
                        read(name, value.trim(), "a header value")?,
                    ));
                }
                _ => return Err(format!("{name}: the mock does not know this header")),
            }
        }
        Ok(behaviour)
    }

    /// The status of the refusal, if a request with these headers is refused.
    pub fn fails(&self, headers: &HeaderMap) -> Option<StatusCode> {
        let attempt: Option<u64> =
            headers.get("x-envoy-attempt-count").and_then(|count| count.to_str().ok()?.parse().ok());
        if attempt.unwrap_or(1) <= self.fail_attempts {
            return Some(StatusCode::SERVICE_UNAVAILABLE);
        }
        (self.status != StatusCode::OK).then_some(self.status)
    }

    /// The error in the place of an answer to a request with these headers and this body: its status and message.
    pub fn error(&self, headers: &HeaderMap, body: &[u8]) -> Option<(StatusCode, String)> {
        let error = match (self.fails(headers), self.no_stream_options) {
            (Some(status), _) => (status, "the request asked the mock for this status"),
            (None, Some(status)) if has_stream_options(body) => {
                (status, "Unrecognized request argument supplied: stream_options")
            }
            _ => return None,
        };
        let (status, message) = error;
        Some((status, self.error_message.clone().unwrap_or_else(|| message.to_owned())))
    }

    /// Adds the headers from `x-mock-header`.
    pub fn add_headers(&self, response: &mut HeaderMap) {
        for (name, value) in &self.headers {
            response.append(name, value.clone());
        }
    }
}

fn has_stream_options(body: &[u8]) -> bool {
    serde_json::from_slice(body).is_ok_and(|body: serde_json::Value| body.get("stream_options").is_some())
}

fn read<T: FromStr>(name: &str, text: &str, expected: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name}: expected {expected}, found {text:?}"))
}
