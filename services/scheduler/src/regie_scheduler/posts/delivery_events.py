"""Handlers of the publisher's events on deliveries: each event becomes a report on the post's delivery."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC
from functools import partial
from typing import TypeVar

from regie.ids.v1.prefixes import CHANNEL, POST
from regie.publisher.events.v1.publisher_events_pb2 import (
    DeliveryCancelled,
    DeliveryFailed,
    DeliveryMissed,
    DeliveryProcessing,
    DeliveryUnknown,
    FailureKind,
    PostPublished,
    PostRemoved,
    RemoteSegment,
)
from regie_chassis.boundary.enums import names_of
from regie_chassis.boundary.ids import parse_id
from regie_chassis.boundary.text import storable
from regie_chassis.data.bulk import Columns
from regie_chassis.events.messaging import Event
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_scheduler.posts.delivery_reports import DeliveryReport, apply_reports
from regie_scheduler.posts.states import VariantState
from regie_scheduler.posts.timeline import MAX_DETAIL

DeliveryEvent = TypeVar(
    "DeliveryEvent",
    PostPublished,
    DeliveryProcessing,
    DeliveryFailed,
    DeliveryUnknown,
    DeliveryMissed,
    DeliveryCancelled,
)

NEEDS_PERSON = "a person has to find out: "
_sanitize = partial(storable, most=MAX_DETAIL)


async def on_post_published(session: AsyncSession, events: Sequence[Event[PostPublished]]) -> None:
    """A delivery was published."""
    await apply_reports(session, [_published(event) for event in events])


async def on_delivery_processing(session: AsyncSession, events: Sequence[Event[DeliveryProcessing]]) -> None:
    """A network accepted a delivery and is still working, or one of its segments is public and the next follows."""
    await apply_reports(session, [_processing(event) for event in events])


async def on_delivery_failed(session: AsyncSession, events: Sequence[Event[DeliveryFailed]]) -> None:
    """A delivery has failed."""
    await apply_reports(session, [_failed(event) for event in events])


async def on_delivery_unknown(session: AsyncSession, events: Sequence[Event[DeliveryUnknown]]) -> None:
    """A call left and no answer came back."""
    await apply_reports(session, [_unknown(event) for event in events])


async def on_delivery_missed(session: AsyncSession, events: Sequence[Event[DeliveryMissed]]) -> None:
    """A delivery was too late to be sent."""
    await apply_reports(session, [_missed(event) for event in events])


async def on_delivery_cancelled(session: AsyncSession, events: Sequence[Event[DeliveryCancelled]]) -> None:
    """A delivery was stopped before any call."""
    await apply_reports(session, [_report(event, VariantState.CANCELLED) for event in events])


async def on_post_removed(session: AsyncSession, events: Sequence[Event[PostRemoved]]) -> None:
    """A network no longer has a post. Its state stays published, so that it is never sent again."""
    rows = [
        (
            event.workspace_id,
            parse_id(POST, event.message.post_id),
            parse_id(CHANNEL, event.message.channel_id),
            event.message.observe_time.ToDatetime(UTC),
        )
        for event in events
    ]
    await session.execute(_REMOVE, _GONE.parameters(rows))


def _processing(event: Event[DeliveryProcessing]) -> DeliveryReport:
    return _with_segments(_report(event, VariantState.PROCESSING), event.message)


def _published(event: Event[PostPublished]) -> DeliveryReport:
    message = event.message
    remote_id, url = _sanitize(message.remote_id), _sanitize(message.remote_url)
    segments = _segments(message.segments) or ((remote_id, url),)
    report = _report(event, VariantState.PUBLISHED)
    return replace(report, remote_id=remote_id, remote_url=url, segments=segments)


def _failed(event: Event[DeliveryFailed]) -> DeliveryReport:
    message = event.message
    failure = _sanitize(_reason(message.network_message, message.detail))
    kind = names_of(FailureKind.DESCRIPTOR)[message.kind]
    report = replace(_report(event, VariantState.FAILED), failure=failure or kind, failure_kind=kind)
    return _with_segments(report, message)


def _reason(network_message: str, detail: str) -> str:
    """Returns the network's words, and ours about them in brackets."""
    return f"{network_message} ({detail})" if network_message and detail else network_message or detail


def _unknown(event: Event[DeliveryUnknown]) -> DeliveryReport:
    message = event.message
    failure = _sanitize((NEEDS_PERSON if message.needs_person else "") + message.reason)
    return _with_segments(replace(_report(event, VariantState.UNKNOWN), failure=failure), message)


def _missed(event: Event[DeliveryMissed]) -> DeliveryReport:
    return replace(_report(event, VariantState.MISSED), failure=_sanitize(event.message.reason))


def _with_segments(
    report: DeliveryReport, message: DeliveryFailed | DeliveryUnknown | DeliveryProcessing
) -> DeliveryReport:
    segments = _segments(message.segments)
    if not segments:
        return report
    return replace(report, remote_id=segments[0][0], remote_url=segments[0][1], segments=segments)


def _segments(segments: Iterable[RemoteSegment]) -> tuple[tuple[str, str], ...]:
    return tuple((_sanitize(segment.remote_id), _sanitize(segment.remote_url)) for segment in segments)


def _report(event: Event[DeliveryEvent], state: VariantState) -> DeliveryReport:
    message = event.message
    return DeliveryReport(
        workspace_id=event.workspace_id,
        post_id=parse_id(POST, message.post_id),
        channel_id=parse_id(CHANNEL, message.channel_id),
        revision=message.revision,
        state=state,
        time=event.time,
        traceparent=event.traceparent,
        delivery_id=_sanitize(message.delivery_id),
    )


_GONE = Columns("gone", workspace_id="uuid", post_id="uuid", channel_id="uuid", time="timestamptz")

_REMOVE = text(
    f"""
    UPDATE variant SET remove_time = gone.time FROM {_GONE.unnest}
    JOIN post ON post.id = gone.post_id AND post.workspace_id = gone.workspace_id
    WHERE variant.post_id = gone.post_id AND variant.channel_id = gone.channel_id AND variant.remove_time IS NULL
    """
)
