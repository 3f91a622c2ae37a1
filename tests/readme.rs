//! What README shows works: its limits are enforced, its commands exist, its links lead somewhere.

use llm_rate_limit_tests::envoy::Setup;
use llm_rate_limit_tests::mock_llm::MockLlm;
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};
use std::fs;

fn document(name: &str) -> String {
    fs::read_to_string(wasm::root().join(name)).unwrap()
}

/// The one block of JSON in README.
fn limits() -> Value {
    let readme = document("README.md");
    let blocks: Vec<&str> = readme.split("```json\n").skip(1).collect();
    let [block] = blocks[..] else { panic!("README has {} blocks of JSON", blocks.len()) };
    serde_json::from_str(block.split("```").next().unwrap()).unwrap()
}

#[test]
fn the_limits_are_enforced() {
    let upstream = MockLlm::start();
    let limits = limits();
    let allowed = limits["plans"]["free"]["rpm"].as_u64().unwrap();
    let envoy = Setup::new(upstream.address()).concurrency(1).filter(&limits).start();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let body = json!({"model": "gpt-4o", "max_tokens": 1, "messages": []}).to_string();
    let ask = || {
        let request =
            agent.post(envoy.url("/v1/chat/completions")).header("authorization", "Bearer an-api-key");
        request.send(&body).unwrap().status().as_u16()
    };
    for asked in 0..allowed {
        assert_eq!(ask(), 200, "request {asked} of {allowed}");
    }
    assert_eq!(ask(), 429);
}

#[test]
fn every_make_target_exists() {
    let makefile = document("Makefile");
    for name in ["README.md", "CONTRIBUTING.md"] {
        let text = document(name);
        let targets: Vec<&str> = text
            .split("make ")
            .skip(1)
            .zip(text.split("make "))
            .filter(|(_, before)| before.ends_with('`') || before.ends_with("    "))
            .map(|(after, _)| after.split(|letter: char| !letter.is_ascii_lowercase()).next().unwrap())
            .collect();
        assert!(!targets.is_empty(), "{name} names no target");
        for target in targets {
            assert!(makefile.contains(&format!("\n{target}: ")), "{name}: make {target}");
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    for name in ["README.md", "CONTRIBUTING.md", "docs/design.md"] {
        let text = document(name);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let place = wasm::root().join(name).parent().unwrap().join(link);
            assert!(link.starts_with("https://") || place.exists(), "{name}: {link}");
        }
    }
}
