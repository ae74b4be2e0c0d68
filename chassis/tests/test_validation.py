"""Places and sentences of a framework's validation errors."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_chassis.boundary.validation import first_finding, pointer, refusal

values = st.recursive(
    st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@given(values, st.data())
def test_a_pointer_leads_to_the_value(body: Any, data: st.DataObject) -> None:
    location: list[int | str] = []
    value = body
    while isinstance(value, list | dict) and value and data.draw(st.booleans()):
        step = data.draw(st.sampled_from(range(len(value)) if isinstance(value, list) else sorted(value)))
        value = value[step]
        location += [step, "(branch of a union)"]
    assert follow(pointer(location, body), body) == value


def follow(place: str, value: Any) -> object:
    """Reads a pointer by RFC 6901, section 4."""
    for escaped in place.split("/")[1:]:
        step = escaped.replace("~1", "/").replace("~0", "~")
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


@pytest.mark.parametrize(
    ("error", "place", "message"),
    [
        ({"type": "missing", "loc": ("body", "a", "b")}, "/a/b", "this is required; give it"),
        ({"type": "extra_forbidden", "loc": ("query", "x")}, "x", "there is nothing of this name here; leave it out"),
        ({"type": "value_error", "loc": ("body",), "ctx": {"error": ValueError("do this")}}, "", "do this"),
        ({"type": "too_short", "loc": ("body",), "ctx": {"min_length": 1}}, "", "give at least 1 entry"),
        ({"type": "too_long", "loc": ("body",), "ctx": {"max_length": 2}}, "", "give at most 2 entries"),
        ({"type": "string_too_short", "loc": ("body",), "ctx": {"min_length": 1}}, "", "give at least 1 character"),
        ({"type": "string_too_long", "loc": ("body",), "ctx": {"max_length": 2}}, "", "give at most 2 characters"),
        ({"type": "novel", "loc": ("path", "id"), "msg": "Input should be blue"}, "id", "blue"),
    ],
)
def test_an_error_is_told_in_a_sentence_with_its_place(error: dict[str, Any], place: str, message: str) -> None:
    found = first_finding([error], {"a": {}})
    assert (found.place, found.message, found.status) == (place, message, 422)


def test_a_validators_own_refusal_keeps_its_reason() -> None:
    error = refusal("give {one}", status=400, reason="INVALID_ID")
    found = first_finding([{"type": error.type, "loc": ("body", "id"), "ctx": error.context}], {"id": 1})
    assert found == (400, "INVALID_ID", "/id", "give {one}")
