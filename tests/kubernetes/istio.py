"""What no schema says of the files for Istio. tests/kubernetes.rs runs the filter as they configure it."""

import json
import unittest

import yaml

import cluster
from cluster import DEPLOY, ROOT

ISTIO = DEPLOY / "istio"
GATEWAYS = ["ingressgateway", "helm-gateway", "gateway-api", "model-server", "egress", "waypoint"]
INBOUND = ["model-server", "waypoint"]
COMPONENTS = ["beside", "local-module", "watched-file"]

# What etcd takes as one request, by its default: Kubernetes stores an object as one value.
ETCD = 1536 * 1024


def envoy_filter(folder, *components):
    rendered = cluster.kustomize(ISTIO / folder, [ISTIO / "components" / name for name in components])
    return cluster.named(rendered, "EnvoyFilter")


def patches(document):
    return {patch["applyTo"]: patch for patch in document["spec"]["configPatches"]}


def plugin(document):
    return patches(document)["EXTENSION_CONFIG"]["patch"]["value"]["typed_config"]["config"]


def plugins():
    """The WasmPlugin and the TrafficExtension."""
    wasm = cluster.named(cluster.kustomize(ISTIO / "wasmplugin"), "WasmPlugin")
    return wasm, cluster.named(cluster.kustomize(ISTIO / "trafficextension"), "TrafficExtension")


