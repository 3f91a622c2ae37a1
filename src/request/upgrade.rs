//! Whether the headers of a request want its connection to become a WebSocket.
//!
//! `upgrade` is a list of protocols, with versions and in any case (RFC 9110, section 7.8). HTTP/2 and HTTP/3 name one
//! in `:protocol` (RFC 8441). docs/envoy.md#upgrades: Envoy shows that to filters as `upgrade` too.

use crate::identity::RequestView;

/// The name of the protocol.
const WEBSOCKET: &str = "websocket";

/// Whether `request` wants a WebSocket, among other protocols or alone. `connection` need not list `upgrade`: Envoy
/// removes an `upgrade` that it does not, and some servers do not mind.
pub fn wants_websocket(request: &(impl RequestView + ?Sized)) -> bool {
    let names = |header: &str| request.header(header).is_some_and(|protocols| has_websocket(&protocols));
    names("upgrade") || names(":protocol")
}

fn has_websocket(protocols: &str) -> bool {
    protocols.split(',').any(|protocol| {
        let name = protocol.split('/').next().unwrap_or_default();
        name.trim_matches(|c: char| c == '"' || c.is_whitespace()).eq_ignore_ascii_case(WEBSOCKET)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_websocket_is_found_in_any_list_and_case() {
        for (protocols, expected) in [
            ("websocket", true),
            ("WebSocket", true),
            (" websocket\t", true),
            ("websocket/13", true),
            ("h2c, WEBSOCKET", true),
            ("h2c,,websocket ,", true),
            ("\"websocket\"", true),
            ("h2c", false),
            ("websockets", false),
            ("connect-udp", false),
            ("", false),
        ] {
            assert_eq!(has_websocket(protocols), expected, "{protocols:?}");
        }
    }
}
