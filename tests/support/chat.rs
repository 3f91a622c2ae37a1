//! A plain client of a gateway: one small chat, and the answer to it. The end-to-end tests have one that does more.

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
    pub body: String,
}

impl Answer {
    /// Sends a request and reads the answer to its end.
    ///
    /// # Panics
    /// If there is no answer, or it breaks off.
    pub async fn to(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.text().await.unwrap() }
    }

    /// The value of a header, if the answer has it.
    ///
    /// # Panics
    /// If the answer has it more than once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert_eq!(values.next(), None, "{name} twice in {:?}", self.headers);
        value.to_str().ok()
    }

    /// The whole number in a header.
    ///
    /// # Panics
    /// If there is none.
    pub fn number(&self, name: &str) -> u64 {
        let value = self.header(name).unwrap_or_else(|| panic!("no {name} in {self:?}"));
        value.parse().unwrap_or_else(|_| panic!("{name}: {value}"))
    }

    /// The message of an error.
    ///
    /// # Panics
    /// If the answer is no error.
    pub fn message(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body["error"]["message"].as_str().unwrap_or_else(|| panic!("no error: {}", self.body)).to_owned()
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

/// Waits until `read` returns `expected`, a value that must come and then stays.
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
