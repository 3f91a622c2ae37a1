//! `check` on resources that others complete: what Envoy Gateway adds to Envoy, and what kustomize sets later.

use llm_rate_limit_tests::command::{Run, run_with};
use llm_rate_limit_tests::wasm;
use std::fs;

/// The output of `check` for these shipped files as one, as kustomize prints them.
fn checked(files: &[&str], edit: impl Fn(String) -> String) -> String {
    let read = |file: &&str| fs::read_to_string(wasm::root().join("deploy").join(file)).unwrap();
    let text = edit(files.iter().map(read).collect::<Vec<_>>().join("\n---\n"));
    let Run { status, out, err } = run_with(&["check", "-"], &[], &text);
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    out
}

#[test]
fn a_service_whose_namespace_is_set_later_may_be_the_sidecars() {
    let files = ["istio/base/envoyfilter.yaml", "kubernetes/base/service.yaml"];
    assert!(!checked(&files, |text| text).contains("no Service"));
    let other = checked(&files, |text| {
        text.replace(
            "metadata:\n  name: llm-rate-limit\nspec:\n  selector",
            "metadata:\n  name: other\nspec:\n  selector",
        )
    });
    assert!(other.contains("no Service in these files is llm-rate-limit.llm-rate-limit.svc"), "{other}");
}

#[test]
fn what_envoy_gateway_adds_is_known() {
    let files = [
        "envoy-gateway/base/envoyproxy.yaml",
        "envoy-gateway/base/envoyextensionpolicy.yaml",
        "envoy-gateway/with-patch/envoypatchpolicy.yaml",
    ];
    // As with-patch does.
    let patched = |text: String| text.replace("headers_mode: headers_first", "headers_mode: auto");
    let out = checked(&files, patched);
    assert!(!out.contains("store.cluster") && !out.contains("cannot let headers wait"), "{out}");
    let of_other = checked(&files, |text| patched(text).replace("/llm-rate-limit/wasm/0", "/other/wasm/0"));
    assert!(of_other.contains("a EnvoyExtensionPolicy cannot let headers wait"), "{of_other}");
    let of_other = checked(&files, |text| {
        patched(text).replace("        name: rate-limit-sidecar", "        name: other")
    });
    assert!(of_other.contains("no file here has the cluster \"rate-limit-sidecar\""), "{of_other}");
}

#[test]
fn a_config_map_of_bytes_is_no_configuration() {
    let Run { out, .. } =
        run_with(&["check", "-"], &[], "kind: ConfigMap\napiVersion: v1\nbinaryData: {a: AGFzbQ==}\n");
    assert_eq!(out, "-: nothing of the filter is in it\n");
}
