"""A channel without its secrets: one account, connected in one workspace (ADR 0018)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from regie_chassis.boundary.errors import NotFound

from regie_publisher.channels.sealing import Sealed


class ChannelState(StrEnum):
    """The state of a channel. The contract's enum has the same names."""

    ACTIVE = "active"
    NEEDS_ATTENTION = "needs_attention"
    DISCONNECTED = "disconnected"


class ChannelNotFound(NotFound):
    """The workspace has no such channel."""

    def __init__(self) -> None:
        super().__init__("there is no such channel in this workspace")


@dataclass(frozen=True, slots=True)
class Channel:
    """A connected account. `shared` means that another workspace has connected it too."""

    id: UUID
    network: str
    server_url: str
    remote_id: str
    handle: str
    display_name: str
    state: ChannelState
    attention: str
    create_time: datetime
    block_time: datetime | None
    shared: bool


def to_channel(row: Any, *, shared: bool) -> Channel:
    """Returns a row of `channel` without its secrets."""
    return Channel(
        row.id,
        row.network,
        row.server_url,
        row.remote_id,
        row.handle,
        row.display_name,
        ChannelState(row.state),
        row.attention,
        row.create_time,
        row.block_time,
        shared,
    )


def sealed_of(row: Any) -> Sealed:
    """Returns the sealed secrets of a row of `channel`."""
    return Sealed(row.key_id, row.data_key, row.secrets)
