"""The users of NATS have the rights that the services' code needs, and deploy/ gives them the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from regie_chassis.clock import SystemClock
from regie_chassis.embedded.nats_users import PERMISSIONS, READS, SAYS_EVENTS
from regie_chassis.messaging import service_of

ROOT = Path(__file__).parents[2]


def subscriptions_of(service: str) -> Mapping[Any, Any]:
    events = import_module(f"regie_{service}.events")
    if service == "scheduler":
        return dict(events.SUBSCRIPTIONS)
    arguments: dict[str, dict[str, Any]] = {
        "gateway": {"wake": lambda: None},
        "publisher": {"connectors": {}, "clock": SystemClock(), "wake": lambda: None},
        "audience": {"clock": SystemClock()},
        "metrics": {"clock": SystemClock(), "retention": timedelta(days=1)},
    }
    return dict(events.subscriptions(**arguments[service]))


@pytest.mark.parametrize("service", sorted(READS))
def test_a_service_may_read_what_it_subscribes_to_and_no_more(service: str) -> None:
    heard = {service_of(kind.DESCRIPTOR.full_name) for kind in subscriptions_of(service)}
    assert set(READS[service]) == heard


def test_the_services_that_say_events_are_those_with_a_relay() -> None:
    with_relay = [name for name in READS if "Relay(" in (ROOT / f"services/{name}/src/regie_{name}/app.py").read_text()]
    assert set(SAYS_EVENTS) == set(with_relay)


def test_the_deployed_server_gives_the_same_rights() -> None:
    text = (ROOT / "deploy" / "nats" / "nats.conf").read_text()
    block = re.search(r"# BEGIN USERS.*?\n(.*)# END USERS", text, re.DOTALL)
    assert block, "deploy/nats/nats.conf has no users; run `make protos`"
    from_tool = import_tool().users_block()
    assert block[1] == from_tool, "run `make protos`, which renders the users anew"
    assert set(re.findall(r"\$([A-Z_]+)_NATS_PASSWORD", text)) == {user.upper() for user in PERMISSIONS}


def import_tool() -> Any:
    spec = spec_from_file_location("nats_conf", ROOT / "tools" / "nats_conf.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
