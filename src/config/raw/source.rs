//! The fields of `identity`.

use super::Number;
use serde::Deserialize;

/// Where a request says who sent it.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A request header, by name; `Bearer` before its value is left out.
    Header(String),
    /// The client's address as Envoy trusts it: the connection's, or that which the listener's
    /// `xff_num_trusted_hops` tells.
    ClientIp(ClientIp),
    /// Dynamic metadata that an earlier filter set: the filter's namespace, then the path in it.
    Metadata(Vec<String>),
    /// A segment of the path, by its number from 1 to 64: the second of `/tenants/acme/v1` is `acme`.
    PathSegment(Number),
    /// A query parameter, by name.
    Query(String),
    /// The same for every request: all are counted together.
    Constant(String),
    /// All of these sources together, each of which must yield a value. What `keys` says of the first part's value holds
    /// for every combination with it, and each combination has counters of its own.
    All(Vec<Self>),
}

/// The client's address, or the network that it is in.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct ClientIp {
    /// How many leading bits of an IPv4 address count, 1 to 32; 32 by default. Clients that share them are one.
    pub ipv4_prefix: Option<Number>,
    /// How many leading bits of an IPv6 address count, 1 to 128; 128 by default. Most networks have 64.
    pub ipv6_prefix: Option<Number>,
}
