"""Wraps the data keys of channels under the current master key."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from regie.ids.v1.prefixes import CHANNEL
from regie_chassis.boundary.ids import show_id
from regie_chassis.data.database import Database
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.channels.channel import sealed_of
from regie_publisher.channels.sealing import DecryptionFailed, Keyring, SealContext

log = structlog.get_logger()


class KeyRotation:
    """Rewraps data keys in the background. Any number of replicas.

    A channel whose data key cannot be decrypted stays as it is. It is logged once and skipped by this process: a
    missing master key comes with the settings of the next process.
    """

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring
        self._skipped: set[UUID] = set()

    async def rewrap_some(self, *, limit: int = 100) -> int:
        """Rewraps up to `limit` channels. Returns how many were read; zero when none is left."""
        parameters = {"current": self._keyring.current_id, "skipped": list(self._skipped), "limit": limit}
        async with self._database.transaction() as session:
            rows = (await session.execute(_LOCK_OLD_KEYS, parameters)).all()
            for row in rows:
                await self._rewrap(session, row)
        return len(rows)

    async def _rewrap(self, session: AsyncSession, row: Any) -> None:
        try:
            sealed = self._keyring.rewrap(sealed_of(row), SealContext(row.workspace_id, row.id, row.version))
        except DecryptionFailed as error:
            self._skipped.add(row.id)
            log.error("channel.not_rewrapped", channel=show_id(CHANNEL, row.id), reason=str(error))
            return
        await session.execute(_REWRAP, {"id": row.id, "key_id": sealed.key_id, "data_key": sealed.data_key})


_LOCK_OLD_KEYS = text(
    """
    SELECT * FROM channel
    WHERE key_id <> :current AND key_id <> '' AND NOT id = ANY(CAST(:skipped AS uuid[]))
    ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
    """
)

_REWRAP = text("UPDATE channel SET key_id = :key_id, data_key = :data_key WHERE id = :id")
