#!/usr/bin/env python3
"""The files in deploy/ are what a cluster takes, and say what the pages promise of them.

No cluster runs here. kustomize and Helm render the files, Kubernetes's own schemas and those of the custom resources
judge the objects, and the tests below look at what no schema says: probes, selectors, who may reach what.
tests/deployment.rs runs what the files say to Envoy and to the sidecar.
"""

import re
import unittest

import helm_python
import yaml

import cluster
from cluster import CHART, DEPLOY, HERE, ROOT
from gateways import EnvoyGateway, Higress  # noqa: F401 (unittest finds these here)
from istio import Istio, Telemetry  # noqa: F401
from pages import Pages  # noqa: F401

IMAGE = {"repository": "registry.example/llm-rate-limit"}
TOKEN = "0123456789abcdef0123456789abcdef"
LEAST = {"image": IMAGE, "auth": {"token": TOKEN}, "redis": {"url": "redis://redis.example:6379"}}
GATEWAY = {**LEAST, "mode": "gateway"}


def folders():
    """Every folder that `kubectl apply -k` takes, but components, which are parts of others."""
    for file in sorted(DEPLOY.rglob("kustomization.yaml")):
        if cluster.documents(file.read_text(encoding="utf-8"))[0]["kind"] == "Kustomization":
            yield file.parent


def good_values():
    for file in sorted((HERE / "values/good").glob("*.yaml")):
        yield file.stem, yaml.safe_load(file.read_text(encoding="utf-8"))


def renders():
    """All that deploy/ makes, with a name for each."""
    for folder in folders():
        yield str(folder.relative_to(DEPLOY)), cluster.kustomize(folder)
    for name, values in good_values():
        yield f"helm, {name}", cluster.helm(values)


RENDERS = list(renders())


def selects(selector, labels):
    """Whether a selector of labels finds what has these."""
    listed = selector.get("matchExpressions", [])
    assert all(one["operator"] == "In" for one in listed), listed
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(one["key"]) in one["values"] for one in listed)


