"""The statements of all services, read as text."""

from __future__ import annotations

import re
from pathlib import Path

from regie_chassis.database import ARRAYS

ROOT = Path(__file__).parents[2]
ARRAY = re.compile(r"\bAS (\w+)\[\]")


def test_a_connection_knows_every_type_of_which_statements_take_lists() -> None:
    sources = [*ROOT.glob("chassis/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]
    used = {name for source in sources for name in ARRAY.findall(source.read_text())}
    assert used == set(ARRAYS)
