"""Wakes the due loop when an earlier post appears, on every replica.

Inside the process the wake-up follows the commit; between replicas PostgreSQL's LISTEN/NOTIFY carries it. Without a
listening connection (it is lost, or looks alive and is not) the due loop polls every second instead.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

import asyncpg
import structlog
from regie_chassis.data.database import BROKEN_CONNECTION, Database, after_commit
from regie_chassis.process.clock import Clock
from regie_chassis.process.loops import Wakeup
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession

CHANNEL = "post_scheduled"
MAX_SLEEP = timedelta(seconds=60)
POLL_EVERY = timedelta(seconds=1)  # without a listening connection
# A later post is claimed after the longest sleep. The rest is room for a slow commit: NOTIFY takes a
# lock that all commits of the database share, so that it must not be sent for every post.
NOTIFY_WITHIN = MAX_SLEEP + timedelta(seconds=30)
KEEPALIVE = timedelta(seconds=1)
KEEPALIVE_TIMEOUT = 2.0  # seconds
CONNECT_TIMEOUT = 5.0  # seconds
RECONNECT_PAUSE = timedelta(seconds=1)

log = structlog.get_logger()


class DueWakeup(Wakeup):
    """Wakes the due loop for posts that leave before the end of its pause."""

    def __init__(self) -> None:
        super().__init__()
        self.listening = False
        self._wake_time: datetime | None = None

    def clear(self) -> None:
        """Forgets earlier wake-ups; called before each claim, so that a later one is not lost."""
        super().clear()
        self._wake_time = None

    def sleep_until(self, wake_time: datetime) -> None:
        """From now on only posts earlier than `wake_time` wake the loop."""
        self._wake_time = wake_time

    def notify(self, publish_time: datetime | None = None) -> None:
        """Wakes the loop, unless it wakes before `publish_time` anyway."""
        if publish_time is None or self._wake_time is None or publish_time < self._wake_time:
            self.set()

    @property
    def max_sleep(self) -> timedelta:
        """The longest pause of the due loop."""
        return MAX_SLEEP if self.listening else POLL_EVERY


async def notify_replicas(session: AsyncSession, wakeup: DueWakeup, publish_time: datetime, *, now: datetime) -> None:
    """Sends a post's time to all replicas with the commit of the session, where it is near enough to matter."""
    if publish_time > now + NOTIFY_WITHIN:
        return
    await session.execute(_NOTIFY, {"channel": CHANNEL, "time": publish_time.isoformat()})
    after_commit(session, lambda: wakeup.notify(publish_time))


class Listener:
    """Keeps one listening connection, and opens it again whenever it is lost."""

    name = "post_scheduled listener"

    def __init__(self, database: Database, wakeup: DueWakeup, clock: Clock) -> None:
        self._url = database.url
        self._wakeup = wakeup
        self._clock = clock

    async def run(self, stopping: asyncio.Event) -> None:
        """Listens until told to stop."""
        while not stopping.is_set():
            try:
                await self._listen(stopping)
            except (OSError, TimeoutError, asyncpg.PostgresError, *BROKEN_CONNECTION) as error:
                log.warning("listener.lost", error=type(error).__name__)
            finally:
                self._wakeup.listening = False
                self._wakeup.notify()
            await self._clock.wait(stopping, RECONNECT_PAUSE)

    async def _listen(self, stopping: asyncio.Event) -> None:
        dsn = make_url(self._url).set(drivername="postgresql").render_as_string(hide_password=False)
        connection = await asyncpg.connect(
            dsn, timeout=CONNECT_TIMEOUT, server_settings={"application_name": "scheduler-listener"}
        )
        ended = Wakeup()
        try:
            async with ended.tied_to(stopping):
                connection.add_termination_listener(lambda _: ended.set())
                await connection.add_listener(CHANNEL, self._on_notification)
                self._wakeup.listening = True
                self._wakeup.notify()  # for posts that were scheduled without a listener
                while not await self._clock.wait(ended, KEEPALIVE):
                    await connection.fetchval("SELECT 1", timeout=KEEPALIVE_TIMEOUT)
        finally:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, *BROKEN_CONNECTION):
                await connection.remove_listener(CHANNEL, self._on_notification)
                await connection.close(timeout=2)

    def _on_notification(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        try:
            self._wakeup.notify(datetime.fromisoformat(payload))
        except (ValueError, TypeError):  # not one of ours; one claim too many does no harm
            self._wakeup.notify()


_NOTIFY = text("SELECT pg_notify(:channel, :time)")
