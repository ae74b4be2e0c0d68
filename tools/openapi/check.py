"""Checks the gateway's OpenAPI document: against the baseline, with two linters, and with two generators of clients.

python tools/openapi/check.py               everything; needs the installations of `make openapi-check`
python tools/openapi/check.py baseline      writes contracts/baseline/openapi.json, which others build on
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from compare import breaking_changes
from regie_gateway.http.application import build_application
from regie_gateway.http.body_limit import FileLimits
from regie_gateway.resources.catalogue import RESOURCES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BASELINE = ROOT / "contracts" / "baseline" / "openapi.json"
NODE = ROOT / ".tools" / "node_modules" / ".bin"
PYTHON_GENERATOR = ROOT / ".tools" / "clients" / "bin" / "openapi-python-client"
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


def document() -> dict[str, Any]:
    """Returns the document as the gateway serves it."""
    app = build_application(None, RESOURCES, body_limit=1, file_limits=FileLimits(1, 1))  # type: ignore[arg-type]  # nothing is called
    return app.openapi()


def write_baseline() -> None:
    """Writes the baseline from the document as it stands."""
    BASELINE.write_text(json.dumps(document(), ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def check() -> list[str]:
    """Returns the mistakes: breaking changes, findings of a linter, and operations that a generator loses."""
    current = document()
    wrong = [f"breaks clients: {change}" for change in breaking_changes(json.loads(BASELINE.read_text()), current)]
    with tempfile.TemporaryDirectory(prefix="regie-openapi-") as folder:
        path = Path(folder) / "openapi.json"
        path.write_text(json.dumps(current))
        wrong += _run(NODE / "redocly", "lint", "--config", HERE / "redocly.yaml", "--format", "stylish", path)
        wrong += _run(NODE / "spectral", "lint", "--ruleset", HERE / "spectral.yaml", "--fail-severity", "warn", path)
        expected = {one["operationId"] for methods in current["paths"].values() for one in methods.values()}
        wrong += _compare("openapi-typescript", expected, typescript_operations(path))
        wrong += _compare("openapi-python-client", expected, python_operations(path))
    return wrong


def typescript_operations(path: Path) -> set[str]:
    """Returns the operations in the types that openapi-typescript makes of a document."""
    types = path.with_name("types.ts")
    subprocess.run([NODE / "openapi-typescript", path, "--output", types], check=True, capture_output=True)
    operations = types.read_text().partition("export interface operations {")[2]
    return set(re.findall(r"^    (\w+): \{$", operations, re.MULTILINE))


def python_operations(path: Path) -> set[str]:
    """Returns the operations in the client that openapi-python-client makes. Exits for a warning."""
    client = path.with_name("client")
    command: list[str | Path] = [
        PYTHON_GENERATOR,
        "generate",
        "--path",
        path,
        "--output-path",
        client,
        "--meta",
        "none",
    ]
    command += ["--config", HERE / "python-client.yaml", "--fail-on-warning"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"openapi-python-client does not take the document:\n{done.stdout}{done.stderr}")
    return {module.stem for module in (client / "api").rglob("*.py") if module.stem != "__init__"}


def _compare(generator: str, expected: set[str], generated: set[str]) -> list[str]:
    return [f"{generator} loses {name}" for name in sorted(expected - generated)]


def _run(*command: str | Path) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **QUIET})
    return [f"{Path(command[0]).name}:\n{done.stdout}{done.stderr}"] if done.returncode else []


if __name__ == "__main__":
    if sys.argv[1:] == ["baseline"]:
        write_baseline()
    elif wrong := check():
        print("\n".join(wrong), file=sys.stderr)
        sys.exit("the OpenAPI document is not in order; a change that breaks clients on purpose takes `make baseline`")
