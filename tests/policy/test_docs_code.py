"""The documentation names modules, folders, tests and commands that exist."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from regie_local.services import all_specs, service_specs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")), *ROOT.glob("services/*/README.md")]
IN_THE_MEDIA_STORE = "uploads/"
MODULE = re.compile(r"[\w<>*/.-]+\.py")
PLACEHOLDER = re.compile(r"<\w+>|NNNN")


@cache
def tracked() -> tuple[str, ...]:
    """Returns the paths of all files of the repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone, so git cannot tell which files belong to it")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    return tuple(listed.stdout.decode().splitlines())


def code_spans() -> Iterator[tuple[Path, str]]:
    """Yields what stands between backticks on each page, without blocks of code."""
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        yield from ((page, span) for span in re.findall(r"`([^`\n]+)`", text))


def commands() -> Iterator[tuple[Path, str]]:
    """Yields each line of the blocks of code, and each span of code."""
    yield from code_spans()
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            yield from ((page, line.strip()) for line in block.splitlines())


def files_named(path: str) -> list[str]:
    """Returns the files whose path ends in a name of the documentation; placeholders stand for anything."""
    pattern = PLACEHOLDER.sub("*", path)
    return [file for file in tracked() if fnmatch(file, pattern) or fnmatch(file, f"*/{pattern}")]


@cache
def definitions(path: str) -> frozenset[str]:
    """Returns what a module defines, at any depth."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return frozenset(names)


def test_modules_on_the_pages_exist_and_define_what_is_named_after_them() -> None:
    wrong = []
    for page, span in code_spans():
        path, _, names = span.partition(" ")
        if MODULE.fullmatch(path):
            found = files_named(path)
            unknown = set(names.split()) - frozenset().union(*(definitions(file) for file in found))
            wrong += [f"{page.relative_to(ROOT)}: {span}"] if not found or unknown else []
    assert not wrong


def test_every_wait_of_the_architecture_says_where_it_stands() -> None:
    table = (DOCS / "architecture.md").read_text().partition("## Every wait and its bound")[2].partition("\n## ")[0]
    rows = [line.split("|")[3].strip() for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 50
    wrong = []
    for cell in rows:
        files: list[str] = []
        for span in re.findall(r"`([^`]+)`", cell):
            path, _, name = span.rpartition(" ") if ".py " in span else (span, "", "")
            files = files_named(path) if MODULE.fullmatch(path) else files
            name = name if MODULE.fullmatch(path) else span
            setting = name.startswith(("<SERVICE>_", *(f"{one.name.upper()}_" for one in all_specs())))
            if not setting and not any(not name or name in definitions(file) for file in files):
                wrong.append(f"{cell}: {span}")
    assert not wrong, "name a module, and behind it the constants that it defines"


def test_folders_on_the_pages_exist() -> None:
    wrong = []
    for page, span in code_spans():
        if re.fullmatch(r"[\w<>][\w<>/.-]*/", span) and not span.startswith(IN_THE_MEDIA_STORE):
            pattern = PLACEHOLDER.sub("*", span)
            if not any(fnmatch(file, f"{pattern}*") or fnmatch(file, f"*/{pattern}*") for file in tracked()):
                wrong.append(f"{page.relative_to(ROOT)}: {span}")
    assert not wrong


def test_packages_on_the_pages_can_be_imported() -> None:
    named = {name for _, text in commands() for name in re.findall(r"\bregie_[a-z]+(?:\.\w+)*", text)}
    assert {"regie_chassis.events.streams", "regie_gateway"} <= named
    assert not {name for name in named if not _can_be_imported(name)}


def _can_be_imported(name: str) -> bool:
    package, _, last = name.rpartition(".")
    return find_spec(name) is not None or last in vars(import_module(package))


def test_tests_on_the_pages_exist() -> None:
    named = {span for _, span in code_spans() if re.fullmatch(r"test_\w+", span)}
    modules = {Path(file).stem for file in tracked()}
    assert named
    assert not named - modules


def test_decisions_on_the_pages_exist() -> None:
    numbers = {page.name[:4] for page in (DOCS / "adr").glob("*.md")}
    named = {number for page in PAGES for number in re.findall(r"\bADR (\d{4})\b", page.read_text())}
    assert named
    assert not named - numbers


def test_commands_of_services_on_the_pages_exist() -> None:
    called = {
        (service, command)
        for _, line in commands()
        for service, command in re.findall(r"python -m regie_(<service>|[a-z]+) ([a-z][a-z-]*)", line)
    }
    assert {("gateway", "bootstrap"), ("<service>", "redrive")} <= called
    known = {service: _commands_of(service) for service in service_specs()}
    known |= {"<service>": frozenset.intersection(*known.values()), "sandbox": frozenset({"serve"})}
    assert not {(service, command) for service, command in called if command not in known.get(service, ())}


def _commands_of(service: str) -> frozenset[str]:
    command = typer.main.get_command(import_module(f"regie_{service}.__main__").app)
    assert isinstance(command, typer.core.TyperGroup)
    return frozenset(command.commands)
