"""The documentation names only existing reasons, metrics, events, operations, tables, terms, targets, linked files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from regie_chassis.boundary import errors
from regie_chassis.boundary.errors import RegieError
from regie_chassis.events.contracts import all_events
from regie_gateway.resources.catalogue import RESOURCES
from regie_local.services import service_specs
from regie_publisher.deliveries.delivery import Cause
from sqlalchemy import MetaData

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
READMES = sorted(ROOT.glob("services/*/README.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")), *READMES]
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, RegieError)}
INSTRUMENTS = {
    "create_counter",
    "create_histogram",
    "create_observable_gauge",
    "create_gauge",
    "create_up_down_counter",
}
CODE = ("chassis/src/**/*.py", "networks/src/**/*.py", "services/*/src/**/*.py")
NOT_REASONS = {"RemoteError"}  # carries another service's reason


def sources() -> Iterator[ast.Module]:
    """Yields the modules of the services and the chassis, without their test kits."""
    for pattern in CODE:
        for path in sorted(ROOT.glob(pattern)):
            if "testing" not in path.parts and path.stem != "testing":
                yield ast.parse(path.read_text())


def reasons() -> Iterator[str]:
    """Yields the reason of every error class."""
    for module in sources():
        for node in ast.walk(module):
            if not isinstance(node, ast.ClassDef) or node.name in KINDS | NOT_REASONS or node.name.startswith("_"):
                continue
            if any(isinstance(base, ast.Name) and base.id in KINDS for base in node.bases):
                yield re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", node.name).upper()


def metrics() -> Iterator[str]:
    """Yields the name of every instrument."""
    for module in sources():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in INSTRUMENTS:
                yield ast.literal_eval(node.args[0])


def test_every_reason_is_on_the_page_of_errors() -> None:
    page = (DOCS / "errors.md").read_text()
    found = set(reasons())
    assert "POST_NOT_FOUND" in found
    assert not {reason for reason in found if f"`{reason}`" not in page}


def test_the_metrics_on_the_operations_page_are_those_of_the_code() -> None:
    page = (DOCS / "operations.md").read_text()
    documented = set(re.findall(r"`(regie\.[a-z_.]+)`", page))
    assert documented == set(metrics())


def test_every_event_is_on_the_page_of_events() -> None:
    page = (DOCS / "events.md").read_text()
    assert not {event.DESCRIPTOR.name for event in all_events() if not re.search(rf"\b{event.DESCRIPTOR.name}`", page)}


def test_every_cause_of_a_change_is_explained() -> None:
    table = (DOCS / "api.md").read_text().partition("## Causes")[2].partition("\n## ")[0]
    documented = {
        name for row in re.findall(r"^\|(.*?)\|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert documented == set(Cause)


def test_the_operations_on_the_page_of_the_api_are_those_of_the_gateway() -> None:
    table = (DOCS / "api.md").read_text().partition("## All operations")[2]
    told = {
        (method, path)
        for methods, path in re.findall(r"`([A-Z]+(?:, [A-Z]+)*) (/v1/[^`?]+)`", table)
        for method in methods.split(", ")
    }
    assert told == {(one.method, one.path) for resource in RESOURCES for one in resource.all}


@pytest.mark.parametrize("service", service_specs())
def test_the_tables_in_the_list_of_lives_are_those_of_the_service(service: str) -> None:
    page = (DOCS / "operations.md").read_text().partition("## How long things are kept")[2].partition("\n## ")[0]
    cells = [line.split("|")[2] for line in page.splitlines() if line.startswith("| ")]
    told = {
        name for cell in cells if re.search(rf" of (?:the )?{service}\b", cell) for name in re.findall(r"`(\w+)`", cell)
    }
    assert told == set(metadata_of(service).tables)


def metadata_of(service: str) -> MetaData:
    """Returns the tables of a service; a package of tables has them together in `schema`."""
    package = f"regie_{service}.tables"
    module = import_module(f"{package}.schema" if _is_package(package) else package)
    assert isinstance(module.metadata, MetaData)
    return module.metadata


def _is_package(name: str) -> bool:
    spec = find_spec(name)
    return spec is not None and spec.submodule_search_locations is not None


def test_the_documentation_calls_only_targets_that_make_has() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {
        target
        for page in PAGES
        for code in re.findall(r"`([^`\n]+)`|^```\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        for target in re.findall(r"(?:^|\n| )make ([a-z][a-z-]*)", "\n".join(code))
    }
    assert {"run", "test"} <= called
    assert called <= targets


def test_links_of_the_documentation_lead_somewhere() -> None:
    dead = [f"{page.relative_to(ROOT)} → {link}" for page in PAGES for link in links_of(page) if not _leads(page, link)]
    assert not dead


def links_of(page: Path) -> list[str]:
    """Returns the links to files and headings of the repository."""
    return [link for link in re.findall(r"\]\(([^)\s]+)[^)]*\)", page.read_text()) if "://" not in link]


def _leads(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(page: Path) -> set[str]:
    """Returns the anchors of a page: those of its headings, as GitHub makes them, and its own."""
    text = page.read_text()
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return anchors | set(re.findall(r"<a id=\"([^\"]+)\">", text))


def test_the_terms_of_the_glossary_are_words_of_the_code() -> None:
    page = (DOCS / "glossary.md").read_text()
    terms = re.findall(r"^\| ([a-z][^|(]*?)(?: \([^|]*\))? \|(?! meaning)", page, re.MULTILINE)
    code = "".join(path.read_text() for pattern in CODE for path in sorted(ROOT.glob(pattern)))
    assert len(terms) > 60
    assert not [term for term in terms if not re.search(term.replace(" ", "[ _]?"), code, re.IGNORECASE)]
