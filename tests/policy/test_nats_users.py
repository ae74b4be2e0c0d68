"""The users of NATS have the rights that the services' code needs, and deploy/ gives them the same."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
import yaml
from google.protobuf.message import Message
from regie_chassis.events.messaging import service_of
from regie_local.nats_users import user_permissions
from regie_local.services import service_specs
from regie_local.testing.programs import load_program

ROOT = Path(__file__).parents[2]


def subscriptions_of(service: str) -> Mapping[type[Message], object]:
    events = import_module(f"regie_{service}.events")
    if hasattr(events, "__path__"):  # a package, as the gateway's
        events = import_module(f"{events.__name__}.subscriptions")
    # Handlers are bound to collaborators; only the keys are read here, so nothing has to be behind them.
    return dict(events.subscriptions(**dict.fromkeys(signature(events.subscriptions).parameters)))


@pytest.mark.parametrize("service", service_specs())
def test_a_service_may_read_what_it_subscribes_to_and_no_more(service: str) -> None:
    heard = {service_of(kind.DESCRIPTOR.full_name) for kind in subscriptions_of(service)}
    assert set(service_specs()[service].reads) == heard


def test_every_service_runs_its_relay() -> None:
    apps = {name: (ROOT / f"services/{name}/src/regie_{name}/app.py").read_text() for name in service_specs()}
    without = [name for name, source in apps.items() if "*events.loops," not in source]
    assert not without, "what is staged there would never leave"


def test_the_deployed_server_gives_the_same_rights() -> None:
    text = (ROOT / "deploy" / "nats" / "nats.conf").read_text()
    block = re.search(r"# BEGIN USERS.*?\n(.*)# END USERS", text, re.DOTALL)
    assert block, "deploy/nats/nats.conf has no users; run `make services`"
    from_tool = load_program("tools/nats_conf.py").users_block()
    assert block[1] == from_tool, "run `make services`, which renders the users anew"
    assert set(re.findall(r"\$([A-Z_]+)_NATS_PASSWORD", text)) == {user.upper() for user in user_permissions()}


def test_in_compose_each_service_knows_its_own_password_only_and_nobody_reaches_nats_from_outside() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert services["streams"]["command"] == list(service_specs())
    for name, service in services.items():
        given = {variable: value for variable, value in service.get("environment", {}).items() if "NATS" in variable}
        user = name.removesuffix("-migrate")
        if name == "nats":
            assert set(given) == {f"{one.upper()}_NATS_PASSWORD" for one in user_permissions()}
            assert "ports" not in service
        elif user in user_permissions():
            assert given.pop("NATS_URL") == "nats://nats:4222"
            assert given == {"NATS_PASSWORD": f"${{{user.upper()}_NATS_PASSWORD:?run make .env}}"}
        else:
            assert given == {}, name


def test_in_compose_the_sandbox_is_off_until_it_is_asked_for() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert services["sandbox"]["profiles"] == ["sandbox"]
    allowed = services["publisher"]["environment"]["PUBLISHER_ALLOWED_HOSTS"]
    assert allowed == "${PUBLISHER_ALLOWED_HOSTS:-}"


def test_make_env_completes_what_is_there_and_replaces_nothing(tmp_path: Path) -> None:
    tool, file = load_program("tools/secrets_of_compose.py"), tmp_path / ".env"
    file.write_text("POSTGRES_PASSWORD=kept\nPUBLISHER_MASTER_KEY=kept-too")
    file.chmod(0o644)
    tool.complete(file)
    first = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert (first["POSTGRES_PASSWORD"], first["PUBLISHER_MASTER_KEY"]) == ("kept", "kept-too")
    assert set(first) == set(tool.made_up())
    assert all(re.fullmatch("[a-z][0-9a-f]{48}", first[f"{user.upper()}_NATS_PASSWORD"]) for user in user_permissions())
    assert len(set(first.values())) == len(first)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    tool.complete(file)
    assert dict(line.split("=", 1) for line in file.read_text().splitlines()) == first
