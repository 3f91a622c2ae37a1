//! The fields of `identity`.

use super::Number;
use serde::Deserialize;

/// Where a request carries its sender's identity.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A request header, by name. `Bearer` before its value is not part of it.
    Header(String),
    /// The client's address that Envoy trusts: the connection's, or the one that the listener's
    /// `xff_num_trusted_hops` selects.
    ClientIp(ClientIp),
    /// Dynamic metadata that an earlier filter set: the filter's namespace, then the path in it.
    Metadata(Vec<String>),
    /// A segment of the path, by its number from 1 to 64: segment 2 of `/tenants/acme/v1` is `acme`.
    PathSegment(Number),
    /// A query parameter, by name.
    Query(String),
    /// The same text for every request: all requests are counted together.
    Constant(String),
    /// All of these sources together; each must yield a value. If `keys` has the first source's value, that entry holds
    /// for every combination with it. Each combination has its own counters.
    All(Vec<Self>),
}

/// The client's address, or the network that it is in.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct ClientIp {
    /// The number of leading bits of an IPv4 address that count, 1 to 32; 32 by default. Clients that share these bits
    /// are counted together.
    pub ipv4_prefix: Option<Number>,
    /// The number of leading bits of an IPv6 address that count, 1 to 128; 128 by default. Most networks have 64.
    pub ipv6_prefix: Option<Number>,
}
