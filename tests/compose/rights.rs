//! What the file and the images say, without running any of it.

use crate::file::{compose, services, stage, words};
use llm_rate_limit_tests::wasm;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

#[test]
fn every_service_has_no_more_rights_than_it_needs() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let user = service["user"].as_str().unwrap();
        let ids: Vec<u32> = user.split(':').map(|id| id.parse().unwrap()).collect();
        assert!(ids.len() == 2 && ids[0] > 0, "{name}: {user}");
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(words(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(words(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        assert!(service["mem_limit"].is_string() && service["pids_limit"].is_number(), "{name}");
        assert!(service.get("privileged").is_none() && service.get("cap_add").is_none(), "{name}");
        assert!(words(&service["ports"]).iter().all(|port| port.starts_with("127.0.0.1:")), "{name}");
        // What publishes nothing has no way out either.
        let networks = words(&service["networks"]);
        assert_eq!(networks.contains(&"outside".to_owned()), service.get("ports").is_some(), "{name}");
        if let Some(image) = service["image"].as_str() {
            assert!(image.contains(":") && image.contains("@sha256:"), "{name}: {image}");
        }
    }
    assert_eq!(compose["networks"]["inside"]["internal"], true);
}

#[test]
fn nothing_but_clients_and_prometheus_is_published() {
    let compose = compose();
    let published: Vec<String> =
        services(&compose).flat_map(|(_, service)| words(&service["ports"])).collect();
    let expected =
        ["127.0.0.1:10002:10000", "127.0.0.1:10000:10000", "127.0.0.1:9090:9090", "127.0.0.1:10001:10000"];
    let expected = [&expected[..], &["127.0.0.1:3000:3000"]].concat();
    assert_eq!(
        published.iter().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
        expected.into_iter().collect::<std::collections::BTreeSet<_>>()
    );
}

/// Grafana itself does not run here.
#[test]
fn grafana_has_the_dashboard_and_its_source_from_the_start() {
    let compose = compose();
    let read = |name: &str| -> Value {
        yaml_serde::from_str(&fs::read_to_string(wasm::root().join("envoy/grafana").join(name)).unwrap())
            .unwrap()
    };
    let (sources, dashboards) = (read("datasources/prometheus.yaml"), read("dashboards/llm-rate-limit.yaml"));
    assert_eq!((&sources["apiVersion"], &dashboards["apiVersion"]), (&1.into(), &1.into()));
    let source = &sources["datasources"][0];
    assert_eq!((&source["type"], &source["isDefault"]), (&"prometheus".into(), &true.into()));
    assert_eq!(source["url"], "http://prometheus:9090");
    assert!(compose["services"]["prometheus"].is_object());
    let grafana = &compose["services"]["grafana"];
    let folder = dashboards["providers"][0]["options"]["path"].as_str().unwrap();
    let mounts = words(&grafana["volumes"]);
    assert!(mounts.contains(&format!("../deploy/observability:{folder}:ro")), "{mounts:?}");
    assert!(mounts.contains(&"./grafana:/etc/grafana/provisioning:ro".to_owned()), "{mounts:?}");
    let home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str().unwrap();
    let home = home.strip_prefix(folder).unwrap();
    let text = fs::read_to_string(wasm::root().join(format!("deploy/observability{home}"))).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    // Its variable takes the source that is the default.
    assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");
    assert_eq!(dashboard["templating"]["list"][0]["query"], source["type"]);
}

#[test]
fn no_secret_is_in_the_files() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let environment = service["environment"].as_object().into_iter().flatten();
        for (variable, value) in environment {
            let is_secret = variable.contains("TOKEN") || variable.contains("PASSWORD");
            assert!(!is_secret || value.as_str().unwrap().starts_with("/run/secrets/"), "{name}: {variable}");
        }
    }
    let limits = fs::read_to_string(wasm::root().join("envoy/limits/limits.yaml")).unwrap();
    assert!(limits.contains("auth_token: ${AUTH_TOKEN}\n"));
    for list in [".gitignore", ".dockerignore"] {
        let list = fs::read_to_string(wasm::root().join(list)).unwrap();
        assert!(list.lines().any(|line| line.trim_start_matches('/') == "envoy/secrets"));
    }
}

#[test]
fn what_compose_builds_and_mounts_is_there() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let build = &service["build"];
        if let Some(target) = build["target"].as_str() {
            let labels = stage(target).join(" ");
            assert!(labels.contains("org.opencontainers.image.licenses=\"Apache-2.0\""), "{target}");
            assert!(labels.contains("COPY LICENSE "), "{target}");
            let context = wasm::root().join("envoy").join(build["context"].as_str().unwrap());
            assert!(context.join(build["dockerfile"].as_str().unwrap()).exists());
        }
        for volume in words(&service["volumes"]) {
            let (from, to) = volume.split_once(':').unwrap();
            if from.starts_with('.') {
                assert!(wasm::root().join("envoy").join(from).is_dir(), "{name}: {volume}");
                assert!(to.ends_with(":ro"), "{name}: {volume}");
            } else {
                assert!(compose["volumes"].get(from).is_some(), "{name}: {volume}");
            }
        }
    }
    let prometheus = fs::read_to_string(wasm::root().join("envoy/prometheus/prometheus.yml")).unwrap();
    assert!(prometheus.contains("rule_files: [/etc/prometheus/rules/alerts.yaml]"));
    let mounts = words(&compose["services"]["prometheus"]["volumes"]);
    assert!(mounts.contains(&"../deploy/observability:/etc/prometheus/rules:ro".to_owned()));
    assert!(wasm::root().join("deploy/observability/alerts.yaml").is_file());
    let root = fs::read_to_string(wasm::root().join("compose.yaml")).unwrap();
    assert!(root.contains("include: [envoy/compose.yaml]"));
}

/// The first step of the image's build, in a folder that has only what the Dockerfile has copied by then. A Python of
/// ours stands for the downloads; its `-m venv` makes an environment of the same, as the real one would.
#[test]
fn the_image_fetches_its_tools_into_an_empty_folder() {
    const PYTHON: &str = r#"#!/bin/sh
case "$1 $2" in
"-m venv")
    for place; do :; done
    mkdir -p "$place/bin"
    cp "$0" "$place/bin/python"
    cp "$0" "$place/bin/pip"
    ;;
"-m pip") echo "$*" >>pip.log ;;
esac
"#;
    let build = stage("build");
    let until = build.iter().position(|line| line.starts_with("RUN ")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for copied in build[..until].iter().filter_map(|line| line.strip_prefix("COPY ")) {
        let (from, to) = copied.split_once(' ').unwrap();
        let to = root.join(to);
        fs::create_dir_all(&to).unwrap();
        fs::copy(wasm::root().join(from), to.join(Path::new(from).file_name().unwrap())).unwrap();
    }
    let bin = root.join("bin");
    fs::create_dir(&bin).unwrap();
    let program = |name: &str, text: &str| {
        fs::write(bin.join(name), text).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("python3", PYTHON);
    // It has the library of every target.
    fs::write(root.join("libstd-0.rlib"), "").unwrap();
    program("rustc", &format!("#!/bin/sh\necho {}\n", root.display()));
    let step = build[until].strip_prefix("RUN ").unwrap().replace("mkdir /out", "mkdir out");
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &step])
        .current_dir(root)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let fetched = fs::read_to_string(root.join("pip.log")).unwrap();
    assert!(fetched.contains("cargo-zigbuild"), "{fetched}");
    assert_eq!(fs::read_to_string(root.join(".tools/release")).unwrap(), "rustup\n");
    assert!(root.join("out").is_dir());
}
