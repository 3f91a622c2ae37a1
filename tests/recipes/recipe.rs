//! A recipe as a test runs it: its file, in the shipped configuration of Envoy.

use llm_rate_limit_tests::chat::{CHAT, client, hello};
use llm_rate_limit_tests::envoy::{Envoy, Setup};
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::wasm;
use reqwest::RequestBuilder;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::PathBuf;

/// The key whose digest the recipes have first.
pub const KEY: &str = "test-key-1";

/// The files of all recipes.
pub fn files() -> Vec<PathBuf> {
    let entries = fs::read_dir(wasm::root().join("envoy/recipes")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The shipped configuration of Envoy with `envoy/recipes/<name>.yaml` in it, each of `replacements` made. Limits over
/// minutes are over days: on a busy machine a minute passes in a test.
///
/// # Panics
/// If the file does not have what is to be replaced.
pub fn recipe(name: &str, mock: &MockLlm, replacements: &[(&str, &str)]) -> Setup {
    let path = wasm::root().join(format!("envoy/recipes/{name}.yaml"));
    let mut text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    for (from, to) in replacements {
        assert!(text.contains(from), "{name}.yaml has no {from}");
        text = text.replace(from, to);
    }
    let limits = text.replace("rpm: ", "rpd: ").replace("tpm: ", "tpd: ");
    let mut setup = Setup::new(mock.address()).concurrency(1).filter_text(&limits);
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#envoy ")).collect();
    let members: Option<Map<String, Value>> = yaml_serde::from_str(&lines.join("\n")).unwrap();
    let listener = &mut setup.config()["static_resources"]["listeners"][0];
    let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
    for (member, value) in members.unwrap_or_default() {
        if member == "http_filters" {
            let filters = manager["http_filters"].as_array_mut().unwrap();
            filters.splice(0..0, value.as_array().unwrap().clone());
        } else {
            manager[member] = value;
        }
    }
    setup
}

/// A chat that may answer with so many tokens, and will.
pub fn chat_of(envoy: &Envoy, output_tokens: u64) -> RequestBuilder {
    let mut chat = hello();
    chat["max_tokens"] = json!(output_tokens);
    let request = client().post(envoy.url(CHAT)).json(&chat);
    request.header("x-mock-prompt-tokens", "9").header("x-mock-completion-tokens", output_tokens)
}

/// A chat whose answer, a stream, waits at the gate `gate` of the mock.
pub fn held_chat(envoy: &Envoy, gate: &str) -> RequestBuilder {
    let mut chat = hello();
    chat["stream"] = json!(true);
    client().post(envoy.url(CHAT)).json(&chat).header("x-mock-gate", gate)
}
