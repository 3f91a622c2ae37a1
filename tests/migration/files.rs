//! The pages show the very files, and the files are valid for whom they are.

use llm_rate_limit_tests::envoy::Setup;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::recipe::blocks;
use llm_rate_limit_tests::sidecar::binary;
use llm_rate_limit_tests::wasm::root;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The pages of tools, whose configurations they show beside ours.
const PAGES: [&str; 6] = ["apisix", "kong", "kuadrant", "litellm", "providers", "ratelimit"];

fn files(folder: &str, extensions: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let is_one =
        |path: &PathBuf| path.extension().is_some_and(|of| extensions.contains(&of.to_str().unwrap()));
    entries.filter(is_one).collect()
}

fn ours() -> Vec<PathBuf> {
    files("docs/migration", &["yaml"])
}

fn theirs() -> Vec<PathBuf> {
    files("docs/migration/theirs", &["yaml", "json"])
}

#[test]
fn the_pages_have_each_file_and_name_it() {
    let mut shown = BTreeSet::new();
    for page in PAGES {
        let page = format!("docs/migration/{page}.md");
        for language in ["yaml", "json"] {
            shown.extend(blocks(&page, language));
        }
    }
    let all = [ours(), theirs()].concat();
    let texts: BTreeSet<String> = all.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let odd: Vec<_> = texts.symmetric_difference(&shown).collect();
    assert!(odd.is_empty(), "a file is on no page, or a block of a page is no file:\n{odd:?}");
    let text = |page: &&str| fs::read_to_string(root().join(format!("docs/migration/{page}.md"))).unwrap();
    let pages: String = PAGES.iter().map(text).collect();
    for file in all {
        let link = file.strip_prefix(root().join("docs/migration")).unwrap().to_str().unwrap();
        assert!(pages.contains(&format!("]({link})")), "no page links to {link}");
    }
}

#[test]
fn llm_rate_limit_check_accepts_each_of_ours() {
    for file in ours() {
        let output = Command::new(binary()).arg("check").arg(&file).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", file.display());
    }
}

/// Each of theirs parses, and fits the schema of its tool where there is one. `tests/migration/vendor.py` says where
/// these are from.
#[test]
fn theirs_fit_the_schemas_of_their_tools() {
    let mut checked = BTreeSet::new();
    for file in theirs() {
        let text = fs::read_to_string(&file).unwrap();
        let _: Value = yaml_serde::from_str(&text).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let schema = root().join(format!("tests/migration/schemas/{name}.json"));
        if schema.exists() {
            let mut check = Command::new(root().join(".tools/venv/bin/check-jsonschema"));
            let output = check.arg("--schemafile").arg(schema).arg(&file).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            checked.insert(name);
        }
    }
    let all = files("tests/migration/schemas", &["json"]);
    assert_eq!(checked.len(), all.len(), "a schema is for none of {:?}: {checked:?}", theirs());
}

/// Envoy takes the actions that the page shows beside the descriptors of ratelimit.
#[test]
fn envoy_accepts_the_actions_of_ratelimit() {
    let actions = fs::read_to_string(root().join("docs/migration/theirs/ratelimit-actions.yaml")).unwrap();
    let actions: Value = yaml_serde::from_str(&actions).unwrap();
    let mock = MockLlm::start();
    let mut setup = Setup::new(mock.address());
    let listener = &mut setup.config()["static_resources"]["listeners"][0];
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    manager["route_config"]["virtual_hosts"][0]["rate_limits"] = actions["rate_limits"].clone();
    assert_eq!(setup.validate(), Ok(()));
    // With a misspelt field it does not.
    let listener = &mut setup.config()["static_resources"]["listeners"][0];
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    manager["route_config"]["virtual_hosts"][0]["rate_limits"][0]["on_stream_done"] = json!(true);
    setup.validate().unwrap_err();
}
