"""Previews are bounded in time and in number, and fair between workspaces."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from regie_audience.rules.model import parse_rule
from regie_audience.segments.previews import PreviewTooSlow, TooManyPreviews, preview_segment
from regie_audience.testing import Upsert
from regie_audience.turns import Turns
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_local.testing.waiting import until
from sqlalchemy import text

ADULT = {"comparison": {"attribute": "age", "operator": "ge", "value": 18}}


class _Previews:
    """Takes turns and holds them until the test ends them."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.at_work: list[UUID] = []
        self.ends: dict[UUID, asyncio.Event] = {}

    async def take(self, workspace_id: UUID) -> None:
        async with self._turns.turn(workspace_id):
            self.at_work.append(workspace_id)
            end = self.ends.setdefault(workspace_id, asyncio.Event())
            await end.wait()
            end.clear()
            self.at_work.remove(workspace_id)

    async def until_at_work(self, *workspace_ids: UUID) -> None:
        async def look() -> bool:
            return set(self.at_work) == set(workspace_ids)

        await until(look)


async def test_a_workspace_has_one_preview_at_a_time_and_others_go_first() -> None:
    turns = Turns(of_one=1, of_all=2, max_waiting=3, refusal=TooManyPreviews("wait"))
    previews, (greedy, other) = _Previews(turns), (new_id(), new_id())
    mine = [asyncio.create_task(previews.take(greedy)) for _ in range(4)]
    await previews.until_at_work(greedy)

    theirs = asyncio.create_task(previews.take(other))

    await previews.until_at_work(greedy, other)
    assert len(previews.at_work) == 2
    with pytest.raises(TooManyPreviews) as refused:
        await previews.take(greedy)
    assert refused.value.http_status == 429
    previews.ends[other].set()
    await theirs
    for task in mine:
        await previews.until_at_work(greedy)
        previews.ends[greedy].set()
        await task
    assert previews.at_work == []


async def test_a_preview_that_is_given_up_gives_its_turn_back() -> None:
    previews, workspace_id = _Previews(Turns(of_one=1, of_all=1, max_waiting=0)), new_id()
    given_up = asyncio.create_task(previews.take(workspace_id))
    await previews.until_at_work(workspace_id)

    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up

    previews.at_work.clear()
    again = asyncio.create_task(previews.take(workspace_id))
    await previews.until_at_work(workspace_id)
    previews.ends[workspace_id].set()
    await again


async def test_a_preview_that_takes_too_long_is_told_what_to_do(
    upsert: Upsert, database: Database, workspace_id: UUID
) -> None:
    await upsert({"u": {"age": 20.0}})
    async with database.transaction() as holder:
        await holder.execute(text("LOCK TABLE profile IN ACCESS EXCLUSIVE MODE"))

        with pytest.raises(PreviewTooSlow) as refused:
            async with database.transaction() as session:
                await preview_segment(
                    session, workspace_id=workspace_id, rule=parse_rule(ADULT), sample_size=5, within="50ms"
                )

    assert refused.value.http_status == 503
    assert "create the segment" in refused.value.message
