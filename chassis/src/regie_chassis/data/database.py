"""The service's database. `transaction()` is the only place that commits; a `statement()` does by itself.

Inside a transaction, `before_commit` collects writes that belong to it (the outbox) and `after_commit` the steps that
follow once it is durable (waking a loop).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext

import asyncpg
from opentelemetry import trace
from sqlalchemy import event, text
from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from regie_chassis.boundary.telemetry import tracer

CONNECT_TIMEOUT = 5.0  # seconds
COMMAND_TIMEOUT = 15.0  # seconds; without it a black hole hangs a query for ever
POOL_TIMEOUT = 10.0  # seconds
KEEPALIVE = "60"  # seconds; else what stands between forgets a connection that rests, and its next query hangs
QUERY_CANCELED = "57014"
LOCK_NOT_AVAILABLE = "55P03"
ARRAYS = ("bigint", "bool", "bytea", "date", "int", "interval", "jsonb", "text", "timestamptz", "uuid")
"""The types that statements take as lists."""
ROLLBACK = "40"  # the class of deadlocks and serialization failures

BROKEN_CONNECTION = (asyncpg.InterfaceError, asyncpg.InternalClientError)
"""asyncpg's errors for a connection that broke under an operation; a new connection helps."""

_LOST = (*BROKEN_CONNECTION, OSError, TimeoutError)

BeforeCommit = Callable[[AsyncSession], Awaitable[None]]
AfterCommit = Callable[[], None]


class Database:
    """A pool of connections to one PostgreSQL database."""

    def __init__(self, url: str, *, pool_size: int = 10, name: str = "regie") -> None:
        self.url = url
        self._engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT,
            pool_pre_ping=False,
            pool_recycle=1800,
            pool_use_lifo=True,  # the same few connections serve: their plans and statements are known
            hide_parameters=True,  # errors are logged and kept with dead letters; content and secrets are not
            connect_args={
                "timeout": CONNECT_TIMEOUT,
                "command_timeout": COMMAND_TIMEOUT,
                "server_settings": {
                    "application_name": name,
                    "jit": "off",
                    "timezone": "UTC",
                    "tcp_keepalives_idle": KEEPALIVE,
                },
            },
        )
        event.listen(self._engine.sync_engine, "connect", _learn_types)
        self.staged = asyncio.Event()
        """Set when a transaction of this process has committed events; the relay waits for it."""
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Opens a transaction, commits it at the end of the block, and rolls it back when the block raises."""
        session = AsyncSession(self._engine, expire_on_commit=False, info={"staged": self.staged})
        # A loop that polls has no span; it must not start a trace each time it looks.
        traced = trace.get_current_span().is_recording()
        with tracer().start_as_current_span("transaction") if traced else nullcontext():
            async with session:
                yield session
                for write in session.info.get("before_commit", ()):
                    await write(session)
                await session.commit()
        for act in session.info.get("after_commit", ()):
            act()

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[AsyncSession]:
        """Opens a session for one statement that is its own transaction: durable when it has returned."""
        async with AsyncSession(self._autocommit, expire_on_commit=False) as session:
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """Opens a session for single SELECTs, without the round trips of a transaction."""
        async with AsyncSession(self._autocommit, expire_on_commit=False, autoflush=False) as session:
            yield session

    async def ping(self) -> None:
        """Raises unless the database answers."""
        async with self.reading() as session:
            await session.execute(_PING)

    async def close(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()


def before_commit(session: AsyncSession, write: BeforeCommit) -> None:
    """Runs `write` as the last statements of the session's transaction."""
    session.info.setdefault("before_commit", []).append(write)


def after_commit(session: AsyncSession, act: AfterCommit) -> None:
    """Runs `act` once the session's transaction is durable; never when it is rolled back."""
    session.info.setdefault("after_commit", []).append(act)


def is_outage(error: BaseException) -> bool:
    """True when the database could not be reached or went away, as opposed to refusing a statement.

    A statement that the server cancelled (57014: its own timeout, or an operator) was refused: counted as an outage,
    an event that always takes too long would be retried for ever and hold up all others.
    """
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    # SQLAlchemy wraps what the driver raised twice, and knows few of its errors for broken connections.
    cause = getattr(getattr(error, "orig", None), "__cause__", None) or error
    # A value that asyncpg cannot encode is an InterfaceError as well, and a ValueError besides.
    if isinstance(cause, ValueError):
        return False
    if isinstance(error, InterfaceError | OperationalError | PoolTimeoutError) or isinstance(cause, _LOST):
        return True
    # What uvloop says when asyncpg writes to a transport that has just been closed.
    if isinstance(cause, RuntimeError) and "the handler is closed" in str(cause):
        return True
    # asyncpg's own words for a server that is starting, stopping or out of connections (class 57 and 53).
    state = _state_of(error)
    return state[:2] in {"57", "53", "08"} and state != QUERY_CANCELED


def is_transient(error: BaseException) -> bool:
    """True when the same work may succeed after a pause: an outage, or a transaction that lost against another one.

    A loop tries again. A consumer counts a lost transaction as an attempt: an event that loses each time must not
    hold up all others.
    """
    state = _state_of(error)
    return is_outage(error) or state[:2] == ROLLBACK or state == LOCK_NOT_AVAILABLE


def _learn_types(connection: AdaptedConnection, _record: object) -> None:
    """Lets a new connection look up all array types at once. Else it does so for each new statement, in mid-burst."""
    columns = ", ".join(f"CAST(${number} AS {name}[])" for number, name in enumerate(ARRAYS, start=1))
    connection.run_async(lambda driver: driver.prepare(f"SELECT {columns}"))


def _state_of(error: BaseException) -> str:
    """Returns the SQLSTATE that the server gave, empty when there is none."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


_PING = text("SELECT 1")
