"""Reads the claims of an account's other deliveries: the posts that they hold, and their segments with an open outcome,
to which a post may belong as well.

An account may be a channel of several workspaces; all of them count.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from regie.scheduler.events.v1.scheduler_events_pb2 import DueVariant
from regie_chassis.data.database import Database
from regie_networks.lookup import Lookup, Others, Rival
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


def look_at(database: Database, channel_id: UUID, *, since: datetime) -> Lookup:
    """Returns a look at a channel's account for deliveries that were composed at `since` or later."""

    async def others(remote_ids: Sequence[str]) -> Others:
        async with database.reading() as session:
            return await read_others(session, channel_id=channel_id, remote_ids=remote_ids)

    return Lookup(since, others)


async def read_others(session: AsyncSession, *, channel_id: UUID, remote_ids: Sequence[str]) -> Others:
    """Returns those of the ids and addresses that deliveries hold, and every segment with an open outcome.

    To be called after the network was read: see `look.py`.
    """
    taken = await session.execute(_TAKEN, {"channel_id": channel_id, "remote_ids": list(remote_ids)})
    rivals = await session.execute(_RIVALS, {"channel_id": channel_id})
    return Others(frozenset(taken.scalars()), [_rival(row) for row in rivals])


def _rival(row: Any) -> Rival:
    done = min(len(row.remote_ids), len(row.segment_keys) - 1)
    segment = DueVariant.FromString(row.content).segments[done]
    return Rival(
        key=row.segment_keys[done],
        text=segment.text,
        reply_to=row.remote_ids[done - 1] if done else "",
        alt_texts=tuple(one.alt_text for one in segment.attachments),
        handles=json.loads(row.handles_text),
    )


_TAKEN = text(
    """
    SELECT remote.remote_id FROM remote
    JOIN channel AS own ON (remote.network, remote.account) = (own.network, own.server_url || ' ' || own.account)
    WHERE own.id = :channel_id AND remote.remote_id = ANY(CAST(:remote_ids AS text[]))
    """
)

# A delivery whose call is under way counts: its post may be seen before its answer is recorded. So does a delivery that
# a person called published without an address: any post of this content may be its own.
_RIVALS = text(
    """
    SELECT d.segment_keys, d.remote_ids, d.content, CAST(d.handles AS text) AS handles_text
    FROM delivery AS d
    JOIN channel AS theirs ON theirs.id = d.channel_id
    JOIN channel AS own ON (theirs.network, theirs.account, theirs.server_url)
        = (own.network, own.account, own.server_url)
    WHERE own.id = :channel_id
      AND (cardinality(d.remote_ids) < cardinality(d.segment_keys) OR d.remote_urls[cardinality(d.remote_urls)] = '')
      AND (d.state = 'publishing' OR d.state IN ('processing', 'unknown') OR d.call_end_time IS NOT NULL)
    """
)
