"""Writes the schemas that hold what the guides show of other tools to what these tools take.

    vendor.py kuadrant CRD.yaml VERSION    from Kuadrant's definition of the resource (Apache-2.0), without its texts
    vendor.py litellm VERSION              from LiteLLM's own models (MIT); run it by a Python that has LiteLLM

Those of ratelimit and APISIX are written by hand, from the sources that they name.
"""

import json
import sys
from pathlib import Path

SCHEMAS = Path(__file__).parent / "schemas"


def slim(node, is_properties=False):
    """The schema without what it says to people, and closed: an unknown field is an error."""
    if isinstance(node, list):
        return [slim(one) for one in node]
    if not isinstance(node, dict):
        return node
    dropped = set() if is_properties else {"description", "title", "default", "example", "format"}
    kept = {key: value for key, value in node.items() if key in ("properties",) or key not in dropped}
    kept = {key: value for key, value in kept.items() if is_properties or not key.startswith("x-kubernetes")}
    kept = {key: slim(value, key == "properties" and not is_properties) for key, value in kept.items()}
    if not is_properties and "properties" in kept and "additionalProperties" not in kept:
        kept["additionalProperties"] = False
    return kept


def write(name, source, schema):
    text = json.dumps({"$comment": source, **schema}, separators=(",", ":"), sort_keys=True)
    (SCHEMAS / f"{name}.json").write_text(text + "\n")


def kuadrant(file, version):
    import yaml

    definition = yaml.safe_load(Path(file).read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema = slim(definition)
    # Kubernetes checks it by itself.
    schema["properties"]["metadata"] = {"type": "object"}
    write("kuadrant", f"Kuadrant/kuadrant-operator {version}, Apache-2.0", schema)


def litellm(version):
    from litellm.proxy._types import NewTeamRequest
    from litellm.types.proxy.management_endpoints.key_requests import GenerateKeyRequest

    for name, model in (("litellm-key", GenerateKeyRequest), ("litellm-team", NewTeamRequest)):
        write(name, f"BerriAI/litellm {version}, MIT", slim(model.model_json_schema()))


{"kuadrant": kuadrant, "litellm": litellm}[sys.argv[1]](*sys.argv[2:])
