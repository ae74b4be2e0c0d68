"""Rows as arrays, on a real PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import pytest
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.bulk import Columns
from regie_chassis.data.database import Database
from sqlalchemy import text

NOTES = Columns(id="uuid", body="text", size="bigint")
SELECT = f"SELECT {NOTES.names}, :size AS scalar FROM {NOTES.unnest} ORDER BY body"


@dataclass(frozen=True)
class Note:
    id: UUID
    body: str
    size: int | None


async def test_rows_reach_the_statement_as_they_are_beside_its_other_parameters(database: Database) -> None:
    rows = [(new_id(), "a, {b}", 1), (new_id(), "b", None)]
    async with database.reading() as session:
        found = await session.execute(text(SELECT), {**NOTES.parameters(rows), "size": "other"})
        assert [tuple(row) for row in found] == [(*row, "other") for row in rows]


async def test_no_rows_are_no_rows_and_no_error(database: Database) -> None:
    async with database.reading() as session:
        found = await session.execute(text(SELECT), {**NOTES.parameters([]), "size": ""})
        assert found.all() == []


def test_objects_give_their_attributes() -> None:
    note = Note(new_id(), "a", 2)
    assert NOTES.parameters_of([note]) == NOTES.parameters([(note.id, note.body, note.size)])


def test_a_row_that_lacks_a_column_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        NOTES.parameters([(new_id(), "a")])
