"""Connects and disconnects accounts.

One account is one channel of a workspace at all of its addresses (ADR 0018).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from regie_chassis.boundary.errors import Invalid
from regie_chassis.boundary.ids import new_id
from regie_chassis.boundary.text import storable
from regie_chassis.data.database import Database
from regie_networks.addresses import without_margins
from regie_networks.contract import Connection, Connector
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.channels import events
from regie_publisher.channels.channel import Channel, ChannelNotFound, ChannelState, to_channel
from regie_publisher.channels.restrictions import resume_channel
from regie_publisher.channels.sealing import Keyring, SealContext
from regie_publisher.channels.verification import NetworkUnreachable, verify_account

CONNECT_WITHIN = timedelta(seconds=40)
"""For verifying an account, however many calls that takes; the gateway waits a little longer (45 s)."""


class UnknownNetwork(Invalid):
    """This installation has no connector for the network."""


async def connect_channel(
    database: Database,
    connectors: Mapping[str, Connector],
    keyring: Keyring,
    *,
    workspace_id: UUID,
    network: str,
    server_url: str,
    credentials: Mapping[str, str],
    allowed_hosts: Collection[str],
    now: datetime,
    within: timedelta = CONNECT_WITHIN,
) -> Channel:
    """Verifies the credentials and stores them sealed. Connecting the same account again renews its channel, also
    after the account has moved to another server.

    Raises UnknownNetwork, AddressRefused, ServerNotSupported, InvalidCredentials, NetworkBusy or NetworkUnreachable.
    """
    connector = connectors.get(network)
    if connector is None:
        names = ", ".join(sorted(connectors))
        raise UnknownNetwork(f"{network[:40]!r} is not a network here; give one of {names}", field="network")
    credentials = {name: without_margins(value) for name, value in credentials.items()}
    try:
        async with asyncio.timeout(within.total_seconds()):
            connection = await verify_account(connector, server_url, credentials, allowed_hosts)
    except TimeoutError as error:
        raise NetworkUnreachable("the network did not answer in time; try again later") from error
    async with database.transaction() as session:
        row = await _store(session, keyring, connection, network=network, workspace_id=workspace_id, now=now)
        others = await _other_workspaces(session, row)
        events.stage_connected(session, row, handle=row.handle, shared=bool(others), time=now)
        for other in others if row.is_new else ():
            events.stage_shared(session, other, time=now)
        return to_channel(row, shared=bool(others))


async def disconnect_channel(session: AsyncSession, *, workspace_id: UUID, channel_id: UUID, now: datetime) -> Channel:
    """Deletes the credentials; nothing more is sent. Repeatable. Raises ChannelNotFound.

    Pending deliveries of the channel fail at their next claim, with the message of `accounts.ChannelGone`.
    """
    rows = await session.execute(_LOCK_CHANNEL, {"id": channel_id, "workspace_id": workspace_id})
    existing = rows.one_or_none()
    if existing is None:
        raise ChannelNotFound
    row = (await session.execute(_DISCONNECT, {"id": channel_id})).one()
    if existing.state != ChannelState.DISCONNECTED:
        await session.execute(_WAKE_PENDING, {"id": channel_id, "workspace_id": workspace_id, "now": now})
        events.stage_disconnected(session, row, time=now)
    return to_channel(row, shared=False)


async def _store(
    session: AsyncSession,
    keyring: Keyring,
    connection: Connection,
    *,
    network: str,
    workspace_id: UUID,
    now: datetime,
) -> Any:
    account = {
        "workspace_id": workspace_id,
        "network": network,
        "account": storable(connection.identity),
        "server_url": connection.server_url,
        "remote_id": storable(connection.remote_id),
        "handle": storable(connection.handle),
        "display_name": storable(connection.display_name),
        "now": now,
    }
    # First the row and its lock, then the secrets: they are bound to the id and version that the row has.
    row = (await session.execute(_UPSERT, {"id": new_id(), **account})).one()
    await resume_channel(session, workspace_id=workspace_id, channel_id=row.id, now=now)
    sealed = keyring.seal(connection.secrets, SealContext(workspace_id, row.id, row.version))
    rows = await session.execute(
        _STORE_SECRETS,
        {
            "id": row.id,
            "key_id": sealed.key_id,
            "data_key": sealed.data_key,
            "secrets": sealed.secrets,
            "is_new": row.is_new,
        },
    )
    return rows.one()


async def _other_workspaces(session: AsyncSession, row: Any) -> Sequence[Any]:
    rows = await session.execute(
        _FIND_OTHERS,
        {
            "network": row.network,
            "account": row.account,
            "server_url": row.server_url,
            "workspace_id": row.workspace_id,
        },
    )
    return rows.all()


_LOCK_CHANNEL = text("SELECT state FROM channel WHERE id = :id AND workspace_id = :workspace_id FOR UPDATE")

# Restrictions and leases that end with the credentials they belong to.
_CLEARED = (
    "attention = '', attention_source = '', block_time = NULL, requested_block_time = NULL, blocks = 0,"
    " refresh_worker = NULL, refresh_expire_time = NULL, refresh_losses = 0"
)

_DISCONNECT = text(
    f"""
    UPDATE channel SET state = 'disconnected', key_id = '', data_key = '', secrets = '', version = version + 1,
        {_CLEARED}
    WHERE id = :id RETURNING *
    """
)

_WAKE_PENDING = text(
    """
    UPDATE delivery SET next_action_time = :now
    WHERE channel_id = :id AND workspace_id = :workspace_id AND state = 'pending'
    """
)

_UPSERT = text(
    f"""
    WITH earlier AS (
        SELECT state FROM channel
        WHERE workspace_id = :workspace_id AND network = :network AND account = :account
    )
    INSERT INTO channel (id, workspace_id, network, account, server_url, remote_id, handle, display_name, state,
        create_time, key_id, data_key, secrets, version)
    VALUES (:id, :workspace_id, :network, :account, :server_url, :remote_id, :handle, :display_name, 'active', :now,
        '', '', '', 1)
    ON CONFLICT ON CONSTRAINT channel_once DO UPDATE SET version = channel.version + 1, state = 'active',
        server_url = excluded.server_url, remote_id = excluded.remote_id, handle = excluded.handle,
        display_name = excluded.display_name, {_CLEARED}
    RETURNING id, version, coalesce((SELECT state FROM earlier) = 'disconnected', true) AS is_new
    """
)

_STORE_SECRETS = text(
    """
    UPDATE channel SET key_id = :key_id, data_key = :data_key, secrets = :secrets WHERE id = :id
    RETURNING *, CAST(:is_new AS boolean) AS is_new
    """
)

_FIND_OTHERS = text(
    """
    SELECT id, workspace_id, network FROM channel
    WHERE network = :network AND account = :account AND server_url = :server_url
        AND workspace_id <> :workspace_id AND state <> 'disconnected'
    ORDER BY id
    """
)
