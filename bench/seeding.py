"""Posts and channels written straight into an installation's tables, as the start of the benches of the line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from joserfc.jwk import OKPKey
from regie.ids.v1.prefixes import CHANNEL
from regie.publisher.v1.channels_service_pb2 import ConnectChannelRequest
from regie.publisher.v1.channels_service_pb2_grpc import ChannelsServiceStub
from regie.scheduler.events.v1.scheduler_events_pb2 import DueSegment, DueVariant
from regie_chassis.boundary.identity import Caller, Signer
from regie_chassis.boundary.ids import new_id, parse_id
from regie_chassis.boundary.rpc import call, open_channel
from regie_local.local_cluster import LocalCluster

CHANNELS = 100
COPIED = 50_000  # rows of one COPY
COPY_TIMEOUT = 240  # seconds


async def connect_channels(installation: LocalCluster, workspace: UUID) -> list[str]:
    """Connects channels of the sandbox and returns their ids."""
    secrets = json.loads((installation.folder.path / "secrets.json").read_text())
    signer = Signer(OKPKey.import_key(secrets["identity_private_key"]))
    identity = signer.sign(Caller(workspace, "bench"), audience="publisher", now=datetime.now(UTC))
    async with open_channel(installation.addresses.rpc["publisher"][0]) as channel:
        stub = ChannelsServiceStub(channel)
        made = []
        for number in range(CHANNELS):
            request = ConnectChannelRequest(
                network="sandbox", server_url=installation.addresses.sandbox, credentials={"access_token": f"a{number}"}
            )
            made.append((await call(stub.ConnectChannel, request, identity=identity)).channel.channel_id)
    return made


async def open_database(installation: LocalCluster, service: str) -> asyncpg.Connection[asyncpg.Record]:
    """Returns a connection to a service's database."""
    return await asyncpg.connect(installation.database_url(service).replace("+asyncpg", ""))


async def insert_posts(
    connection: asyncpg.Connection[asyncpg.Record],
    workspace: UUID,
    channels: list[str],
    publish_times: Iterable[float],
    *,
    state: str = "scheduled",
) -> None:
    """Writes a post for each time (seconds since 1970), the channels in turn."""
    contents = {
        channel: DueVariant(channel_id=channel, segments=[DueSegment(text="a post of the bench")]).SerializeToString()
        for channel in channels
    }
    now = datetime.now(UTC)
    times = list(publish_times)
    for first in range(0, len(times), COPIED):
        posts = [(new_id(), datetime.fromtimestamp(at, UTC)) for at in times[first : first + COPIED]]
        await connection.copy_records_to_table(
            "post",
            columns=["id", "workspace_id", "title", "state", "publish_time", "revision", "create_time", "update_time"],
            records=[(post, workspace, "bench", state, when, 1, now, now) for post, when in posts],
            timeout=COPY_TIMEOUT,
        )
        variants = []
        for number, (post, _) in enumerate(posts):
            channel = channels[number % len(channels)]
            variants.append((post, parse_id(CHANNEL, channel), 0, contents[channel]))
        await connection.copy_records_to_table(
            "variant",
            columns=["post_id", "channel_id", "position", "content"],
            records=variants,
            timeout=COPY_TIMEOUT,
        )


async def announce_posts(connection: asyncpg.Connection[asyncpg.Record], first: float) -> None:
    """Notifies the scheduler of the first due time, as SchedulePost does in its transaction."""
    await connection.execute("SELECT pg_notify('post_scheduled', $1)", datetime.fromtimestamp(first, UTC).isoformat())


async def until_published(installation: LocalCluster, posts: int, *, timeout: float) -> None:
    """Waits until all outcomes are recorded."""
    connection = await open_database(installation, "publisher")
    try:
        async with asyncio.timeout(timeout):
            # Seldom, so that the looking does not slow down what is looked at.
            while True:
                published = await connection.fetchval("SELECT count(*) FROM delivery WHERE state = 'published'")
                if published >= posts:
                    return
                await asyncio.sleep(1)
    finally:
        await connection.close()
