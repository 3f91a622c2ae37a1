//! A request as a command line describes it: the parts by which the filter finds its sender.

use super::Failure;
use super::input;
use clap::Args;
use llm_rate_limit::config::Config;
use llm_rate_limit::identity::{Identity, RequestView};
use std::net::IpAddr;

/// Headers that say how a request is, and not who sends it.
const OF_NO_SENDER: [&str; 6] =
    ["upgrade", "connection", ":protocol", "content-type", "content-encoding", "accept-encoding"];

/// What a request shows of its sender.
#[derive(Clone, Debug, Args)]
pub struct Presented {
    /// The key that the request presents, in whatever place; - reads it from standard input
    #[arg(long, conflicts_with = "ip")]
    key: Option<String>,
    /// A header of the request, such as 'x-api-key: abc' or 'upgrade: websocket'; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The client's address, as Envoy trusts it
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// Dynamic metadata that another filter has set, such as envoy.filters.http.jwt_authn.payload.sub=alice; may be
    /// given several times
    #[arg(long, value_name = "NAMESPACE.PATH=VALUE", value_parser = metadata)]
    metadata: Vec<(String, String)>,
}

/// A request with this method to `path`.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) presented: &'a Presented,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
}

impl View<'_> {
    /// Its sender by `config`; none if it shows none.
    pub(super) fn identity(&self, config: &Config) -> Result<Option<Identity>, Failure> {
        match &self.presented.key {
            Some(key) => Ok(Some(Identity::of_key(&input::key(key)?))),
            None => Ok(config.identity(self)),
        }
    }
}

impl Presented {
    /// Fails if a header beside the key may say who sends the request, too.
    pub(super) fn check(&self) -> Result<(), String> {
        let says_sender = |(name, _): &&(String, String)| !OF_NO_SENDER.contains(&name.as_str());
        match self.headers.iter().find(says_sender) {
            Some((name, _)) if self.key.is_some() => Err(format!(
                "the argument '--key <KEY>' cannot be used with '--header {name}: …', which may name a sender"
            )),
            _ => Ok(()),
        }
    }

    /// Whether the key is to come from standard input.
    pub(super) fn reads_input(&self) -> bool {
        self.key.as_deref() == Some("-")
    }
}

impl RequestView for View<'_> {
    fn header(&self, name: &str) -> Option<String> {
        match name {
            ":path" => Some(self.path.to_owned()),
            ":method" => Some(self.method.to_owned()),
            _ => {
                let named = self.presented.headers.iter().filter(|(found, _)| found == name);
                // As Envoy joins several fields of one name.
                named.map(|(_, value)| value.clone()).reduce(|all, next| format!("{all},{next}"))
            }
        }
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        match path {
            ["source", "address"] => self.presented.ip.map(|ip| ip.to_string().into_bytes()),
            ["metadata", "filter_metadata", path @ ..] => {
                let path = path.join(".");
                let mut known = self.presented.metadata.iter();
                known.find(|(found, _)| *found == path).map(|(_, value)| value.clone().into_bytes())
            }
            _ => None,
        }
    }
}

fn header(text: &str) -> Result<(String, String), &'static str> {
    // Names of HTTP/2's own begin with a colon.
    let at = text.get(1..).and_then(|rest| rest.find(':')).ok_or("expected NAME: VALUE")?;
    let (name, value) = (text.get(..=at).unwrap_or_default(), text.get(at + 2..).unwrap_or_default());
    let name = name.trim().to_ascii_lowercase();
    if name.is_empty() { Err("expected NAME: VALUE") } else { Ok((name, value.trim().to_owned())) }
}

fn metadata(text: &str) -> Result<(String, String), &'static str> {
    let (path, value) = text.split_once('=').ok_or("expected NAMESPACE.PATH=VALUE")?;
    Ok((path.to_owned(), value.to_owned()))
}
