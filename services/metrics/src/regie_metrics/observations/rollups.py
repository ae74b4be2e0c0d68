"""Roll-ups of the observations: each hour's and each day's last number, and the newest of all.

Every table is a maximum by (observe_time, value) over its key. A maximum does not depend on the order or the
repetition of its rows, so that each row can be kept up to date by itself as observations arrive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from regie_chassis.data.bulk import Columns
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

OBSERVATIONS = Columns(
    workspace_id="uuid",
    post_id="uuid",
    metric="text",
    channel_id="uuid",
    network="text",
    observe_time="timestamptz",
    value="bigint",
)
KEY = "workspace_id, post_id, metric, channel_id"


async def roll_up(session: AsyncSession, observations: Mapping[str, Sequence[object]]) -> None:
    """Brings all roll-ups up to date with the parameters of `OBSERVATIONS`. Commits with the session; repeatable."""
    for statement in (_HOURLY, _DAILY, _LATEST):
        await session.execute(statement, dict(observations))


def _buckets(table: str, unit: str) -> str:
    return f"""
        INSERT INTO {table} AS kept ({KEY}, start_time, observe_time, value)
        SELECT DISTINCT ON ({KEY}, start_time) {KEY}, start_time, observe_time, value
        FROM (SELECT *, date_trunc('{unit}', observe_time, 'UTC') AS start_time FROM {OBSERVATIONS.unnest}) AS placed
        ORDER BY {KEY}, start_time, observe_time DESC, value DESC
        ON CONFLICT ({KEY}, start_time)
        DO UPDATE SET observe_time = EXCLUDED.observe_time, value = EXCLUDED.value
        WHERE (EXCLUDED.observe_time, EXCLUDED.value) > (kept.observe_time, kept.value)
    """


_HOURLY = text(_buckets("hourly", "hour"))
_DAILY = text(_buckets("daily", "day"))
_LATEST = text(
    f"""
    INSERT INTO latest AS kept ({KEY}, network, observe_time, value)
    SELECT DISTINCT ON ({KEY}) {KEY}, network, observe_time, value
    FROM {OBSERVATIONS.unnest}
    ORDER BY {KEY}, observe_time DESC, value DESC
    ON CONFLICT ({KEY})
    DO UPDATE SET network = EXCLUDED.network, observe_time = EXCLUDED.observe_time, value = EXCLUDED.value
    WHERE (EXCLUDED.observe_time, EXCLUDED.value) > (kept.observe_time, kept.value)
    """
)
