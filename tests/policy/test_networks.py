"""Each network is described once: its tables are rendered, and nothing lists the networks a second time."""

from __future__ import annotations

import runpy
from pathlib import Path

from regie_networks.registry import NETWORKS

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
