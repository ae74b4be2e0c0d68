"""Wakes the due loop when an earlier post appears, whichever replica scheduled it.

Inside the process the alarm rings after the commit; between replicas PostgreSQL's LISTEN/NOTIFY carries it. While
nobody listens (the connection is lost, or looks alive and is not) the due loop looks every second instead.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta

import asyncpg
import structlog
from regie_chassis.clock import Clock
from regie_chassis.database import BROKEN_CONNECTION, Database, after_commit
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession

CHANNEL = "post_scheduled"
LONGEST_SLEEP = timedelta(seconds=60)
POLL = timedelta(seconds=1)  # between looks while nobody listens
# A later post is found by the look that ends the longest sleep. The rest is room for a slow commit: NOTIFY takes a
# lock that all commits of the database share, so that it must not be sent for every post.
NOTIFY_WITHIN = LONGEST_SLEEP + timedelta(seconds=30)
KEEPALIVE = timedelta(seconds=1)
KEEPALIVE_TIMEOUT = 2.0  # seconds
CONNECT_TIMEOUT = 5.0  # seconds
RECONNECT_PAUSE = timedelta(seconds=1)

log = structlog.get_logger()


class Alarm:
    """What the due loop sleeps on."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.listening = False
        self._wake_time: datetime | None = None

    def disarm(self) -> None:
        """Forgets what has rung; called before a look, so that whatever rings from then on is not lost."""
        self.event.clear()
        self._wake_time = None

    def arm(self, wake_time: datetime) -> None:
        """From now on only posts earlier than `wake_time` ring."""
        self._wake_time = wake_time

    def ring(self, publish_time: datetime | None = None) -> None:
        """Wakes the sleeper, unless it wakes before `publish_time` anyway."""
        if publish_time is None or self._wake_time is None or publish_time < self._wake_time:
            self.event.set()

    @property
    def longest_sleep(self) -> timedelta:
        """How long the due loop may go without a look."""
        return LONGEST_SLEEP if self.listening else POLL


async def announce(session: AsyncSession, alarm: Alarm, publish_time: datetime, *, now: datetime) -> None:
    """Tells all replicas of a post's time once the session has committed, where it is near enough to matter."""
    if publish_time > now + NOTIFY_WITHIN:
        return
    await session.execute(_NOTIFY, {"channel": CHANNEL, "time": publish_time.isoformat()})
    after_commit(session, lambda: alarm.ring(publish_time))


class Listener:
    """Keeps one connection that listens, and makes it again whenever it is lost."""

    name = "post_scheduled listener"

    def __init__(self, database: Database, alarm: Alarm, clock: Clock) -> None:
        self._url = database.url
        self._alarm = alarm
        self._clock = clock

    async def run(self, stopping: asyncio.Event) -> None:
        """Listens until told to stop."""
        while not stopping.is_set():
            try:
                await self._listen(stopping)
            except (OSError, TimeoutError, asyncpg.PostgresError, *BROKEN_CONNECTION) as error:
                log.warning("listener.lost", error=type(error).__name__)
            finally:
                self._alarm.listening = False
                self._alarm.ring()
            await self._clock.wait(stopping, RECONNECT_PAUSE)

    async def _listen(self, stopping: asyncio.Event) -> None:
        dsn = make_url(self._url).set(drivername="postgresql").render_as_string(hide_password=False)
        connection = await asyncpg.connect(
            dsn, timeout=CONNECT_TIMEOUT, server_settings={"application_name": "scheduler-listener"}
        )
        ended = asyncio.Event()
        watch = asyncio.create_task(hand_on(stopping, ended), name="listener: stopping")
        try:
            connection.add_termination_listener(lambda _: ended.set())
            await connection.add_listener(CHANNEL, self._on_notification)
            self._alarm.listening = True
            self._alarm.ring()  # what was scheduled while nobody listened
            while not await self._clock.wait(ended, KEEPALIVE):
                await connection.fetchval("SELECT 1", timeout=KEEPALIVE_TIMEOUT)
        finally:
            watch.cancel()
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, *BROKEN_CONNECTION):
                await connection.remove_listener(CHANNEL, self._on_notification)
                await connection.close(timeout=2)

    def _on_notification(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        try:
            self._alarm.ring(datetime.fromisoformat(payload))
        except (ValueError, TypeError):  # not one of ours; a look too many does no harm
            self._alarm.ring()


async def hand_on(source: asyncio.Event, target: asyncio.Event) -> None:
    """Sets `target` once `source` is set."""
    await source.wait()
    target.set()


_NOTIFY = text("SELECT pg_notify(:channel, :time)")
