"""services.toml lists every service, and the files that cannot read it agree with it."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest
from regie_local.services import all_specs, service_specs
from regie_local.testing.programs import load_program

ROOT = Path(__file__).parents[2]
services_tool = load_program("tools/services.py")


def test_every_service_is_listed_and_every_listed_service_is_there() -> None:
    folders = {path.parent.name for path in ROOT.glob("services/*/pyproject.toml")}
    assert {one.name for one in all_specs()} == folders


@pytest.mark.parametrize("name", services_tool.RENDERED)
def test_what_is_rendered_from_the_list_is_up_to_date(name: str) -> None:
    text = (ROOT / name).read_text()
    assert services_tool.RENDERED[name](text) == text, "run `make services`"


@pytest.mark.parametrize("service", service_specs())
def test_a_service_has_layers(service: str) -> None:
    rules = configparser.ConfigParser()
    rules.read(ROOT / ".importlinter")
    layers = rules[f"importlinter:contract:{service}"]
    assert (layers["type"], layers["containers"], layers["exhaustive"]) == ("layers", f"regie_{service}", "True")


def test_ports_are_given_once() -> None:
    ports = [port for one in all_specs() for port in (one.rpc_port, one.http_port) if port]
    assert len(ports) == len(set(ports)) >= len(all_specs())


def test_the_health_check_of_the_images_knows_who_answers_over_http() -> None:
    pages = load_program("deploy/healthy.py").PAGES
    assert {name: port for name, (_, port, _) in pages.items()} == {
        one.name: one.http_port for one in all_specs() if one.http_port
    }
