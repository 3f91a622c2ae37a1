//! A server that commands ask over HTTP, on TCP or a unix socket.

use super::Failure;
use reqwest::{Client, ClientBuilder};
use tokio::runtime::{Builder, Runtime};
use url::Url;

/// A server.
#[derive(Debug)]
pub(in crate::command) struct Server {
    /// What asks it.
    pub(in crate::command) http: Client,
    /// Where it is. A server on a unix socket has a name that means nothing.
    pub(in crate::command) base: Url,
    /// What runs the client.
    pub(in crate::command) runtime: Runtime,
}

impl Server {
    /// The server at `url`, `http://host:port` or `unix:/path`, which a client made by `builder` asks.
    ///
    /// # Errors
    /// `url` is neither.
    pub(in crate::command) fn new(url: &str, builder: ClientBuilder) -> Result<Self, Failure> {
        let (builder, base) = match url.strip_prefix("unix:") {
            Some(path) => (builder.unix_socket(path), "http://localhost"),
            None => (builder, url),
        };
        let base = Url::parse(base).ok().filter(|base| base.scheme() == "http");
        let base = base.ok_or_else(|| Failure(format!("{url}: expected http://host:port or unix:/path")))?;
        let http = builder.build().map_err(|why| Failure(why.to_string()))?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { http, base, runtime })
    }
}
