//! `check` on deployments: what is shipped passes, and what stands wrong around the filter is found.

use llm_rate_limit_tests::command::{Run, data, path, run, run_with, text_file};
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

fn shipped(file: &str) -> String {
    wasm::root().join(file).to_str().unwrap().to_owned()
}

/// A shipped file of one document.
fn document(file: &str) -> Value {
    yaml_serde::from_str(&fs::read_to_string(shipped(file)).unwrap()).unwrap()
}

/// The lines about a file with this content, without its name, and whether it passes.
fn checked(content: &Value) -> (Vec<String>, bool) {
    checked_text(&content.to_string())
}

fn checked_text(content: &str) -> (Vec<String>, bool) {
    let Run { status, out, err } = run_with(&["check", "-"], &[], content);
    assert_eq!(err, "", "{out}");
    (out.lines().map(|line| line.strip_prefix("-: ").unwrap().to_owned()).collect(), status == 0)
}

/// Fails unless the one problem begins so.
fn assert_problem(content: &Value, expected: &str) {
    let (lines, is_ok) = checked(content);
    let problems: Vec<_> = lines.iter().filter(|line| !line.starts_with("hint: ")).collect();
    assert!(!is_ok && problems.len() == 1 && problems[0].starts_with(expected), "{expected}: {lines:#?}");
}

/// Fails unless it passes with a hint that begins so.
fn assert_hint(content: &Value, expected: &str) {
    let (lines, is_ok) = checked(content);
    let expected = format!("hint: {expected}");
    assert!(is_ok && lines.iter().any(|line| line.starts_with(&expected)), "{expected}: {lines:#?}");
}

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

/// The plugin in `envoy.yaml`.
const PLUGIN: &str = concat!(
    "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config",
    "/http_filters/0/typed_config/config",
);
const PLUGIN_PATH: &str = concat!(
    "static_resources.listeners[0].filter_chains[0].filters[0].typed_config",
    ".http_filters[0].typed_config.config",
);

/// `envoy.yaml`, changed.
fn envoy(change: impl Fn(&mut Value)) -> Value {
    let mut envoy = document("envoy/envoy.yaml");
    change(&mut envoy);
    envoy
}

/// `envoy.yaml` with this configuration of the filter.
fn with_limits(limits: &Value) -> Value {
    envoy(|envoy| {
        envoy.pointer_mut(PLUGIN).unwrap()["configuration"]["value"] = limits.to_string().into();
    })
}

fn filters(envoy: &mut Value) -> &mut Vec<Value> {
    let path = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
    envoy.pointer_mut(path).unwrap().as_array_mut().unwrap()
}

/// Limits on tokens by who a JWT is for, in Redis.
fn by_jwt() -> Value {
    json!({
        "store": {"type": "redis", "cluster": "rate-limit-sidecar"},
        "identity": [{"all": [{"client_ip": {}}, {"metadata": ["envoy.filters.http.jwt_authn", "payload", "sub"]}]}],
        "default": {"tpm": 1000},
    })
}

