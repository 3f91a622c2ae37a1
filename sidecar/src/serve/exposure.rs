//! Who can reach the address that the server listens on. Whoever reaches it without a token can empty counters, so
//! without one the server starts only where nobody else is: on loopback or a unix socket.

use super::Failure;
use super::settings::{Listen, Settings};
use std::net::SocketAddr;
use tokio::net::{TcpListener, lookup_host};

/// The token in the shipped files, which everyone knows.
const SHIPPED_TOKEN: &str = "change-this-token";

/// The addresses behind `at`, which are the only ones to listen on.
///
/// # Errors
/// [`Failure::Listen`] if the name has no address; [`Failure::Exposed`] if others can reach one and no token is set.
pub(super) async fn addresses(at: &str, settings: &Settings) -> Result<Vec<SocketAddr>, Failure> {
    let listen = || Listen::Tcp(at.to_owned());
    let found = lookup_host(at).await.map_err(|why| Failure::Listen { at: listen(), why })?;
    let addresses: Vec<SocketAddr> = found.collect();
    match settings.token() {
        None if addresses.iter().all(is_private) => {}
        None if settings.allow_anyone => {
            tracing::warn!(
                listen = at,
                "no AUTH_TOKEN: whoever reaches this address can spend and empty counters"
            );
        }
        None => return Err(Failure::Exposed { at: listen() }),
        Some(SHIPPED_TOKEN) => {
            tracing::warn!(
                "AUTH_TOKEN is the one of the shipped files, which everyone knows: choose another"
            );
        }
        Some(_) => {}
    }
    Ok(addresses)
}

/// Listens for the status page at `at`. `--allow-anyone` does not open it: it is for people, who have the token.
///
/// # Errors
/// [`Failure::Listen`] if nothing can listen there; [`Failure::PageExposed`] if others can reach it and no token is
/// set.
pub(super) async fn bind_page(at: &str, settings: &Settings) -> Result<TcpListener, Failure> {
    let failure = |why| Failure::Listen { at: Listen::Tcp(at.to_owned()), why };
    let addresses: Vec<SocketAddr> = lookup_host(at).await.map_err(failure)?.collect();
    if settings.token().is_none() && !addresses.iter().all(is_private) {
        return Err(Failure::PageExposed { at: at.to_owned() });
    }
    let listener = TcpListener::bind(&*addresses).await.map_err(failure)?;
    tracing::info!(page = %listener.local_addr()?, "the status page");
    Ok(listener)
}

/// Whether only this machine reaches an address.
fn is_private(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_private() {
        for (address, expected) in [
            ("127.0.0.1:1", true),
            ("127.8.0.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("[::ffff:0.0.0.0]:1", false),
            ("10.0.0.1:1", false),
            ("192.168.0.1:1", false),
            ("[fe80::1]:1", false),
        ] {
            assert_eq!(is_private(&address.parse().unwrap()), expected, "{address}");
        }
    }
}
