"""The guarantees under faults: nothing lost, nothing twice. The network's own log is the oracle."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from uuid import UUID

import asyncpg
import pytest
from regie.scheduler.events.v1.scheduler_events_pb2 import PostDue
from regie_chassis.events.messaging import ConsumerSpec, Envelope, headers_of, subject_of
from regie_local.local_cluster import LocalCluster
from regie_local.testing.user import Json, NewInstallation, User
from regie_local.testing.waiting import until

pytestmark = [pytest.mark.processes, pytest.mark.long]

MANY = 200
RECOVERY = 120.0  # seconds; a lease of a killed publisher has to run out first


async def schedule_many(user: User, count: int, *, after: float, channels: int = 4) -> list[str]:
    """Schedules posts with texts of their own for about the same instant, spread over channels."""
    ids = [await user.connect(f"many{number}") for number in range(channels)]
    made: list[str] = []
    for first in range(0, count, 20):
        batch = range(first, min(first + 20, count))
        made += await asyncio.gather(
            *(user.schedule(ids[n % channels], f"post number {n:04d}", after=after) for n in batch)
        )
    return made


async def all_ended(user: User, count: int, *, within: float = 60.0) -> None:
    async def look() -> bool:
        states: Counter[str] = Counter()
        token = ""
        while True:
            page = await user.call("GET", "/v1/posts", params={"page_size": 200, "page_token": token})
            states.update(post["state"] for post in page["posts"])
            token = page["next_page_token"]
            if not token:
                return states["published"] == count

    await until(look, timeout=within, what=f"{count} published posts")


async def assert_each_once(user: User, count: int) -> None:
    texts = Counter(post["text"] for post in await user.visible("post number"))
    assert texts == Counter(f"post number {n:04d}" for n in range(count))


async def test_two_schedulers_and_two_publishers_publish_each_of_200_posts_once(breakable: NewInstallation) -> None:
    async with breakable(replicas={"scheduler": 2, "publisher": 2}) as (_, user):
        await schedule_many(user, MANY, after=6)
        await all_ended(user, MANY)
        await assert_each_once(user, MANY)
        assert len(await user.calls()) == MANY


async def test_a_publisher_killed_after_the_network_took_the_post_neither_loses_nor_doubles_it(
    breakable: NewInstallation,
) -> None:
    async with breakable() as (installation, user):
        channel = await user.connect("killed")
        await user.faults({"operation": "create_post", "times": 1, "latency_after_ms": 15_000})
        post_id = await user.schedule(channel, "taken, then killed", after=1)

        async def taken() -> bool:
            return bool(await user.visible("taken, then killed"))

        await until(taken, what="the effect on the network")
        await asyncio.to_thread(installation.kill, "publisher")
        await asyncio.to_thread(installation.restart, "publisher")
        assert await user.ended(post_id, within=RECOVERY) == "published"
        assert len(await user.visible("taken, then killed")) == 1
        assert len([call for call in await user.calls() if call["text"] == "taken, then killed"]) == 1
        states = [entry["state"] for entry in await user.timeline(post_id)]
        assert "unknown" in states, states


async def test_a_publisher_killed_before_the_network_took_the_post_publishes_it_after_a_proven_absence(
    breakable: NewInstallation,
) -> None:
    async with breakable() as (installation, user):
        channel = await user.connect("killed")
        await user.faults({"operation": "create_post", "times": 1, "hang": True})
        post_id = await user.schedule(channel, "never arrived", after=1)

        async def called() -> bool:
            return bool(await user.calls())

        await until(called, what="the call")
        await asyncio.to_thread(installation.kill, "publisher")
        await asyncio.to_thread(installation.restart, "publisher")
        assert await user.ended(post_id, within=RECOVERY) == "published"
        assert len(await user.visible("never arrived")) == 1


async def test_publishers_killed_in_the_middle_of_a_burst_lose_and_double_nothing(breakable: NewInstallation) -> None:
    async with breakable(replicas={"publisher": 2}) as (installation, user):
        await user.faults({"operation": "create_post", "times": None, "latency_ms": 30, "latency_after_ms": 30})
        await schedule_many(user, MANY, after=6)

        async def some(count: int) -> bool:
            return len(await user.visible("post number")) >= count

        for seen, replica in ((20, 0), (90, 1)):
            await until(partial(some, seen), what=f"{seen} posts out")
            await asyncio.to_thread(installation.kill, "publisher", replica)
            await asyncio.to_thread(installation.restart, "publisher", replica)
        await all_ended(user, MANY, within=RECOVERY)
        await assert_each_once(user, MANY)


async def test_a_scheduler_killed_after_the_claim_neither_loses_nor_doubles_a_post(breakable: NewInstallation) -> None:
    async with breakable() as (installation, user):
        channel = await user.connect("claimed")
        post_id = await user.schedule(channel, "claimed, then killed", after=3)
        await asyncio.to_thread(installation.nats.stop)

        async def claimed() -> bool:
            return bool((await user.post(post_id))["state"] == "dispatched")

        await until(claimed, what="the claim")
        await asyncio.to_thread(installation.kill, "scheduler")
        await asyncio.to_thread(installation.nats.start)
        await asyncio.to_thread(installation.restart, "scheduler")
        assert await user.ended(post_id, within=RECOVERY) == "published"
        assert len(await user.calls()) == 1


async def staged_post_due(installation: LocalCluster) -> Envelope:
    """The one PostDue that the scheduler has published, as its relay sent it."""
    name = PostDue.DESCRIPTOR.full_name
    connection = await asyncpg.connect(installation.database_url("scheduler").replace("+asyncpg", ""))
    try:
        row = await connection.fetchrow(
            "SELECT event_id, workspace_id, payload, event_time FROM outbox WHERE type = $1", name
        )
    finally:
        await connection.close()
    assert row is not None
    event_id, workspace_id = UUID(str(row["event_id"])), UUID(str(row["workspace_id"]))
    headers = headers_of(name, event_id=event_id, workspace_id=workspace_id, time=row["event_time"], traceparent="")
    return Envelope(subject_of(name, workspace_id), str(event_id), row["payload"], headers)


async def test_the_same_event_delivered_ten_times_publishes_once(breakable: NewInstallation) -> None:
    async with breakable() as (installation, user):
        channel = await user.connect("tenfold")
        post_id = await user.schedule(channel, "ten times over", after=1)
        await user.ended(post_id)
        due = await staged_post_due(installation)
        headers = {name: value for name, value in due.headers.items() if name != "Nats-Msg-Id"}
        copies = [Envelope(due.subject, f"copy-{n}", due.payload, headers) for n in range(10)]
        # Ten more under event ids of their own: past the broker's deduplication and past the inbox.
        fresh = [
            Envelope(copy.subject, f"fresh-{n}", copy.payload, {**headers, "ce-id": f"{n:032x}"})
            for n, copy in enumerate(copies)
        ]
        broker, publisher = installation.nats.broker("scheduler"), installation.nats.broker("publisher")
        assert None not in await broker.publish([*copies, *fresh])
        reading = ConsumerSpec("regie_scheduler", "publisher", (subject_of(PostDue.DESCRIPTOR.full_name, None),))

        async def read() -> bool:
            return await publisher.pending(reading) == 0

        await until(read, what="the copies to be handled")
        other = await user.schedule(channel, "the next one", after=0.5)
        await user.ended(other)
        await broker.close()
        await publisher.close()
        assert len(await user.visible("ten times over")) == 1
        assert len(await user.calls()) == 2


async def test_nats_and_postgres_restarted_in_the_middle_lose_and_double_nothing(breakable: NewInstallation) -> None:
    async with breakable() as (installation, user):
        await user.faults({"operation": "create_post", "times": None, "latency_ms": 40})
        await schedule_many(user, MANY, after=6)

        async def some(count: int) -> bool:
            return len(await user.visible("post number")) >= count

        await until(lambda: some(20), what="20 posts out")
        await asyncio.to_thread(installation.restart_nats, kill=True)
        await until(lambda: some(60), what="60 posts out")
        await asyncio.to_thread(installation.restart_postgres, kill=True)
        await all_ended(user, MANY, within=RECOVERY)
        await assert_each_once(user, MANY)


async def test_a_poison_message_ends_in_the_dead_letters_and_its_neighbours_go_on(breakable: NewInstallation) -> None:
    async with breakable() as (installation, user):
        channel = await user.connect("poisoned")
        before = await user.schedule(channel, "before the poison", after=0.5)
        await user.ended(before)
        broker = installation.nats.broker("scheduler")
        subject = subject_of(PostDue.DESCRIPTOR.full_name, None).replace("*", "ws_00000000000000000000000000")
        await broker.publish([Envelope(subject, "poison", b"\xff\xff", {"ce-type": PostDue.DESCRIPTOR.full_name})])
        await broker.close()
        after = await user.schedule(channel, "after the poison", after=0.5)
        assert await user.ended(after) == "published"

        async def dead() -> list[Json]:
            url = installation.database_url("publisher").replace("+asyncpg", "")
            connection = await asyncpg.connect(url)
            try:
                return list(await connection.fetch("SELECT reason, payload FROM dead_letter"))
            finally:
                await connection.close()

        (letter,) = await until(dead, what="the dead letter")
        assert letter["reason"].startswith("cannot be read as regie.scheduler.events.v1.PostDue")
        assert letter["payload"] == b"\xff\xff"


async def test_a_service_boots_alone_and_waits_for_the_others(breakable: NewInstallation) -> None:
    async with breakable(services=("publisher",)) as (installation, _):
        await asyncio.to_thread(installation.nats.stop)
        await asyncio.to_thread(installation.restart, "publisher")
        assert installation.is_ready("publisher")


async def test_an_answer_that_never_came_is_found_out_and_not_repeated(breakable: NewInstallation) -> None:
    async with breakable() as (_, user):
        channel = await user.connect("dropped")
        await user.faults({"operation": "create_post", "times": 1, "drop_after": True})
        post_id = await user.schedule(channel, "answer lost", after=0.5)
        assert await user.ended(post_id, within=RECOVERY) == "published"
        assert len(await user.visible("answer lost")) == 1
        states = [entry["state"] for entry in await user.timeline(post_id)]
        assert states.index("unknown") < states.index("published")
