"""Opened accounts and the renewal of their tokens."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

import pytest
from regie.ids.v1.prefixes import CHANNEL
from regie.publisher.events.v1.publisher_events_pb2 import PostMetricsObserved
from regie_chassis.boundary.ids import show_id
from regie_chassis.data.database import Database
from regie_chassis.process.clock import SystemClock
from regie_local.testing.clock import FakeClock
from regie_networks.errors import FailureKind, NotSent, OutcomeUnknown, Refused
from regie_networks.observation import Observation
from regie_publisher.channels.accounts import Accounts
from regie_publisher.channels.connecting import disconnect_channel
from regie_publisher.channels.key_rotation import KeyRotation
from regie_publisher.channels.renewal import LOST_RENEWAL_PAUSES, REFRESH_LEASE, RenewalRuns, RenewalWaits
from regie_publisher.channels.sealing import Keyring, new_master_key
from regie_publisher.deliveries.attempts import Attempts
from regie_publisher.testing.harness import NewHarness, PublisherHarness
from sqlalchemy import text
from structlog.testing import capture_logs


class Renewal:
    """A network's token endpoint: each renewal makes the old token useless, and is counted."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.called = asyncio.Event()

    async def __call__(self, used: Mapping[str, str]) -> Mapping[str, str]:
        self.calls += 1
        self.called.set()
        await self.gate.wait()
        return {**used, "access_token": f"fake-renewed-{self.calls}"}


async def opened(harness: PublisherHarness, channel: UUID) -> Mapping[str, str]:
    await harness.accounts.open([channel])
    return dict((await harness.accounts.account(channel)).credentials.secrets)


async def test_fifty_workers_on_five_replicas_renew_once(new_harness: NewHarness) -> None:
    harnesses = [new_harness(own_clock=SystemClock()) for _ in range(5)]
    channel = await harnesses[0].channel()
    renewal = Renewal()
    used = (await asyncio.gather(*(opened(harness, channel) for harness in harnesses)))[0]
    accounts = [await harness.accounts.account(channel) for harness in harnesses for _ in range(10)]
    found = await asyncio.gather(*(account.credentials.refresh(used, renewal) for account in accounts))
    assert renewal.calls == 1
    assert {secrets["access_token"] for secrets in found} == {"fake-renewed-1"}
    assert (await opened(harnesses[3], channel))["access_token"] == "fake-renewed-1"


async def test_a_renewal_that_takes_too_long_leaves_the_outcome_of_the_refused_call_known(
    new_harness: NewHarness,
) -> None:
    harness = new_harness(own_clock=SystemClock())
    channel = await harness.channel()
    used, renewal = await opened(harness, channel), Renewal()
    renewal.gate.clear()
    renewing, waiting = [
        Accounts(harness.database, harness.keyring, SystemClock(), worker=name, wait=timedelta(milliseconds=50))
        for name in ("renewing", "waiting")
    ]
    for accounts in (renewing, waiting):
        with pytest.raises(RenewalRuns):  # a NotSent: tried again, and never `unknown`
            await accounts.renewal.refresh(channel, used, renewal)
    renewal.gate.set()
    await renewing.renewal.drain()
    await waiting.renewal.drain()
    assert renewal.calls == 1
    assert (await opened(harness, channel))["access_token"] == "fake-renewed-1"


async def test_renewed_secrets_are_saved_before_they_are_used(new_harness: NewHarness) -> None:
    harness, witness = new_harness(own_clock=SystemClock()), new_harness(own_clock=SystemClock())
    channel = await harness.channel()
    used = await opened(harness, channel)
    renewed = await (await harness.accounts.account(channel)).credentials.refresh(used, Renewal())
    assert await opened(witness, channel) == renewed


async def test_a_caller_that_is_cut_off_does_not_lose_the_renewed_secrets(new_harness: NewHarness) -> None:
    harness = new_harness(own_clock=SystemClock())
    channel = await harness.channel()
    used, renewal = await opened(harness, channel), Renewal()
    renewal.gate.clear()
    impatient = asyncio.create_task(harness.accounts.renewal.refresh(channel, used, renewal))
    await renewal.called.wait()
    impatient.cancel()
    renewal.gate.set()
    await harness.accounts.renewal.drain()
    assert (await opened(harness, channel))["access_token"] == "fake-renewed-1"


async def test_a_failed_renewal_can_be_tried_again_at_once(new_harness: NewHarness) -> None:
    harness = new_harness(own_clock=SystemClock())
    channel = await harness.channel()
    used = await opened(harness, channel)

    async def fail(_used: Mapping[str, str]) -> Mapping[str, str]:
        raise NotSent("no connection")

    with pytest.raises(NotSent):
        await harness.accounts.renewal.refresh(channel, used, fail)
    renewed = await harness.accounts.renewal.refresh(channel, used, Renewal())
    assert renewed["access_token"] == "fake-renewed-1"


