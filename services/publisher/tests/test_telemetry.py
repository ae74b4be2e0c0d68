"""The log records of deliveries: their outcomes, under their trace, without content."""

from __future__ import annotations

from collections import deque
from collections.abc import MutableMapping
from datetime import timedelta
from typing import Any

import pytest
from regie.ids.v1.prefixes import CHANNEL
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.telemetry import trace_id_of
from regie_local.testing.clock import FakeClock
from regie_publisher.testing.harness import TRACEPARENT, PublisherHarness
from regie_publisher.testing.network import Play
from structlog.testing import capture_logs

Record = MutableMapping[str, Any]


def record_of(logs: list[Record], event: str) -> Record:
    (record,) = [record for record in logs if record["event"] == event]
    return record


@pytest.mark.parametrize(
    ("play", "event", "level", "more"),
    [
        (Play.OK, "delivery.published", "debug", {"cause": "worker"}),
        (Play.REFUSE, "delivery.failed", "warning", {"kind": "content_rejected"}),
        (Play.LOST_AFTER, "delivery.unknown", "warning", {"needs_person": False}),
    ],
)
async def test_what_became_of_a_delivery_is_logged_with_its_ids_and_trace(
    harness: PublisherHarness, play: Play, event: str, level: str, more: dict[str, object]
) -> None:
    channel = await harness.channel()
    due = harness.due(channel, texts=("words that no log may hold",))
    harness.connector.script = deque([play])
    await harness.receive(due)
    with capture_logs() as logs:
        await harness.work()
    record = record_of(logs, event)
    assert record["log_level"] == level
    assert record["delivery_id"].startswith("dlv_")
    assert (record["post_id"], record["channel_id"]) == (due.message.post_id, show_id(CHANNEL, channel))
    assert (record["network"], record["attempt"]) == ("fake", 1)
    assert record["trace_id"] == trace_id_of(TRACEPARENT)
    assert more.items() <= record.items()
    assert "words that no log may hold" not in str(logs)
    assert "not with us" not in str(logs)  # the network's own words


async def test_a_delivery_that_is_too_late_is_logged(harness: PublisherHarness, clock: FakeClock) -> None:
    await harness.receive(harness.due(await harness.channel()))
    await clock.advance(timedelta(hours=1))
    with capture_logs() as logs:
        await harness.work()
    record = record_of(logs, "delivery.missed")
    assert (record["cause"], record["trace_id"]) == ("too_late", trace_id_of(TRACEPARENT))


async def test_a_delivery_that_a_dead_worker_leaves_unknown_is_logged(
    harness: PublisherHarness, clock: FakeClock
) -> None:
    await harness.receive(harness.due(await harness.channel()))
    async with harness.database.transaction() as session:
        (held,) = await harness.claim_only(session)
    await harness.writer.mark(held)
    await clock.advance(timedelta(minutes=1))
    with capture_logs() as logs:
        await harness.rescue()
    record = record_of(logs, "delivery.unknown")
    assert (record["cause"], record["trace_id"]) == ("lease_expired", trace_id_of(TRACEPARENT))


async def test_a_delivery_that_fails_as_it_comes_in_and_one_that_is_stopped_are_logged(
    harness: PublisherHarness,
) -> None:
    channel = await harness.channel()
    due = harness.due(channel)
    with capture_logs() as logs:
        await harness.receive(harness.due(channel, texts=()), due)
        await harness.cancel(due)
    assert record_of(logs, "delivery.failed")["kind"] == "content_rejected"
    assert record_of(logs, "delivery.cancelled")["network"] == "fake"


async def test_nothing_is_logged_of_what_was_rolled_back(harness: PublisherHarness) -> None:
    channel = await harness.channel()

    async def receive_and_lose() -> None:
        async with harness.database.transaction() as session:
            await harness.receive_in(session, harness.due(channel, texts=()))
            raise ZeroDivisionError

    with capture_logs() as logs, pytest.raises(ZeroDivisionError):
        await receive_and_lose()
    assert logs == []
