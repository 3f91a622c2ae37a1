"""OCI image layouts: https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md

Each is one tar file, which `oras`, `skopeo` and `crane` read, and whose digest is known before any registry has it.
"""

import datetime
import hashlib
import json

from archive import Entry, gzipped, tar

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CHART_CONFIG = "application/vnd.cncf.helm.config.v1+json"
CHART_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

# The names of processors in images, by the first part of a Rust target.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Layout:
    """The blobs of a layout, and the one that is tagged."""

    def __init__(self, seconds: int, annotations: dict[str, str]) -> None:
        self.seconds = seconds
        self.annotations = {**annotations, "org.opencontainers.image.created": self.created()}
        self.blobs: dict[str, bytes] = {}

    def created(self) -> str:
        """The time of the release, as images write it."""
        return datetime.datetime.fromtimestamp(self.seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def blob(self, kind: str, content: bytes, **more: object) -> dict[str, object]:
        """Keeps a blob, and describes it."""
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content), **more}

    def json_blob(self, kind: str, value: object, **more: object) -> dict[str, object]:
        """Keeps a blob of JSON, and describes it."""
        return self.blob(kind, json.dumps(value, sort_keys=True, separators=(",", ":")).encode(), **more)

    def manifest(self, config: dict, layer: dict, annotations: dict[str, str], **more: object) -> dict[str, object]:
        """A manifest of one layer."""
        value = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
                 "annotations": {**self.annotations, **annotations}}
        return self.json_blob(MANIFEST, value, **more)

    def image(self, entries: list[Entry], architecture: str, run: dict, annotations: dict[str, str]) -> dict:
        """An image of one layer, which starts as `run` says."""
        layer = tar(entries, self.seconds)
        platform = {"architecture": architecture, "os": "linux"}
        config = {**platform, "created": self.created(), "config": {**run, "Labels": self.annotations},
                  "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}}
        return self.manifest(self.json_blob(CONFIG, config), self.blob(LAYER, gzipped(layer)), annotations,
                             platform=platform)

    def index(self, manifests: list[dict]) -> dict:
        """One name for images of several processors."""
        value = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests, "annotations": self.annotations}
        return self.json_blob(INDEX, value)

    def packed(self, tagged: dict, tag: str) -> bytes:
        """The layout as a tar, in which `tagged` has the tag."""
        tagged = {name: value for name, value in tagged.items() if name != "platform"}
        tagged["annotations"] = {"org.opencontainers.image.ref.name": tag}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [tagged]}
        entries = [Entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
                   Entry("index.json", json.dumps(index, sort_keys=True).encode())]
        entries += [Entry(f"blobs/sha256/{digest}", content) for digest, content in self.blobs.items()]
        return tar(entries, self.seconds)


def filter_image(module: bytes, license_text: bytes, layout: Layout, tag: str) -> bytes:
    """The filter as an image that Istio and Envoy Gateway fetch: the "compat" variant of the Wasm image specification.

    They take `plugin.wasm` out of the last layer, for whatever processor the image says it is, so one does for all.
    """
    entries = [Entry("plugin.wasm", module), Entry("LICENSE", license_text)]
    image = layout.image(entries, "amd64", {}, {"module.wasm.image/variant": "compat"})
    return layout.packed(image, tag)


def command_image(binaries: dict[str, bytes], license_text: bytes, authorities: bytes, layout: Layout,
                  tag: str) -> bytes:
    """The static command alone, for each processor, with the certificates of the public authorities."""
    run = {"User": "65532:65532", "Entrypoint": ["/usr/local/bin/llm-rate-limit"], "Cmd": ["sidecar"],
           "WorkingDir": "/", "Env": ["PATH=/usr/local/bin"]}
    images = []
    for target, binary in sorted(binaries.items()):
        entries = [Entry("usr/local/bin/llm-rate-limit", binary, True),
                   Entry("usr/share/doc/llm-rate-limit/LICENSE", license_text),
                   Entry("etc/ssl/certs/ca-certificates.crt", authorities)]
        images.append(layout.image(entries, ARCHITECTURES[target.split("-")[0]], run, {}))
    return layout.packed(layout.index(images), tag)


def chart_artifact(chart: bytes, metadata: dict, layout: Layout, tag: str) -> bytes:
    """A packed Helm chart in the form that `helm install oci://...` fetches."""
    manifest = layout.manifest(layout.json_blob(CHART_CONFIG, metadata), layout.blob(CHART_LAYER, chart), {})
    return layout.packed(manifest, tag)
