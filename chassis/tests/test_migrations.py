from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from regie_chassis.boundary.ids import new_id
from regie_chassis.data.database import Database
from regie_chassis.data.migrations import LOCK_TIMEOUT, upgrade
from regie_local.postgres import EmbeddedPostgres
from sqlalchemy import text

FOLDER = Path(__file__).parent / "migrations"
REVISION = """
from alembic import op

revision = "{revision}"
down_revision = {before!r}


def upgrade() -> None:
    for statement in "{statement}".split(";"):
        op.execute(statement)
"""
NOTE = "CREATE TABLE IF NOT EXISTS noted (word text); INSERT INTO noted SELECT current_setting('lock_timeout')"


@pytest.fixture
async def empty(postgres_server: EmbeddedPostgres) -> AsyncIterator[str]:
    """The URL of a database without tables."""
    name = f"m_{new_id().hex}"
    yield await postgres_server.create_database(name, owner="regie_test", password="test")
    await postgres_server.drop_database(name)


def folder_of(path: Path, *statements: str) -> Path:
    """A migrations folder with one revision for each statement."""
    (path / "versions").mkdir(parents=True)
    (path / "env.py").write_text((FOLDER / "env.py").read_text())
    for number, statement in enumerate(statements, start=1):
        before = f"{number - 1:04}" if number > 1 else None
        (path / "versions" / f"{number:04}.py").write_text(
            REVISION.format(revision=f"{number:04}", before=before, statement=statement)
        )
    return path


async def ask(url: str, question: str) -> list[object]:
    database = Database(url)
    async with database.reading() as session:
        rows = list((await session.execute(text(question))).scalars())
    await database.close()
    return rows


async def test_an_upgrade_makes_the_tables_and_may_be_repeated(empty: str) -> None:
    await upgrade(empty, FOLDER)
    await upgrade(empty, FOLDER)
    assert await ask(empty, "SELECT version_num FROM alembic_version") == ["0002"]
    assert await ask(empty, "SELECT count(*) FROM outbox") == [0]


async def test_replicas_that_upgrade_at_once_wait_for_one_another(empty: str) -> None:
    async with asyncio.timeout(30):
        await asyncio.gather(*(upgrade(empty, FOLDER) for _ in range(4)))
    assert await ask(empty, "SELECT version_num FROM alembic_version") == ["0002"]


async def test_every_migration_gives_up_on_a_lock_instead_of_queueing_the_service_behind_it(
    empty: str, tmp_path: Path
) -> None:
    await upgrade(empty, folder_of(tmp_path / "m", NOTE, NOTE, NOTE))
    assert await ask(empty, "SELECT word FROM noted") == [LOCK_TIMEOUT] * 3


async def test_a_migration_that_fails_leaves_the_ones_before_it_and_can_be_run_again(
    empty: str, tmp_path: Path
) -> None:
    broken = folder_of(tmp_path / "broken", "CREATE TABLE a (id int)", "CREATE TABLE b (id int); SELECT 1 / 0")
    with pytest.raises(Exception, match="division by zero"):
        await upgrade(empty, broken)
    assert await ask(empty, "SELECT version_num FROM alembic_version") == ["0001"]
    assert await ask(empty, "SELECT to_regclass('b') IS NULL") == [True]
    repaired = folder_of(tmp_path / "repaired", "CREATE TABLE a (id int)", "CREATE TABLE b (id int)")
    async with asyncio.timeout(10):  # the failed one holds no lock
        await upgrade(empty, repaired)
    assert await ask(empty, "SELECT to_regclass('b') IS NULL") == [False]


async def test_a_folder_with_a_percent_sign_is_found(empty: str, tmp_path: Path) -> None:
    await upgrade(empty, folder_of(tmp_path / "100%s", "CREATE TABLE a (id int)"))
    assert await ask(empty, "SELECT version_num FROM alembic_version") == ["0001"]
