//! A client with a key: its requests and the answers to them.

use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
pub use llm_rate_limit_tests::chat::{Answer, CHAT};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;

/// Longer than any answer takes, so that a test which hangs ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tokens of [`hello`], by OpenAI's published rule: 3 for the message, 1 for its role, 2 for its text, and 3 before
/// the reply.
pub const HELLO_TOKENS: u64 = 9;

/// The smallest chat.
pub fn hello() -> Value {
    json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]})
}

/// [`hello`] with these members.
pub fn hello_with(members: Value) -> Value {
    let mut chat = hello();
    chat.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    chat
}

/// A body in these parts, without a `content-length`, and with a trailer at its end if `ends_with_trailer`.
pub fn body_in_parts(parts: &[&str], ends_with_trailer: bool) -> reqwest::Body {
    let mut frames: Vec<_> =
        parts.iter().map(|part| Frame::data(Bytes::copy_from_slice(part.as_bytes()))).collect();
    if ends_with_trailer {
        let trailer = (HeaderName::from_static("x-checksum"), HeaderValue::from_static("1"));
        frames.push(Frame::trailers(HeaderMap::from_iter([trailer])));
    }
    reqwest::Body::wrap(StreamBody::new(stream::iter(frames.into_iter().map(Ok::<_, Infallible>))))
}

/// A client.
#[derive(Clone)]
pub struct Caller {
    http: Client,
    base: String,
    key: Option<String>,
}

impl Caller {
    /// A client that sends `authorization: Bearer <key>` to `base`, over HTTP/1.1.
    pub fn new(base: &str, key: &str) -> Self {
        Self::by(Client::builder().timeout(PATIENCE).build().unwrap(), base, key)
    }

    /// The same with connections that others use too.
    pub fn by(http: Client, base: &str, key: &str) -> Self {
        Self { http, base: base.to_owned(), key: Some(key.to_owned()) }
    }

    /// A client that sends no key.
    pub fn anonymous(http: Client, base: &str) -> Self {
        Self { http, base: base.to_owned(), key: None }
    }

    /// The same over HTTP/2 without TLS.
    pub fn over_http2(mut self) -> Self {
        self.http = Client::builder().timeout(PATIENCE).http2_prior_knowledge().build().unwrap();
        self
    }

    /// The beginning of a request.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// The beginning of a chat completion.
    pub fn chat(&self, body: &Value) -> RequestBuilder {
        self.request(Method::POST, CHAT).json(body)
    }

    /// Sends [`hello`].
    pub async fn hello(&self) -> Answer {
        Answer::to(self.chat(&hello())).await
    }

    /// Sends [`hello`] `count` times, all at once.
    pub async fn hellos(&self, count: usize) -> Vec<Answer> {
        futures_util::future::join_all((0..count).map(|_| self.hello())).await
    }

    /// Requests more output than any key here may have. The refusal's headers show every limit, and nothing is charged.
    pub async fn too_large(&self) -> Answer {
        let answer = Answer::to(self.chat(&hello_with(json!({"max_tokens": 1_000_000_000_u64})))).await;
        assert_eq!(answer.status, 429, "{}", answer.text());
        answer
    }
}

/// The statuses of `answers`, in ascending order.
pub fn statuses(answers: &[Answer]) -> Vec<u16> {
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    statuses
}

/// How many of `answers` have this status.
pub fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

/// Milliseconds of a duration as OpenAI writes it: `12ms`, `1.5s`, `6m0s`.
///
/// # Panics
/// If it is written in another way.
pub fn milliseconds(text: &str) -> u64 {
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{text} is no duration"));
    if let Some(ms) = text.strip_suffix("ms") {
        return number(ms);
    }
    let text = text.strip_suffix('s').unwrap_or_else(|| panic!("{text} is no duration"));
    let (minutes, seconds) = text.split_once('m').unwrap_or(("0", text));
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    number(minutes) * 60_000 + number(seconds) * 1_000 + number(&format!("{fraction:0<3}"))
}
