"""Builds and stages the events about deliveries: the only place that knows their messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from google.protobuf.message import Message
from regie.ids.v1.prefixes import CHANNEL, DELIVERY, POST
from regie.publisher.events.v1 import publisher_events_pb2 as pb
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.timestamps import timestamp
from regie_chassis.events.outbox import fitting, stage
from regie_networks.draft import Remote
from regie_networks.errors import FailureKind
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.deliveries.delivery import Outcome, State
from regie_publisher.deliveries.telemetry import log_end

SOURCES = {
    FailureKind.AUTH_EXPIRED: pb.FAILURE_SOURCE_USER,
    FailureKind.CONTENT_REJECTED: pb.FAILURE_SOURCE_USER,
    FailureKind.DUPLICATE_CONTENT: pb.FAILURE_SOURCE_USER,
    FailureKind.MEDIA_REJECTED: pb.FAILURE_SOURCE_USER,
    FailureKind.UNSUPPORTED: pb.FAILURE_SOURCE_USER,
    FailureKind.RATE_LIMITED: pb.FAILURE_SOURCE_PLATFORM,
    FailureKind.NETWORK_UNREACHABLE: pb.FAILURE_SOURCE_PLATFORM,
    FailureKind.PLATFORM_ERROR: pb.FAILURE_SOURCE_PLATFORM,
    FailureKind.INTERNAL: pb.FAILURE_SOURCE_SYSTEM,
}
"""The party that has to act on a failure."""
FAILURE_KINDS = {kind: pb.FailureKind.Value(f"FAILURE_KIND_{kind.name}") for kind in FailureKind}


class DeliveryRow(Protocol):
    """The columns of `delivery` that its events need; claimed deliveries have them too."""

    @property
    def id(self) -> UUID: ...
    @property
    def workspace_id(self) -> UUID: ...
    @property
    def post_id(self) -> UUID: ...
    @property
    def channel_id(self) -> UUID: ...
    @property
    def revision(self) -> int: ...
    @property
    def network(self) -> str: ...
    @property
    def attempt_number(self) -> int: ...


def stage_outcome(
    session: AsyncSession,
    delivery: DeliveryRow,
    outcome: Outcome,
    *,
    time: datetime,
    traceparent: str,
    segment_count: int = 0,
    remotes: Sequence[Remote] = (),
) -> None:
    """Stages the event of an outcome and logs an ended delivery, unless the outcome is not announced.

    `remotes` are all public segments. States without an event stage nothing.
    """
    if not outcome.announce:
        return
    log_end(session, delivery, outcome, traceparent=traceparent)
    message = _to_message(delivery, outcome, segment_count, remotes, time)
    if message is not None:
        # An outcome at a network is recorded whatever the network said about it: long texts are cut.
        stage(session, fitting(message), workspace_id=delivery.workspace_id, time=time, traceparent=traceparent)


def _to_message(
    delivery: DeliveryRow, outcome: Outcome, segment_count: int, remotes: Sequence[Remote], time: datetime
) -> Message | None:
    ids: dict[str, Any] = {
        "delivery_id": show_id(DELIVERY, delivery.id),
        "post_id": show_id(POST, delivery.post_id),
        "channel_id": show_id(CHANNEL, delivery.channel_id),
        "revision": delivery.revision,
    }
    segments: dict[str, Any] = {
        "segments": [pb.RemoteSegment(remote_id=remote.id, remote_url=remote.url) for remote in remotes],
        "segment_count": segment_count,
    }
    match outcome.state:
        case State.PUBLISHED:
            return _to_published(delivery, remotes, time, ids | segments)
        case State.FAILED:
            return _to_failed(delivery, outcome, ids | segments)
        case State.UNKNOWN:
            return _to_unknown(outcome, ids | segments)
        case State.MISSED:
            return pb.DeliveryMissed(**ids, reason=outcome.detail)
        case State.CANCELLED:
            return pb.DeliveryCancelled(**ids)
        case State.PROCESSING:
            return pb.DeliveryProcessing(**ids, **segments)
        case State.PUBLISHING | State.PENDING if outcome.remote is not None:
            return pb.DeliveryProcessing(**ids, **segments)
        case _:
            return None


def _to_published(
    delivery: DeliveryRow, remotes: Sequence[Remote], time: datetime, fields: dict[str, Any]
) -> pb.PostPublished:
    return pb.PostPublished(
        **fields,
        network=delivery.network,
        remote_id=remotes[0].id if remotes else "",
        remote_url=remotes[0].url if remotes else "",
        publish_time=timestamp(time),
        attempt=delivery.attempt_number,
    )


def _to_failed(delivery: DeliveryRow, outcome: Outcome, fields: dict[str, Any]) -> pb.DeliveryFailed:
    assert outcome.failure_kind is not None
    return pb.DeliveryFailed(
        **fields,
        kind=FAILURE_KINDS[outcome.failure_kind],
        source=SOURCES[outcome.failure_kind],
        network_message=outcome.message,
        detail=outcome.detail,
        attempt=delivery.attempt_number,
    )


def _to_unknown(outcome: Outcome, fields: dict[str, Any]) -> pb.DeliveryUnknown:
    return pb.DeliveryUnknown(
        **fields,
        reason=outcome.message,
        needs_person=outcome.needs_person,
        call_end_time=timestamp(outcome.call_end),
        quiet_end_time=timestamp(outcome.quiet_end),
        next_look_time=timestamp(outcome.next_action_time),
    )
