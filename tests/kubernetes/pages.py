"""Commands and files that the pages show are there, and do what they say as far as no cluster is needed."""

import os
import re
import shlex
import tempfile
import unittest
from pathlib import Path

import helm_python
import yaml

import cluster
from cluster import CHART, DEPLOY, ROOT

PAGES = [ROOT / "docs" / name for name in ("install.md", "kubernetes.md", "istio.md", "envoy-gateway.md")]
PAGES.append(CHART / "README.md")


def commands():
    """Every command that a page shows, as words, with lines that end in a backslash joined."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^    (\S.*)$", text, re.MULTILINE):
            yield page.name, shlex.split(line)


class Pages(unittest.TestCase):
    def test_kubectl_applies_folders_that_render(self):
        folders = [words[words.index("-k") + 1] for _, words in commands() if "-k" in words]
        self.assertGreater(len(folders), 3)
        for folder in folders:
            self.assertTrue(cluster.kustomize(ROOT / folder), folder)

    def test_helm_installs_the_chart_with_values_that_it_takes(self):
        seen = 0
        for page, words in commands():
            if words[:2] != ["helm", "install"] or words[3].startswith("oci://docker.io/"):
                continue  # Another project's chart.
            if words[3].startswith("oci://"):
                # The name that scripts/release/publish gives it.
                self.assertEqual(words[3], f"oci://registry.example/{CHART.name}-chart", page)
                chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
                self.assertEqual(words[words.index("--version") + 1], chart["version"], page)
            else:
                self.assertEqual(ROOT / words[3], CHART, page)
            values = {}
            for name, setting in zip(words, words[1:]):
                if name != "--set":
                    continue
                # The shell would run the command in it.
                setting = setting.replace("$(openssl rand -hex 16)", "0123456789abcdef" * 2)
                for key, value in helm_python.parse_set_string(setting).items():
                    values.setdefault(key, {}).update(value)
            self.assertTrue(cluster.named(cluster.helm(values), "Deployment"))
            seen += 1
        self.assertEqual(seen, 3)

    def test_what_kubectl_looks_at_is_what_the_files_make(self):
        """Each `kubectl -n NAMESPACE … KIND/NAME` of ours finds an object that a folder or the chart makes."""
        made = {(one["kind"].lower(), one["metadata"]["name"])
                for folder in ("kubernetes/overlays/trial", "envoy-gateway/with-patch", "istio/ingressgateway")
                for one in cluster.kustomize(DEPLOY / folder)}
        made |= {(one["kind"].lower(), one["metadata"]["name"]) for one in cluster.helm(
            {"image": {"repository": "r"}, "auth": {"token": "0123456789abcdef"}, "redis": {"url": "redis://r"}})}
        kinds = {kind for kind, _ in made}
        seen = 0
        for page, words in commands():
            if words[0] != "kubectl" or {"istio-system", "envoy-gateway-system"} & set(words):
                continue  # The gateways that Istio and Envoy Gateway make.
            pairs = [word.split("/", 1) for word in words if "/" in word and word.split("/")[0] in kinds]
            pairs += [[word, name] for word, name in zip(words, words[1:]) if word in kinds - {"namespace"}]
            for kind, name in pairs:
                if kind != "namespace":
                    self.assertIn((kind, name), made, f"{page}: {words}")
                    seen += 1
            for word in words:
                if word.startswith("envoy") and "policy" in word:
                    self.assertLessEqual(set(word.split(",")), kinds, page)
        self.assertGreaterEqual(seen, 4)

    def test_files_of_values_are_there(self):
        files = [words[words.index("-f") + 1] for _, words in commands() if "-f" in words]
        self.assertGreater(len(files), 0)
        for file in files:
            self.assertTrue((ROOT / file).exists(), file)

    def test_the_overlay_of_istios_page_renders(self):
        page = (ROOT / "docs/istio.md").read_text(encoding="utf-8")
        [block] = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "components:" in block]
        overlay = yaml.safe_load(block)
        with tempfile.TemporaryDirectory() as scratch:
            # The page's folder would be beside those that it names.
            scratch = Path(scratch).resolve()
            up = os.path.relpath(DEPLOY / "istio", scratch)
            for part in overlay.values():
                part[:] = [place.replace("..", up, 1) for place in part]
            document = {"kind": "Kustomization", **overlay}
            (scratch / "kustomization.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
            patches = cluster.named(cluster.kustomize(scratch), "EnvoyFilter")["spec"]["configPatches"]
        self.assertEqual(patches[-1]["applyTo"], "CLUSTER")