class Objects(unittest.TestCase):
    def test_a_cluster_takes_every_object(self):
        seen = 0
        for name, objects in RENDERS:
            for one in objects:
                with self.subTest(name, kind=one["kind"]):
                    self.assertEqual(cluster.mistakes(one), [])
                    seen += 1
        self.assertGreater(seen, 40)

    def test_a_misplaced_field_is_found(self):
        deployment = cluster.named(cluster.helm(LEAST), "Deployment")
        deployment["spec"]["template"]["spec"]["containers"][0]["readinessprobe"] = {}
        self.assertIn("readinessprobe", cluster.mistakes(deployment)[0])
        monitor = cluster.named(cluster.helm({**LEAST, "monitor": {"enabled": True}}), "ServiceMonitor")
        monitor["spec"]["endpoints"][0]["intervall"] = "1s"
        self.assertIn("intervall", cluster.mistakes(monitor)[0])

    def test_pods_are_restricted_and_write_nothing(self):
        seen = 0
        for name, objects in RENDERS:
            for pod in filter(None, map(cluster.pod_of, objects)):
                if "securityContext" not in pod and name.startswith("istio"):
                    continue
                with self.subTest(name):
                    self.assertEqual(cluster.beyond_restricted(pod), [])
                    for container in pod["containers"]:
                        self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"])
                        self.assertIn("memory", container["resources"]["limits"])
                    self.assertFalse(pod["automountServiceAccountToken"])
                    seen += 1
        self.assertGreater(seen, 4)

    def test_what_restricted_forbids_is_found(self):
        pod = cluster.pod_of(cluster.named(cluster.helm(LEAST), "Deployment"))
        del pod["securityContext"]["seccompProfile"]
        pod["containers"][0]["securityContext"]["capabilities"] = {"add": ["NET_ADMIN"]}
        found = cluster.beyond_restricted(pod)
        wanted = ("capabilities.drop", "capabilities.add", "seccompProfile")
        self.assertEqual(found, [f"sidecar: {what}" for what in wanted])

    def test_selectors_find_their_pods(self):
        for name, objects in RENDERS:
            pods = [one["spec"]["template"]["metadata"]["labels"] for one in objects if cluster.pod_of(one)]
            for one in objects:
                spec = one.get("spec", {})
                selector = {
                    "Service": lambda spec: spec["selector"],
                    "Deployment": lambda spec: spec["selector"]["matchLabels"],
                    "StatefulSet": lambda spec: spec["selector"]["matchLabels"],
                    "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
                    "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
                    "ServiceMonitor": lambda spec: spec["selector"]["matchLabels"],
                }.get(one["kind"])
                if selector:
                    with self.subTest(name, kind=one["kind"]):
                        wanted = selector(spec)
                        found = [labels for labels in pods if wanted.items() <= labels.items()]
                        self.assertEqual(len(found), 1, f"{wanted} finds {found}")

    def test_the_policy_lets_the_sidecar_ask_the_dns(self):
        for name, objects in RENDERS:
            policies = [one for one in objects if one["kind"] == "NetworkPolicy" and one["spec"].get("egress")]
            for policy in policies:
                with self.subTest(name):
                    dns = policy["spec"]["egress"][0]
                    self.assertEqual(dns["to"][0]["podSelector"]["matchLabels"], {"k8s-app": "kube-dns"})
                    ports = [(port["protocol"], port["port"]) for port in dns["ports"]]
                    self.assertEqual(ports, [("UDP", 53), ("TCP", 53)])

    def test_gateways_may_call_the_sidecar_from_where_they_are_put(self):
        """Istio's are in its own namespaces, Envoy Gateway's in the controller's, and others' have the label."""
        named = lambda name: {"kubernetes.io/metadata.name": name}
        places = [named("istio-system"), named("istio-ingress"), named("envoy-gateway-system"),
                  {**named("llm-gateway"), "llm-rate-limit/gateway": "true"}]
        shipped = {"kubernetes/base": cluster.kustomize(DEPLOY / "kubernetes/base"), "helm": cluster.helm(LEAST)}
        for name, objects in shipped.items():
            rule = cluster.named(objects, "NetworkPolicy")["spec"]["ingress"][0]
            selectors = [peer["namespaceSelector"] for peer in rule["from"]]
            for labels in places:
                with self.subTest(name, labels=labels):
                    self.assertTrue(any(selects(one, labels) for one in selectors))
            self.assertFalse(any(selects(one, named("llm-gateway")) for one in selectors), "strangers may call")

    def test_in_production_the_label_opens_too(self):
        rule = cluster.named(cluster.kustomize(DEPLOY / "kubernetes/overlays/production"), "NetworkPolicy")
        peers = rule["spec"]["ingress"][0]["from"]
        selectors = [peer["namespaceSelector"] for peer in peers if "podSelector" not in peer]
        self.assertTrue(any(selects(one, {"llm-rate-limit/gateway": "true"}) for one in selectors))
        self.assertFalse(any(selects(one, {"kubernetes.io/metadata.name": "istio-system"}) for one in selectors))

    def test_the_policy_lets_the_sidecar_call_the_ports_of_its_url(self):
        for url, wanted in (
            ("redis://redis.example", [6379]),
            ("rediss://redis.example:6380", [6379, 6380]),
            ("rediss://limiter:pass:1234@redis.example:6380/2", [6379, 6380]),
            ("redis://a:7000,redis://b:7001,redis://[::1]:7002", [6379, 7000, 7001, 7002]),
            ("redis+sentinel://a:26380,b:26381/main/0", [6379, 26380, 26381]),
            ("redis+sentinel://a,b/main/0", [6379, 26379]),
        ):
            with self.subTest(url):
                policy = cluster.named(cluster.helm({**LEAST, "redis": {"url": url}}), "NetworkPolicy")
                self.assertEqual([port["port"] for port in policy["spec"]["egress"][1]["ports"]], wanted)

    def test_the_trials_redis_is_that_of_the_containers(self):
        compose = (ROOT / "envoy/compose.yaml").read_text(encoding="utf-8")
        pod = cluster.pod_of(cluster.named(cluster.kustomize(DEPLOY / "kubernetes/overlays/trial"), "StatefulSet"))
        image = pod["containers"][0]["image"].removeprefix("docker.io/library/")
        self.assertIn("@sha256:", image)
        self.assertIn(f"image: {image}\n", compose)

    def test_a_gateways_class_is_there(self):
        for name, objects in RENDERS:
            classes = {one["metadata"]["name"] for one in objects if one["kind"] == "GatewayClass"}
            for one in objects:
                if one["kind"] == "Gateway" and "gatewayClassName" in one["spec"] and name.startswith("envoy-gateway"):
                    with self.subTest(name):
                        self.assertIn(one["spec"]["gatewayClassName"], classes)

    def test_every_secret_that_is_read_is_there_or_is_named_by_the_user(self):
        given = {"llm-rate-limit-redis", "my-token", "my-redis", "my-redis-files"}
        for name, objects in RENDERS:
            if name == "kubernetes/overlays/production" or name == "kubernetes/base":
                continue  # The file says how to make the Secret.
            keys = {one["metadata"]["name"]: one["stringData"] if "stringData" in one else one["data"]
                    for one in objects if one["kind"] == "Secret"}
            for pod in filter(None, map(cluster.pod_of, objects)):
                for setting in (setting for container in pod["containers"] for setting in container.get("env", [])):
                    reference = setting.get("valueFrom", {}).get("secretKeyRef")
                    if reference and reference["name"] not in given:
                        with self.subTest(name, setting=setting["name"]):
                            self.assertIn(reference["key"], keys[reference["name"]])

    def test_no_file_names_a_registry_that_is_ours_to_fill(self):
        """Nothing is published: what must be pulled has a name that no registry has, until the user sets it."""
        for name, objects in RENDERS:
            text = yaml.safe_dump_all(objects)
            for image in re.findall(r"(?:oci://|image: \"?)([^\s\"]*llm-rate-limit[^\s\"]*)", text):
                with self.subTest(name, image=image):
                    self.assertTrue(image.startswith("registry.example/"), image)


