//! Holds the files of `envoy/istio/` against the types that Istio's and Kubernetes's own schemas were turned into, so
//! that a misspelt or misplaced field is found here and not in a cluster.
//!
//! A crate of its own because those types take a minute to compile and nothing else wants them. What the files say
//! to Envoy is another matter: `tests/deployment.rs` runs it.

#[cfg(test)]
mod tests {
    use istio_api_rs::extensions::v1alpha1::wasm_plugin::WasmPlugin;
    use istio_api_rs::networking::v1alpha3::envoy_filter::EnvoyFilter;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::{Secret, Service};
    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use yaml_serde::{Deserializer, Value};

    /// The documents of a file in `envoy/istio/`.
    fn documents(file: &str) -> Vec<Value> {
        let path = format!("{}/../../envoy/istio/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        Deserializer::from_str(&text).map(|document| Value::deserialize(document).unwrap()).collect()
    }

    /// Reads `document` as a `T`, all of it but the names of its type, which the tests look at themselves.
    fn read<T: DeserializeOwned>(document: Value) -> Result<T, String> {
        let mut unknown = Vec::new();
        let read = serde_ignored::deserialize(document, |path| unknown.push(path.to_string()));
        unknown.retain(|path| path != "apiVersion" && path != "kind");
        match read {
            Err(why) => Err(why.to_string()),
            Ok(_) if !unknown.is_empty() => Err(format!("no such field: {}", unknown.join(", "))),
            Ok(read) => Ok(read),
        }
    }

    #[test]
    fn the_envoy_filter_is_one() {
        let [document] = documents("envoyfilter.yaml").try_into().unwrap();
        assert_eq!(document["apiVersion"], "networking.istio.io/v1alpha3");
        assert_eq!(document["kind"], "EnvoyFilter");
        let filter: EnvoyFilter = read(document).unwrap();
        assert_eq!(filter.spec.config_patches.unwrap().len(), 4);
    }

    #[test]
    fn the_wasm_plugin_is_one() {
        let [document] = documents("wasmplugin.yaml").try_into().unwrap();
        assert_eq!(document["apiVersion"], "extensions.istio.io/v1alpha1");
        assert_eq!(document["kind"], "WasmPlugin");
        let plugin: WasmPlugin = read(document).unwrap();
        assert!(plugin.spec.plugin_config.unwrap().contains_key("plans"));
    }

    #[test]
    fn the_sidecar_is_a_service_and_its_deployment() {
        let [service, deployment] = documents("sidecar.yaml").try_into().unwrap();
        assert_eq!((&service["kind"], &deployment["kind"]), (&"Service".into(), &"Deployment".into()));
        let service: Service = read(service).unwrap();
        let deployment: Deployment = read(deployment).unwrap();
        assert_eq!(service.spec.unwrap().selector, deployment.spec.unwrap().selector.match_labels);
    }

    #[test]
    fn the_sidecar_has_its_token_from_the_secret() {
        let [secret] = documents("secret.yaml").try_into().unwrap();
        assert_eq!((&secret["apiVersion"], &secret["kind"]), (&"v1".into(), &"Secret".into()));
        let secret: Secret = read(secret).unwrap();
        let [_, deployment] = documents("sidecar.yaml").try_into().unwrap();
        let deployment: Deployment = read(deployment).unwrap();
        assert_eq!(secret.metadata.namespace, deployment.metadata.namespace);
        let pod = deployment.spec.unwrap().template.spec.unwrap();
        let settings = pod.containers[0].env.clone().unwrap();
        let token = settings.into_iter().find(|setting| setting.name == "AUTH_TOKEN").unwrap();
        let source = token.value_from.unwrap().secret_key_ref.unwrap();
        assert_eq!(secret.metadata.name.unwrap(), source.name);
        assert!(secret.string_data.unwrap().contains_key(&source.key));
    }

    #[test]
    fn a_misspelt_field_is_found() {
        let [mut document] = documents("wasmplugin.yaml").try_into().unwrap();
        document["spec"]["failStrategie"] = "FAIL_RELOAD".into();
        assert_eq!(read::<WasmPlugin>(document).unwrap_err(), "no such field: spec.failStrategie");
    }

    #[test]
    fn a_value_that_istio_does_not_know_is_found() {
        let [mut document] = documents("wasmplugin.yaml").try_into().unwrap();
        document["spec"]["failStrategy"] = "FAIL_SOFT".into();
        assert!(read::<WasmPlugin>(document).unwrap_err().contains("FAIL_SOFT"));
    }
}
