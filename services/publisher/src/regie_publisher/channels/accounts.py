"""Accounts with opened credentials, and the renewal of tokens: once, however many workers find them expired.

Secrets stay in this process's memory between deliveries, under the version that they were sealed with. What is not in
memory is loaded; only the row says that a channel is disconnected (ADR 0018).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

import structlog
from regie_chassis.clock import Clock
from regie_chassis.database import Database
from regie_chassis.ids import CHANNEL, show_id
from regie_chassis.loops import tolerate_outage, try_through_outage
from regie_networks.contract import check_secrets
from regie_networks.draft import Account
from regie_networks.errors import FailureKind, NotSent, OutcomeUnknown, Refused, Unacceptable
from sqlalchemy import text

from regie_publisher.channels import sealed_of
from regie_publisher.sealing import Keyring, NotOpened, Place

REFRESH_LEASE = timedelta(seconds=60)
SAVE_WITHIN = timedelta(seconds=50)
"""Renewed secrets are worth keeping on trying for: most networks have already revoked the old ones."""
LOOK_EVERY = timedelta(milliseconds=100)
WAIT = timedelta(seconds=8)
"""A caller waits so long for a renewal. With the call that was refused before it, that is less than a publish may take:
what was refused had no effect, and it must not end as a call that was cut off."""
LOST_RENEWAL_PAUSES = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
)
"""After a renewal without an answer. The same token is offered again a few times, never in a loop: a network that
takes a second use for theft revokes everything, one with a grace (Bluesky: two hours) answers as the first time."""
MAX_CHANNELS = 10_000
"""Channels kept in memory between deliveries; those used longest ago leave first and are loaded again when needed."""

log = structlog.get_logger()
Renew = Callable[[Mapping[str, str]], Awaitable[Mapping[str, str]]]


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Opened:
    """A channel as this process knows it; brought up to date in place, so that attempts under way see it too."""

    channel_id: UUID
    workspace_id: UUID
    version: int = 0
    server_url: str = ""
    remote_id: str = ""
    handle: str = ""
    secrets: Mapping[str, str] | None = None
    """None where the sealed secrets do not open."""
    disconnected: bool = False

    def require_secrets(self) -> Mapping[str, str]:
        """Returns the secrets. Raises ChannelGone or NotOpened."""
        if self.disconnected:
            raise ChannelGone
        if self.secrets is None:
            raise NotOpened(f"the secrets of {show_id(CHANNEL, self.channel_id)} cannot be opened; connect it again")
        return self.secrets


class ChannelGone(Unacceptable):
    """The channel was disconnected, so there is nothing to send with."""

    def __init__(self) -> None:
        super().__init__(FailureKind.AUTH_EXPIRED, "the channel is disconnected; connect it again")


class RenewalWaits(NotSent):
    """The last renewal had no answer, and it is too early for the next."""

    def __init__(self, until: datetime) -> None:
        super().__init__(f"the last renewal of the session had no answer; it is tried again at {until:%H:%M:%S} UTC")


class RenewalRuns(NotSent):
    """A renewal is under way, here or in another process, and has yet to be answered."""

    def __init__(self) -> None:
        super().__init__("the session is being renewed, and the network has yet to answer")


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
        self._clock = clock
        self._worker = worker
        self._max_channels = max_channels
        self._wait = wait
        self._recent: OrderedDict[UUID, _Opened] = OrderedDict()
        # What an attempt still uses stays known here after it has left `_recent`, so that a renewal reaches it.
        self._live: WeakValueDictionary[UUID, _Opened] = WeakValueDictionary()
        self._refreshing: dict[UUID, asyncio.Task[Mapping[str, str]]] = {}

    async def open(self, channel_ids: Iterable[UUID]) -> None:
        """Brings what is known of channels up to date, with one query however many they are.

        A prefetch: `account` loads what is missing. Raises the database's error.
        """
        await self._load(set(channel_ids))

    async def account(self, channel_id: UUID) -> Account:
        """Returns an opened account, loading it where it is not in memory.

        Raises ChannelGone for a disconnected channel, NotOpened, or the database's error, which says nothing of the
        channel.
        """
        opened = self._recent.get(channel_id)
        if opened is None or opened.disconnected:
            opened = (await self._load({channel_id})).get(channel_id)
        if opened is None:
            raise ChannelGone
        opened.require_secrets()
        self._keep(opened)
        return Account(opened.server_url, opened.remote_id, opened.handle, ChannelCredentials(self, opened))

    def version(self, channel_id: UUID) -> int | None:
        """Returns the version of the secrets that this process would use now; None where it has not loaded them."""
        opened = self._live.get(channel_id)
        return opened.version if opened else None

    async def refresh(self, channel_id: UUID, used: Mapping[str, str], renew: Renew) -> Mapping[str, str]:
        """Renews secrets once for all callers; see `Credentials.refresh`.

        The renewal is a task of its own: a caller that is cut off by its time limit must not tear it from between
        the network's answer and its being saved. Raises RenewalRuns where it takes longer than a caller can wait.
        """
        task = self._refreshing.get(channel_id)
        if task is None:
            task = asyncio.create_task(self._refresh(channel_id, dict(used), renew), name="refresh")
            self._refreshing[channel_id] = task
            task.add_done_callback(lambda done: self._forget(channel_id, done))
        done, _ = await asyncio.wait({task}, timeout=self._wait.total_seconds())
        if not done:
            raise RenewalRuns
        return task.result()

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
            while True:
                opened = await self._current(channel_id)
                if opened.require_secrets() != used:
                    return opened.require_secrets()
                losses = await self._lease(opened)
                if losses is not None:
                    break
                await asyncio.sleep(LOOK_EVERY.total_seconds())
        try:
            renewed = dict(await renew(used))
            check_secrets(renewed)
        except (Refused, NotSent) as error:
            await self._end_lease(channel_id)
            if losses and isinstance(error, Refused) and error.kind is FailureKind.AUTH_EXPIRED:
                words = f"{error.message} (an earlier renewal had no answer, and may have used the token up)"
                raise Refused(error.kind, words) from error
            raise
        except BaseException as error:
            # Cut off or without a usable answer: the network may have made the token useless, and may not.
            pause = LOST_RENEWAL_PAUSES[min(losses, len(LOST_RENEWAL_PAUSES) - 1)]
            await self._end_lease(channel_id, wait_until=self._clock.now() + pause)
            if isinstance(error, OutcomeUnknown | TimeoutError):
                # What the caller had asked for was refused, and is not asked again: its outcome is known.
                raise NotSent(f"the session could not be renewed: {error}") from error
            raise
        return await self._save(opened, renewed)

    async def _lease(self, opened: _Opened) -> int | None:
        """Takes the row's refresh lease, committed before the call: a crash under the renewal leaves it behind.

        Returns how many renewals before this one had no answer; None while another worker renews, or where the
        secrets have changed. Raises RenewalWaits.
        """
        now = self._clock.now()
        async with self._database.transaction() as session:
            rows = await session.execute(
                _LEASE,
                {
                    "id": opened.channel_id,
                    "version": opened.version,
                    "worker": self._worker,
                    "now": now,
                    "until": now + REFRESH_LEASE,
                },
            )
            row = rows.one()
        if row.losses is not None:
            return int(row.losses)
        until = row.refresh_expire_time
        if row.version == opened.version and row.refresh_worker is None and until is not None and until > now:
            raise RenewalWaits(until)
        return None

    async def _save(self, opened: _Opened, renewed: Mapping[str, str]) -> Mapping[str, str]:
        channel_id, version = opened.channel_id, opened.version
        sealed = self._keyring.seal(renewed, Place(opened.workspace_id, channel_id, version + 1))
        row = {"key_id": sealed.key_id, "data_key": sealed.data_key, "secrets": sealed.secrets}

        async def save() -> None:
            async with self._database.transaction() as session:
                await session.execute(_SAVE, {"id": channel_id, "version": version, **row})

        await try_through_outage(
            save,
            within=SAVE_WITHIN,
            event="credentials.save_waits_for_database",
            channel=show_id(CHANNEL, channel_id),
        )
        # Whoever won (ours, or a person who connected the account anew in between), the row is what counts.
        return (await self._current(channel_id)).require_secrets()

    async def _end_lease(self, channel_id: UUID, *, wait_until: datetime | None = None) -> None:
        """Gives the lease back; with `wait_until` the renewal is counted as lost and not repeated before."""
        with tolerate_outage("credentials.lease_left_to_expire", channel=show_id(CHANNEL, channel_id)):
            async with self._database.transaction() as session:
                await session.execute(_END_LEASE, {"id": channel_id, "worker": self._worker, "until": wait_until})

    async def _current(self, channel_id: UUID) -> _Opened:
        opened = (await self._load({channel_id})).get(channel_id)
        if opened is None:
            raise ChannelGone
        return opened

    async def _load(self, channel_ids: set[UUID]) -> dict[UUID, _Opened]:
        """Returns the channels as their rows say now; those without a row are left out."""
        known = {id_: opened for id_ in channel_ids if (opened := self._live.get(id_)) is not None}
        parameters = {
            "ids": list(channel_ids),
            "known": list(known),
            "versions": [opened.version for opened in known.values()],
        }
        async with self._database.reading() as session:
            rows = (await session.execute(_CHANGED, parameters)).all()
        loaded = known | {row.id: self._note(row) for row in rows}
        for opened in loaded.values():
            self._keep(opened)
        return loaded

    def _note(self, row: Any) -> _Opened:
        opened = self._live.get(row.id)
        if opened is None:
            opened = self._live[row.id] = _Opened(row.id, row.workspace_id)
        elif opened.version > row.version:
            return opened  # a reading that began earlier and ended later
        opened.version, opened.disconnected = row.version, row.state == "disconnected"
        opened.server_url, opened.remote_id, opened.handle = row.server_url, row.remote_id, row.handle
        opened.secrets = None if opened.disconnected else self._unseal(row)
        return opened

    def _unseal(self, row: Any) -> Mapping[str, str] | None:
        try:
            return self._keyring.open(sealed_of(row), Place(row.workspace_id, row.id, row.version))
        except NotOpened as error:
            log.error("credentials.not_opened", channel=show_id(CHANNEL, row.id), reason=str(error))
            return None

    def _keep(self, opened: _Opened) -> None:
        self._recent[opened.channel_id] = opened
        self._recent.move_to_end(opened.channel_id)
        while len(self._recent) > self._max_channels:
            self._recent.popitem(last=False)


class ChannelCredentials:
    """The secrets of one channel as connectors see them (`Credentials`)."""

    def __init__(self, accounts: Accounts, opened: _Opened) -> None:
        self._accounts = accounts
        self._opened = opened

    @property
    def secrets(self) -> Mapping[str, str]:
        return self._opened.require_secrets()

    async def refresh(self, used: Mapping[str, str], renew: Renew) -> Mapping[str, str]:
        if self.secrets != used:
            return self.secrets
        return await self._accounts.refresh(self._opened.channel_id, used, renew)


_CHANGED = text(
    """
    SELECT channel.* FROM channel
    LEFT JOIN unnest(CAST(:known AS uuid[]), CAST(:versions AS bigint[])) AS k (id, version) ON k.id = channel.id
    WHERE channel.id = ANY(CAST(:ids AS uuid[])) AND k.version IS DISTINCT FROM channel.version
    """
)
# A lease that ended with its worker still named is of a process that died: its renewal counts as lost.
_LEASE = text(
    """
    WITH taken AS (
        UPDATE channel SET refresh_worker = :worker, refresh_expire_time = :until,
            refresh_losses = refresh_losses + CAST(refresh_worker IS NOT NULL AS int)
        WHERE id = :id AND version = :version AND (refresh_expire_time IS NULL OR refresh_expire_time <= :now)
        RETURNING refresh_losses
    )
    SELECT (SELECT refresh_losses FROM taken) AS losses, version, refresh_worker, refresh_expire_time
    FROM channel WHERE id = :id
    """
)
_SAVE = text(
    """
    UPDATE channel SET key_id = :key_id, data_key = :data_key, secrets = :secrets, version = version + 1,
        refresh_worker = NULL, refresh_expire_time = NULL, refresh_losses = 0
    WHERE id = :id AND version = :version
    """
)
_END_LEASE = text(
    """
    UPDATE channel SET refresh_worker = NULL, refresh_expire_time = :until,
        refresh_losses = refresh_losses + CASE WHEN CAST(:until AS timestamptz) IS NULL THEN 0 ELSE 1 END
    WHERE id = :id AND refresh_worker = :worker
    """
)
