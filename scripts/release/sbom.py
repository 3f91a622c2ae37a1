"""Bills of materials in CycloneDX, from cargo's own resolution and the checksums of Cargo.lock."""

import datetime
import json
import subprocess
import tomllib
import uuid
from pathlib import Path

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL


def of_package(root: Path, name: str, target: str, seconds: int) -> bytes:
    """The bill of the package `name`, compiled for `target`: every crate that is compiled into it, macros included."""
    metadata = json.loads(subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target],
        cwd=root, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    start = next(package["id"] for package in metadata["packages"] if package["name"] == name)
    needed = {start: needs(nodes[start])}
    waiting = list(needed[start])
    while waiting:
        package = waiting.pop()
        if package not in needed:
            needed[package] = needs(nodes[package])
            waiting += needed[package]
    checksums = locked(root)
    components = {package: component(packages[package], checksums, package == start) for package in needed}
    return rendered(components, needed, start, target, seconds)


def needs(node: dict) -> list[str]:
    """The packages that a package is compiled with, without what only its tests or its build script use."""
    return sorted(dependency["pkg"] for dependency in node["deps"]
                  if any(kind["kind"] is None for kind in dependency["dep_kinds"]))


def locked(root: Path) -> dict[tuple[str, str], str]:
    """The SHA-256 of each crate from the registry, by name and version."""
    lock = tomllib.loads((root / "Cargo.lock").read_text())
    return {(package["name"], package["version"]): package["checksum"]
            for package in lock["package"] if "checksum" in package}


def component(package: dict, checksums: dict, is_root: bool) -> Component:
    """A package as a component."""
    name, version = package["name"], package["version"]
    checksum = checksums.get((name, version))
    # Old crates write a slash for "or".
    text = (package["license"] or "").replace("/", " OR ")
    licenses = [LicenseFactory().make_from_string(text)] if text else []
    return Component(
        name=name, version=version, bom_ref=f"{name}@{version}", licenses=licenses,
        type=ComponentType.APPLICATION if is_root else ComponentType.LIBRARY,
        purl=PackageURL("cargo", None, name, version),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=checksum)] if checksum else [])


def rendered(components: dict, needed: dict, start: str, target: str, seconds: int) -> bytes:
    """The bill as JSON. Its time and its number depend on what is in it."""
    bom = Bom(components=[part for package, part in components.items() if package != start])
    bom.metadata.component = components[start]
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    parts = ",".join(sorted(part.purl.to_string() for part in components.values()))
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"{target} {parts}")
    for package, others in needed.items():
        bom.register_dependency(components[package], [components[other] for other in others])
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem:
        raise SystemExit(f"sbom: {components[start].name}: {problem}")
    return (text + "\n").encode()
