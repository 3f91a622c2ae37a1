//! An example as a test runs it: its file, with other addresses.

use llm_rate_limit_tests::envoy::Setup;
use llm_rate_limit_tests::wasm;
use std::fs;
use std::net::SocketAddr;

/// The filter's place in every example.
const FILTER: &str = "target/wasm32-wasip1/release/llm_rate_limit.wasm";

/// The file `envoy/examples/<name>.yaml` with each of `replacements` made, and free ports for clients and for Envoy's
/// admin interface. Limits are over days instead of minutes: on a busy machine a minute passes in a test.
///
/// # Panics
/// If the file does not have what is to be replaced.
pub fn example(name: &str, replacements: &[(&str, &str)]) -> Setup {
    let path = wasm::root().join(format!("envoy/examples/{name}.yaml"));
    let mut text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let filter = wasm::filter();
    let others = [("port_value: 9901", "port_value: 0"), (FILTER, filter.to_str().unwrap())];
    let listen = ("port_value: 10000", "port_value: 0");
    let listens = replacements.iter().any(|(from, _)| *from == listen.0);
    for (from, to) in replacements.iter().chain(&others).chain((!listens).then_some(&listen)) {
        assert!(text.contains(from), "{name}.yaml has no {from}");
        text = text.replace(from, to);
    }
    Setup::from_yaml(&text.replace("rpm: ", "rpd: ").replace("tpm: ", "tpd: ")).concurrency(1)
}

/// The replacement of the port of an example's upstream by that of `address`.
pub fn port(address: SocketAddr) -> String {
    format!("port_value: {}", address.port())
}
