//! A server that `doctor` asks over HTTP.

use super::Failure;
use crate::cause::last_cause;
use crate::clock;
use crate::command::http::Server;
use llm_rate_limit::quantity::Millis;
use reqwest::Client;
use serde::de::DeserializeOwned;
use std::time::{Duration, Instant};

/// The time limit for an answer: a `config_dump` may be large.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A server.
pub(super) struct Site {
    server: Server,
    /// As it was given.
    name: String,
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
        Ok(Self { server: Server::new(url, builder)?, name: url.to_owned() })
    }

    /// Its port, if it has one.
    pub(super) fn port(&self) -> Option<u16> {
        let is_tcp = !self.name.starts_with("unix:");
        self.server.base.port_or_known_default().filter(|_| is_tcp)
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
        let url = self.server.base.join(path).map_err(|why| format!("{path}: {why}"))?;
        let mut request = self.server.http.get(url);
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        let (began, clock) = (Instant::now(), clock::now());
        let answer = self.server.runtime.block_on(async {
            let response = request.send().await?;
            let date = response.headers().get("date").and_then(|date| date.to_str().ok().map(str::to_owned));
            Ok::<_, reqwest::Error>((response.status().as_u16(), date, response.bytes().await?))
        });
        let (status, date, body) = answer.map_err(|why| last_cause(&why))?;
        let took = began.elapsed();
        let at = clock + Millis::new(u64::try_from(took.as_millis() / 2).unwrap_or_default());
        let date = date.and_then(|date| httpdate::parse_http_date(&date).ok()).map(clock::since_epoch);
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
