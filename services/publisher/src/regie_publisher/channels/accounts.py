"""Opens accounts: loads the credentials of channels and keeps them decrypted in this process's memory.

They are kept under the version that they were sealed with. A channel that is not in memory is loaded; only its row
shows that it is disconnected (ADR 0018).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

import structlog
from regie.ids.v1.prefixes import CHANNEL
from regie_chassis.boundary.ids import show_id
from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock
from regie_networks.draft import Account
from sqlalchemy import text

from regie_publisher.channels.channel import ChannelState, sealed_of
from regie_publisher.channels.opened_channel import ChannelGone, OpenedChannel
from regie_publisher.channels.renewal import WAIT, ChannelCredentials, TokenRenewal
from regie_publisher.channels.sealing import DecryptionFailed, Keyring, SealContext

MAX_CHANNELS = 10_000
"""Channels kept in memory; the least recently used leave first and are loaded again when needed."""

log = structlog.get_logger()


class Accounts:
    """Opens accounts by channel. One for each process."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        clock: Clock,
        *,
        worker: str,
        max_channels: int = MAX_CHANNELS,
        wait: timedelta = WAIT,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._max_channels = max_channels
        self.renewal = TokenRenewal(database, keyring, clock, worker=worker, wait=wait, current=self._current)
        self._recent: OrderedDict[UUID, OpenedChannel] = OrderedDict()
        # A channel that an attempt still uses stays here after it has left `_recent`, so that a renewal reaches it.
        self._live: WeakValueDictionary[UUID, OpenedChannel] = WeakValueDictionary()

    async def open(self, channel_ids: Iterable[UUID]) -> None:
        """Refreshes the channels in memory from their rows, with one query for all.

        This is a prefetch: `account` loads a missing channel. Raises the database's error.
        """
        await self._load(set(channel_ids))

    async def account(self, channel_id: UUID) -> Account:
        """Returns an opened account, and loads it if it is not in memory.

        Raises ChannelGone for a disconnected channel, DecryptionFailed, or the database's error, which is no verdict
        on the channel.
        """
        opened = self._recent.get(channel_id)
        if opened is None or opened.disconnected:
            opened = (await self._load({channel_id})).get(channel_id)
        if opened is None:
            raise ChannelGone
        opened.require_secrets()
        self._keep(opened)
        return Account(opened.server_url, opened.remote_id, opened.handle, ChannelCredentials(self.renewal, opened))

    def version(self, channel_id: UUID) -> int | None:
        """Returns the version of the secrets in memory; None if they are not loaded."""
        opened = self._live.get(channel_id)
        return opened.version if opened else None

    async def _current(self, channel_id: UUID) -> OpenedChannel:
        opened = (await self._load({channel_id})).get(channel_id)
        if opened is None:
            raise ChannelGone
        return opened

    async def _load(self, channel_ids: set[UUID]) -> dict[UUID, OpenedChannel]:
        """Returns the channels as their rows are now; channels without a row are left out."""
        known = {id_: opened for id_ in channel_ids if (opened := self._live.get(id_)) is not None}
        parameters = {
            "ids": list(channel_ids),
            "known": list(known),
            "versions": [opened.version for opened in known.values()],
        }
        async with self._database.reading() as session:
            rows = (await session.execute(_CHANGED, parameters)).all()
        loaded = known | {row.id: self._update(row) for row in rows}
        for opened in loaded.values():
            self._keep(opened)
        return loaded

    def _update(self, row: Any) -> OpenedChannel:
        opened = self._live.get(row.id)
        if opened is None:
            opened = self._live[row.id] = OpenedChannel(row.id, row.workspace_id)
        elif opened.version > row.version:
            return opened  # this query began before a later version was read
        opened.version, opened.disconnected = row.version, row.state == ChannelState.DISCONNECTED
        opened.server_url, opened.remote_id, opened.handle = row.server_url, row.remote_id, row.handle
        opened.secrets = None if opened.disconnected else self._unseal(row)
        return opened

    def _unseal(self, row: Any) -> Mapping[str, str] | None:
        try:
            return self._keyring.open(sealed_of(row), SealContext(row.workspace_id, row.id, row.version))
        except DecryptionFailed as error:
            log.error("credentials.not_opened", channel=show_id(CHANNEL, row.id), reason=str(error))
            return None

    def _keep(self, opened: OpenedChannel) -> None:
        self._recent[opened.channel_id] = opened
        self._recent.move_to_end(opened.channel_id)
        while len(self._recent) > self._max_channels:
            self._recent.popitem(last=False)


_CHANGED = text(
    """
    SELECT channel.* FROM channel
    LEFT JOIN unnest(CAST(:known AS uuid[]), CAST(:versions AS bigint[])) AS k (id, version) ON k.id = channel.id
    WHERE channel.id = ANY(CAST(:ids AS uuid[])) AND k.version IS DISTINCT FROM channel.version
    """
)