class Probes(unittest.TestCase):
    def test_redis_takes_no_replica_out_of_service(self):
        """Only the start looks at Redis. A readiness probe that did would take all replicas away at once."""
        seen = 0
        for name, objects in RENDERS:
            for pod in filter(None, map(cluster.pod_of, objects)):
                for container in pod["containers"]:
                    if container["name"] != "sidecar":
                        continue
                    with self.subTest(name):
                        wanted = {"startup": "/readyz", "readiness": "/healthz", "liveness": "/healthz"}
                        paths = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in wanted}
                        self.assertEqual(paths, wanted)
                        seen += 1
        self.assertGreater(seen, 3)

    def test_a_start_without_redis_waits_an_hour(self):
        """After that Kubernetes restarts the container, with pauses of up to five minutes that help nobody."""
        probe = cluster.pod_of(cluster.named(cluster.helm(LEAST), "Deployment"))["containers"][0]["startupProbe"]
        self.assertGreaterEqual(probe["periodSeconds"] * probe["failureThreshold"], 3600)

    def test_a_pod_may_finish_its_calls(self):
        pod = cluster.pod_of(cluster.named(cluster.helm(LEAST), "Deployment"))
        pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        settings = (ROOT / "sidecar/src/serve/settings.rs").read_text(encoding="utf-8")
        drain = int(re.search(r'"DRAIN_TIMEOUT_MS", default_value = "(\d+)"', settings)[1]) / 1000
        self.assertGreater(pod["terminationGracePeriodSeconds"], pause + drain)

    def test_in_a_gateway_no_probe_can_take_the_gateway_away(self):
        patch = cluster.named(cluster.helm(GATEWAY), "ConfigMap")["data"]["deployment"]
        [container] = yaml.safe_load(patch)["spec"]["template"]["spec"]["initContainers"]
        self.assertEqual(container["restartPolicy"], "Always")
        self.assertEqual([name for name in container if name.endswith("Probe")], ["livenessProbe"])
        self.assertEqual(container["livenessProbe"]["httpGet"]["path"], "/healthz")

    def test_a_gateway_takes_the_patch(self):
        """Merged into its Deployment, the container is one that Kubernetes takes and `restricted` allows."""
        values = dict(good_values())["gateway"]
        patch = yaml.safe_load(cluster.named(cluster.helm(values), "ConfigMap")["data"]["deployment"])
        pod = patch["spec"]["template"]["spec"]
        self.assertEqual(cluster.beyond_restricted({"initContainers": pod["initContainers"]}), [])
        gateway = {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "gateway"},
            "spec": {
                "selector": {"matchLabels": {"app": "gateway"}},
                "template": {
                    "metadata": {"labels": {"app": "gateway"}},
                    "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}], **pod},
                },
            },
        }
        self.assertEqual(cluster.mistakes(gateway), [])


