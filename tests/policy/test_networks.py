"""Each network is described once: its tables are rendered, and nothing lists the networks a second time."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from regie_gateway.resources.publishing.networks import NetworkView
from regie_networks.content import ContentRules, Unit
from regie_networks.network import Once
from regie_networks.registry import NETWORKS
from regie_sandbox import calls, faults, operations

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "networks.md"


def test_the_tables_of_networks_are_those_of_the_descriptors() -> None:
    render = runpy.run_path(str(ROOT / "tools" / "networks.py"))["render"]
    assert render(PAGE.read_text()) == PAGE.read_text(), "run `make protos`"


def test_every_network_has_a_section_and_a_folder_of_its_name() -> None:
    page = PAGE.read_text()
    for name, network in NETWORKS.items():
        assert f"## {network.title}" in page or f'<a id="{name}"></a>' in page
        assert (ROOT / "networks" / "src" / "regie_networks" / name / "network.py").exists()
    folders = {path.parent.name for path in ROOT.glob("networks/src/regie_networks/*/network.py")}
    assert folders == set(NETWORKS)


def test_no_contract_lists_the_networks() -> None:
    for path in [*ROOT.glob("proto/**/*.proto"), *ROOT.glob("services/gateway/src/**/rest/*.py")]:
        lines = path.read_text().splitlines()
        assert not [line for line in lines if sum(name in line for name in NETWORKS) > 1], path


def test_the_sandboxs_own_page_states_the_limits_that_it_and_its_descriptor_hold() -> None:
    page = (ROOT / "services" / "sandbox" / "README.md").read_text()
    rules = NETWORKS["sandbox"].rules
    assert [(limit.maximum, limit.unit) for limit in rules.text] == [(operations.TEXT_LIMIT, Unit.CHARACTERS)]
    assert rules.alt_text is not None
    assert rules.alt_text.maximum == operations.ALT_LIMIT
    assert rules.max_attachments == operations.MEDIA_LIMIT
    assert {rule.max_bytes for rule in rules.media} == {calls.BODY_LIMIT}
    assert (
        f"at most {operations.TEXT_LIMIT:,} characters, {operations.MEDIA_LIMIT} pictures or one video, and"
        f" {operations.ALT_LIMIT:,} characters of alternative text"
    ) in page
    assert f"at most {calls.BODY_LIMIT:,} bytes" in page
    assert f"at most {operations.KEY_LIMIT:,} characters" in page
    assert _pages_of(rules) == {"services/sandbox/README.md"}


def test_the_pages_explain_every_way_to_publish_once() -> None:
    explained = next(part for part in PAGE.read_text().split("\n\n") if part.startswith("**Once by**"))
    described = NetworkView.model_json_schema()["properties"]["once"]
    assert set(described["enum"]) == set(Once)
    for way in Once:
        assert f"`{way}`" in explained
        assert f"`{way}`" in described["description"]


def test_the_sandboxs_own_page_lists_its_operations() -> None:
    page = (ROOT / "services" / "sandbox" / "README.md").read_text()
    (listed,) = re.findall(r"Operations\s+are\s+`([^`]*)`\.", page)
    assert listed.split() == list(faults.OPERATIONS)


def test_every_page_of_a_source_is_there_or_on_the_web() -> None:
    for network in NETWORKS.values():
        assert network.documentation_url.startswith("https://") or network.is_stand_in, network.name
        for page in _pages_of(network.rules):
            assert page.startswith("https://") or (ROOT / page).is_file(), page


def _pages_of(rules: ContentRules) -> set[str]:
    pages = {limit.source.url for limit in rules.text} | {rule.source.url for rule in rules.media}
    return pages | ({rules.alt_text.source.url} if rules.alt_text else set())
