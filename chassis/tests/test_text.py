from __future__ import annotations

import pytest
from regie_chassis.boundary.text import storable


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("", ""),
        ("caf\u00e9 \U0001f600", "caf\u00e9 \U0001f600"),
        ("a\x00b", "a\ufffdb"),
        ("\ud800x\udfff", "\ufffdx\ufffd"),
    ],
)
def test_what_no_database_takes_is_marked_and_the_rest_stays(text: str, stored: str) -> None:
    assert storable(text) == stored
    assert storable(text, most=1) == stored[:1]
    storable(text).encode()
