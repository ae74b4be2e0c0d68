"""Looks up due work, fairly: of each workspace the oldest that may be started.

The backlog of one workspace is never read through to get to another's. A lookup locks nothing: chosen work is locked
when it is claimed, and skipped if another replica was quicker.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from regie_publisher.fairness.hosts import Peer


class DueWork(NamedTuple):
    """Work that waits, in the order of the lookup's columns. `late` work takes no slot: it is only recorded as late."""

    id: UUID
    workspace_id: UUID
    channel_id: UUID
    host: str
    next_action_time: datetime
    late: bool = False

    @property
    def peer(self) -> Peer:
        """The workspace and the host that the work calls."""
        return self.workspace_id, self.host


def fair_lookup(
    *, table: str, waiting: str, key: str = "id", columns: str = "", late: str = "false", startable: str = "true"
) -> str:
    """Returns the SQL of a lookup in `table`, whose rows `waiting` selects; a partial index must answer to it.

    `late` and `startable` are conditions on `work` (with the extra `columns` of the table) and on `channel`. The
    statement takes the parameters of `Slots.lookup_parameters` and returns columns in the order of `DueWork`.
    """
    # LIMIT 1 keeps the join row by row and in order, so that reading stops at :limit. With the statistics of some
    # moments the planner would otherwise read up to :scan rows for a hash join, and sort them.
    extra = f", {columns}" if columns else ""
    return f"""
    WITH RECURSIVE space AS (
        (SELECT workspace_id FROM {table} WHERE {waiting} ORDER BY workspace_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT t.workspace_id FROM {table} AS t
            WHERE {waiting} AND t.workspace_id > space.workspace_id ORDER BY t.workspace_id LIMIT 1
        ) FROM space WHERE space.workspace_id IS NOT NULL
    ), full_peer AS (
        SELECT * FROM unnest(CAST(:full_spaces AS uuid[]), CAST(:full_hosts AS text[])) AS f (workspace_id, host)
    )
    SELECT startable.* FROM space CROSS JOIN LATERAL (
        SELECT work.id, work.workspace_id, work.channel_id, coalesce(channel.host, '') AS host,
            work.next_action_time, {late} AS late
        FROM (
            SELECT {key} AS id, workspace_id, channel_id, next_action_time{extra} FROM {table}
            WHERE {waiting} AND workspace_id = space.workspace_id AND next_action_time <= :now
            ORDER BY next_action_time LIMIT :scan
        ) AS work
        LEFT JOIN LATERAL (
            SELECT split_part(server_url, '/', 3) AS host, block_time FROM channel WHERE channel.id = work.channel_id
            LIMIT 1
        ) AS channel ON true
        WHERE ({late}) OR (
            ({startable})
            AND work.channel_id <> ALL(CAST(:full_channels AS uuid[]))
            AND NOT EXISTS (
                SELECT FROM full_peer AS f WHERE f.workspace_id = work.workspace_id AND f.host = channel.host
            )
        )
        ORDER BY work.next_action_time LIMIT :limit
    ) AS startable
    WHERE space.workspace_id <> ALL(CAST(:full_workspaces AS uuid[]))
    """
