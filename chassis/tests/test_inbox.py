from __future__ import annotations

from datetime import timedelta

from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_chassis.events import inbox
from regie_local.testing.clock import START
from sqlalchemy import text

LIFE = timedelta(days=14)


async def test_an_event_is_new_once_even_when_it_is_claimed_twice_in_one_call(database: Database) -> None:
    first, second = new_id(), new_id()
    async with database.transaction() as session:
        assert await inbox.claim(session, [first, first]) == {first}
        assert await inbox.claim(session, []) == set()
    async with database.transaction() as session:
        assert await inbox.claim(session, [first, second]) == {second}


async def test_a_claim_is_forgotten_with_its_transaction(database: Database) -> None:
    event = new_id()
    async with database.transaction() as session:
        await inbox.claim(session, [event])
        await session.rollback()
    async with database.transaction() as session:
        assert await inbox.claim(session, [event]) == {event}


async def test_only_events_older_than_any_stream_are_forgotten(database: Database) -> None:
    old, kept, limit = new_id(), new_id(), START - LIFE
    async with database.transaction() as session:
        await session.execute(
            text("INSERT INTO inbox VALUES (:old, :long_ago), (:kept, :limit)"),
            {
                "old": old,
                "long_ago": limit - timedelta(seconds=1),
                "kept": kept,
                "limit": limit,
            },
        )
        assert not await inbox.purge(session, now=START, life=LIFE)
        assert await inbox.claim(session, [old, kept]) == {old}
