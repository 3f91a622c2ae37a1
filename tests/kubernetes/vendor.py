#!/usr/bin/env python3
"""Writes the schemas of custom resources into schemas/, from the definitions in the files that it is given.

    vendor.py SOURCE VERSION FILE...

SOURCE and VERSION name where the files come from. Only the kinds in KINDS are kept, in their most stable version,
without their descriptions and rules in CEL: what is left says which fields there are and of which types.
"""

import json
import sys
from pathlib import Path

import yaml

KINDS = {
    "ClientTrafficPolicy", "DestinationRule", "EnvoyExtensionPolicy", "EnvoyFilter", "EnvoyPatchPolicy", "EnvoyProxy",
    "Gateway", "GatewayClass", "HTTPRoute", "PodMonitor", "ServiceEntry", "ServiceMonitor", "Telemetry",
    "TrafficExtension", "VirtualService", "WasmPlugin",
}
DROPPED = {"description", "x-kubernetes-validations", "example", "externalDocs"}


def slim(node, is_properties=False):
    """The schema without what it says to people. Below `properties`, a key is a field's name."""
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if is_properties or key not in DROPPED}
        return {key: slim(value, key == "properties" and not is_properties) for key, value in kept.items()}
    if isinstance(node, list):
        return [slim(one) for one in node]
    return node


def stability(version):
    """Orders v1alpha3 before v1beta1 before v1."""
    return ("alpha" not in version, "beta" not in version, version)


def main() -> None:
    source, version, *files = sys.argv[1:]
    for file in files:
        for document in yaml.safe_load_all(Path(file).read_text(encoding="utf-8")):
            if not document or document["spec"]["names"]["kind"] not in KINDS:
                continue
            spec = document["spec"]
            served = max((one for one in spec["versions"] if one["served"]), key=lambda one: stability(one["name"]))
            kind, group = spec["names"]["kind"], spec["group"]
            schema = {
                "apiVersion": f"{group}/{served['name']}",
                "kind": kind,
                "source": f"{source} {version}, Apache-2.0",
                "schema": slim(served["schema"]["openAPIV3Schema"]),
            }
            place = Path(__file__).parent / "schemas" / f"{kind}.{group}.json"
            place.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
