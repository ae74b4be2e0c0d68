"""The reference of bench/dispatch.py: PostgreSQL and NATS with no features.

One process claims due rows and publishes them to JetStream, another takes the messages and notes when it had each:
no content, no outbox, no inbox, no intent before a call, no outcomes, no tracing, one row for a job.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import nats
import uvloop
from nats.js.api import ConsumerConfig, StreamConfig

BATCH = 500  # rows of one claim, messages of one fetch
STREAM, SUBJECT, READER = "bare", "bare.due", "reader"
TABLE = """
CREATE TABLE job (id bigint PRIMARY KEY, due_time timestamptz NOT NULL, state smallint NOT NULL DEFAULT 0)
WITH (fillfactor = 70)
"""
INDEX = "CREATE INDEX job_due ON job (due_time, id) WHERE state = 0"
CLAIM = """
UPDATE job SET state = 1
FROM (
    SELECT id FROM job WHERE state = 0 AND due_time <= $1 ORDER BY due_time, id LIMIT $2 FOR UPDATE SKIP LOCKED
) AS due
WHERE job.id = due.id RETURNING job.id
"""
MARK = "UPDATE job SET state = 2 WHERE id = ANY($1::bigint[])"


async def seed(dsn: str, nats_url: str, times: Sequence[float]) -> None:
    """Makes the table, a row for each time (seconds since 1970), and the stream."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(TABLE)
        rows = [(number, datetime.fromtimestamp(at, UTC)) for number, at in enumerate(times)]
        await connection.copy_records_to_table("job", columns=["id", "due_time"], records=rows, timeout=120)
        await connection.execute(INDEX)
        await connection.execute("ANALYZE job")
    finally:
        await connection.close()
    client = await nats.connect(nats_url)
    await client.jetstream().add_stream(StreamConfig(name=STREAM, subjects=[SUBJECT]))
    await client.close()


async def dispatch(dsn: str, nats_url: str, count: int, due_time: float) -> None:
    """Claims, publishes and marks until `count` jobs have gone."""
    client = await nats.connect(nats_url)
    stream = client.jetstream()
    connection = await asyncpg.connect(dsn)
    gone = 0
    await asyncio.sleep(max(0.0, due_time - time.time()))
    while gone < count:
        ids = [row[0] for row in await connection.fetch(CLAIM, datetime.now(UTC), BATCH)]
        if not ids:
            await asyncio.sleep(0.001)
            continue
        acks = [await stream.publish_async(SUBJECT, str(one).encode()) for one in ids]
        await asyncio.gather(*acks)
        await connection.execute(MARK, ids)
        gone += len(ids)
    await connection.close()
    await client.close()


async def consume(nats_url: str, count: int, target: Path) -> None:
    """Takes messages until there were `count`, then writes when each came."""
    client = await nats.connect(nats_url)
    config = ConsumerConfig(durable_name=READER, max_ack_pending=4 * BATCH)
    reader = await client.jetstream().pull_subscribe(SUBJECT, READER, stream=STREAM, config=config)
    had: list[float] = []
    while len(had) < count:
        try:
            messages = await reader.fetch(BATCH, timeout=0.05)
        except TimeoutError:
            continue
        for message in messages:
            had.append(time.time())
            await message.ack()
    await client.close()
    part = target.with_suffix(".part")
    part.write_text(json.dumps(had))
    part.rename(target)


def main() -> None:
    """`dispatch DSN NATS COUNT DUE_TIME` or `consume NATS COUNT FILE`."""
    role, *rest = sys.argv[1:]
    if role == "dispatch":
        dsn, nats_url, count, due_time = rest
        uvloop.run(dispatch(dsn, nats_url, int(count), float(due_time)))
    else:
        nats_url, count, target = rest
        uvloop.run(consume(nats_url, int(count), Path(target)))


if __name__ == "__main__":
    main()
