//! Addresses of clients, and the networks that share limits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The numbers of leading bits that identify a client: addresses with the same bits are one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// The bits of an IPv4 address, at most 32.
    pub ipv4: u8,
    /// The bits of an IPv6 address, at most 128.
    pub ipv6: u8,
}

impl Default for Prefixes {
    /// Whole addresses.
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 128 }
    }
}

impl Prefixes {
    /// The network of the address in `1.2.3.4:5678` or `[::1]:80`, in canonical form: `1.2.3.0/24`, or a whole address
    /// without a prefix length. An IPv4 address over an IPv6 socket is the same client. Returns a text that is no
    /// address, such as the path of a unix socket, unchanged.
    pub(super) fn network(self, address: &str) -> String {
        let ip = address.parse().map(|socket: SocketAddr| socket.ip()).or_else(|_| address.parse::<IpAddr>());
        match ip.map(|ip| ip.to_canonical()) {
            Err(_) => address.to_owned(),
            Ok(IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(self.ipv4.into())).unwrap_or(0);
                label(Ipv4Addr::from_bits(ip.to_bits() & mask), self.ipv4, 32)
            }
            Ok(IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(self.ipv6.into())).unwrap_or(0);
                label(Ipv6Addr::from_bits(ip.to_bits() & mask), self.ipv6, 128)
            }
        }
    }
}

/// `ip` with its prefix length, unless that is `whole`, the length of the address.
fn label(ip: impl Into<IpAddr>, prefix: u8, whole: u8) -> String {
    let ip = ip.into();
    if prefix < whole { format!("{ip}/{prefix}") } else { ip.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(address: &str, ipv4: u8, ipv6: u8) -> String {
        Prefixes { ipv4, ipv6 }.network(address)
    }

    #[test]
    fn an_address_is_cut_to_its_network() {
        for (address, expected) in [
            ("1.2.3.4:5678", "1.2.3.0/24"),
            ("1.2.3.255", "1.2.3.0/24"),
            ("[::ffff:1.2.3.4]:80", "1.2.3.0/24"),
            ("[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::/64"),
            ("/run/app.sock", "/run/app.sock"),
        ] {
            assert_eq!(network(address, 24, 64), expected);
        }
        assert_eq!(network("1.2.3.4:5", 32, 128), "1.2.3.4");
        assert_eq!(network("255.255.255.255", 1, 1), "128.0.0.0/1");
    }

    proptest! {
        #[test]
        fn addresses_in_one_network_are_the_same(bits: u32, host: u32, prefix in 1..=32_u8) {
            let host = host.checked_shr(prefix.into()).unwrap_or(0);
            let same = |bits| network(&Ipv4Addr::from_bits(bits).to_string(), prefix, 128);
            prop_assert_eq!(same(bits), same(bits ^ host));
        }

        #[test]
        fn addresses_in_two_networks_differ(bits: u128, prefix in 1..=128_u8, at in 0..128_u8) {
            let other = bits ^ (1 << (127 - at % prefix));
            let of = |bits| network(&Ipv6Addr::from_bits(bits).to_string(), 32, prefix);
            prop_assume!(Ipv6Addr::from_bits(bits).to_ipv4_mapped().is_none());
            prop_assume!(Ipv6Addr::from_bits(other).to_ipv4_mapped().is_none());
            prop_assert_ne!(of(bits), of(other));
        }
    }
}
