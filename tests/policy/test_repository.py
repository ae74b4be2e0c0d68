"""The repository: the content of files, their names, and the help of the entry points."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MINE = Path(__file__).relative_to(ROOT)
# Moves a fake clock on by itself; no test waits for its sleep.
PUMPS = {Path("services/audience/tests/conftest.py")}
BROAD = {"Exception", "BaseException"}
# Places outside loops where an outage means something of its own: an answer to a caller, a batch that is kept together.
OUTAGE_JUDGES = {"audience": 1, "gateway": 1, "publisher": 5}
NOUNLESS = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}


def git(*arguments: str) -> list[str]:
    """Returns the lines that git answers; a search that finds nothing ends with 1."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Every file of the repository that is there, by its path from the root."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone, so git cannot tell which files belong to it")
    return [Path(line) for line in git("ls-files") if (ROOT / line).is_file()]


@pytest.fixture(scope="module")
def python(tracked: list[Path]) -> list[Path]:
    return [path for path in tracked if path.suffix == ".py" and path.parts[0] != "contracts"]


def in_tests(path: Path) -> bool:
    return "tests" in path.parts


def test_no_file_tells_of_a_machine_or_of_a_registry(tracked: list[Path]) -> None:
    places = [
        r"/(work|root|home)/[A-Za-z]",
        r"https?://[^ ]*(pypi|npmjs|artifactory|nexus|files\.pythonhosted)[^ ]*",
    ]
    allowed = {str(MINE), ".dockerignore"}
    found = []
    for place in places:
        lines = git("grep", "-nIE", place, "--", ".", ":!*.lock", ":!*.svg")
        found += [line for line in lines if line.split(":", 1)[0] not in allowed]
    assert not found


def test_no_lock_file_names_a_host_but_the_public_registry(tracked: list[Path]) -> None:
    for path in tracked:
        if path.suffix == ".lock":
            hosts = set(re.findall(r"https?://([^/\s\"]+)", (ROOT / path).read_text()))
            assert hosts <= {"pypi.org", "files.pythonhosted.org", "registry.npmjs.org"}, path


def test_what_is_left_to_do_carries_an_issue(tracked: list[Path]) -> None:
    marks = git("grep", "-nIE", r"\b(TODO|FIXME|XXX|HACK)\b", "--", "*.py", "*.proto", "*.sql", "*.yaml", "Makefile")
    assert not [line for line in marks if not re.search(r"#\d+", line) and not line.startswith(str(MINE))]


def test_every_module_says_what_it_is_for(python: list[Path]) -> None:
    silent = [
        str(path)
        for path in python
        if "src" in path.parts and not ast.get_docstring(ast.parse((ROOT / path).read_text()))
    ]
    assert not silent


def test_a_package_is_a_docstring_and_nothing_else(python: list[Path]) -> None:
    full = [str(path) for path in python if path.name == "__init__.py" and len(_body(path)) != 1]
    assert not full
    assert not [str(path) for path in python if path.name == "__init__.py" and in_tests(path)]


def _body(path: Path) -> list[ast.stmt]:
    return ast.parse((ROOT / path).read_text()).body


def test_modules_are_nouns_of_the_business_or_of_the_machinery(python: list[Path]) -> None:
    assert not [str(path) for path in python if NOUNLESS & {*path.parts, path.stem}]


def test_no_module_passes_the_length_at_which_it_becomes_a_package(python: list[Path]) -> None:
    long = {str(path): _lines(path) for path in python if "src" in path.parts and _lines(path) > 400}
    assert not long


def _lines(path: Path) -> int:
    return len((ROOT / path).read_text().splitlines())


def test_a_broad_except_cleans_up_or_says_why_it_is_broad(python: list[Path]) -> None:
    silent = [
        f"{path}:{handler.lineno}"
        for path in python
        if "src" in path.parts
        for handler in _broad_excepts(path)
        if "# broad: " not in (ROOT / path).read_text().splitlines()[handler.lineno - 1]
        and ast.unparse(handler.body[-1]) != "raise"
    ]
    assert not silent