async def test_credentials_that_a_person_renewed_meanwhile_win(new_harness: NewHarness) -> None:
    harness = new_harness(own_clock=SystemClock())
    channel = await harness.channel()
    used, renewal = await opened(harness, channel), Renewal()
    renewal.gate.clear()
    task = asyncio.create_task(harness.accounts.renewal.refresh(channel, used, renewal))
    await renewal.called.wait()
    assert await harness.channel() == channel
    renewal.gate.set()
    assert (await task)["access_token"] == "fake-ada"


async def test_disconnecting_wipes_the_secrets(new_harness: NewHarness) -> None:
    harness = new_harness()
    channel = await harness.channel()
    await opened(harness, channel)
    async with harness.database.transaction() as session:
        await disconnect_channel(
            session, workspace_id=harness.workspace_id, channel_id=channel, now=harness.clock.now()
        )
    [row] = await harness.rows("channel")
    assert (row.secrets, row.data_key, row.state) == (b"", b"", "disconnected")
    await harness.accounts.open([channel])
    with pytest.raises(Refused):
        await harness.accounts.account(channel)


async def test_a_new_master_key_takes_over_all_channels(harness: PublisherHarness) -> None:
    old, new = new_master_key(), new_master_key()
    harness.keyring = Keyring(old)
    channel, *_ = [await harness.channel(f"a{number}") for number in range(3)]
    rotation = KeyRotation(harness.database, Keyring(new, [old]))
    assert [await rotation.rewrap_some(limit=2) for _ in range(3)] == [2, 1, 0]
    accounts = Accounts(harness.database, Keyring(new), harness.clock, worker="new")
    assert (await accounts.account(channel)).credentials.secrets == {"access_token": "fake-a0"}


async def test_channels_that_do_not_open_are_left_and_hold_up_no_others(harness: PublisherHarness) -> None:
    old, new = new_master_key(), new_master_key()
    for handle in ("lost", "forgotten"):  # the oldest, under a master key that is not given
        await harness.channel(handle)
    harness.keyring = Keyring(old)
    good = await harness.channel("good")
    rotation = KeyRotation(harness.database, Keyring(new, [old]))
    with capture_logs() as logs:
        assert [await rotation.rewrap_some(limit=2) for _ in range(3)] == [2, 1, 0]
    assert [record["event"] for record in logs] == ["channel.not_rewrapped"] * 2
    accounts = Accounts(harness.database, Keyring(new), harness.clock, worker="new")
    assert (await accounts.account(good)).credentials.secrets == {"access_token": "fake-good"}


async def test_an_account_that_does_not_open_fails_alone(harness: PublisherHarness) -> None:
    good, lost = await harness.channel("good"), await harness.channel("lost")
    await seal_under_another_key(harness, lost)
    await harness.receive(harness.due(lost), harness.due(good))
    await harness.work()
    assert sorted(await harness.states()) == ["pending", "published"]
    assert [post.account for post in harness.connector.posts] == ["good"]


