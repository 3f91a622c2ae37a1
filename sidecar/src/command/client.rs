//! A client of a running sidecar, over TCP or a unix socket. It asks and resets; it decides nothing.

use super::Failure;
use super::http::Server;
use crate::cause::last_cause;
use clap::Args;
use llm_rate_limit::config::Secret;
use reqwest::{Client as Http, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The time limit for an answer; the sidecar's own timeouts are shorter.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The sidecar to ask.
#[derive(Clone, Debug, Args)]
pub struct Address {
    /// The sidecar's address: http://host:port or unix:/path
    #[arg(
        long = "sidecar",
        visible_alias = "url",
        value_name = "URL",
        env = "SIDECAR_URL",
        default_value = "http://127.0.0.1:8081"
    )]
    sidecar: String,
    /// The sidecar's AUTH_TOKEN
    #[arg(long, value_name = "TOKEN", env = "AUTH_TOKEN", hide_env_values = true)]
    auth_token: Option<Secret>,
}

impl Address {
    /// A client of it.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.sidecar, self.auth_token.as_ref())
    }
}

/// A client of one sidecar.
#[derive(Debug)]
pub(super) struct Client {
    server: Server,
    token: Option<Secret>,
}

/// The body of an error.
#[derive(Deserialize)]
struct ErrorBody {
    error: String,
}

impl Client {
    /// A client of the sidecar at `url`: `http://host:port`, or `unix:/path`.
    pub(super) fn new(url: &str, token: Option<&Secret>) -> Result<Self, Failure> {
        let server = Server::new(url, Http::builder().timeout(ANSWER_TIMEOUT))?;
        Ok(Self { server, token: token.filter(|token| !token.expose().is_empty()).cloned() })
    }

    /// The answer to `GET path` with this query.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Failure> {
        self.ask(Method::GET, path, query, None)
    }

    /// The answer to `DELETE path` with this query.
    pub(super) fn delete<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        self.ask(Method::DELETE, path, query, None)
    }

    /// The answer to `POST path` with `body` as JSON.
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.ask(Method::POST, path, &[], Some(serde_json::to_vec(body)?))
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<T, Failure> {
        let mut url = self.server.base.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.server.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let answer = self.server.runtime.block_on(async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.bytes().await?))
        });
        let (status, body) = answer.map_err(|why| self.unreachable(&why))?;
        if status.is_success() {
            return Ok(serde_json::from_slice(&body)?);
        }
        let error = serde_json::from_slice::<ErrorBody>(&body).map(|body| body.error);
        let error = error.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned());
        let is_older = status == StatusCode::NOT_FOUND;
        let hint = if is_older { ": it is no sidecar, or an older one than this command" } else { "" };
        Err(Failure(format!("the sidecar answered {}: {error}{hint}", status.as_u16())))
    }

    fn unreachable(&self, why: &reqwest::Error) -> Failure {
        Failure(format!("cannot reach the sidecar at {}: {}", self.server.base, last_cause(why)))
    }
}
