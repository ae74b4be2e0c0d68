"""Accounts with opened credentials, and the renewal of tokens: once, however many workers find them expired.

Secrets stay in this process's memory between deliveries, under the version that they were sealed with.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from regie_chassis.clock import Clock
from regie_chassis.database import Database, is_transient
from regie_chassis.ids import CHANNEL, show_id
from sqlalchemy import text

from regie_publisher.channels import sealed_of
from regie_publisher.connectors.connector import Account, FailureKind, Refused, check_secrets
from regie_publisher.sealing import Keyring, NotOpened, Place

REFRESH_LEASE = timedelta(seconds=60)
SAVE_WITHIN = timedelta(seconds=50)
"""Renewed secrets are worth keeping on trying for: most networks have already revoked the old ones."""
LOOK_EVERY = timedelta(milliseconds=100)
REMEMBERED = 10_000

log = structlog.get_logger()
Renew = Callable[[Mapping[str, str]], Awaitable[Mapping[str, str]]]


@dataclass(slots=True)
class _Opened:
    """What this process knows of a channel."""

    workspace_id: UUID
    version: int
    account: Account
    secrets: Mapping[str, str]


class ChannelGone(Refused):
    """The channel was disconnected, so there is nothing to send with."""

    def __init__(self) -> None:
        super().__init__(FailureKind.AUTH_EXPIRED, "the channel is disconnected; connect it again")


class Accounts:
    """Opens accounts by channel. One for each process."""

    def __init__(self, database: Database, keyring: Keyring, clock: Clock, *, worker: str) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._worker = worker
        self._opened: OrderedDict[UUID, _Opened] = OrderedDict()
        self._refreshing: dict[UUID, asyncio.Task[Mapping[str, str]]] = {}

    async def open(self, channel_ids: Sequence[UUID]) -> None:
        """Brings what is known of channels up to date, with one query however many they are."""
        known = [(id_, self._opened[id_].version) for id_ in set(channel_ids) if id_ in self._opened]
        async with self._database.reading() as session:
            rows = await session.execute(
                text(
                    "SELECT channel.* FROM channel"
                    " LEFT JOIN unnest(CAST(:known AS uuid[]), CAST(:versions AS bigint[])) AS k (id, version)"
                    " ON k.id = channel.id"
                    " WHERE channel.id = ANY(CAST(:ids AS uuid[])) AND k.version IS DISTINCT FROM channel.version"
                ),
                {
                    "ids": list(set(channel_ids)),
                    "known": [id_ for id_, _ in known],
                    "versions": [version for _, version in known],
                },
            )
            for row in rows:
                self._note(row)

    def account(self, channel_id: UUID) -> Account:
        """Returns an opened account. Raises ChannelGone, or NotOpened."""
        opened = self._opened.get(channel_id)
        if opened is None:
            raise ChannelGone
        if not opened.secrets:
            raise NotOpened(f"the secrets of {show_id(CHANNEL, channel_id)} cannot be opened; connect it again")
        self._opened.move_to_end(channel_id)
        return opened.account

    def version(self, channel_id: UUID) -> int | None:
        """Returns the version of the secrets that this process would use now."""
        opened = self._opened.get(channel_id)
        return opened.version if opened else None

    def secrets(self, channel_id: UUID) -> Mapping[str, str]:
        """Returns the newest secrets known to this process. Raises ChannelGone."""
        opened = self._opened.get(channel_id)
        if opened is None:
            raise ChannelGone
        return opened.secrets

    async def refresh(self, channel_id: UUID, used: Mapping[str, str], renew: Renew) -> Mapping[str, str]:
        """Renews secrets once for all callers; see `Credentials.refresh`.

        The renewal is a task of its own: a caller that is cut off by its time limit must not tear it from between
        the network's answer and its being saved.
        """
        if self.secrets(channel_id) != used:
            return self.secrets(channel_id)
        task = self._refreshing.get(channel_id)
        if task is None:
            task = asyncio.create_task(self._refresh(channel_id, dict(used), renew), name="refresh")
            self._refreshing[channel_id] = task
            task.add_done_callback(lambda done: self._forget(channel_id, done))
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Waits until renewals on their way are saved."""
        if self._refreshing:
            await asyncio.wait(list(self._refreshing.values()))

    def _forget(self, channel_id: UUID, task: asyncio.Task[Mapping[str, str]]) -> None:
        self._refreshing.pop(channel_id, None)
        if not task.cancelled():
            task.exception()  # its callers have it; with none left, it is no surprise to anyone

    async def _refresh(self, channel_id: UUID, used: Mapping[str, str], renew: Renew) -> Mapping[str, str]:
        async with asyncio.timeout(REFRESH_LEASE.total_seconds() * 2):
            while not await self._lease(channel_id, used):
                if self.secrets(channel_id) != used:
                    return self.secrets(channel_id)
                await asyncio.sleep(LOOK_EVERY.total_seconds())
        try:
            renewed = dict(await renew(used))
            check_secrets(renewed)
        except BaseException:
            await self._release(channel_id)
            raise
        return await self._save(channel_id, renewed)

    async def _lease(self, channel_id: UUID, used: Mapping[str, str]) -> bool:
        """Takes the row's refresh lease if the secrets are still the used ones. Reads them anew otherwise."""
        await self.open([channel_id])
        if self.secrets(channel_id) != used:
            return False
        now = self._clock.now()
        async with self._database.transaction() as session:
            rows = await session.execute(
                text(
                    "UPDATE channel SET refresh_worker = :worker, refresh_expire_time = :until"
                    " WHERE id = :id AND version = :version"
                    " AND (refresh_expire_time IS NULL OR refresh_expire_time <= :now) RETURNING id"
                ),
                {
                    "id": channel_id,
                    "version": self._opened[channel_id].version,
                    "worker": self._worker,
                    "now": now,
                    "until": now + REFRESH_LEASE,
                },
            )
            return rows.one_or_none() is not None

    async def _save(self, channel_id: UUID, renewed: Mapping[str, str]) -> Mapping[str, str]:
        opened = self._opened[channel_id]
        place = Place(opened.workspace_id, channel_id, opened.version + 1)
        sealed = self._keyring.seal(renewed, place)
        deadline = asyncio.get_running_loop().time() + SAVE_WITHIN.total_seconds()
        while True:
            try:
                async with self._database.transaction() as session:
                    await session.execute(
                        text(
                            "UPDATE channel SET key_id = :key_id, data_key = :data_key, secrets = :secrets,"
                            " version = version + 1, refresh_worker = NULL, refresh_expire_time = NULL"
                            " WHERE id = :id AND version = :version"
                        ),
                        {
                            "id": channel_id,
                            "version": opened.version,
                            "key_id": sealed.key_id,
                            "data_key": sealed.data_key,
                            "secrets": sealed.secrets,
                        },
                    )
                break
            except Exception as error:
                if not is_transient(error) or asyncio.get_running_loop().time() > deadline:
                    raise
                log.warning("credentials.save_waits_for_database", channel=show_id(CHANNEL, channel_id))
                await asyncio.sleep(LOOK_EVERY.total_seconds())
        # Whoever won (ours, or a person who connected the account anew in between), the row is what counts.
        await self.open([channel_id])
        return self.secrets(channel_id)

    async def _release(self, channel_id: UUID) -> None:
        try:
            async with self._database.transaction() as session:
                await session.execute(
                    text(
                        "UPDATE channel SET refresh_worker = NULL, refresh_expire_time = NULL"
                        " WHERE id = :id AND refresh_worker = :worker"
                    ),
                    {"id": channel_id, "worker": self._worker},
                )
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("credentials.lease_left_to_expire", channel=show_id(CHANNEL, channel_id))

    def _note(self, row: Any) -> None:
        if row.state == "disconnected":
            self._opened.pop(row.id, None)
            return
        try:
            secrets: Mapping[str, str] = self._keyring.open(
                sealed_of(row), Place(row.workspace_id, row.id, row.version)
            )
        except NotOpened as error:
            log.error("credentials.not_opened", channel=show_id(CHANNEL, row.id), reason=str(error))
            secrets = {}
        account = Account(row.server_url, row.remote_id, row.handle, ChannelCredentials(self, row.id))
        self._opened[row.id] = _Opened(row.workspace_id, row.version, account, secrets)
        if len(self._opened) > REMEMBERED:
            self._opened.popitem(last=False)


class ChannelCredentials:
    """The secrets of one channel as connectors see them (`Credentials`)."""

    def __init__(self, accounts: Accounts, channel_id: UUID) -> None:
        self._accounts = accounts
        self._channel_id = channel_id

    @property
    def secrets(self) -> Mapping[str, str]:
        return self._accounts.secrets(self._channel_id)

    async def refresh(self, used: Mapping[str, str], renew: Renew) -> Mapping[str, str]:
        return await self._accounts.refresh(self._channel_id, used, renew)
