"""The statements of all services, read as text."""

from __future__ import annotations

import re
from pathlib import Path

from regie_chassis.database import ARRAYS
from regie_publisher.deliveries.delivery import Cause, State

ROOT = Path(__file__).parents[2]
ARRAY = re.compile(r"\bAS (\w+)\[\]")


def test_the_causes_in_statements_are_those_of_the_list() -> None:
    sources = "".join(path.read_text() for path in ROOT.glob("services/publisher/src/**/*.py"))
    noted = re.findall(r"INSERT INTO delivery_change .*?(?:\n    \)|\"\"\")", sources, re.DOTALL)
    words = {word for statement in noted for word in re.findall(r"'(\w+)'", statement)}
    assert len(noted) >= 9
    assert {"host_silent", "call_may_land", "lease_expired"} <= words <= {*Cause, *State, "removed"}


def test_a_connection_knows_every_type_of_which_statements_take_lists() -> None:
    sources = [*ROOT.glob("chassis/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]
    used = {name for source in sources for name in ARRAY.findall(source.read_text())}
    assert used == set(ARRAYS)