class Chart(unittest.TestCase):
    def test_lint_finds_no_mistake(self):
        found = helm_python.lint(str(CHART), values=LEAST)
        self.assertEqual(found["errors"], [])
        self.assertEqual([one for one in found["messages"] if "icon" not in one["error"]], [])

    def test_good_values_render_what_they_say(self):
        kinds = {name: sorted(one["kind"] for one in cluster.helm(values)) for name, values in good_values()}
        own = ["Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Secret", "Service",
               "ServiceAccount"]
        self.assertEqual(kinds["least"], own)
        self.assertEqual(kinds["secrets"], sorted(set(own) - {"Secret"} | {"ServiceMonitor"}))
        self.assertEqual(kinds["few"], ["Deployment", "Secret", "Service", "ServiceAccount"])
        self.assertEqual(kinds["gateway"], ["ConfigMap", "PodMonitor", "Secret"])

    def test_bad_values_are_refused_with_a_message(self):
        files = sorted((HERE / "values/bad").glob("*.yaml"))
        self.assertGreater(len(files), 10)
        for file in files:
            with self.subTest(file.stem):
                values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
                expected = file.with_suffix(".txt").read_text(encoding="utf-8").strip()
                with self.assertRaises(helm_python.HelmError) as refused:
                    cluster.helm({**LEAST, **values})
                self.assertIn(expected, str(refused.exception))

    def test_nothing_renders_before_image_token_and_redis_are_set(self):
        for missing, message in (("image", "image.repository: push the image of a release to your registry"),
                                 ("auth", "auth.token: set a token of your own"),
                                 ("redis", "redis.url: set the URL of your Redis")):
            with self.assertRaises(helm_python.HelmError) as refused:
                cluster.helm({name: value for name, value in LEAST.items() if name != missing})
            self.assertIn(message, str(refused.exception))

    def test_another_token_is_a_rollout(self):
        def annotations(token):
            deployment = cluster.named(cluster.helm({**LEAST, "auth": {"token": token}}), "Deployment")
            return deployment["spec"]["template"]["metadata"]["annotations"]
        self.assertEqual(annotations(TOKEN), annotations(TOKEN))
        self.assertNotEqual(annotations(TOKEN), annotations(TOKEN[::-1]))

    def test_files_for_redis_are_where_the_settings_say(self):
        values = dict(good_values())["secrets"]
        pod = cluster.pod_of(cluster.named(cluster.helm(values), "Deployment"))
        [container], [volume] = pod["containers"], pod["volumes"]
        [mount] = container["volumeMounts"]
        there = {f"{mount['mountPath']}/{item['path']}"
                 for source in volume["projected"]["sources"] for item in source["secret"]["items"]}
        settings = {one["name"]: one.get("value") for one in container["env"]}
        wanted = {settings[name] for name in ("REDIS_CA", "REDIS_CERT", "REDIS_KEY", "REDIS_PASSWORD_FILE")}
        self.assertEqual(there, wanted)

    def test_every_value_is_described(self):
        values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
        schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
        page = (CHART / "README.md").read_text(encoding="utf-8")
        free = {"settings", "resources"}

        def walk(value, schema, path):
            for name, child in value.items():
                at = f"{path}.{name}" if path else name
                with self.subTest(at):
                    known = schema["properties"].get(name)
                    self.assertIsNotNone(known, "no such property in values.schema.json")
                    has_children = isinstance(child, dict) and child and "properties" in known and at not in free
                    if has_children:
                        walk(child, known, at)
                    else:
                        self.assertIn(f"| `{at}` |", page)
            absent = set(schema["properties"]) - set(value) - {"global"}
            self.assertTrue(not absent or path in free, f"{path}: values.yaml has no {absent}")
        walk(values, schema, "")

    def test_settings_are_the_sidecars(self):
        schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
        source = (ROOT / "sidecar/src/serve/settings.rs").read_text(encoding="utf-8")
        known = set(re.findall(r'env = "([A-Z_]+)"', source))
        self.assertLessEqual(set(schema["properties"]["settings"]["properties"]), known)

    def test_chart_and_kustomize_make_the_same_pod(self):
        base = cluster.named(cluster.kustomize(DEPLOY / "kubernetes/base"), "Deployment")
        chart = cluster.named(cluster.helm(LEAST), "Deployment")
        for one in (base, chart):
            for spread in cluster.pod_of(one)["topologySpreadConstraints"]:
                del spread["labelSelector"]
            container = cluster.pod_of(one)["containers"][0]
            container["env"].sort(key=lambda setting: setting["name"])
        self.assertEqual(cluster.pod_of(base), cluster.pod_of(chart))
        self.assertEqual(base["spec"]["strategy"], chart["spec"]["strategy"])

    def test_the_version_is_the_projects(self):
        version = re.search(r'version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(encoding="utf-8"))[1]
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
        self.assertEqual((chart["version"], chart["appVersion"]), (version, version))
        images = cluster.named(cluster.kustomize(DEPLOY / "kubernetes/base"), "Deployment")
        self.assertTrue(cluster.pod_of(images)["containers"][0]["image"].endswith(f":{version}"))


if __name__ == "__main__":
    unittest.main()
