//! `envoy/compose.yaml` and the Dockerfile, as Compose and an engine read them.

use llm_rate_limit_tests::wasm;
use serde_json::Value;
use std::fs;

/// The file, with its merges done.
pub fn compose() -> Value {
    let text = fs::read_to_string(wasm::root().join("envoy/compose.yaml")).unwrap();
    let mut value: yaml_serde::Value = yaml_serde::from_str(&text).unwrap();
    // A merge of what has a merge itself takes another turn.
    for _ in 0..3 {
        value.apply_merge().unwrap();
    }
    serde_json::to_value(value).unwrap()
}

pub fn services(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    compose["services"].as_object().unwrap().iter().map(|(name, service)| (name.as_str(), service))
}

pub fn words(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// The instructions of a target of the Dockerfile, one a line.
pub fn stage(target: &str) -> Vec<String> {
    let text = fs::read_to_string(wasm::root().join("envoy/Dockerfile")).unwrap().replace("\\\n", "");
    let (_, stage) =
        text.split_once(&format!(" AS {target}\n")).unwrap_or_else(|| panic!("no target {target}"));
    let stage = stage.split("\nFROM ").next().unwrap();
    stage.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// The words of an instruction in its JSON form.
pub fn instruction(stage: &[String], name: &str) -> Vec<String> {
    let line = stage.iter().find_map(|line| line.strip_prefix(name));
    line.map(|json| words(&serde_json::from_str(json).unwrap())).unwrap_or_default()
}
