//! What is shipped passes.

use crate::{checked_text, shipped};
use llm_rate_limit_tests::command::{Run, run};
use llm_rate_limit_tests::wasm;
use std::fs;
use std::process::Command;

/// The YAML of these folders, but for templates, which are none before Helm has filled them in.
fn yaml_of(folders: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = folders.iter().map(|folder| wasm::root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("templates") {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "yaml") {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

/// What is neither of the filter, nor of Envoy or Kubernetes: rules of Prometheus, values of charts, and limits whose
/// token the entrypoint of the containers fills in.
const OTHERS: [&str; 6] = [
    "deploy/observability/alerts.yaml",
    "deploy/observability/alerts_test.yaml",
    "deploy/istio/components/local-module/gateway-values.yaml",
    "deploy/istio/telemetry/gateway.yaml",
    "deploy/istio/telemetry/mesh.yaml",
    "envoy/limits/limits.yaml",
];

/// Every file that is shipped and has the filter passes, and nothing is found in the others.
#[test]
fn every_shipped_file_passes() {
    let mut with_filter = Vec::new();
    let others = OTHERS.map(shipped);
    for file in yaml_of(&["envoy", "deploy"]).into_iter().filter(|file| !others.contains(file)) {
        let Run { status, out, err } = run(&["check", &file]);
        assert_eq!(err, "", "{out}");
        if status == 0 {
            assert!(out.starts_with(&format!("{file}: ok\n")), "{out}");
            with_filter.push(file);
        } else {
            assert_eq!(out, format!("{file}: nothing of the filter is in it\n"));
        }
    }
    for known in [
        "envoy/envoy.yaml",
        "envoy/reload/filter.yaml",
        "envoy/examples/jwt.yaml",
        "envoy/recipes/dollars-a-month.yaml",
        "deploy/istio/base/envoyfilter.yaml",
        "deploy/istio/wasmplugin/wasmplugin.yaml",
        "deploy/istio/trafficextension/trafficextension.yaml",
        "deploy/envoy-gateway/base/envoyextensionpolicy.yaml",
        "deploy/higress/wasmplugin.yaml",
    ] {
        assert!(with_filter.contains(&shipped(known)), "{known}: {with_filter:#?}");
    }
    let together =
        ["envoy/envoy.yaml", "deploy/istio/base/envoyfilter.yaml", "deploy/kubernetes/base/service.yaml"]
            .map(shipped);
    let together = run(&[&["check"][..], &together.each_ref().map(String::as_str)].concat());
    assert_eq!(together.status, 0, "{}", together.out);
    assert!(together.out.contains("hint: ") && together.out.contains("Envoy's config_dump shows the keys"));
}

#[test]
fn what_configure_makes_passes() {
    for store in ["local", "redis"] {
        let script =
            Command::new("sh").arg(shipped("envoy/configure.sh")).env("STORE", store).output().unwrap();
        let (lines, is_ok) = checked_text(&String::from_utf8(script.stdout).unwrap());
        assert!(is_ok, "{store}: {lines:#?}");
    }
}

/// Every example of configurations in the documentation passes.
#[test]
fn every_example_passes() {
    let mut checked = 0;
    for page in ["README.md", "docs/configuration.md"] {
        let text = fs::read_to_string(shipped(page)).unwrap();
        let blocks = text.split("\n```").filter_map(|block| {
            let block = block.strip_prefix("yaml\n").or_else(|| block.strip_prefix("json\n"))?;
            // The entry of a filter that is in a file of its own.
            (!block.contains("config_discovery")).then_some(block)
        });
        for block in blocks {
            let (lines, is_ok) = checked_text(block);
            assert!(is_ok, "{page}: {lines:#?}\n{block}");
            checked += 1;
        }
    }
    assert!(checked > 8, "{checked}");
}
