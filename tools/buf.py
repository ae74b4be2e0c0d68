"""Lints proto/ and compares it with what others may already build against.

On a branch that is where it left main, on main the commit before the last: each commit is held to the one before it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUF = ROOT / ".tools" / "node_modules" / ".bin" / "buf"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def base() -> str:
    """Returns the commit to compare with; empty when there is none, as in a shallow clone."""
    head = _git("rev-parse", "HEAD")
    main = _git("rev-parse", "--verify", "--quiet", "origin/main") or _git("rev-parse", "--verify", "--quiet", "main")
    fork = _git("merge-base", head, main) if main else ""
    chosen = fork if fork and fork != head else _git("rev-parse", "--verify", "--quiet", "HEAD~1")
    return chosen if chosen and _git("ls-tree", "--name-only", chosen, "proto/") else ""


def main() -> None:
    """Exits with buf's own status and words."""
    subprocess.run([BUF, "lint"], cwd=ROOT, check=True)
    against = base()
    if not against:
        print("no earlier proto/ to compare with")
        return
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "proto.tar"
        subprocess.run(["git", "archive", f"--output={packed}", against, "proto", "buf.yaml"], cwd=ROOT, check=True)
        subprocess.run(["tar", "-xf", packed, "-C", folder], check=True)
        subprocess.run([BUF, "breaking", "--against", folder], cwd=ROOT, check=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
