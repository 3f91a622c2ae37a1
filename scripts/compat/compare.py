"""Fails if the last run of `make compat` has passed less than the committed one."""

import json
import subprocess
import sys

from pins import RESULTS, ROOT


def passes(results):
    """Everything that was played and passed."""
    for part, played in results.items():
        for of, seen in played.items():
            for what, cell in seen.get("cells", {}).items():
                if cell.get("holds", "reason" not in cell):
                    yield part, of, what


command = ["git", "show", f"HEAD:{RESULTS.relative_to(ROOT)}"]
committed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
lost = set(passes(json.loads(committed))) - set(passes(json.loads(RESULTS.read_text())))
sys.exit("\n".join(f"no longer passes: {' '.join(of)}" for of in sorted(lost)) or None)
