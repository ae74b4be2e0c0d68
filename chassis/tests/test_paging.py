from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.paging import PAGE_BYTES, fitting, page_of, read_token


@dataclass(frozen=True, slots=True)
class Thing:
    id: UUID
    bytes: int


SIZES = st.lists(st.integers(min_value=1, max_value=PAGE_BYTES * 2), max_size=30)


@given(sizes=SIZES, size=st.integers(min_value=1, max_value=10))
def test_paging_gives_every_item_once_within_both_limits(sizes: list[int], size: int) -> None:
    things = [Thing(new_id(), one) for one in sizes]
    things.sort(key=lambda thing: thing.id, reverse=True)
    seen: list[Thing] = []
    token = ""
    while True:
        before = read_token("things", token)
        found = [thing for thing in things if thing.id < before][: size + 1]
        page = page_of(found, size=size, list_name="things", bytes_of=lambda thing: thing.bytes)
        assert len(page.items) <= size
        assert len(page.items) == 1 or sum(thing.bytes for thing in page.items) <= PAGE_BYTES
        seen += page.items
        token = page.next_page_token
        if not token:
            break
    assert seen == things


def test_one_item_always_fits() -> None:
    assert fitting([5, 5], lambda item: item, max_bytes=1) == [5]
    assert fitting([], lambda item: item, max_bytes=1) == []
