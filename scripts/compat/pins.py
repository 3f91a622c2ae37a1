"""What is played: tests/compat/versions.json, and where its results and its page are."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests/compat"
PINS = json.loads((FOLDER / "versions.json").read_text())
RESULTS = FOLDER / "results.json"
PAGE = ROOT / "docs/compatibility.md"
TOOLS = ROOT / ".tools/compat"


def clients():
    """Each client with each API that it speaks: its id, which ends its keys, and what its row on the page says."""
    for client in PINS["clients"]:
        for api in client["apis"]:
            package = client["package"].lower().replace("@", "").replace("/", "-")
            language = client["language"].lower()
            yield {**client, "api": api, "id": f"{language}-{package}-{client['set']}-{api}"}


def locked(language, of, package):
    """The version of a package in the lock file of a set of clients."""
    folder = FOLDER / "clients" / language.lower()
    if language == "Python":
        lines = (folder / f"{of}.txt").read_text().splitlines()
        return next(line.split("==")[1] for line in lines if line.split("==")[0] == package)
    lock = json.loads((folder / of / "package-lock.json").read_text())
    return lock["packages"][f"node_modules/{package}"]["version"]


def redis_id(redis):
    return f"{redis['name']} {redis['version']}".lower().replace(" ", "-")
