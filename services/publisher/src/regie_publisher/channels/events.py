"""Builds and stages the events about channels."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

from regie.ids.v1.prefixes import CHANNEL
from regie.publisher.events.v1.publisher_events_pb2 import (
    ChannelBlocked,
    ChannelConnected,
    ChannelDisconnected,
    ChannelNeedsAttention,
    ChannelRecovered,
    ChannelShared,
)
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.timestamps import timestamp
from regie_chassis.events.outbox import fitting, stage
from sqlalchemy.ext.asyncio import AsyncSession


class ChannelRow(Protocol):
    """The columns of `channel` that every event about a channel needs."""

    @property
    def id(self) -> UUID: ...
    @property
    def workspace_id(self) -> UUID: ...
    @property
    def network(self) -> str: ...


def stage_connected(session: AsyncSession, channel: ChannelRow, *, handle: str, shared: bool, time: datetime) -> None:
    """Stages ChannelConnected; `shared` means that another workspace has connected the same account."""
    message = ChannelConnected(
        channel_id=show_id(CHANNEL, channel.id), network=channel.network, handle=handle, shared=shared
    )
    stage(session, message, workspace_id=channel.workspace_id, time=time)


def stage_shared(session: AsyncSession, channel: ChannelRow, *, time: datetime) -> None:
    """Stages ChannelShared for the channel of another workspace with the same account."""
    message = ChannelShared(channel_id=show_id(CHANNEL, channel.id), network=channel.network)
    stage(session, message, workspace_id=channel.workspace_id, time=time)


def stage_disconnected(session: AsyncSession, channel: ChannelRow, *, time: datetime) -> None:
    """Stages ChannelDisconnected."""
    message = ChannelDisconnected(channel_id=show_id(CHANNEL, channel.id))
    stage(session, message, workspace_id=channel.workspace_id, time=time)


def stage_blocked(
    session: AsyncSession,
    channel: ChannelRow,
    *,
    until: datetime,
    requested_until: datetime,
    time: datetime,
    traceparent: str,
) -> None:
    """Stages ChannelBlocked."""
    message = ChannelBlocked(
        channel_id=show_id(CHANNEL, channel.id),
        network=channel.network,
        blocked_until_time=timestamp(until),
        requested_until_time=timestamp(requested_until),
    )
    stage(session, message, workspace_id=channel.workspace_id, time=time, traceparent=traceparent)


def stage_needs_attention(
    session: AsyncSession, channel: ChannelRow, *, reason: str, time: datetime, traceparent: str
) -> None:
    """Stages ChannelNeedsAttention with the network's words as the reason."""
    message = ChannelNeedsAttention(channel_id=show_id(CHANNEL, channel.id), network=channel.network, reason=reason)
    stage(session, fitting(message), workspace_id=channel.workspace_id, time=time, traceparent=traceparent)


def stage_recovered(session: AsyncSession, channel: ChannelRow, *, time: datetime) -> None:
    """Stages ChannelRecovered."""
    message = ChannelRecovered(channel_id=show_id(CHANNEL, channel.id), network=channel.network)
    stage(session, message, workspace_id=channel.workspace_id, time=time)