def test_loops_leave_outages_to_the_chassis(python: list[Path]) -> None:
    judging = Counter(
        path.parts[1]
        for path in python
        if path.parts[0] == "services" and "src" in path.parts
        for handler in _broad_excepts(path)
        if "is_transient" in ast.unparse(handler)
    )
    assert judging == OUTAGE_JUDGES, "a loop is a PeriodicLoop or uses Outages; see regie_chassis.process.loops"


def _broad_excepts(path: Path) -> Iterator[ast.ExceptHandler]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) in BROAD):
            yield node


def test_no_test_sleeps(python: list[Path]) -> None:
    sleeping = [f"{path}:{line}" for path in python if in_tests(path) and path not in PUMPS for line in _sleeps(path)]
    assert not sleeping, "wait for a condition: regie_local.testing.waiting.until"


def _sleeps(path: Path) -> Iterator[int]:
    """Yields the lines that sleep; `asyncio.sleep(0)` only lets others run."""
    calls = [node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.Call)]
    for call in calls:
        name, arguments = ast.unparse(call.func), [ast.unparse(one) for one in call.args]
        if name in {"asyncio.sleep", "time.sleep", "sleep"} and arguments != ["0"]:
            yield call.lineno


def test_no_test_patches_a_path_of_a_module(python: list[Path]) -> None:
    patching = re.compile(r"unittest\.mock|\bmock\.patch|monkeypatch\.setattr\(\s*[\"']")
    assert not [str(path) for path in python if path != MINE and patching.search((ROOT / path).read_text())]


def test_a_tests_name_is_a_sentence(python: list[Path]) -> None:
    short = [f"{path}: {name}" for path in python if in_tests(path) for name in _tests(path) if name.count("_") < 3]
    assert not short


def _tests(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name


def test_decisions_are_numbered_without_gaps_and_named_for_their_title() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    numbers = [int(page.name.split("-", 1)[0]) for page in pages]
    assert numbers == list(range(1, len(pages) + 1))
    for page in pages:
        assert re.fullmatch(r"\d{4}(-[a-z0-9]+)+\.md", page.name), page.name
        assert page.read_text().startswith("# "), page.name


def test_decisions_that_the_code_points_to_exist(python: list[Path]) -> None:
    known = {page.name[:4] for page in (ROOT / "docs" / "adr").glob("*.md")}
    for path in python:
        for number in re.findall(r"\bADR (\d{4})\b", (ROOT / path).read_text()):
            assert number in known, f"{path} points to ADR {number}"


def test_help_tells_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = {name for line in re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE) for name in line.split()}
    described = set(re.findall(r"^([.a-z-]+):.*## ", makefile, re.MULTILINE))
    assert {"help", "run", "demo", "test", "check"} <= described
    assert phony <= described, f"say after ## what {sorted(phony - described)} does"
    assert all(name.startswith(".") for name in described - phony), "a target that makes no file is .PHONY"
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not [target for target in described if f" {target} " not in shown]


def test_what_installs_everything_else_is_pinned_by_hash() -> None:
    tools = {
        "uv": "uv",
        "openapi-python-client": "clients",
        "celery": "celery",
    }
    for tool, stem in tools.items():
        name = f"{stem}.requirements.lock"
        lock = (ROOT / "tools" / name).read_text()
        assert re.search(rf"^{tool}==[0-9.]+ \\\n    --hash=sha256:[0-9a-f]{{64}}", lock, re.MULTILINE)
        assert f"--require-hashes -r tools/{name}" in (ROOT / "Makefile").read_text()
    packages = json.loads((ROOT / "tools" / "npm" / "package-lock.json").read_text())["packages"]
    asked = packages.pop("")["dependencies"]
    assert "@bufbuild/buf" in asked
    assert all(re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", version) for version in asked.values())
    assert all(one["integrity"].startswith("sha512-") and "resolved" not in one for one in packages.values())
