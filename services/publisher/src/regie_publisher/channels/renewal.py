"""Renews expired tokens: once for each channel, however many workers find them expired."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from regie.ids.v1.prefixes import CHANNEL
from regie_chassis.boundary.ids import show_id
from regie_chassis.data.database import Database
from regie_chassis.process.clock import Clock
from regie_chassis.process.loops import tolerate_outage, try_through_outage
from regie_networks.contract import check_secrets
from regie_networks.errors import FailureKind, NotSent, OutcomeUnknown, Refused
from sqlalchemy import text

from regie_publisher.channels.opened_channel import OpenedChannel
from regie_publisher.channels.sealing import Keyring, SealContext

REFRESH_LEASE = timedelta(seconds=60)
SAVE_WITHIN = timedelta(seconds=50)
"""Saving renewed secrets is repeated this long: most networks have already revoked the old ones."""
POLL_INTERVAL = timedelta(milliseconds=100)
WAIT = timedelta(seconds=8)
"""The time that a caller waits for a renewal. Together with the refused call before it, this is less than a publish may
take: a refused call had no effect, and must not end as a call that was cut off."""
LOST_RENEWAL_PAUSES = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
)
"""Pauses after renewals without an answer. The same token is offered again a few times, never in a loop: some networks
take a second use for theft and revoke everything, others (Bluesky, for two hours) repeat their first answer."""

Renew = Callable[[Mapping[str, str]], Awaitable[Mapping[str, str]]]
"""A connector's call that exchanges secrets for new ones."""


class RenewalWaits(NotSent):
    """The last renewal had no answer, and it is too early for the next."""

    def __init__(self, until: datetime) -> None:
        super().__init__(f"the last renewal of the session had no answer; it is tried again at {until:%H:%M:%S} UTC")


class RenewalRuns(NotSent):
    """A renewal is under way, here or in another process, and has yet to be answered."""

    def __init__(self) -> None:
        super().__init__("the session is being renewed, and the network has yet to answer")


class TokenRenewal:
    """Renews the secrets of channels. One for each process; `current` reads a channel as its row is now."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        clock: Clock,
        *,
        worker: str,
        wait: timedelta,
        current: Callable[[UUID], Awaitable[OpenedChannel]],
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._worker = worker
        self._wait = wait
        self._current = current
        self._refreshing: dict[UUID, asyncio.Task[Mapping[str, str]]] = {}

    async def refresh(self, channel_id: UUID, used: Mapping[str, str], renew: Renew) -> Mapping[str, str]:
        """Renews secrets once for all callers; see `Credentials.refresh`.

        The renewal is a task of its own: a caller's time limit must not cancel it between the network's answer and the
        commit. Raises RenewalRuns if it takes longer than a caller can wait.
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
        """Waits until renewals under way are saved."""
        if self._refreshing:
            await asyncio.wait(list(self._refreshing.values()))

    def _forget(self, channel_id: UUID, task: asyncio.Task[Mapping[str, str]]) -> None:
        self._refreshing.pop(channel_id, None)
        if not task.cancelled():
            task.exception()  # its callers have received it; without callers, nobody needs it

    async def _refresh(self, channel_id: UUID, used: Mapping[str, str], renew: Renew) -> Mapping[str, str]:
        async with asyncio.timeout(REFRESH_LEASE.total_seconds() * 2):
            while True:
                opened = await self._current(channel_id)
                if opened.require_secrets() != used:
                    return opened.require_secrets()
                losses = await self._lease(opened)
                if losses is not None:
                    break
                await asyncio.sleep(POLL_INTERVAL.total_seconds())
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
            # Cut off or without a usable answer: the network may or may not have revoked the token.
            pause = LOST_RENEWAL_PAUSES[min(losses, len(LOST_RENEWAL_PAUSES) - 1)]
            await self._end_lease(channel_id, wait_until=self._clock.now() + pause)
            if isinstance(error, OutcomeUnknown | TimeoutError):
                # The caller's own call was refused and is not repeated: its outcome is known.
                raise NotSent(f"the session could not be renewed: {error}") from error
            raise
        return await self._save(opened, renewed)

    async def _lease(self, opened: OpenedChannel) -> int | None:
        """Takes the row's refresh lease and commits it before the call: a crash during the renewal leaves it behind.

        Returns the number of earlier renewals without an answer; None while another worker renews, or if the secrets
        have changed. Raises RenewalWaits.
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

    async def _save(self, opened: OpenedChannel, renewed: Mapping[str, str]) -> Mapping[str, str]:
        channel_id, version = opened.channel_id, opened.version
        sealed = self._keyring.seal(renewed, SealContext(opened.workspace_id, channel_id, version + 1))
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
        # The row counts: a person may have connected the account anew in between.
        return (await self._current(channel_id)).require_secrets()

    async def _end_lease(self, channel_id: UUID, *, wait_until: datetime | None = None) -> None:
        """Releases the lease; with `wait_until` the renewal counts as lost and is not repeated before that time."""
        with tolerate_outage("credentials.lease_left_to_expire", channel=show_id(CHANNEL, channel_id)):
            async with self._database.transaction() as session:
                await session.execute(_END_LEASE, {"id": channel_id, "worker": self._worker, "until": wait_until})


class ChannelCredentials:
    """The secrets of one channel as connectors see them (`Credentials`)."""

    def __init__(self, renewal: TokenRenewal, opened: OpenedChannel) -> None:
        self._renewal = renewal
        self._opened = opened

    @property
    def secrets(self) -> Mapping[str, str]:
        return self._opened.require_secrets()

    async def refresh(self, used: Mapping[str, str], renew: Renew) -> Mapping[str, str]:
        if self.secrets != used:
            return self.secrets
        return await self._renewal.refresh(self._opened.channel_id, used, renew)


# A lease that expired with its worker still named belongs to a process that died: its renewal counts as lost.
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
