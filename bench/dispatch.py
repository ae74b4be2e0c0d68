"""How late is a post when many are due in the same instant?

Measures from the due time to the connector's call over the full path (claim, outbox, NATS, inbox, delivery, intent,
tracing), beside the same number of jobs that do nothing in Procrastinate, on the same kind of PostgreSQL server in the
same run. Both have 100,000 later ones in their tables, which slow down Procrastinate's fetch and not our claim;
`--later 0` shows both without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import procrastinate_jobs
from joserfc.jwk import OKPKey
from regie.publisher.v1.publisher_service_pb2 import ConnectChannelRequest
from regie.publisher.v1.publisher_service_pb2_grpc import PublisherServiceStub
from regie.scheduler.events.v1.scheduler_events_pb2 import DueSegment, DueVariant
from regie_chassis.identity import Caller, Signer
from regie_chassis.ids import CHANNEL, new_id, parse_id
from regie_chassis.rpc import call, open_channel
from regie_local.local_cluster import LocalCluster
from regie_local.postgres import EmbeddedPostgres
from regie_local.processes import ChildProcess
from results import percentile, result_line

CHANNELS = 100
SAMPLE_RATIO = "0.1"  # what production runs with
DAY = 86_400.0


def main() -> None:
    """Runs both sides and prints their figures, the result last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=5000)
    parser.add_argument("--later", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="regie-bench-") as folder:
        ours = run_ours(Path(folder), options.posts, options.later)
        theirs = run_procrastinate(Path(folder), options.posts, options.later)
    for name, lags in (("régie", ours), ("procrastinate", theirs)):
        print(
            f"{name}: {len(lags)} in {max(lags):.3f} s = {len(lags) / max(lags):.0f}/s,"
            f" late p50 {percentile(lags, 0.5) * 1000:.0f} ms, p99 {percentile(lags, 0.99) * 1000:.0f} ms"
        )
    print(
        result_line(
            "dispatch_p99",
            ours=percentile(ours, 0.99) * 1000,
            reference=percentile(theirs, 0.99) * 1000,
            unit="ms",
            better="lower",
            params=vars(options)
            | {
                "reference": "Procrastinate 3.10 no-op jobs, concurrency 30, as many later jobs",
                "ours_p50_ms": round(percentile(ours, 0.5) * 1000, 1),
                "reference_p50_ms": round(percentile(theirs, 0.5) * 1000, 1),
                "ours_per_second": round(len(ours) / max(ours)),
                "reference_per_second": round(len(theirs) / max(theirs)),
                "trace_sample_ratio": float(SAMPLE_RATIO),
            },
        )
    )


def run_ours(folder: Path, posts: int, later: int) -> list[float]:
    """Returns how late each post's call was, in seconds."""
    calls = folder / "calls.json"
    shared = {"REGIE_TRACE_SAMPLE_RATIO": SAMPLE_RATIO, "REGIE_LOG_LEVEL": "WARNING"}
    noop = str(Path(__file__).with_name("noop_publisher.py"))
    with LocalCluster(
        folder / "regie",
        services=("scheduler", "publisher"),
        env={"scheduler": shared, "publisher": shared | {"BENCH_CALLS": str(calls)}},
        programs={"publisher": [noop]},
    ) as installation:
        due_time = asyncio.run(seed_posts(installation, posts, later))
        asyncio.run(until_published(installation, posts))
    return [at - due_time for at in json.loads(calls.read_text())]


async def seed_posts(installation: LocalCluster, posts: int, later: int) -> float:
    """Writes all posts straight into the scheduler's tables and returns when the first of them are due."""
    workspace = new_id()
    channels = await connect_channels(installation, workspace)
    connection = await asyncpg.connect(installation.database_url("scheduler").replace("+asyncpg", ""))
    try:
        await insert(connection, workspace, channels, count=later, publish_time=time.time() + DAY)
        await connection.execute("ANALYZE post, variant")
        due_time = time.time() + 4 + posts / 4000
        await insert(connection, workspace, channels, count=posts, publish_time=due_time)
        # What SchedulePost says in its transaction; these rows came past it.
        at = datetime.fromtimestamp(due_time, UTC).isoformat()
        await connection.execute("SELECT pg_notify('post_scheduled', $1)", at)
    finally:
        await connection.close()
    return due_time


async def connect_channels(installation: LocalCluster, workspace: UUID) -> list[str]:
    secrets = json.loads((installation.folder.path / "secrets.json").read_text())
    signer = Signer(OKPKey.import_key(secrets["identity_private_key"]))
    identity = signer.sign(Caller(workspace, "bench"), audience="publisher", now=datetime.now(UTC))
    async with open_channel(installation.addresses.rpc["publisher"][0]) as channel:
        stub = PublisherServiceStub(channel)
        made = []
        for number in range(CHANNELS):
            request = ConnectChannelRequest(
                network="sandbox", server_url=installation.addresses.sandbox, credentials={"access_token": f"a{number}"}
            )
            made.append((await call(stub.ConnectChannel, request, identity=identity)).channel.channel_id)
    return made


async def insert(
    connection: asyncpg.Connection[asyncpg.Record],
    workspace: UUID,
    channels: list[str],
    *,
    count: int,
    publish_time: float,
) -> None:
    when = datetime.fromtimestamp(publish_time, UTC)
    now = datetime.now(UTC)
    ids = [new_id() for _ in range(count)]
    await connection.copy_records_to_table(
        "post",
        columns=["id", "workspace_id", "title", "state", "publish_time", "revision", "create_time", "update_time"],
        records=[(post, workspace, "bench", "scheduled", when, 1, now, now) for post in ids],
        timeout=120,
    )
    contents = {
        channel: DueVariant(channel_id=channel, segments=[DueSegment(text="a post of the bench")]).SerializeToString()
        for channel in channels
    }
    records = []
    for number, post in enumerate(ids):
        channel = channels[number % len(channels)]
        records.append((post, parse_id(CHANNEL, channel), 0, contents[channel]))
    await connection.copy_records_to_table(
        "variant", columns=["post_id", "channel_id", "position", "content"], records=records, timeout=120
    )


async def until_published(installation: LocalCluster, posts: int) -> None:
    connection = await asyncpg.connect(installation.database_url("publisher").replace("+asyncpg", ""))
    try:
        async with asyncio.timeout(120):
            # Seldom, so that the looking does not slow down what is looked at.
            while True:
                published = await connection.fetchval("SELECT count(*) FROM delivery WHERE state = 'published'")
                if published >= posts:
                    return
                await asyncio.sleep(1)
    finally:
        await connection.close()


def run_procrastinate(folder: Path, posts: int, later: int) -> list[float]:
    """Returns how late each job was, in seconds."""
    target = folder / "jobs.json"
    server = EmbeddedPostgres(folder / "procrastinate")
    server.start()
    try:
        url = asyncio.run(server.create_database("jobs", owner="jobs", password="jobs"))  # noqa: S106
        dsn = url.replace("+asyncpg", "")
        due_time = time.time() + 8 + (posts + later) / 10_000
        later_time = due_time + DAY
        asyncio.run(procrastinate_jobs.seed(dsn, due=posts, due_time=due_time, later=later, later_time=later_time))
        program = [sys.executable, procrastinate_jobs.__file__, dsn, str(posts), str(target)]
        worker = ChildProcess("procrastinate", program, log=folder / "procrastinate.log", env=dict(os.environ))
        worker.start()
        worker.wait_until(lambda: target.exists() and not worker.running, timeout=240)
    finally:
        server.stop()
    return [at - due_time for at in json.loads(target.read_text())]


if __name__ == "__main__":
    main()
