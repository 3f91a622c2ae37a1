//! `check` on deployments: what is shipped passes, and what stands wrong around the filter is found.

mod chain;
mod gateway;
mod shipped;

use llm_rate_limit_tests::command::{Run, data, path, run, run_with, text_file};
use llm_rate_limit_tests::wasm;
use serde_json::{Value, json};
use std::fs;

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
