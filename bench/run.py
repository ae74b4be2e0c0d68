"""Runs every bench and writes bench/RESULTS.md (`make bench`)."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BENCHES = ("boot", "gateway", "mapping", "dispatch", "throughput", "upload", "scale")
TIMEOUT = 600.0  # seconds for one


def main() -> None:
    """Runs the benches in turn; a failed bench ends the run."""
    results = [run(name) for name in BENCHES]
    (HERE / "RESULTS.md").write_text(page(results))
    print(f"written to {HERE / 'RESULTS.md'}")


def run(name: str) -> dict[str, Any]:
    """Runs one bench and returns its last line."""
    print(f"== {name}", flush=True)
    program = [sys.executable, str(HERE / f"{name}.py")]
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False)
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(f"bench/{name}.py ended with status {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def page(results: list[dict[str, Any]]) -> str:
    """Returns the page: a row for each bench, and its line below."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"
    rows = [
        f"| {one['bench']} | {one['ours']:g} {one['unit']} | {one['reference']:g} {one['unit']} |"
        f" **{one['ratio']:g}** | {one['better']} | {one['params']['reference']} |"
        for one in results
    ]
    lines = "\n".join(json.dumps(one) for one in results)
    return (
        "# What was measured\n\n"
        f"By `make bench` on {datetime.now(UTC):%Y-%m-%d}: {machine}. Look at the ratios: both sides ran on the same"
        " machine in the same run; the absolute figures are that machine's.\n\n"
        "| bench | Régie | reference | ratio | better | what the reference is |\n|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + f"\n\n```json\n{lines}\n```\n"
    )


if __name__ == "__main__":
    main()
