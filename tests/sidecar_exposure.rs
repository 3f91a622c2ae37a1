//! Where the sidecar starts without a token: on addresses that nobody else can reach, and where a setting allows it.

use llm_rate_limit_tests::process::Process;
use llm_rate_limit_tests::sidecar::launch;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::time::Duration;

/// The time limit for a start or an end.
const SOON: Duration = Duration::from_secs(20);

/// No test needs an answer of Redis.
const NO_REDIS: &str = "redis://127.0.0.1:1";

fn start(listen: &str, settings: &[(&str, &str)]) -> Process {
    launch(listen, NO_REDIS, settings)
}

fn refuses(listen: &str, settings: &[(&str, &str)]) {
    let mut process = start(listen, settings);
    let status = process.wait(SOON).unwrap_or_else(|| panic!("{listen} {settings:?}: it runs"));
    assert_eq!(status.code(), Some(2), "{listen}: {}", process.log());
    for expected in [&format!("LISTEN is {listen}"), "AUTH_TOKEN", "--allow-anyone"] {
        assert!(process.log().contains(expected), "{listen}: {}", process.log());
    }
    assert!(!process.log().contains("listening"), "{}", process.log());
}

fn starts(listen: &str, settings: &[(&str, &str)]) -> Process {
    let mut process = start(listen, settings);
    process.wait_until("listening", SOON, |process| process.log().contains("listening"));
    process
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// An address of this machine that others may reach, if it has one.
fn outer() -> Option<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Sends nothing: it asks the system for the address that it would send from.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        std::net::IpAddr::V4(address) if !address.is_loopback() && !address.is_unspecified() => Some(address),
        _ => None,
    }
}

#[test]
fn without_a_token_it_does_not_start_where_others_can_reach_it() {
    refuses("0.0.0.0:0", &[]);
    refuses("0.0.0.0:0", &[("AUTH_TOKEN", "")]);
    refuses("0.0.0.0:0", &[("AUTH_TOKEN", " \t")]);
    refuses("0.0.0.0:0", &[("ALLOW_ANYONE", "")]);
    refuses("0.0.0.0:0", &[("ALLOW_ANYONE", "false")]);
    refuses("[::]:0", &[]);
    refuses("[::ffff:0.0.0.0]:0", &[]);
    if let Some(address) = outer() {
        refuses(&format!("{address}:0"), &[]);
    }
}

#[test]
fn nobody_else_reaches_loopback_under_any_name() {
    for listen in ["127.0.0.1:0", "127.0.0.2:0", "localhost:0"] {
        starts(listen, &[]);
    }
    if has_ipv6() {
        starts("[::1]:0", &[]);
    }
}

#[test]
fn a_token_or_the_setting_lets_it_start_anywhere() {
    let with_token = starts("0.0.0.0:0", &[("AUTH_TOKEN", "a token")]);
    assert!(!with_token.log().contains("AUTH_TOKEN"), "{}", with_token.log());
    let open = starts("0.0.0.0:0", &[("ALLOW_ANYONE", "true")]);
    assert!(open.log().contains("can spend and empty counters"), "{}", open.log());
    let shipped = starts("0.0.0.0:0", &[("AUTH_TOKEN", "change-this-token")]);
    assert!(shipped.log().contains("choose another"), "{}", shipped.log());
}

#[test]
fn the_token_may_be_in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    fs::write(path, "a token\n").unwrap();
    let process = starts("127.0.0.1:0", &[("AUTH_TOKEN_FILE", path)]);
    let address =
        process.log().lines().find_map(|line| Some(line.split_once("address=")?.1.to_owned())).unwrap();
    let status = |token: &str| {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let url = format!("http://{address}/v1/usage?identity=a");
        agent.get(url).header("authorization", format!("Bearer {token}")).call().unwrap().status().as_u16()
    };
    // There is no Redis, so nobody gets an answer; but whoever has the token is let through.
    assert_eq!((status("another"), status("a token")), (401, 503));
}

#[test]
fn a_file_without_a_token_is_an_error() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let empty = empty.path().to_str().unwrap();
    for (settings, expected) in [
        (&[("AUTH_TOKEN_FILE", empty)][..], format!("expected a token in {empty}")),
        (&[("AUTH_TOKEN_FILE", "/nowhere")], "cannot read /nowhere".to_owned()),
        (
            &[
                ("AUTH_TOKEN_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")),
                ("AUTH_TOKEN", "a token"),
            ],
            "cannot be used with".to_owned(),
        ),
    ] {
        let mut process = start("0.0.0.0:0", settings);
        assert_eq!(process.wait(SOON).unwrap().code(), Some(2));
        assert!(process.log().contains(&expected), "{}", process.log());
    }
}