#[test]
fn a_mistake_is_found_with_its_place_in_whatever_has_it() {
    let bad = json!({"plans": {"free": {"rpm": -1}}});
    let mistake = "plans.free.rpm: expected a whole number from 0 to 9007199254740991, found -1";
    assert_problem(&with_limits(&bad), &format!("{PLUGIN_PATH}.configuration.value: {mistake}"));
    let as_struct = envoy(|envoy| {
        envoy.pointer_mut(PLUGIN).unwrap()["configuration"] =
            json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": bad});
    });
    assert_problem(&as_struct, &format!("{PLUGIN_PATH}.configuration.value: {mistake}"));
    let typed_struct = envoy(|envoy| {
        let typed = filters(envoy)[0]["typed_config"].take();
        let mut config = typed["config"].clone();
        config["configuration"]["value"] = bad.to_string().into();
        filters(envoy)[0]["typed_config"] = json!({
            "@type": "type.googleapis.com/xds.type.v3.TypedStruct",
            "type_url": typed["@type"], "value": {"config": config},
        });
    });
    let place = PLUGIN_PATH.replace("typed_config.config", "typed_config.value.config");
    assert_problem(&typed_struct, &format!("{place}.configuration.value: {mistake}"));
    let resource = |kind: &str, spec: Value| {
        let metadata = json!({"name": "llm-rate-limit"});
        json!({"apiVersion": "x/v1", "kind": kind, "metadata": metadata, "spec": spec})
    };
    assert_problem(
        &resource("WasmPlugin", json!({"pluginConfig": bad})),
        &format!("spec.pluginConfig: {mistake}"),
    );
    let wasm = json!({"wasm": {"url": "oci://a/llm-rate-limit-filter", "pluginConfig": bad}});
    assert_problem(&resource("TrafficExtension", wasm), &format!("spec.wasm.pluginConfig: {mistake}"));
    let policy = json!({"wasm": [{"name": "other"}, {"name": "llm-rate-limit", "config": bad}]});
    assert_problem(&resource("EnvoyExtensionPolicy", policy), &format!("spec.wasm[1].config: {mistake}"));
    let mut filter = document("deploy/istio/base/envoyfilter.yaml");
    filter["spec"]["configPatches"][0]["patch"]["value"]["typed_config"]["config"]["configuration"]["value"] =
        bad.clone();
    assert_problem(
        &filter,
        &format!("spec.configPatches[0].patch.value.typed_config.config.configuration.value: {mistake}"),
    );
    let missing = envoy(|envoy| {
        drop(envoy.pointer_mut(PLUGIN).unwrap().as_object_mut().unwrap().remove("configuration"))
    });
    assert_problem(
        &missing,
        &format!("{PLUGIN_PATH}.configuration: configuration: expected a configuration, found none"),
    );
}

#[test]
fn documents_and_config_maps_are_read_one_by_one() {
    let text = concat!(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\n",
        "metadata: {name: limits}\ndata:\n  limits.yaml: |\n    default: {rpm: -1}\n  notes.txt: hello\n",
        "  other.yaml: |\n    default: x\n    unrelated: true\n---\ndefault: {rpm: -2}\n",
    );
    let (lines, is_ok) = checked_text(text);
    assert!(!is_ok);
    let begins = [
        "document 2, ConfigMap limits: data[\"limits.yaml\"]: default.rpm: expected a whole number",
        "document 3: default.rpm: expected a whole number",
    ];
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines.iter().zip(begins).all(|(line, begin)| line.starts_with(begin)), "{lines:#?}");
    let whole =
        fs::read_to_string(shipped("envoy/envoy.yaml")).unwrap().replace("\"rpm\": 3", "\"rpm\": true");
    let carried = json!({"kind": "ConfigMap", "metadata": {"name": "envoy"}, "data": {"envoy.yaml": whole}});
    assert_problem(
        &carried,
        &format!("data[\"envoy.yaml\"]: {PLUGIN_PATH}.configuration.value: plans.demo.rpm: expected"),
    );
    let (lines, _) = checked_text("a: 1\n---\nb: [\n");
    assert!(
        lines[0].starts_with("expected JSON or YAML: ") && !lines[0].contains("more than one"),
        "{lines:?}"
    );
}

