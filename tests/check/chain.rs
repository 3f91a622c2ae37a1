//! The filter in its chain: whether requests come to it, once, and behind the filters that it relies on.

use crate::{
    PLUGIN_PATH, assert_hint, assert_problem, by_jwt, checked, checked_text, document, envoy, filters,
    shipped, with_limits,
};
use serde_json::{Value, json};
use std::fs;

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

/// `identity` uses `payload` of what JWT authentication puts into metadata.
#[test]
fn what_the_identity_uses_of_a_token_is_what_is_put_there() {
    let chain = |provider: Value| {
        let jwt = json!({"name": "envoy.filters.http.jwt_authn", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"issuer": provider}}});
        let mut envoy = with_limits(&by_jwt());
        filters(&mut envoy).insert(0, jwt);
        envoy
    };
    let place = PLUGIN_PATH.replace(".typed_config.config", ".typed_config.providers");
    let expected = "expected payload_in_metadata: payload in a provider, found";
    let says = |found: &str| {
        format!(
            "{place}: envoy.filters.http.jwt_authn puts nothing into its metadata as \"payload\", which the \
             configuration uses: {expected} {found}"
        )
    };
    assert!(checked(&chain(json!({"payload_in_metadata": "payload"}))).1);
    assert!(checked(&chain(json!({"payloadInMetadata": "payload"}))).1);
    assert_problem(&chain(json!({"payload_in_metadata": "jwt_payload"})), &says("jwt_payload"));
    let to_header = json!({"claim_to_headers": [{"header_name": "x-user", "claim_name": "sub"}]});
    assert_problem(&chain(to_header), &says("none (claim_to_headers has claims in x-user)"));
}

#[test]
fn a_buffer_that_holds_less_than_the_filter_is_hinted_at() {
    let chain = |bytes: u64| {
        let buffer = json!({"name": "envoy.filters.http.buffer", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
            "max_request_bytes": bytes}});
        envoy(|envoy| filters(envoy).insert(0, buffer.clone()))
    };
    let place = PLUGIN_PATH.replace(".typed_config.config", ".typed_config.max_request_bytes");
    assert_hint(
        &chain(65_536),
        &format!("{place}: the Buffer filter answers bodies of more than 65536 bytes 413"),
    );
    let lines = checked(&chain(32 << 20)).0;
    assert!(!lines.iter().any(|line| line.contains("Buffer filter")), "{lines:#?}");
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
