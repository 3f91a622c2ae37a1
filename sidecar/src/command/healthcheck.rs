//! `healthcheck`: asks a server whether it is well, for container engines, which know exit codes alone.
//!
//! The image of the sidecar has no shell and no other client, and that of Envoy has no client either.

use super::Failure;
use crate::cause::last_cause;
use crate::serve::Listen;
use clap::Args;
use llm_rate_limit::store::wire::path;
use reqwest::Client;
use std::io::Write;
use std::time::Duration;
use tokio::runtime::Builder;

/// What to ask.
#[derive(Clone, Debug, Args)]
pub struct Question {
    /// Any server to ask, as http://host:port/path; by default the sidecar of this machine
    url: Option<String>,
    /// Ask whether the sidecar's Redis answers too, and not only whether the sidecar does
    #[arg(long, conflicts_with = "url")]
    ready: bool,
    /// Where the sidecar listens: host:port or unix:/path
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:8081")]
    listen: Listen,
    /// The time limit for the answer, in milliseconds
    #[arg(long, default_value = "2000", value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout_ms: u64,
}

/// Asks, and prints the answer. Returns whether it is 200.
pub(super) fn healthcheck(question: &Question, out: &mut impl Write) -> Result<bool, Failure> {
    // A server of this machine is behind no proxy.
    let builder = Client::builder().no_proxy().timeout(Duration::from_millis(question.timeout_ms));
    let route = if question.ready { path::READY } else { path::HEALTH };
    let (builder, url) = match (&question.url, &question.listen) {
        (Some(url), _) => (builder, url.clone()),
        (None, Listen::Unix(socket)) => {
            (builder.unix_socket(socket.clone()), format!("http://sidecar{route}"))
        }
        (None, Listen::Tcp(at)) => (builder, format!("http://{}{route}", reachable(at))),
    };
    let failure = |why: reqwest::Error| Failure(format!("{url}: {}", last_cause(&why)));
    let client = builder.build().map_err(failure)?;
    let answer = Builder::new_current_thread().enable_all().build()?.block_on(async {
        let response = client.get(&url).send().await?;
        Ok((response.status(), response.text().await?))
    });
    let (status, text) = answer.map_err(failure)?;
    writeln!(out, "{}: {}", status.as_u16(), text.lines().next().unwrap_or_default())?;
    Ok(status.is_success())
}

/// An address at which a server on `at` answers this machine: the wildcards are none.
fn reachable(at: &str) -> String {
    match at.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => at.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_wildcard_is_asked_on_loopback() {
        for (listens, asked) in [
            ("0.0.0.0:8081", "127.0.0.1:8081"),
            ("[::]:8081", "[::1]:8081"),
            ("127.0.0.1:8081", "127.0.0.1:8081"),
            ("sidecar:8081", "sidecar:8081"),
        ] {
            assert_eq!(reachable(listens), asked);
        }
    }
}