#[test]
fn the_cluster_of_the_sidecar_must_exist() {
    let cluster = |name: &str| json!({"store": {"type": "redis", "cluster": name}, "default": {"rpm": 1}});
    let place = format!("{PLUGIN_PATH}.configuration.value: store.cluster: ");
    assert_problem(
        &with_limits(&cluster("sidecar")),
        &format!(
            "{place}expected one of Envoy's clusters (\"llm\", \"rate-limit-sidecar\"), found \"sidecar\""
        ),
    );
    let mut discovers = with_limits(&cluster("sidecar"));
    discovers["dynamic_resources"] = json!({"cds_config": {"ads": {}}});
    assert_hint(&discovers, &format!("{place}no file here has the cluster \"sidecar\""));
    let (lines, is_ok) = checked(&with_limits(&cluster("rate-limit-sidecar")));
    assert!(is_ok && !lines.iter().any(|line| line.contains("store.cluster")), "{lines:#?}");
    let plugin = |name: &str| {
        let mut plugin = document("deploy/istio/wasmplugin/wasmplugin.yaml");
        plugin["spec"]["pluginConfig"]["store"]["cluster"] = name.into();
        plugin
    };
    assert_hint(&plugin("sidecar"), "spec.pluginConfig: store.cluster: Istio calls a service's cluster");
    let another =
        text_file(&plugin("outbound|8082||rate-limit-sidecar.istio-system.svc.cluster.local").to_string());
    let together = run(&["check", path(&another), &shipped("deploy/kubernetes/base/service.yaml")]);
    assert!(
        together.out.contains("store.cluster: no Service in these files is rate-limit-sidecar.istio-system"),
        "{}",
        together.out
    );
}

#[test]
fn bodies_must_reach_the_filter() {
    let field = "allow_on_headers_stop_iteration";
    let without = |limits: &Value| {
        let mut envoy = with_limits(limits);
        envoy.pointer_mut(PLUGIN).unwrap().as_object_mut().unwrap().remove(field);
        envoy
    };
    let tokens = json!({"default": {"tpm": 1}});
    assert_problem(
        &without(&tokens),
        &format!("{PLUGIN_PATH}.{field}: expected true, so that the filter can wait"),
    );
    for fine in
        [json!({"default": {"tpm": 1}, "headers_mode": "headers_first"}), json!({"default": {"rpm": 1}})]
    {
        let (lines, is_ok) = checked(&without(&fine));
        assert!(is_ok, "{lines:#?}");
    }
    let first = json!({"default": {"tpm": 1}, "headers_mode": "headers_first"});
    assert_hint(
        &with_limits(&first),
        &format!("{PLUGIN_PATH}: headers_mode: headers could wait for bodies here"),
    );
    let small = envoy(|envoy| {
        envoy["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"] = 1_000.into()
    });
    assert_hint(
        &small,
        "static_resources.listeners[0].per_connection_buffer_limit_bytes: Envoy answers bodies of more than 1000 bytes",
    );
    let mut plugin = document("deploy/istio/wasmplugin/wasmplugin.yaml");
    plugin["spec"]["pluginConfig"]["headers_mode"] = "auto".into();
    plugin["spec"]["pluginConfig"]["plans"]["free"]["tpm"] = 1.into();
    assert_hint(&plugin, "spec.pluginConfig: headers_mode: a WasmPlugin cannot let headers wait");
    let policy = json!({"kind": "EnvoyExtensionPolicy", "spec": {"wasm": [
        {"name": "llm-rate-limit", "failOpen": true, "config": {"default": {"tpm": 1}}}]}});
    assert_hint(
        &policy,
        "spec.wasm[0]: a body larger than 32 KiB is answered 413 unless a ClientTrafficPolicy",
    );
    assert_hint(&policy, "spec.wasm[0].failOpen: while the filter has crashed, every request passes");
}

