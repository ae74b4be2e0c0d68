"""Lints proto/ and compares it with the committed baseline, which others may already build against.

`make baseline` writes the baseline anew, and so decides that removed parts may go.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUF = ROOT / ".tools" / "node_modules" / ".bin" / "buf"
BASELINE = ROOT / "contracts" / "baseline" / "protos.binpb"


def check() -> None:
    """Raises CalledProcessError, after buf's own words, when the form is wrong or something has gone."""
    subprocess.run([BUF, "lint"], cwd=ROOT, check=True)
    subprocess.run([BUF, "breaking", "--against", BASELINE], cwd=ROOT, check=True)


def write() -> None:
    """Writes the baseline from proto/ as it stands."""
    BASELINE.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([BUF, "build", "--exclude-source-info", "--output", BASELINE], cwd=ROOT, check=True)


if __name__ == "__main__":
    try:
        write() if sys.argv[1:] == ["baseline"] else check()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
