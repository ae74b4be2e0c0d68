from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie.ids.v1 import prefixes
from regie.ids.v1.prefixes import CHANNEL, POST
from regie_chassis.boundary.ids import InvalidId, new_id, parse_id, show_id

PREFIXES = [value for name, value in vars(prefixes).items() if name.isupper()]
KNOWN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
SHOWN = "post_01h455vb4pex5vsknk084sn02q"  # the TypeID specification's own example


def test_the_outside_form_is_that_of_the_typeid_specification() -> None:
    assert show_id(POST, KNOWN) == SHOWN
    assert parse_id(POST, SHOWN) == KNOWN


@given(st.uuids(), st.sampled_from(PREFIXES))
def test_every_id_survives_the_way_out_and_back(value: UUID, prefix: str) -> None:
    assert parse_id(prefix, show_id(prefix, value)) == value


@given(st.uuids())
def test_an_id_of_another_kind_is_refused(value: UUID) -> None:
    with pytest.raises(InvalidId, match=r"give one that begins with post_$"):
        parse_id(POST, show_id(CHANNEL, value))


@given(st.text(max_size=40) | st.text("post_0123456789abcdefghjkmnpqrstvwxyz", max_size=40))
def test_whatever_is_read_as_an_id_is_shown_the_same(text: str) -> None:
    try:
        value = parse_id(POST, text)
    except InvalidId:
        return
    assert show_id(POST, value) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "_",
        "post",
        "post_",
        SHOWN.removeprefix("post_"),
        SHOWN.upper(),
        "post_" + SHOWN.removeprefix("post_").upper(),
        SHOWN + "q",
        SHOWN[:-1],
        " " + SHOWN,
        SHOWN + "\n",
        SHOWN + "\x00",
        SHOWN[:-1] + "i",  # not in the alphabet
        "post_8zzzzzzzzzzzzzzzzzzzzzzzzz",  # past 128 bits
        str(KNOWN),
        "post_" + "0" * 100_000,
    ],
)
def test_what_is_no_id_is_refused_and_the_field_is_named(text: str) -> None:
    with pytest.raises(InvalidId) as refused:
        parse_id(POST, text, "post_id")
    assert refused.value.field == "post_id"
    assert refused.value.http_status == 400
    assert len(refused.value.message) < 400


def test_new_ids_are_version_7_and_sort_by_their_creation() -> None:
    made = [new_id() for _ in range(200)]
    assert {one.version for one in made} == {7}
    assert made == sorted(made)
    assert len(set(made)) == 200
