"""A channel with decrypted credentials, as this process keeps it in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from regie.ids.v1.prefixes import CHANNEL
from regie_chassis.boundary.ids import show_id
from regie_networks.errors import FailureKind, Unacceptable

from regie_publisher.channels.sealing import DecryptionFailed


class ChannelGone(Unacceptable):
    """The channel was disconnected, so that it has no credentials to send with."""

    def __init__(self) -> None:
        super().__init__(FailureKind.AUTH_EXPIRED, "the channel is disconnected; connect it again")


@dataclass(slots=True, weakref_slot=True, eq=False)
class OpenedChannel:
    """A channel in this process's memory. It is updated in place, so that attempts under way see a renewal too."""

    channel_id: UUID
    workspace_id: UUID
    version: int = 0
    server_url: str = ""
    remote_id: str = ""
    handle: str = ""
    secrets: Mapping[str, str] | None = None
    """None where the sealed secrets cannot be decrypted."""
    disconnected: bool = False

    def require_secrets(self) -> Mapping[str, str]:
        """Returns the secrets. Raises ChannelGone or DecryptionFailed."""
        if self.disconnected:
            raise ChannelGone
        if self.secrets is None:
            message = f"the secrets of {show_id(CHANNEL, self.channel_id)} cannot be opened; connect it again"
            raise DecryptionFailed(message)
        return self.secrets
