"""The channels of before the migration: one account at two addresses becomes one channel."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import UUID

from regie_chassis.boundary.ids import new_id
from regie_chassis.data import migrations
from regie_chassis.data.database import Database
from regie_local.testing.fixtures import NewDatabase
from sqlalchemy import text

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"


async def test_the_newest_channel_of_an_account_stays(new_database: NewDatabase, tmp_path: Path) -> None:
    first_form = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, first_form, ignore=shutil.ignore_patterns("000[2-9]_*", "00[1-9]*_*", "__pycache__"))
    database = await new_database(first_form)
    workspace, other = new_id(), new_id()
    old = await connected(database, workspace, "bluesky", "https://old.example", "did:plc:ada")
    new = await connected(database, workspace, "bluesky", "https://new.example", "did:plc:ada")
    elsewhere = await connected(database, other, "bluesky", "https://old.example", "did:plc:ada")
    ada = await connected(database, workspace, "mastodon", "https://Social.example:443", "7")
    bob = await connected(database, workspace, "mastodon", "https://far.example", "7")
    await migrations.upgrade(database.url, MIGRATIONS)
    async with database.reading() as session:
        rows = (await session.execute(text("SELECT id, account, state, secrets FROM channel"))).all()
    found = {row.id: (row.account, row.state, row.secrets) for row in rows}
    assert found == {
        old: (f"did:plc:ada replaced {old}", "disconnected", b""),
        new: ("did:plc:ada", "active", b"sealed"),
        elsewhere: ("did:plc:ada", "active", b"sealed"),
        ada: ("https://social.example#7", "active", b"sealed"),
        bob: ("https://far.example#7", "active", b"sealed"),
    }


async def connected(database: Database, workspace_id: UUID, network: str, server_url: str, remote_id: str) -> UUID:
    channel_id = new_id()
    async with database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO channel (id, workspace_id, network, server_url, remote_id, handle, display_name, state,"
                " create_time, key_id, data_key, secrets, version)"
                " VALUES (:id, :workspace_id, :network, :server_url, :remote_id, 'ada', 'Ada', 'active', now(), 'key',"
                " '', 'sealed', 1)"
            ),
            {
                "id": channel_id,
                "workspace_id": workspace_id,
                "network": network,
                "server_url": server_url,
                "remote_id": remote_id,
            },
        )
    return channel_id
