//! The files of recipes.

use llm_rate_limit_tests::envoy::Setup;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::recipe::setup;
pub use llm_rate_limit_tests::recipe::{KEY, chat_of, held_chat};
use llm_rate_limit_tests::wasm;
use std::fs;
use std::path::PathBuf;

/// The files of all recipes.
pub fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(wasm::root().join("envoy/recipes")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// [`setup`] of `envoy/recipes/<name>.yaml`.
pub fn recipe(name: &str, mock: &MockLlm, replacements: &[(&str, &str)]) -> Setup {
    setup(&format!("envoy/recipes/{name}.yaml"), mock, replacements)
}
