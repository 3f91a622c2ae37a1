"""What no schema says of the files for Envoy Gateway and Higress. tests/kubernetes.rs runs the filter as they configure
it."""

import re
import unittest

import yaml

import cluster
from cluster import DEPLOY

ENVOY_GATEWAY = DEPLOY / "envoy-gateway"


class EnvoyGateway(unittest.TestCase):
    objects = cluster.kustomize(ENVOY_GATEWAY / "with-patch")

    def named(self, kind):
        return cluster.named(self.objects, kind)

    def test_the_patch_finds_listener_and_filter(self):
        gateway, policy, patches = map(self.named, ("Gateway", "EnvoyExtensionPolicy", "EnvoyPatchPolicy"))
        place = gateway["metadata"]
        listeners = {f"{place['namespace']}/{place['name']}/{one['name']}" for one in gateway["spec"]["listeners"]}
        home = policy["metadata"]
        wanted = f"envoy.filters.http.wasm/envoyextensionpolicy/{home['namespace']}/{home['name']}/wasm/0"
        for patch in patches["spec"]["jsonPatches"]:
            self.assertIn(patch["name"], listeners)
            self.assertEqual(re.search(r"@\.name=='([^']+)'", patch["operation"]["jsonPath"])[1], wanted)

    def test_every_object_means_this_gateway(self):
        gateway = self.named("Gateway")["metadata"]
        for kind in ("EnvoyExtensionPolicy", "ClientTrafficPolicy", "EnvoyPatchPolicy"):
            one = self.named(kind)
            targets = one["spec"].get("targetRefs") or [one["spec"]["targetRef"]]
            self.assertEqual(one["metadata"]["namespace"], gateway["namespace"])
            self.assertEqual([(target["kind"], target["name"]) for target in targets], [("Gateway", gateway["name"])])
        parameters = self.named("Gateway")["spec"]["infrastructure"]["parametersRef"]
        self.assertEqual(parameters["name"], self.named("EnvoyProxy")["metadata"]["name"])

    def test_the_filter_calls_the_cluster_of_the_bootstrap(self):
        [extension] = self.named("EnvoyExtensionPolicy")["spec"]["wasm"]
        [patch] = self.named("EnvoyProxy")["spec"]["bootstrap"]["jsonPatches"]
        self.assertEqual(extension["config"]["store"]["cluster"], patch["value"]["name"])
        self.assertFalse(extension["failOpen"])
        self.assertEqual(extension["config"]["websocket"], "refuse")

    def test_streams_and_long_prompts_pass(self):
        [rule] = self.named("HTTPRoute")["spec"]["rules"]
        self.assertEqual(rule["timeouts"], {"request": "0s"})
        traffic = self.named("ClientTrafficPolicy")["spec"]
        self.assertEqual(traffic["connection"]["bufferLimit"], traffic["http2"]["initialStreamWindowSize"])

    def test_a_misspelt_field_is_found(self):
        policy = self.named("ClientTrafficPolicy")
        policy["spec"]["connection"]["bufferlimit"] = policy["spec"]["connection"].pop("bufferLimit")
        try:
            self.assertIn("bufferlimit", cluster.mistakes(policy)[0])
        finally:
            policy["spec"]["connection"]["bufferLimit"] = policy["spec"]["connection"].pop("bufferlimit")

    def test_its_own_configuration_allows_patches(self):
        document = yaml.safe_load((ENVOY_GATEWAY / "with-patch/envoy-gateway.yaml").read_text(encoding="utf-8"))
        self.assertEqual(cluster.mistakes(document), [])
        inner = yaml.safe_load(document["data"]["envoy-gateway.yaml"])
        self.assertTrue(inner["extensionApis"]["enableEnvoyPatchPolicy"])


class Higress(unittest.TestCase):
    def test_it_has_the_limits_of_istio(self):
        document = yaml.safe_load((DEPLOY / "higress/wasmplugin.yaml").read_text(encoding="utf-8"))
        self.assertEqual(cluster.mistakes(document), [])
        higress = document["spec"]
        istio = cluster.named(cluster.kustomize(DEPLOY / "istio/wasmplugin"), "WasmPlugin")
        self.assertEqual(higress["defaultConfig"], istio["spec"]["pluginConfig"])
        self.assertNotIn("matchRules", higress)
