//! The fields of `identity`.

use serde::Deserialize;

/// Where a request says who sent it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A request header, by name; `Bearer` before its value is left out.
    Header(String),
    /// The client's address as Envoy trusts it.
    ClientIp(ClientIp),
    /// Dynamic metadata that an earlier filter set: the filter's namespace, then the path in it.
    Metadata(Vec<String>),
}

/// The client's address. It has no options.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct ClientIp {}
