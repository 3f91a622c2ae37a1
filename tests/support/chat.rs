//! A plain client of a gateway: one small chat, the answer to it, and the wait for what follows. The end-to-end tests
//! have a client that does more.

use bytes::Bytes;
use reqwest::RequestBuilder;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longer than any answer takes, so that a test which hangs ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a test waits for what should come soon. Only a failing test waits this long.
const WITHIN: Duration = Duration::from_secs(30);

/// The path of chat completions.
pub const CHAT: &str = "/v1/chat/completions";

/// The body of a chat that may answer with 16 tokens.
pub fn hello() -> Value {
    json!({"model": "gpt-4o", "max_tokens": 16, "messages": [{"role": "user", "content": "Hello!"}]})
}

/// A client with connections of its own.
///
/// # Panics
/// Never.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(PATIENCE).build().unwrap()
}

/// A [`hello`] to this address by a client of its own, without a key.
pub fn chat(url: impl reqwest::IntoUrl) -> RequestBuilder {
    client().post(url).json(&hello())
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// Sends a request and reads the answer to its end.
    ///
    /// # Panics
    /// If there is no answer, or it breaks off.
    pub async fn to(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.unwrap() }
    }

    /// The value of a header, if the answer has it.
    ///
    /// # Panics
    /// If the answer has it more than once, or it is no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert_eq!(values.next(), None, "{name} twice in {:?}", self.headers);
        Some(value.to_str().unwrap())
    }

    /// The whole number in a header.
    ///
    /// # Panics
    /// If there is none.
    pub fn number(&self, name: &str) -> u64 {
        let value = self.header(name).unwrap_or_else(|| panic!("no {name} in {self:?}"));
        value.parse().unwrap_or_else(|_| panic!("{name}: {value}"))
    }

    /// The names of all headers about rate limits, in alphabetical order.
    pub fn limit_headers(&self) -> Vec<&str> {
        let about = |name: &&str| name.starts_with("x-ratelimit") || name.starts_with("retry-after");
        let mut names: Vec<&str> = self.headers.keys().map(|name| name.as_str()).filter(about).collect();
        names.sort_unstable();
        names
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {}", self.text()))
    }

    /// The message of an error in OpenAI's format.
    ///
    /// # Panics
    /// If the answer is no such error.
    pub fn message(&self) -> String {
        let message = self.json()["error"]["message"].as_str().map(ToOwned::to_owned);
        message.unwrap_or_else(|| panic!("no error: {}", self.text()))
    }
}

/// Sends the same request several times, one after the other, and returns the statuses of the answers.
///
/// # Panics
/// If there is no answer.
pub async fn statuses(count: usize, request: impl Fn() -> RequestBuilder) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(Answer::to(request()).await.status);
    }
    statuses
}

/// Waits until `read` returns `expected`, a value that must come and then stays or is at least no accident.
///
/// # Panics
/// If it does not come in time, with the last value.
pub async fn eventually<T: PartialEq + std::fmt::Debug>(what: &str, expected: T, read: impl AsyncFn() -> T) {
    let deadline = Instant::now() + WITHIN;
    loop {
        let seen = read().await;
        if seen == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: expected {expected:?}, still seeing {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
