"""Deletes old deliveries with their timelines, attempts, posts, collections and engagements, in bounded batches.

A delivery makes a post once: its row outlives the events' streams, the inbox, and the oldest backup that is restored.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock
from sqlalchemy import text

from regie_publisher.deliveries.delivery import ENDED

BATCH = 500
"""Deliveries that one transaction reads."""

_FIRST = UUID(int=0)


class DeliveryRetention:
    """Deletes deliveries whose last change is older than `life`, once they have ended. Any number of replicas."""

    def __init__(self, database: Database, clock: Clock, *, life: timedelta, batch: int = BATCH) -> None:
        self._database = database
        self._clock = clock
        self._life = life
        self._batch = batch
        self._after = _FIRST

    async def purge_some(self) -> int:
        """Reads the next deliveries in the order of their ids, and deletes the old ones that have ended.

        Ids grow with time, so that a pass ends at the first young delivery and needs no index. Its end also deletes old
        cancellations. Returns the number of rows that were read or deleted; zero when nothing is left to delete.
        """
        parameters = {
            "after": self._after,
            "before": self._clock.now() - self._life,
            "ended": sorted(ENDED),
            "limit": self._batch,
        }
        async with self._database.transaction() as session:
            row = (await session.execute(_PURGE, parameters)).one()
            if row.last_id is not None and not row.reached_young:
                self._after = row.last_id
                return int(row.read_count)
            self._after = _FIRST
            return len((await session.execute(_PURGE_CANCELLATIONS, parameters)).all())


# An unknown delivery keeps the others of its account: a lookup may take a post that no delivery holds for its own.
# A remaining delivery of the same post and channel keeps their engagements, which are staged once for both.
_PURGE = text(
    """
    WITH scanned AS MATERIALIZED (
        SELECT id, compose_time FROM delivery WHERE id > :after ORDER BY id LIMIT :limit
    ), old AS MATERIALIZED (
        SELECT id, post_id, channel_id FROM delivery
        WHERE id IN (SELECT id FROM scanned WHERE compose_time < :before)
          AND state = ANY(CAST(:ended AS text[]))
          AND NOT EXISTS (SELECT FROM delivery_change AS c WHERE c.delivery_id = delivery.id AND c.time >= :before)
          AND NOT EXISTS (
            SELECT FROM channel AS own
            JOIN channel AS theirs ON (theirs.network, theirs.account, theirs.server_url)
                = (own.network, own.account, own.server_url)
            JOIN delivery AS unknown ON unknown.channel_id = theirs.id
            WHERE own.id = delivery.channel_id AND unknown.call_end_time IS NOT NULL AND unknown.state = 'unknown'
          )
        ORDER BY id FOR UPDATE SKIP LOCKED
    ), deliveries AS (
        DELETE FROM delivery USING old WHERE delivery.id = old.id
    ), changes AS (
        DELETE FROM delivery_change USING old WHERE delivery_change.delivery_id = old.id
    ), attempts AS (
        DELETE FROM attempt USING old WHERE attempt.delivery_id = old.id
    ), remotes AS (
        DELETE FROM remote USING old WHERE remote.delivery_id = old.id
    ), collections AS (
        DELETE FROM scheduled_collection USING old WHERE scheduled_collection.delivery_id = old.id
    ), engagements AS (
        DELETE FROM engagement USING old
        WHERE engagement.channel_id = old.channel_id AND engagement.post_id = old.post_id
          AND NOT EXISTS (
            SELECT FROM delivery AS other
            WHERE other.post_id = old.post_id AND other.channel_id = old.channel_id
              AND other.id NOT IN (SELECT id FROM old)
          )
    )
    SELECT count(*) AS read_count, (SELECT id FROM scanned ORDER BY id DESC LIMIT 1) AS last_id,
        coalesce(bool_or(compose_time >= :before), false) AS reached_young
    FROM scanned
    """
)

_PURGE_CANCELLATIONS = text(
    """
    DELETE FROM cancellation WHERE (workspace_id, post_id) IN (
        SELECT workspace_id, post_id FROM cancellation AS c
        WHERE time < :before AND NOT EXISTS (
            SELECT FROM delivery AS d WHERE d.post_id = c.post_id AND d.workspace_id = c.workspace_id
        )
        ORDER BY time LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    RETURNING post_id
    """
)
