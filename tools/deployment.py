"""Checks the form of docker-compose.yml and deploy/, as far as it goes without a container engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "docker-compose.yml"
EXAMPLE = ROOT / ".env.example"
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>[A-Z][A-Z0-9_]*)(?P<required>:\?[^}]*)?[^}]*\}")
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


def problems() -> Iterator[str]:
    """Yields a sentence for each mistake."""
    for path in sorted((ROOT / "deploy").rglob("*.y*ml")):
        try:
            list(yaml.safe_load_all(path.read_text()))
        except yaml.YAMLError as error:
            yield f"{path.relative_to(ROOT)}: {error}"
    text = COMPOSE.read_text()
    described = yaml.safe_load(text)
    for name, service in described["services"].items():
        yield from (f"docker-compose.yml: {name} {problem}" for problem in _service_problems(service, described))
    offered = {line.split("=")[0] for line in EXAMPLE.read_text().splitlines() if "=" in line and line[0] != "#"}
    required = {match["name"] for match in VARIABLE.finditer(text) if match["required"]}
    yield from (f".env.example lacks {name}" for name in sorted(required - offered))


def _service_problems(service: dict[str, Any], described: dict[str, Any]) -> Iterator[str]:
    if "image" not in service and "build" not in service:
        yield "has neither image nor build"
    yield from _waiting_problems(service.get("depends_on") or {}, described["services"])
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        known = (ROOT / source).exists() if source.startswith(".") else source in (described.get("volumes") or {})
        if not known:
            yield f"mounts {source}, which does not exist"


def _waiting_problems(depends_on: dict[str, dict[str, str]], services: dict[str, Any]) -> Iterator[str]:
    for target, how in depends_on.items():
        if target not in services:
            yield f"depends on {target}, which does not exist"
        elif how.get("condition") not in CONDITIONS:
            yield f"waits for {target} under an unknown condition"
        elif how["condition"] == "service_healthy" and not _has_health(services[target]):
            yield f"waits for the health of {target}, which has no check"


def _has_health(service: dict[str, Any]) -> bool:
    # What is built here has its check in deploy/Dockerfile.
    return "healthcheck" in service or "build" in service


def _compose_command() -> list[str]:
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if shutil.which("docker"):
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        return ["docker", "compose"] if plugin.returncode == 0 else []
    return []


def _config_problem(command: list[str]) -> str:
    """Returns docker-compose's errors for the file, with every secret filled in."""
    names = [line.split("=")[0] for line in EXAMPLE.read_text().splitlines() if "=" in line and line[0] != "#"]
    with tempfile.NamedTemporaryFile("w", suffix=".env") as filled:
        filled.writelines(f"{name}=made-up\n" for name in names)
        filled.flush()
        asked = [*command, "--env-file", filled.name, "-f", str(COMPOSE), "config", "-q"]
        done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


def main() -> None:
    """Exits with 1 when something is wrong."""
    found = list(problems())
    command = _compose_command()
    problem = _config_problem(command) if command else ""
    for line in [*found, problem] if problem else found:
        print(line, file=sys.stderr)
    sys.exit(1 if found or problem else 0)


if __name__ == "__main__":
    main()
