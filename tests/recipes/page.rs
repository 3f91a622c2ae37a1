//! The page of recipes shows the very files.

use crate::recipe::files;
use llm_rate_limit_tests::recipe::blocks;
use llm_rate_limit_tests::sidecar::binary;
use llm_rate_limit_tests::wasm::root;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

#[test]
fn the_page_has_each_file_and_names_it() {
    let page = fs::read_to_string(root().join("docs/recipes.md")).unwrap();
    let blocks = blocks("docs/recipes.md", "yaml");
    let texts: BTreeSet<String> = files().iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let odd: Vec<_> = texts.symmetric_difference(&blocks).collect();
    assert!(
        odd.is_empty(),
        "either a recipe is not on the page, or a block of the page is no recipe:\n{odd:?}"
    );
    for file in files() {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(page.contains(&format!("](../envoy/recipes/{name})")), "the page does not link to {name}");
    }
}

#[test]
fn llm_rate_limit_check_accepts_each_file() {
    for file in files() {
        let output = Command::new(binary()).arg("check").arg(&file).output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", file.display());
    }
}
