# ruff: noqa: PT011, PT012  # a transaction fails at the end of its block, with whatever the driver raises

from __future__ import annotations

import asyncio
import socket

import asyncpg
import pytest
from regie.scheduler.events.v1.scheduler_events_pb2 import PostCreated
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database, after_commit, before_commit, is_outage, is_transient
from regie_chassis.events import inbox, outbox
from regie_local.testing.clock import START
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

INSERT = text("INSERT INTO effect VALUES (:post)")


async def effects(database: Database) -> list[str]:
    async with database.reading() as session:
        return list((await session.execute(text("SELECT post_id FROM effect ORDER BY ctid"))).scalars())


async def fail(session: AsyncSession, statement: str, **values: object) -> Exception:
    """Runs a statement that has to fail and returns how it did."""
    with pytest.raises(Exception) as failed:
        await session.execute(text(statement), values)
    return failed.value


async def test_only_the_end_of_the_block_commits(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(INSERT, {"post": "a"})
        assert await effects(database) == []
    assert await effects(database) == ["a"]


async def test_a_connection_that_rests_is_kept_alive(database: Database) -> None:
    async with database.reading() as session:
        shown = await session.execute(text("SHOW tcp_keepalives_idle"))
    assert shown.scalar_one() == "60"


async def test_a_statement_commits_by_itself(database: Database) -> None:
    async with database.statement() as session:
        await session.execute(INSERT, {"post": "a"})
        assert await effects(database) == ["a"]


async def test_a_block_that_raises_is_rolled_back_and_its_acts_never_happen(database: Database) -> None:
    done: list[str] = []
    with pytest.raises(ValueError, match="changed my mind"):
        async with database.transaction() as session:
            after_commit(session, lambda: done.append("told"))
            await session.execute(INSERT, {"post": "a"})
            raise ValueError("changed my mind")
    assert (await effects(database), done) == ([], [])


async def test_a_cancelled_block_is_rolled_back(database: Database) -> None:
    entered = asyncio.Event()

    async def linger() -> None:
        async with database.transaction() as session:
            await session.execute(INSERT, {"post": "a"})
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(linger())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await effects(database) == []


async def test_what_is_written_before_the_commit_is_in_the_transaction_and_acts_follow_it(database: Database) -> None:
    order: list[str] = []

    async def write(session: AsyncSession) -> None:
        order.append("written")
        await session.execute(INSERT, {"post": "late"})

    async with database.transaction() as session:
        before_commit(session, write)
        after_commit(session, lambda: order.append("told"))
        order.append("block")
    assert order == ["block", "written", "told"]
    assert await effects(database) == ["late"]


async def test_a_commit_that_fails_tells_nobody(database: Database) -> None:
    done: list[str] = []
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE one (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    with pytest.raises(IntegrityError):
        async with database.transaction() as session:
            after_commit(session, lambda: done.append("told"))
            await session.execute(text("INSERT INTO one VALUES (1), (1)"))
    assert done == []


async def test_a_write_before_the_commit_that_fails_rolls_everything_back(database: Database) -> None:
    async def write(session: AsyncSession) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        async with database.transaction() as session:
            await session.execute(INSERT, {"post": "a"})
            before_commit(session, write)
    assert await effects(database) == []


async def test_a_backend_that_was_terminated_is_an_outage_and_the_next_transaction_works(database: Database) -> None:
    async with database.reading() as session:
        error = await fail(session, "SELECT pg_terminate_backend(pg_backend_pid())")
    assert is_outage(error)
    await database.ping()


async def test_a_commit_on_a_connection_that_went_away_is_an_outage(database: Database) -> None:
    with pytest.raises(Exception) as failed:
        async with database.transaction() as session:
            pid = (await session.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            async with database.reading() as other:
                await other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    assert is_outage(failed.value)


async def test_a_refused_connection_is_an_outage() -> None:
    with socket.socket() as unheard:  # bound and not listening: refuses
        unheard.bind(("127.0.0.1", 0))
        database = Database(f"postgresql+asyncpg://x:x@127.0.0.1:{unheard.getsockname()[1]}/x")
        with pytest.raises(Exception) as failed:
            await database.ping()
        assert is_outage(failed.value)
        await database.close()


async def test_an_unknown_host_is_an_outage() -> None:
    database = Database("postgresql+asyncpg://x:x@nowhere.invalid:5432/x")
    with pytest.raises(OSError) as failed:
        await database.ping()
    assert is_outage(failed.value)
    await database.close()


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("SELECT 1 / 0", {}),
        ("SELECT nothing", {}),
        ("INSERT INTO inbox (event_id) VALUES (NULL)", {}),
        ("SELECT CAST(:x AS int)", {"x": 2**40}),
        ("SELECT CAST(:x AS text)", {"x": "\ud800"}),
        ("SELECT CAST(:x AS text)", {"x": "\x00"}),
        ("SELECT CAST(:x AS uuid)", {"x": "not a uuid"}),
        ("SELECT CAST(:x AS timestamptz)", {"x": "not a time"}),
    ],
)
async def test_a_statement_or_a_value_that_is_refused_is_no_outage(
    database: Database, statement: str, values: dict[str, object]
) -> None:
    async with database.reading() as session:
        assert not is_outage(await fail(session, statement, **values))


async def test_a_unique_violation_is_no_outage(database: Database) -> None:
    event = new_id()
    async with database.transaction() as session:
        await inbox.claim(session, [event])
    async with database.reading() as session:
        error = await fail(session, "INSERT INTO inbox (event_id) VALUES (:id)", id=event)
    assert isinstance(error, IntegrityError)
    assert not is_outage(error)


async def test_a_cancelled_statement_is_no_outage_since_the_server_answered(database: Database) -> None:
    async with database.transaction() as session:
        await session.execute(text("SET LOCAL statement_timeout = '10ms'"))
        error = await fail(session, "SELECT pg_sleep(5)")
        assert isinstance(error, DBAPIError)
        assert error.orig is not None
        assert error.orig.sqlstate == "57014"  # type: ignore[attr-defined]  # asyncpg's
        assert not is_outage(error)
        await session.rollback()


async def test_a_lock_that_is_not_given_in_time_is_no_outage(database: Database) -> None:
    async with database.transaction() as holder:
        await holder.execute(text("LOCK TABLE effect"))
        async with database.transaction() as session:
            await session.execute(text("SET LOCAL lock_timeout = '10ms'"))
            assert not is_outage(await fail(session, "LOCK TABLE effect"))
            await session.rollback()


@pytest.mark.parametrize("state", ["40P01", "40001", "55P03"])
async def test_losing_against_another_transaction_is_no_outage_and_passes(database: Database, state: str) -> None:
    async with database.reading() as session:
        error = await fail(session, f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")
    assert not is_outage(error)
    assert is_transient(error)


@pytest.mark.parametrize("statement", ["SELECT 1 / 0", "SELECT nothing"])
async def test_what_is_refused_once_is_refused_again(database: Database, statement: str) -> None:
    async with database.reading() as session:
        assert not is_transient(await fail(session, statement))


@pytest.mark.parametrize(
    "kind", [asyncpg.InternalClientError, asyncpg.InterfaceError, asyncpg.ConnectionDoesNotExistError]
)
def test_a_connection_that_broke_under_an_operation_is_an_outage(kind: type[Exception]) -> None:
    assert is_outage(kind("cannot switch to state 12; another operation (2) is in progress"))


@pytest.mark.parametrize(
    "cause",
    [
        asyncpg.InternalClientError("got result for unknown protocol state 3"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionResetError("Connection lost"),
        RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_what_sqlalchemy_wraps_of_a_broken_connection_is_an_outage(cause: Exception) -> None:
    adapted = Exception(str(cause))
    adapted.__cause__ = cause
    assert is_outage(DBAPIError("INSERT", {}, adapted))
    assert is_outage(cause)


async def test_a_value_that_cannot_be_sent_is_no_outage(database: Database) -> None:
    async with database.reading() as session:
        with pytest.raises(DBAPIError) as raised:
            await session.execute(text("SELECT CAST(:number AS int)"), {"number": 2**80})
    assert not is_outage(raised.value)


async def test_an_outage_passes_too(database: Database) -> None:
    async with database.reading() as session:
        assert is_transient(await fail(session, "SELECT pg_terminate_backend(pg_backend_pid())"))


async def test_an_error_does_not_tell_the_values_of_its_statement(database: Database) -> None:
    async with database.reading() as session:
        error = await fail(session, "SELECT CAST(:x AS text), 1 / 0", x="s3cret-words")
    assert "s3cret-words" not in str(error)


async def test_staged_events_wake_the_relay_when_they_are_durable_and_not_before(database: Database) -> None:
    with pytest.raises(ValueError, match="no"):
        async with database.transaction() as session:
            outbox.stage(session, PostCreated(), workspace_id=new_id(), time=START)
            raise ValueError("no")
    assert not database.staged.is_set()
    assert await outbox.unsent_count(database) == 0
    async with database.transaction() as session:
        outbox.stage(session, PostCreated(), workspace_id=new_id(), time=START)
        assert not database.staged.is_set()
    assert database.staged.is_set()
    assert await outbox.unsent_count(database) == 1
