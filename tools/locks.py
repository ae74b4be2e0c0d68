"""Writes the hash-pinned lists of dependencies, and checks that they satisfy the projects.

python tools/locks.py write     needs the network
python tools/locks.py check     does not
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)
OWN = "regie"
TOOLS = {
    "uv": "uv.requirements.lock",
    "openapi-python-client": "clients.requirements.lock",
    "celery[redis]": "celery.requirements.lock",
}


def services() -> list[str]:
    """Returns the services' folder names."""
    return sorted(path.parent.name for path in ROOT.glob("services/*/pyproject.toml"))


def write() -> None:
    """Resolves once for all supported Pythons, then writes a list for the whole and one for each service."""
    uv = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    subprocess.run([uv, "lock", "--quiet"], cwd=ROOT, check=True)
    export = [uv, "export", "--quiet", "--frozen", "--no-emit-workspace", "--format", "requirements-txt"]
    export += ["--no-annotate", "--no-header"]
    whole = subprocess.run([*export, "--all-groups"], cwd=ROOT, check=True, capture_output=True, text=True)
    (ROOT / "requirements.lock").write_text(whole.stdout)
    for name in services():
        only = [*export, "--no-dev", "--package", f"regie-{name}"]
        one = subprocess.run(only, cwd=ROOT, check=True, capture_output=True, text=True)
        (ROOT / "services" / name / "requirements.lock").write_text(one.stdout)
    for tool, lock in TOOLS.items():
        _write_tool(uv, tool, ROOT / "tools" / lock)


def check() -> list[str]:
    """Returns the mistakes: requirements that a list does not satisfy, and addresses that do not belong in one."""
    projects = {path.parent: _requirements(path) for path in _manifests()}
    everything = [requirement for wanted in projects.values() for requirement in wanted]
    wrong = list(_unsatisfied(ROOT / "requirements.lock", everything))
    for name in services():
        folder = ROOT / "services" / name
        wanted = _with_libraries(projects[folder], projects)
        wrong += _unsatisfied(folder / "requirements.lock", [one for one in wanted if not one.marker])
    return wrong


def _write_tool(uv: str, tool: str, lock: Path) -> None:
    """Pins a tool that is installed by itself: the newest, with the hash of every wheel."""
    command = [uv, "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header", "--no-annotate", "-"]
    done = subprocess.run(command, cwd=ROOT, input=f"{tool}\n", check=True, capture_output=True, text=True)
    lock.write_text(done.stdout)


def _manifests() -> list[Path]:
    return [ROOT / "pyproject.toml", *ROOT.glob("*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")]


def _requirements(manifest: Path) -> list[Requirement]:
    read = tomllib.loads(manifest.read_text())
    listed = list(read["project"].get("dependencies", []))
    if manifest.parent == ROOT:
        listed += [one for group in read.get("dependency-groups", {}).values() for one in group]
    return [Requirement(one) for one in listed]


def _with_libraries(wanted: list[Requirement], projects: dict[Path, list[Requirement]]) -> Iterator[Requirement]:
    """Yields the requirements, and those of the workspace's own libraries among them."""
    for one in wanted:
        yield one
        if one.name.startswith(f"{OWN}-"):
            yield from _with_libraries(projects[ROOT / one.name.removeprefix(f"{OWN}-")], projects)


def _unsatisfied(lock: Path, requirements: list[Requirement]) -> Iterator[str]:
    where = lock.relative_to(ROOT)
    if not lock.exists():
        yield f"{where} is missing"
        return
    text = lock.read_text()
    if "://" in text or "file:" in text:
        yield f"{where} names an address"
    pinned: dict[str, list[str]] = {}
    for match in PINNED.finditer(text):
        pinned.setdefault(canonicalize_name(match["name"]), []).append(match["version"])
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        if name.startswith(f"{OWN}-"):
            continue
        versions = pinned.get(name, [])
        if not versions or not all(
            requirement.specifier.contains(Version(version), prereleases=True) for version in versions
        ):
            yield f"{where} does not satisfy {requirement}"


if __name__ == "__main__":
    if sys.argv[1:] == ["write"]:
        write()
    found = check()
    for line in found:
        print(line, file=sys.stderr)
    if found:
        sys.exit("run `make lock`" + os.linesep)