class Istio(unittest.TestCase):
    def test_each_component_goes_with_each_gateway(self):
        for folder in GATEWAYS:
            for name in COMPONENTS:
                with self.subTest(folder, component=name):
                    objects = cluster.kustomize(ISTIO / folder, [ISTIO / "components" / name])
                    self.assertEqual([mistake for one in objects for mistake in cluster.mistakes(one)], [])

    def test_the_filter_goes_to_one_workload(self):
        """Without a selector it would go to every proxy of its namespace; in istio-system, to the whole mesh."""
        for folder in GATEWAYS:
            spec = envoy_filter(folder)["spec"]
            with self.subTest(folder):
                self.assertTrue(spec.get("targetRefs") or spec["workloadSelector"]["labels"])

    def test_every_patch_is_for_the_proxy_that_it_means(self):
        for folder in GATEWAYS:
            context = "SIDECAR_INBOUND" if folder in INBOUND else "GATEWAY"
            found = {patch["match"]["context"] for patch in patches(envoy_filter(folder)).values() if "match" in patch}
            self.assertEqual(found, {context}, folder)

    def test_no_folder_takes_the_limits_of_anothers_proxy_away(self):
        """Of two objects of one name the second replaces the first."""
        seen = {}
        for folder in [*GATEWAYS, "wasmplugin", "trafficextension"]:
            for one in cluster.kustomize(ISTIO / folder):
                # Without its namespace, which users change.
                name = one["kind"], one["metadata"]["name"]
                target = one["spec"].get("workloadSelector"), one["spec"].get("targetRefs"), one["spec"].get("host")
                with self.subTest(folder, name=name):
                    self.assertEqual(seen.setdefault(name, target), target)
        service = envoy_filter("trafficextension")["metadata"]["name"]
        self.assertNotEqual(service, envoy_filter("waypoint")["metadata"]["name"], "other Services keep their limits")

    def test_the_cluster_beside_is_in_the_context_of_the_filter(self):
        for folder in GATEWAYS:
            added = patches(envoy_filter(folder, "beside"))
            with self.subTest(folder):
                self.assertEqual(added["CLUSTER"]["match"]["context"], added["HTTP_FILTER"]["match"]["context"])

    def test_components_combine_in_the_order_of_the_page(self):
        for folder in GATEWAYS:
            envoy_filter(folder, "beside", "local-module")
            found = [patch["applyTo"] for patch in
                     envoy_filter(folder, "beside", "watched-file")["spec"]["configPatches"]]
            self.assertEqual(found, ["HTTP_FILTER", "LISTENER", "NETWORK_FILTER", "CLUSTER"], folder)

    def test_plugins_refuse_components(self):
        """They have no filter in their EnvoyFilter: a component that changed nothing would be a promise."""
        for folder in ("wasmplugin", "trafficextension"):
            for name in COMPONENTS:
                with self.subTest(folder, component=name), self.assertRaises(AssertionError):
                    envoy_filter(folder, name)

    def test_a_misspelt_field_is_found(self):
        document = envoy_filter("ingressgateway")
        document["spec"]["configPatches"][1]["match"]["listener"]["filterchain"] = {}
        self.assertIn("filterchain", cluster.mistakes(document)[0])
        document, _ = plugins()
        document["spec"]["failStrategy"] = "FAIL_SOFT"
        self.assertIn("FAIL_SOFT", cluster.mistakes(document)[0])

    def test_forms_without_the_flag_send_headers_first(self):
        wasm, traffic = plugins()
        for spec, phase in ((wasm["spec"], wasm["spec"]["phase"]), (traffic["spec"]["wasm"], traffic["spec"]["phase"])):
            self.assertEqual(spec["pluginConfig"]["headers_mode"], "headers_first")
            self.assertEqual(phase, "AUTHZ")
        self.assertTrue(plugin(envoy_filter("base"))["allow_on_headers_stop_iteration"])

    def test_a_waypoint_is_named_by_target(self):
        """Waypoints ignore policies by selector."""
        _, traffic = plugins()
        for document in (traffic, envoy_filter("waypoint"), envoy_filter("trafficextension")):
            self.assertNotIn("selector", document["spec"])
            self.assertNotIn("workloadSelector", document["spec"])
            self.assertIn(document["spec"]["targetRefs"][0]["kind"], ("Service", "Gateway"))

    def test_a_waypoint_limits_requests_and_no_tunnels(self):
        match = patches(envoy_filter("waypoint"))["HTTP_FILTER"]["match"]
        self.assertEqual(match["listener"]["name"], "main_internal")

    def test_every_proxy_knows_the_cluster_of_the_sidecar(self):
        """A waypoint has clusters of the Services that it serves, and of those that an EnvoyFilter refers to."""
        for folder in [*GATEWAYS, "wasmplugin", "trafficextension"]:
            [referred] = envoy_filter(folder)["metadata"]["annotations"].values()
            host = referred.split("/")[1]
            rule = cluster.named([one for one in cluster.kustomize(ISTIO / folder)
                                  if one["metadata"]["name"] == "llm-rate-limit"], "DestinationRule")
            self.assertEqual(rule["spec"]["host"], host)
            store = plugin(envoy_filter("base"))["configuration"]["value"]["store"]
            self.assertEqual(store["cluster"], f"outbound|8081||{host}")

    def test_plugins_have_the_buffers_of_an_envoy_filter(self):
        for folder in ("wasmplugin", "trafficextension"):
            self.assertEqual(list(patches(envoy_filter(folder))), ["LISTENER", "NETWORK_FILTER"])

    def test_every_form_has_the_same_limits(self):
        wasm, traffic = plugins()
        limits = plugin(envoy_filter("base"))["configuration"]["value"]
        for config in (wasm["spec"]["pluginConfig"], traffic["spec"]["wasm"]["pluginConfig"]):
            self.assertEqual(config, {**limits, "headers_mode": "headers_first"})

    def test_nothing_passes_without_the_module(self):
        for folder in GATEWAYS:
            document = envoy_filter(folder)
            self.assertEqual(plugin(document)["failure_policy"], "FAIL_RELOAD")
            discovery = patches(document)["HTTP_FILTER"]["patch"]["value"]["config_discovery"]
            self.assertEqual(discovery["config_source"]["initial_fetch_timeout"], "0s")
            self.assertNotIn("default_config", discovery)

    def test_the_local_module_is_where_the_containers_put_it(self):
        wanted = plugin(envoy_filter("ingressgateway", "local-module"))["vm_config"]["code"]["local"]["filename"]
        folder = ISTIO / "components/local-module"
        values = yaml.safe_load((folder / "gateway-values.yaml").read_text(encoding="utf-8"))
        parameters = yaml.safe_load((folder / "gateway-parameters.yaml").read_text(encoding="utf-8"))
        self.assertEqual(cluster.mistakes(parameters), [])
        pod = yaml.safe_load(parameters["data"]["deployment"])["spec"]["template"]["spec"]
        self.assertEqual(pod["initContainers"], values["initContainers"])
        self.assertEqual(pod["volumes"], values["volumes"])
        self.assertEqual(pod["containers"][0]["volumeMounts"], values["volumeMounts"])
        [container] = values["initContainers"]
        self.assertEqual(container["command"][2], wanted)
        self.assertTrue(wanted.startswith(values["volumeMounts"][0]["mountPath"] + "/"))
        self.assertEqual(cluster.beyond_restricted({"initContainers": [container]}), [])
        image = (ROOT / "envoy/Dockerfile").read_text(encoding="utf-8")
        self.assertIn(container["command"][1].rsplit("/", 1)[0], image)

    def test_eight_thousand_keys_fit_into_an_object(self):
        def size(keys):
            document = envoy_filter("base")
            entry = {"name": "a customer's name", "plan": "free", "group": "a-team"}
            names = [{"key_sha256": f"{number:064x}", **entry} for number in range(keys)]
            plugin(document)["configuration"]["value"]["keys"] = names
            return len(json.dumps(document, separators=(",", ":")))
        self.assertLess(size(8_000), ETCD)
        self.assertGreater(size(12_000), ETCD)


class Telemetry(unittest.TestCase):
    mesh = yaml.safe_load((ISTIO / "telemetry/mesh.yaml").read_text(encoding="utf-8"))["meshConfig"]

    def test_the_log_has_the_fields_of_envoys_own(self):
        envoy = yaml.safe_load((ROOT / "envoy/envoy.yaml").read_text(encoding="utf-8"))
        manager = envoy["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        wanted = manager["access_log"][0]["typed_config"]["log_format"]["json_format"]
        [provider] = self.mesh["extensionProviders"]
        self.assertEqual(provider["envoyFileAccessLog"]["logFormat"]["labels"], wanted)
        [telemetry] = cluster.kustomize(ISTIO / "telemetry")
        self.assertEqual(telemetry["spec"]["accessLogging"][0]["providers"], [{"name": provider["name"]}])

    def test_no_tag_is_the_end_of_another(self):
        """Istio's expression for a tag is not anchored: `name` would also take the value of `key_name`."""
        tags = self.mesh["defaultConfig"]["extraStatTags"]
        self.assertEqual(len(tags), len(set(tags)))
        ends = [(one, other) for one in tags for other in tags if one != other and other.endswith(one)]
        self.assertEqual(ends, [])
