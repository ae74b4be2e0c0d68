"""The documentation names only existing reasons of errors, metrics, events, targets of make, and files it links to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from regie_chassis.boundary import errors
from regie_chassis.boundary.errors import RegieError
from regie_chassis.events.contracts import all_events
from regie_publisher.deliveries.delivery import Cause

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, RegieError)}
INSTRUMENTS = {
    "create_counter",
    "create_histogram",
    "create_observable_gauge",
    "create_gauge",
    "create_up_down_counter",
}
NOT_REASONS = {"RemoteError"}  # carries another service's reason


def sources() -> Iterator[ast.Module]:
    """Yields the modules of the services and the chassis, without their test kits."""
    for pattern in ("chassis/src/**/*.py", "networks/src/**/*.py", "services/*/src/**/*.py"):
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
    dead = [
        f"{page.relative_to(ROOT)} → {link}"
        for page in PAGES
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert not dead
