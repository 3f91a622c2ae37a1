//! The fields of `identity`.

use super::Number;
use serde::Deserialize;

/// Where a request carries its sender's identity: exactly one of the places, and whether it is trusted with new
/// identities.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct Source {
    /// A request header, by name. `Bearer` before its value is not part of it. A header that a request has several
    /// times has several values.
    pub header: Option<String>,
    /// The client's address that Envoy trusts: the connection's, or the one that the listener's
    /// `xff_num_trusted_hops` selects.
    pub client_ip: Option<ClientIp>,
    /// Dynamic metadata that an earlier filter set: the filter's namespace, then the path in it.
    pub metadata: Option<Vec<String>>,
    /// A segment of the path, by its number from 1 to 64: segment 2 of `/tenants/acme/v1` is `acme`.
    pub path_segment: Option<Number>,
    /// A query parameter, by name. A parameter that a request has several times has several values.
    pub query: Option<String>,
    /// The same text for every request: all requests are counted together.
    pub constant: Option<String>,
    /// All of these sources together; each must yield a value. If `keys` has the first source's value, that entry holds
    /// for every combination with it. Each combination has its own counters.
    pub all: Option<Vec<Self>>,
    /// Whether only values that are in `keys` count; false by default. If it is true, a request with any other value
    /// gets its identity from the next source, so that nobody can invent a key to get counters of its own.
    pub known_only: bool,
}

/// The client's address, or the network that it is in.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default, expecting = "an object")]
pub struct ClientIp {
    /// The number of leading bits of an IPv4 address that count, 1 to 32; 32 by default. Clients that share these bits
    /// are counted together.
    pub ipv4_prefix: Option<Number>,
    /// The number of leading bits of an IPv6 address that count, 1 to 128; 64 by default, which is what one
    /// network has.
    pub ipv6_prefix: Option<Number>,
}
