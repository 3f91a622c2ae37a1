//! A client of a running sidecar, over TCP or a unix socket. It asks and resets; it decides nothing.

use super::Failure;
use super::counters::Owner;
use llm_rate_limit::config::Secret;
use llm_rate_limit::store::wire::path;
use reqwest::{Client as Http, Method};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use url::Url;

/// The time limit for an answer; the sidecar's own timeouts are shorter.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one sidecar.
#[derive(Debug)]
pub(super) struct Client {
    http: Http,
    base: Url,
    token: Option<Secret>,
    runtime: Runtime,
}

/// The body of an error.
#[derive(Deserialize)]
struct ErrorBody {
    error: String,
}

impl Client {
    /// A client of the sidecar at `url`: `http://host:port`, or `unix:/path`.
    pub(super) fn new(url: &str, token: Option<&Secret>) -> Result<Self, Failure> {
        let builder = Http::builder().timeout(ANSWER_TIMEOUT);
        let (builder, base) = match url.strip_prefix("unix:") {
            Some(path) => (builder.unix_socket(path), "http://sidecar"),
            None => (builder, url),
        };
        let base = Url::parse(base).ok().filter(|base| base.scheme() == "http");
        let base = base.ok_or_else(|| Failure(format!("{url}: expected http://host:port or unix:/path")))?;
        let http = builder.build().map_err(|why| Failure(why.to_string()))?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let token = token.filter(|token| !token.expose().is_empty()).cloned();
        Ok(Self { http, base, token, runtime })
    }

    /// The usage of the windows of `owner`.
    pub(super) fn usage<T: DeserializeOwned>(&self, owner: &Owner) -> Result<T, Failure> {
        self.ask(Method::GET, owner)
    }

    /// Resets the windows of `owner`, and returns their usage before.
    pub(super) fn reset<T: DeserializeOwned>(&self, owner: &Owner) -> Result<T, Failure> {
        self.ask(Method::DELETE, owner)
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, owner: &Owner) -> Result<T, Failure> {
        let mut url = self.base.clone();
        url.set_path(path::USAGE);
        let Owner { scope, identity, namespace } = owner;
        let mut query = url.query_pairs_mut();
        query.append_pair("identity", identity).append_pair("scope", scope);
        if !namespace.is_empty() {
            query.append_pair("namespace", namespace);
        }
        drop(query);
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let answer = self.runtime.block_on(async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.bytes().await?))
        });
        let (status, body) = answer.map_err(|why| self.unreachable(&why))?;
        if status.is_success() {
            return Ok(serde_json::from_slice(&body)?);
        }
        let error = serde_json::from_slice::<ErrorBody>(&body).map(|body| body.error);
        let error = error.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned());
        Err(Failure(format!("the sidecar answered {}: {error}", status.as_u16())))
    }

    fn unreachable(&self, why: &reqwest::Error) -> Failure {
        // The last cause says more than reqwest's own message.
        let mut cause: &dyn std::error::Error = why;
        while let Some(next) = cause.source() {
            cause = next;
        }
        Failure(format!("cannot reach the sidecar at {}: {cause}", self.base))
    }
}
