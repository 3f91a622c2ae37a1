//! A server that `doctor` asks over HTTP.

use super::Failure;
use llm_rate_limit::quantity::Millis;
use reqwest::Client;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::{Builder, Runtime};
use url::Url;

/// The time limit for an answer: a `config_dump` may be large.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A server.
pub(super) struct Site {
    http: Client,
    base: Url,
    /// As it was given.
    name: String,
    runtime: Runtime,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// The server's clock by its header `date`, and this machine's in the middle of the exchange.
    pub(super) clock: Option<(Millis, Millis)>,
    /// This machine's clock in the middle of the exchange.
    pub(super) at: Millis,
}

impl Site {
    /// The server at `url`: `http://host:port` or `unix:/path`.
    pub(super) fn new(url: &str) -> Result<Self, Failure> {
        let builder = Client::builder().timeout(ANSWER_TIMEOUT).redirect(reqwest::redirect::Policy::none());
        let (builder, base) = match url.strip_prefix("unix:") {
            Some(path) => (builder.unix_socket(path), "http://localhost"),
            None => (builder, url),
        };
        let base = Url::parse(base).ok().filter(|base| base.scheme() == "http");
        let base = base.ok_or_else(|| Failure(format!("{url}: expected http://host:port or unix:/path")))?;
        let http = builder.build().map_err(|why| Failure(why.to_string()))?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { http, base, name: url.to_owned(), runtime })
    }

    /// How messages call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The answer to `GET path`, which may have a query.
    ///
    /// # Errors
    /// There is none; the text says why.
    pub(super) fn get(&self, path: &str, bearer: Option<&str>) -> Result<Answer, String> {
        let url = self.base.join(path).map_err(|why| format!("{path}: {why}"))?;
        let mut request = self.http.get(url);
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        let (began, clock) = (Instant::now(), now());
        let answer = self.runtime.block_on(async {
            let response = request.send().await?;
            let date = response.headers().get("date").and_then(|date| date.to_str().ok().map(str::to_owned));
            Ok::<_, reqwest::Error>((response.status().as_u16(), date, response.bytes().await?))
        });
        let (status, date, body) = answer.map_err(|why| cause(&why))?;
        let took = began.elapsed();
        let at = clock + Millis::new(u64::try_from(took.as_millis() / 2).unwrap_or_default());
        let date = date.and_then(|date| httpdate::parse_http_date(&date).ok()).map(since_epoch);
        Ok(Answer { status, body: body.into(), clock: date.map(|date| (date, at)), at })
    }

    /// The JSON that answers `GET path`.
    ///
    /// # Errors
    /// There is none; the text says why.
    pub(super) fn json<T: DeserializeOwned>(
        &self,
        path: &str,
        bearer: Option<&str>,
    ) -> Result<(T, Answer), String> {
        let answer = self.get(path, bearer)?;
        if answer.status != 200 {
            let body: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
            return Err(format!("it answered {}: {body}", answer.status));
        }
        let value = serde_json::from_slice(&answer.body)
            .map_err(|why| format!("its answer is no such JSON: {why}"))?;
        Ok((value, answer))
    }
}

/// The last cause, which says more than reqwest's own message.
fn cause(why: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = why;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// This machine's clock.
fn now() -> Millis {
    since_epoch(SystemTime::now())
}

fn since_epoch(time: SystemTime) -> Millis {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
