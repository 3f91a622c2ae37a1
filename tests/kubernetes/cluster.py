"""What a cluster would make of the files in deploy/: it renders them as kustomize and Helm do, and holds objects
against the schemas of Kubernetes and of the custom resources in schemas/."""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import helm_python
import jsonschema
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/llm-rate-limit"
HERE = Path(__file__).resolve().parent
KUBERNETES = "1.37"


class Loader(yaml.SafeLoader):
    """YAML as Kubernetes's own readers take it: a key that is there twice is a mistake."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep) for key, _ in node.value]
        twice = {key for key in keys if isinstance(key, str) and keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"twice: {sorted(twice)}", node.start_mark)
        return super().construct_mapping(node, deep)


def documents(text):
    return [document for document in yaml.load_all(text, Loader) if document]


def kustomize(folder, components=()):
    """The objects that `kubectl apply -k` would send; with components, of a folder that adds them."""
    if components:
        with tempfile.TemporaryDirectory() as scratch:
            # kustomize takes a real path, and no absolute one.
            scratch = Path(scratch).resolve()
            places = [os.path.relpath(place, scratch) for place in (folder, *components)]
            document = {"kind": "Kustomization", "resources": places[:1], "components": places[1:]}
            (scratch / "kustomization.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
            return kustomize(scratch)
    return documents(rendered(folder))


@functools.lru_cache
def rendered(folder):
    command = [Path(sys.executable).parent / "kubectl", "kustomize", folder]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{folder}: {run.stderr}"
    return run.stdout


def helm(values, name="llm-rate-limit"):
    """The objects that `helm install NAME` would send.

    Raises helm_python.HelmError if the chart refuses the values.
    """
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values, name=name, namespace="llm-rate-limit")
    texts = [text for file, text in sorted(files.items()) if not file.endswith("NOTES.txt")]
    return [one for text in texts for one in documents(text)]


def named(objects, kind):
    """The only object of this kind."""
    [found] = [one for one in objects if one["kind"] == kind]
    return found


def strict(schema):
    """The schema of a custom resource, in which a field that it does not name is a mistake."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: strict(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            result["additionalProperties"] = False
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        result["type"] = [schema["type"], "null"]
    return result


def custom_schema(one):
    group = one["apiVersion"].split("/")[0]
    place = HERE / "schemas" / f"{one['kind']}.{group}.json"
    assert place.exists(), f"{place.name}: vendor.py has not written this schema"
    vendored = json.loads(place.read_text(encoding="utf-8"))
    assert vendored["apiVersion"] == one["apiVersion"], f"{one['kind']}: expected {vendored['apiVersion']}"
    schema = strict(vendored["schema"])
    text, anything = {"type": "string"}, {"type": "object"}
    schema["properties"] |= {"apiVersion": text, "kind": text, "metadata": anything}
    return schema


def mistakes(one):
    """What the cluster would refuse in an object, as texts that name the place."""
    group = one["apiVersion"].split("/")[0]
    if "." in group and not group.endswith(".k8s.io") or group == "gateway.networking.k8s.io":
        found = jsonschema.Draft7Validator(custom_schema(one)).iter_errors(one)
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]
    try:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as why:
        return [str(why)]
    return []


def pod_of(one):
    """The pod that an object makes, if it makes one."""
    if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):
        return one["spec"]["template"]["spec"]
    return None


def beyond_restricted(pod):
    """What Kubernetes's Pod Security Standard "restricted" refuses in a pod."""
    found = []
    volumes = {
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
    }
    for volume in pod.get("volumes", []):
        if not (set(volume) - {"name"}) <= volumes:
            found.append(f"volume {volume['name']}")
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            found.append(field)
    common = pod.get("securityContext", {})
    for container in pod.get("containers", []) + pod.get("initContainers", []):
        own = container.get("securityContext", {})
        both = {**common, **own}
        checks = {
            "privileged": not own.get("privileged"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities.drop": own.get("capabilities", {}).get("drop") == ["ALL"],
            "capabilities.add": set(own.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"},
            "runAsNonRoot": both.get("runAsNonRoot") is True,
            "runAsUser": both.get("runAsUser", 1) != 0,
            "seccompProfile": both.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "hostPort": not any("hostPort" in port for port in container.get("ports", [])),
        }
        found += [f"{container['name']}: {name}" for name, holds in checks.items() if not holds]
    return found
