"""Attacks by a user of the same machine, or by one service that was taken over."""

from __future__ import annotations

import asyncio
import stat
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import nats
import nats.errors
import nats.js.errors
from regie.scheduler.events.v1.scheduler_events_pb2 import PostDue
from scene import Scene

FORGED = "forged without a right"
WITHIN = 3.0  # seconds, for a forged event to come out


async def forged_event(scene: Scene) -> list[str]:
    """H3: somebody without credentials publishes a due post of the neighbour, and reads the stream of due posts."""
    problems: list[str] = []
    channel = (await scene.neighbour.get("/v1/channels")).json()["channels"][0]
    workspace_id = (await scene.neighbour.get("/v1/workspace")).json()["workspace_id"]
    address = scene.installation.addresses.nats.rpartition("@")[2].removeprefix("nats://")
    try:
        client = await nats.connect(
            f"nats://{address}", connect_timeout=2, allow_reconnect=False, error_cb=_ignore, max_reconnect_attempts=0
        )
    except (nats.errors.Error, OSError, TimeoutError):
        return []  # refused, as it should be
    try:
        await client.jetstream().publish(
            f"regie.scheduler.v1.post_due.{workspace_id}",
            _due(channel["channel_id"]).SerializeToString(),
            headers={"ce-id": str(uuid4()), "ce-type": PostDue.DESCRIPTOR.full_name, "ce-workspaceid": workspace_id},
            timeout=2,
        )
        problems.append("NATS took an event from somebody without credentials")
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
        pass  # refused, as it should be
    finally:
        await client.close()
    await asyncio.sleep(WITHIN)
    calls = (await scene.sandbox.get("/admin/log", params={"operation": "create_post"})).json()["calls"]
    return problems + (["the forged post came out"] if any(call["text"] == FORGED for call in calls) else [])


async def open_folder(scene: Scene) -> list[str]:
    """M7: reads as another user of the machine below the installation's folder."""
    root = scene.installation.folder.path
    if stat.S_IMODE(root.stat().st_mode) & 0o077:
        return [f"{root.name} has mode {stat.S_IMODE(root.stat().st_mode):o}"]
    return []


def _due(channel_id: str) -> PostDue:
    message = PostDue(post_id="post_01m86c6hzmejrs8mdbzkpvesnn", revision=1)
    now = datetime.now(UTC)
    message.publish_time.FromDatetime(now)
    message.miss_time.FromDatetime(now + timedelta(minutes=10))
    variant = message.variants.add(channel_id=channel_id)
    variant.segments.add(text=FORGED)
    return message


async def _ignore(_error: Exception) -> None:
    """The refusal is the expected outcome."""