async def test_an_account_that_does_not_open_stops_no_other_reading(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    good, lost = await harness.channel("good"), await harness.channel("lost")
    await harness.receive(harness.due(lost), harness.due(good))
    await harness.work()
    await seal_under_another_key(harness, lost)
    harness.connector.seen = [Observation(post.id, {"likes": 1}) for post in harness.connector.posts]
    await clock.advance(timedelta(seconds=3))
    assert await harness.collector.collect_due() == 2
    (said,) = await harness.events(PostMetricsObserved)
    assert said.channel_id == show_id(CHANNEL, good)


async def seal_under_another_key(harness: PublisherHarness, channel: UUID) -> None:
    async with harness.database.transaction() as session:
        await session.execute(
            text("UPDATE channel SET key_id = 'gone', version = version + 1 WHERE id = :id"), {"id": channel}
        )


def small(harness: PublisherHarness, database: Database | None = None) -> Accounts:
    """Accounts with room for two channels."""
    return Accounts(database or harness.database, harness.keyring, harness.clock, worker="small", max_channels=2)


async def test_a_channel_that_left_the_memory_is_loaded_again(harness: PublisherHarness) -> None:
    known, *others = [await harness.channel(f"a{number}") for number in range(4)]
    accounts = small(harness)
    await accounts.open([known])
    account = await accounts.account(known)
    await accounts.open([known, *others])  # one old and three new, with room for two
    assert (await accounts.account(known)).credentials.secrets == {"access_token": "fake-a0"}
    for other in others:
        await accounts.account(other)
    assert account.credentials.secrets == {"access_token": "fake-a0"}, "an attempt under way keeps its credentials"


async def test_posts_of_more_channels_than_fit_in_memory_all_come_out(new_harness: NewHarness) -> None:
    harness = new_harness(max_channels=2)
    channels = [await harness.channel(f"a{number}") for number in range(5)]
    await harness.receive(*(harness.due(channel) for channel in channels))
    await harness.work()
    assert await harness.states() == ["published"] * 5


async def test_what_leaves_the_memory_is_what_was_used_longest_ago(harness: PublisherHarness) -> None:
    first, second, third = [await harness.channel(f"a{number}") for number in range(3)]
    accounts = small(harness)
    await accounts.open([first])
    await accounts.open([second])
    await accounts.open([first])  # known and unchanged: a use all the same
    await accounts.open([third])
    gc.collect()
    assert [accounts.version(channel) for channel in (first, second, third)] == [1, None, 1]


async def test_an_attempt_sees_secrets_that_were_renewed_after_they_left_the_memory(new_harness: NewHarness) -> None:
    harness = new_harness(own_clock=SystemClock())
    channel, *others = [await harness.channel(f"a{number}") for number in range(3)]
    accounts = small(harness)
    account = await accounts.account(channel)
    used = account.credentials.secrets
    await accounts.open(others)
    await accounts.renewal.refresh(channel, used, Renewal())
    assert account.credentials.secrets["access_token"] == "fake-renewed-1"


async def test_a_database_that_is_away_while_an_account_is_loaded_is_no_verdict(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    await harness.receive(harness.due(channel))
    nowhere = Database("postgresql+asyncpg://nobody@127.0.0.1:1/nowhere")
    async with harness.database.transaction() as session:
        (held,) = await harness.claim_only(session)
    attempts = Attempts(
        connectors={"fake": harness.connector},
        accounts=small(harness, nowhere),
        media_store=harness.media_store,
        writer=harness.writer,
        clock=harness.clock,
    )
    await attempts.make(held)
    await nowhere.close()
    (row,) = await harness.rows()
    assert (row.state, row.consecutive_attempts, harness.connector.published()) == ("pending", 0, [])
    assert ("pending", "database_outage") in await harness.changes()


async def lose(_used: Mapping[str, str]) -> Mapping[str, str]:
    raise OutcomeUnknown("the connection was cut")


async def test_a_renewal_without_an_answer_is_repeated_ever_more_rarely(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    channel = await harness.channel()
    used, renewal = await opened(harness, channel), Renewal()
    for losses, pause in enumerate(LOST_RENEWAL_PAUSES, start=1):
        with pytest.raises(NotSent, match="cut"):
            await harness.accounts.renewal.refresh(channel, used, lose)
        with pytest.raises(RenewalWaits):  # not in a loop: the token may be spent, and a second use taken for theft
            await harness.accounts.renewal.refresh(channel, used, renewal)
        (row,) = await harness.rows("channel")
        assert (row.refresh_losses, row.state, renewal.calls) == (losses, "active", 0)
        await clock.advance(pause)
    assert (await harness.accounts.renewal.refresh(channel, used, renewal))["access_token"] == "fake-renewed-1"
    (row,) = await harness.rows("channel")
    assert (row.refresh_losses, row.refresh_expire_time) == (0, None)


async def test_a_token_that_a_lost_renewal_has_spent_says_so_once_the_network_proves_it(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    channel = await harness.channel()
    used = await opened(harness, channel)

    async def refuse(_used: Mapping[str, str]) -> Mapping[str, str]:
        raise Refused(FailureKind.AUTH_EXPIRED, "unknown token")

    with pytest.raises(NotSent):
        await harness.accounts.renewal.refresh(channel, used, lose)
    await clock.advance(LOST_RENEWAL_PAUSES[0])
    with pytest.raises(Refused, match="may have used the token up") as refused:
        await harness.accounts.renewal.refresh(channel, used, refuse)
    assert refused.value.kind is FailureKind.AUTH_EXPIRED


async def test_a_process_that_died_under_a_renewal_leaves_a_loss_behind(
    new_harness: NewHarness, clock: FakeClock
) -> None:
    harness, dead = new_harness(), new_harness()
    channel = await harness.channel()
    used, renewal = await opened(dead, channel), Renewal()
    renewal.gate.clear()
    cut = asyncio.create_task(dead.accounts.renewal.refresh(channel, used, renewal))
    await renewal.called.wait()
    await clock.advance(REFRESH_LEASE)

    async def refuse(_used: Mapping[str, str]) -> Mapping[str, str]:
        raise Refused(FailureKind.AUTH_EXPIRED, "unknown token")

    with pytest.raises(Refused, match="may have used the token up"):
        await harness.accounts.renewal.refresh(channel, used, refuse)
    renewal.gate.set()
    await cut


async def test_a_person_who_connects_again_ends_the_wait_for_a_lost_renewal(harness: PublisherHarness) -> None:
    channel = await harness.channel()
    used = await opened(harness, channel)
    with pytest.raises(NotSent):
        await harness.accounts.renewal.refresh(channel, used, lose)
    await harness.channel()
    (row,) = await harness.rows("channel")
    assert (row.refresh_losses, row.refresh_expire_time) == (0, None)
