//! A page's configuration as a test runs it: its file, in the shipped configuration of Envoy.
//!
//! The file is the filter's configuration. The few lines of Envoy that it needs, if any, are behind `#envoy`: members
//! of the HTTP connection manager.

use crate::chat::{CHAT, client, hello};
use crate::envoy::{Envoy, Setup};
use crate::mock_llm::MockLlm;
use crate::wasm::root;
use reqwest::RequestBuilder;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs;

/// The key whose digest the files have first.
pub const KEY: &str = "test-key-1";

/// The shipped configuration of Envoy with the file in it, each of `replacements` made. Limits over minutes are over
/// days: on a busy machine a minute passes in a test.
///
/// # Panics
/// If there is no such file, or it does not have what is to be replaced.
pub fn setup(file: &str, mock: &MockLlm, replacements: &[(&str, &str)]) -> Setup {
    let mut text = fs::read_to_string(root().join(file)).unwrap_or_else(|why| panic!("{file}: {why}"));
    for (from, to) in replacements {
        assert!(text.contains(from), "{file} has no {from}");
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

/// The blocks of a page that are marked as this language.
///
/// # Panics
/// If there is no such page.
pub fn blocks(page: &str, language: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(page)).unwrap_or_else(|why| panic!("{page}: {why}"));
    let begin = format!("```{language}\n");
    text.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}
