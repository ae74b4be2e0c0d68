"""When a process is ready for work."""

from __future__ import annotations

from dataclasses import dataclass

from regie_chassis.data.database import Database
from regie_chassis.process.service import Readiness


@dataclass
class FakeLoop:
    """A loop with a given health."""

    name: str = "relay"
    healthy: bool = True


class FakeDatabase(Database):
    """Answers while it is up; nothing is connected."""

    def __init__(self) -> None:
        super().__init__("postgresql+asyncpg://nobody@127.0.0.1:9/nothing")
        self.up = False

    async def ping(self) -> None:
        if not self.up:
            raise ConnectionRefusedError


async def test_a_process_is_ready_once_its_database_has_answered_and_stays_so_through_an_outage() -> None:
    database = FakeDatabase()
    readiness = Readiness(database, [FakeLoop()])
    assert await readiness.why_not() == "the database has not answered yet"
    database.up = True
    assert await readiness.is_ready()
    database.up = False
    assert await readiness.is_ready()


async def test_a_process_with_a_stuck_loop_is_not_ready_until_the_loop_goes_on() -> None:
    loop, database = FakeLoop(), FakeDatabase()
    database.up = True
    readiness = Readiness(database, [FakeLoop("reader"), loop])
    assert not await readiness.why_not()
    loop.healthy = False
    assert await readiness.why_not() == "relay: stopped or stuck; see the log"
    loop.healthy = True
    assert await readiness.is_ready()