#[test]
fn the_filters_that_it_relies_on_must_come_first() {
    let jwt = json!({"name": "envoy.filters.http.jwt_authn", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"}});
    let chain = |at: usize| {
        let mut envoy = with_limits(&by_jwt());
        filters(&mut envoy).insert(at, jwt.clone());
        envoy
    };
    let (lines, is_ok) = checked(&chain(0));
    assert!(is_ok && !lines.iter().any(|line| line.contains("jwt_authn")), "{lines:#?}");
    assert_problem(
        &chain(1),
        &format!("{PLUGIN_PATH}: the filter comes before envoy.filters.http.jwt_authn"),
    );
    assert_hint(
        &with_limits(&by_jwt()),
        &format!("{PLUGIN_PATH}: no filter here is envoy.filters.http.jwt_authn"),
    );
    let last = envoy(|envoy| filters(envoy).reverse());
    let place = PLUGIN_PATH.replace("http_filters[0]", "http_filters[1]");
    assert_problem(&last, &format!("{place}: the filter comes after the router"));
    let mut filter = document("deploy/istio/base/envoyfilter.yaml");
    filter["spec"]["configPatches"][1]["patch"]["operation"] = "ADD".into();
    assert_problem(&filter, "spec.configPatches[1].patch.operation: expected INSERT_BEFORE the router");
    let mut plugin = document("deploy/istio/wasmplugin/wasmplugin.yaml");
    plugin["spec"]["pluginConfig"]["identity"] = by_jwt()["identity"].clone();
    plugin["spec"]["phase"] = "AUTHN".into();
    assert_problem(&plugin, "spec.phase: expected a phase after Istio's authentication, such as \"AUTHZ\"");
    plugin["spec"]["phase"] = "AUTHZ".into();
    assert!(checked(&plugin).1);
}

/// Requests must come to the filter: it must not be off, nor before nobody, nor there twice.
#[test]
fn a_filter_that_no_request_comes_to_is_found() {
    let place = PLUGIN_PATH.trim_end_matches(".typed_config.config");
    let off = json!({"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true});
    let on = json!({"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}});
    let disabled = |envoy: &mut Value| filters(envoy)[0]["disabled"] = true.into();
    let switch = |envoy: &mut Value, path: &str, switch: &Value| {
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        let at = envoy.pointer_mut(&format!("{manager}/route_config{path}")).unwrap();
        at["typed_per_filter_config"] = json!({"llm-rate-limit": switch});
    };
    assert_problem(
        &envoy(disabled),
        &format!("{place}: the filter is off, and limits nothing: \"disabled\" is true"),
    );
    for level in ["", "/virtual_hosts/0", "/virtual_hosts/0/routes/0"] {
        let by_routes = envoy(|envoy| {
            let routes = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config\
                          /virtual_hosts/0/routes";
            envoy.pointer_mut(routes).unwrap().as_array_mut().unwrap().truncate(1);
            switch(envoy, level, &off);
        });
        let expected =
            format!("{place}: the filter is off, and limits nothing: typed_per_filter_config.llm-rate-limit");
        assert_problem(&by_routes, &expected);
    }
    let switched_on = envoy(|envoy| {
        disabled(envoy);
        switch(envoy, "", &on);
    });
    let (lines, is_ok) = checked(&switched_on);
    assert!(is_ok && !lines.iter().any(|line| line.contains("the filter is off")), "{lines:#?}");
    let elsewhere = envoy(|envoy| {
        disabled(envoy);
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        let manager = envoy.pointer_mut(manager).unwrap().as_object_mut().unwrap();
        manager.remove("route_config");
        manager.insert("rds".to_owned(), json!({"route_config_name": "llm"}));
    });
    assert_hint(&elsewhere, &format!("{place}: the filter is off for some requests"));
    let none_last = envoy(|envoy| drop(filters(envoy).pop()));
    assert_problem(
        &none_last,
        &format!("{}: no router comes after the filter", place.trim_end_matches("[0]")),
    );
}

#[test]
fn a_filter_that_stands_twice_charges_twice() {
    let place = PLUGIN_PATH.trim_end_matches("[0].typed_config.config");
    let twice = |namespace: &str| {
        envoy(|envoy| {
            let mut other = filters(envoy)[0].clone();
            other["name"] = "llm-rate-limit-2".into();
            let limits = json!({"store": {"namespace": namespace}, "default": {"rpm": 9}});
            if !namespace.is_empty() {
                other["typed_config"]["config"]["configuration"]["value"] = limits.to_string().into();
            }
            filters(envoy).insert(1, other);
        })
    };
    let expected =
        format!("{place}[1]: the filter stands at {place}[0] already, so that each request is charged twice");
    assert_problem(&twice(""), &expected);
    let (lines, is_ok) = checked(&twice("second"));
    assert!(is_ok && !lines.iter().any(|line| line.contains("twice")), "{lines:#?}");
    let mut filter = document("deploy/istio/base/envoyfilter.yaml");
    let patches = filter["spec"]["configPatches"].as_array_mut().unwrap();
    patches.insert(2, patches[1].clone());
    assert_problem(&filter, "spec.configPatches[2]: the filter stands at spec.configPatches[1] already");
    let plugin = fs::read_to_string(shipped("deploy/istio/wasmplugin/wasmplugin.yaml")).unwrap();
    let again = plugin.replacen("name: llm-rate-limit", "name: llm-rate-limit-2", 1);
    let (lines, is_ok) = checked_text(&format!("{plugin}\n---\n{again}"));
    assert!(
        !is_ok
            && lines
                .iter()
                .any(|line| line.contains("WasmPlugin llm-rate-limit, ") && line.contains("twice"))
    );
    let elsewhere = again.replace("istio: ingressgateway", "istio: egressgateway");
    assert!(checked_text(&format!("{plugin}\n---\n{elsewhere}")).1);
}

/// Each request comes to one of the filters that a matcher chooses from.
#[test]
fn a_matcher_chooses_one_filter_for_a_request() {
    let composite = fs::read_to_string(shipped("envoy/examples/composite.yaml")).unwrap();
    let one = composite.replace("store: {namespace: batch}", "store: {}");
    let (lines, is_ok) = checked_text(&one);
    assert!(
        is_ok && !lines.iter().any(|line| line.contains("twice") || line.contains("is off")),
        "{lines:#?}"
    );
    let place = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0]";
    let mut unmatched: Value = yaml_serde::from_str(&composite).unwrap();
    let matcher = filters(&mut unmatched)[0].pointer_mut("/typed_config/xds_matcher").unwrap();
    matcher.as_object_mut().unwrap().remove("on_no_match");
    assert_hint(
        &unmatched,
        &format!("{place}: the filter is off for some requests, and limits none of them"),
    );
    let mut skips: Value = yaml_serde::from_str(&composite).unwrap();
    let action = filters(&mut skips)[0].pointer_mut("/typed_config/xds_matcher/on_no_match/action").unwrap();
    *action = json!({"name": "skip", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.common.matcher.action.v3.SkipFilter"}});
    assert_hint(&skips, &format!("{place}: the filter is off for some requests, and limits none of them"));
}

#[test]
fn a_patch_may_switch_the_filter_off() {
    let filter = |disabled: bool, more: &[Value]| {
        let mut filter = document("deploy/istio/base/envoyfilter.yaml");
        let patches = filter["spec"]["configPatches"].as_array_mut().unwrap();
        if disabled {
            patches[1]["patch"]["value"]["disabled"] = true.into();
        }
        patches.extend_from_slice(more);
        filter
    };
    let route = |switch: Value| {
        let value = json!({"typed_per_filter_config": {"llm-rate-limit": switch}});
        json!({"applyTo": "HTTP_ROUTE", "patch": {"operation": "MERGE", "value": value}})
    };
    let kind = "type.googleapis.com/envoy.config.route.v3.FilterConfig";
    let (on, off) = (json!({"@type": kind, "config": {}}), json!({"@type": kind, "disabled": true}));
    assert_problem(&filter(true, &[]), "spec.configPatches[1]: the filter is off, and limits nothing");
    assert_hint(&filter(true, &[route(on)]), "spec.configPatches[1]: the filter is off for some requests");
    assert_hint(&filter(false, &[route(off)]), "spec.configPatches[1]: the filter is off for some requests");
}

#[test]
fn a_filter_that_is_switched_off_sets_no_metadata() {
    let jwt = json!({"name": "envoy.filters.http.jwt_authn", "disabled": true, "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"}});
    let mut chain = with_limits(&by_jwt());
    filters(&mut chain).insert(0, jwt);
    let place = PLUGIN_PATH.trim_end_matches(".typed_config.config");
    assert_problem(&chain, &format!("{place}: envoy.filters.http.jwt_authn is off, whose metadata"));
}

#[test]
fn a_listener_without_the_filter_is_hinted_at() {
    let two = envoy(|envoy| {
        let listeners = envoy["static_resources"]["listeners"].as_array_mut().unwrap();
        let mut other = listeners[0].clone();
        other["name"] = "other".into();
        let path = "/filter_chains/0/filters/0/typed_config/http_filters";
        other.pointer_mut(path).unwrap().as_array_mut().unwrap().remove(0);
        listeners.push(other);
    });
    let place = "static_resources.listeners[1].filter_chains[0].filters[0].typed_config.http_filters";
    assert_hint(&two, &format!("{place}: the filter is not in this chain"));
}

/// A filter that chains get by its name, as from a server of Envoy's.
#[test]
fn a_filter_that_is_discovered_is_checked_where_it_stands() {
    let filter = fs::read_to_string(shipped("envoy/reload/filter.yaml")).unwrap();
    let chain = |change: &dyn Fn(&mut Vec<Value>)| {
        let envoy = envoy(|envoy| {
            let filters = filters(envoy);
            let discovery = json!({"config_source": {"path_config_source": {"path": "filter.yaml"}},
                "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"]});
            let name = yaml_serde::from_str::<Value>(&filter).unwrap()["resources"][0]["name"].clone();
            filters[0] = json!({"name": name, "config_discovery": discovery});
            change(filters);
        });
        let envoy = yaml_serde::to_string(&envoy).unwrap();
        let (lines, is_ok) = checked_text(&format!("{envoy}---\n{filter}"));
        (lines.into_iter().filter(|line| !line.contains("hint: ")).collect::<Vec<_>>(), is_ok)
    };
    assert!(chain(&|_| {}).1, "{:#?}", chain(&|_| {}).0);
    for (change, expected) in [
        (
            &(|filters: &mut Vec<Value>| filters[0]["disabled"] = true.into()) as &dyn Fn(&mut Vec<Value>),
            "is off",
        ),
        (&|filters: &mut Vec<Value>| filters.reverse(), "after the router"),
        (&|filters: &mut Vec<Value>| filters.insert(0, filters[0].clone()), "charged twice"),
    ] {
        let (lines, is_ok) = chain(change);
        assert!(!is_ok && lines.iter().any(|line| line.contains(expected)), "{expected}: {lines:#?}");
    }
    let other = fs::read_to_string(shipped("envoy/examples/cors.yaml")).unwrap();
    let (lines, _) = checked_text(&format!("{other}---\n{filter}"));
    let hint = "no chain here has the filter \"llm-rate-limit\", so no request comes to it";
    assert!(lines.iter().any(|line| line.ends_with(hint)), "{lines:#?}");
    let mut patches = document("deploy/istio/base/envoyfilter.yaml");
    patches["spec"]["configPatches"].as_array_mut().unwrap().remove(1);
    let place = "spec.configPatches[0].patch.value.typed_config.config";
    assert_hint(&patches, &format!("{place}: no HTTP_FILTER patch here puts the filter"));
}

#[test]
fn the_token_of_the_sidecar_is_compared_where_it_can_be_seen() {
    let filter = fs::read_to_string(shipped("deploy/istio/base/envoyfilter.yaml")).unwrap();
    let deployment = fs::read_to_string(shipped("deploy/kubernetes/base/deployment.yaml")).unwrap();
    let secret = |token: &str| {
        format!("kind: Secret\nmetadata: {{name: llm-rate-limit}}\nstringData: {{AUTH_TOKEN: {token}}}\n")
    };
    let of = |documents: &[&str]| checked_text(&documents.join("\n---\n"));
    let token = |lines: &[String]| -> Vec<String> {
        let is_about =
            |line: &&String| line.contains("store.auth_token: ") && !line.contains("shipped files");
        lines.iter().filter(is_about).cloned().collect()
    };
    let (lines, is_ok) = of(&[&filter]);
    assert!(is_ok && token(&lines)[0].contains("no file here has the sidecar"), "{lines:#?}");
    let (lines, is_ok) = of(&[&filter, &deployment]);
    assert!(
        is_ok && token(&lines)[0].contains("from the Secret \"llm-rate-limit\", which is in no file"),
        "{lines:#?}"
    );
    let (lines, is_ok) = of(&[&filter, &deployment, &secret("change-this-token")]);
    assert!(is_ok && token(&lines).is_empty(), "{lines:#?}");
    // The same, as Kubernetes writes it.
    let coded = secret("x").replace("stringData", "data").replace(": x}", ": Y2hhbmdlLXRoaXMtdG9rZW4=}");
    let (lines, is_ok) = of(&[&filter, &deployment, &coded]);
    assert!(is_ok && token(&lines).is_empty(), "{lines:#?}");
    let (lines, is_ok) = of(&[&filter, &deployment, &secret("another")]);
    let expected = "store.auth_token: the AUTH_TOKEN of Deployment llm-rate-limit is another";
    assert!(!is_ok && token(&lines)[0].ends_with(expected), "{lines:#?}");
    let none = filter.replace("auth_token: change-this-token", "timeout_ms: 50");
    let (lines, is_ok) = of(&[&none, &deployment, &secret("another")]);
    assert!(!is_ok && token(&lines)[0].contains("expected the AUTH_TOKEN of Deployment"), "{lines:#?}");
}

/// Envoy's `/config_dump` has static listeners twice, and listeners that are not in force.
#[test]
fn a_dump_is_checked_as_it_is_in_force() {
    let whole = envoy(|envoy| filters(envoy)[0]["disabled"] = true.into());
    let listener = whole["static_resources"]["listeners"][0].clone();
    let kind = |name: &str| format!("type.googleapis.com/envoy.admin.v3.{name}");
    let dump = json!({"configs": [
        {"@type": kind("BootstrapConfigDump"), "bootstrap": whole},
        {"@type": kind("ListenersConfigDump"),
         "static_listeners": [{"listener": listener}],
         "dynamic_listeners": [{"name": "gone", "draining_state": {"listener": listener}}]},
    ]});
    let place =
        "configs[1].static_listeners[0].listener.filter_chains[0].filters[0].typed_config.http_filters[0]";
    assert_problem(&dump, &format!("{place}: the filter is off"));
}

#[test]
fn a_crash_is_thought_of() {
    let policy = |policy: &str| {
        envoy(|envoy| {
            let plugin = envoy.pointer_mut(PLUGIN).unwrap().as_object_mut().unwrap();
            plugin.remove("failure_policy");
            if policy == "fail_open" {
                plugin.insert("failOpen".to_owned(), true.into());
            } else if !policy.is_empty() {
                plugin.insert("failurePolicy".to_owned(), policy.into());
            }
        })
    };
    let place = format!("{PLUGIN_PATH}.failure_policy");
    for closed in ["", "FAIL_CLOSED"] {
        assert_hint(
            &policy(closed),
            &format!("{place}: a filter that has crashed answers 503 until Envoy restarts"),
        );
    }
    for open in ["FAIL_OPEN", "fail_open"] {
        assert_hint(&policy(open), &format!("{place}: while the filter has crashed, every request passes"));
    }
    let (lines, _) = checked(&policy("FAIL_RELOAD"));
    assert!(!lines.iter().any(|line| line.contains("crashed")), "{lines:#?}");
}

#[test]
fn other_plugins_and_other_files_are_left_alone() {
    let other = envoy(|envoy| {
        let code = json!({"local": {"filename": "other.wasm"}});
        let plugin = json!({"name": "other", "root_id": "other", "vm_config": {"code": code},
            "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "{"}});
        filters(envoy)[0]["name"] = "other".into();
        *envoy.pointer_mut(PLUGIN).unwrap() = plugin;
    });
    let (lines, is_ok) = checked(&other);
    assert_eq!((lines, is_ok), (vec!["nothing of the filter is in it".to_owned()], false));
    let both = run(&["check", &data("good/example.json"), &shipped("envoy/compose.yaml")]);
    assert_eq!(both.status, 0, "one of them has it: {}", both.out);
}
