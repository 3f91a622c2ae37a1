//! Envoy's own features together with the filter: each file of `envoy/examples/` runs in a real Envoy, with real
//! clients. A file here tests the example of its name.

mod composite;
mod cors;
mod decompressor;
mod example;
mod hot_restart;
mod jwt;
mod mirror;
mod mtls;
mod provider_key;
mod retries;
mod routes;
mod two_filters;

use llm_rate_limit_tests::wasm;
use std::collections::BTreeSet;
use std::fs;

#[test]
fn every_example_has_a_test_and_a_row_on_its_page() {
    let root = wasm::root();
    let files = fs::read_dir(root.join("envoy/examples")).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let examples: BTreeSet<String> = files.filter(|name| name.ends_with(".yaml")).collect();
    for example in &examples {
        let test = format!("tests/examples/{}.rs", example.trim_end_matches(".yaml").replace('-', "_"));
        assert!(root.join(&test).exists(), "{example} has no {test}");
    }
    let page = fs::read_to_string(root.join("envoy/examples/README.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| [")?.split_once(']'));
    let rows: BTreeSet<String> = rows.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(rows, examples);
}
