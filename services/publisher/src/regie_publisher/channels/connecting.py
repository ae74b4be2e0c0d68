"""Connected accounts: connecting, renewing and forgetting them. What networks make of them is in `standing`.

One account is one channel of a workspace, wherever it is reached (ADR 0018).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from regie.publisher.events.v1.publisher_events_pb2 import ChannelConnected, ChannelDisconnected, ChannelShared
from regie_chassis.database import Database
from regie_chassis.errors import Invalid, NotFound, TooManyRequests, Unavailable, Unprocessable
from regie_chassis.ids import CHANNEL, new_id, show_id
from regie_chassis.outbox import stage
from regie_chassis.paging import page_of, read_token, size_of
from regie_chassis.text import storable
from regie_networks.addresses import check_server_url, origin_of, without_margins
from regie_networks.contract import Connection, Connector
from regie_networks.errors import ConnectorError, FailureKind, Refused, Unacceptable
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_publisher.sealing import Keyring, NotOpened, Place, Sealed
from regie_publisher.standing import go_on

LIST = "channels"
FRAME = 200  # bytes of a channel in an answer besides its texts
CONNECT_WITHIN = timedelta(seconds=40)
"""For proving an account, however many calls that takes; the gateway waits a little longer (45 s)."""
MAX_ACCOUNT = 1000
"""Bytes of an account's identity: an index holds it."""

log = structlog.get_logger()


class UnknownNetwork(Invalid):
    """There is no connector for that network here."""


class InvalidCredentials(Unprocessable):
    """The network does not accept the credentials."""


class ServerNotSupported(Unprocessable):
    """The address answers, and not as a server of the network."""


class NetworkUnreachable(Unavailable):
    """The network gave no usable answer."""


class NetworkBusy(TooManyRequests):
    """The network asks to wait."""


class ChannelNotFound(NotFound):
    """There is no such channel in the workspace."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel without its secrets."""

    id: UUID
    network: str
    server_url: str
    remote_id: str
    handle: str
    display_name: str
    state: str
    attention: str
    create_time: datetime
    block_time: datetime | None
    shared: bool


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
    """Proves the credentials and keeps them sealed. The same account again is renewed, so a repeat does no harm;
    an account that moved keeps its channel.

    Raises UnknownNetwork, AddressRefused, ServerNotSupported, InvalidCredentials, NetworkBusy or NetworkUnreachable.
    """
    connector = connectors.get(network)
    if connector is None:
        known = ", ".join(sorted(connectors))
        raise UnknownNetwork(f"{network[:40]!r} is not a network here; give one of {known}", field="network")
    credentials = {name: without_margins(value) for name, value in credentials.items()}
    try:
        async with asyncio.timeout(within.total_seconds()):
            connection = await _prove(connector, server_url, credentials, allowed_hosts)
    except TimeoutError as error:
        raise NetworkUnreachable("the network did not answer in time; try again later") from error
    async with database.transaction() as session:
        row = await _keep(session, keyring, connection, network=network, workspace_id=workspace_id, now=now)
        others = await _other_workspaces(session, row)
        message = ChannelConnected(
            channel_id=show_id(CHANNEL, row.id), network=network, handle=row.handle, shared=bool(others)
        )
        stage(session, message, workspace_id=workspace_id, time=now)
        for other in others if row.is_new else ():
            shared = ChannelShared(channel_id=show_id(CHANNEL, other.id), network=network)
            stage(session, shared, workspace_id=other.workspace_id, time=now)
        return _channel(row, shared=bool(others))


async def get_channel(session: AsyncSession, *, workspace_id: UUID, channel_id: UUID) -> Channel:
    """Returns a channel. Raises ChannelNotFound."""
    rows = await session.execute(_SELECT_CHANNEL, {"id": channel_id, "workspace_id": workspace_id})
    row = _found(rows.one_or_none())
    return _channel(row, shared=row.shared)


async def list_channels(
    session: AsyncSession, *, workspace_id: UUID, page_size: int, page_token: str
) -> tuple[Sequence[Channel], str]:
    """Returns a page, the newest first, and the token of the next. Raises InvalidPageToken or InvalidPageSize."""
    size = size_of(page_size)
    rows = await session.execute(
        _SELECT_PAGE, {"workspace_id": workspace_id, "before": read_token(LIST, page_token), "limit": size + 1}
    )
    page = page_of([_channel(row, shared=row.shared) for row in rows], size=size, list_name=LIST, bytes_of=_bytes_of)
    return page.items, page.next_page_token


def _bytes_of(channel: Channel) -> int:
    texts = (channel.server_url, channel.remote_id, channel.handle, channel.display_name, channel.attention)
    return FRAME + 4 * sum(map(len, texts))


async def disconnect_channel(session: AsyncSession, *, workspace_id: UUID, channel_id: UUID, now: datetime) -> Channel:
    """Forgets the credentials; nothing is sent any more. Repeatable. Raises ChannelNotFound.

    Deliveries that wait for the channel fail at their next claim, in the words of `accounts`.
    """
    rows = await session.execute(_LOCK_CHANNEL, {"id": channel_id, "workspace_id": workspace_id})
    was = _found(rows.one_or_none()).state
    rows = await session.execute(_DISCONNECT, {"id": channel_id})
    row = rows.one()
    if was != "disconnected":
        await session.execute(_WAKE_PENDING, {"id": channel_id, "workspace_id": workspace_id, "now": now})
        message = ChannelDisconnected(channel_id=show_id(CHANNEL, channel_id))
        stage(session, message, workspace_id=workspace_id, time=now)
    return _channel(row, shared=False)


class Rotation:
    """Wraps the data keys of channels under the current master key. Any number of replicas.

    A channel that does not open (its master key is not given here, or it was changed) stays as it is. It is said once
    and not looked at again by this process: a key that is missing comes with the settings of the next one.
    """

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring
        self._left: set[UUID] = set()

    async def rewrap_some(self, *, limit: int = 100) -> int:
        """Returns how many were looked at; zero when nothing is left to do."""
        async with self._database.transaction() as session:
            rows = await session.execute(
                _LOCK_OLD_KEYS, {"current": self._keyring.current_id, "left": list(self._left), "limit": limit}
            )
            found = rows.all()
            for row in found:
                await self._rewrap(session, row)
        return len(found)

    async def _rewrap(self, session: AsyncSession, row: Any) -> None:
        try:
            sealed = self._keyring.rewrap(sealed_of(row), Place(row.workspace_id, row.id, row.version))
        except NotOpened as error:
            self._left.add(row.id)
            log.error("channel.not_rewrapped", channel=show_id(CHANNEL, row.id), reason=str(error))
            return
        await session.execute(_REWRAP, {"id": row.id, "key_id": sealed.key_id, "data_key": sealed.data_key})


def sealed_of(row: Any) -> Sealed:
    """Returns the sealed secrets of a row of `channel`."""
    return Sealed(row.key_id, row.data_key, row.secrets)


async def _prove(
    connector: Connector, server_url: str, credentials: Mapping[str, str], allowed_hosts: Collection[str]
) -> Connection:
    if server_url := without_margins(server_url):
        server_url = await check_server_url(server_url, allowed_hosts)
    connection = await _log_in(connector, server_url, credentials)
    # The network may send us elsewhere (Bluesky names the account's own server); the same rule holds there.
    plain = await check_server_url(connection.server_url, allowed_hosts)
    identity = connection.identity or f"{origin_of(plain)}#{connection.remote_id}"
    if len(identity.encode(errors="replace")) > MAX_ACCOUNT:
        raise NetworkUnreachable("the network gave no usable answer: the account's id is too long")
    return replace(connection, server_url=plain, identity=identity)


async def _log_in(connector: Connector, server_url: str, credentials: Mapping[str, str]) -> Connection:
    try:
        return await connector.connect(server_url, credentials)
    except Unacceptable as error:
        if error.kind is FailureKind.UNSUPPORTED:
            raise ServerNotSupported(error.message, field="server_url") from error
        raise InvalidCredentials(error.message, field="credentials") from error
    except Refused as error:
        if error.kind is FailureKind.RATE_LIMITED:
            seconds = f" {error.retry_after.total_seconds():.0f} s" if error.retry_after else ""
            raise NetworkBusy(f"the network asks to wait{seconds}: {error.message}") from error
        if error.kind is FailureKind.PLATFORM_ERROR:
            raise NetworkUnreachable(f"the network cannot say: {error.message}; try again later") from error
        if error.kind is FailureKind.UNSUPPORTED:
            message = f"there is no server of this network at that address; it answers: {error.message}"
            raise ServerNotSupported(message, field="server_url") from error
        message = f"the network does not accept these credentials: {error.message}"
        raise InvalidCredentials(message, field="credentials") from error
    except ConnectorError as error:
        raise NetworkUnreachable(f"the network gave no usable answer: {error}; try again later") from error


async def _keep(
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
    await go_on(session, workspace_id=workspace_id, channel_id=row.id, now=now)
    sealed = keyring.seal(connection.secrets, Place(workspace_id, row.id, row.version))
    rows = await session.execute(
        _KEEP_SECRETS,
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


def _found(row: Any) -> Any:
    if row is None:
        raise ChannelNotFound("there is no such channel in this workspace")
    return row


def _channel(row: Any, *, shared: bool) -> Channel:
    return Channel(
        row.id,
        row.network,
        row.server_url,
        row.remote_id,
        row.handle,
        row.display_name,
        row.state,
        row.attention,
        row.create_time,
        row.block_time,
        shared,
    )


_SHARED = """EXISTS (
    SELECT FROM channel AS other WHERE other.network = channel.network AND other.account = channel.account
        AND other.server_url = channel.server_url
        AND other.workspace_id <> channel.workspace_id AND other.state <> 'disconnected'
        AND channel.state <> 'disconnected'
) AS shared"""

_SELECT_CHANNEL = text(f"SELECT *, {_SHARED} FROM channel WHERE id = :id AND workspace_id = :workspace_id")

_SELECT_PAGE = text(
    f"""
    SELECT *, {_SHARED} FROM channel
    WHERE workspace_id = :workspace_id AND id < :before ORDER BY id DESC LIMIT :limit
    """
)

_LOCK_CHANNEL = text("SELECT state FROM channel WHERE id = :id AND workspace_id = :workspace_id FOR UPDATE")

# What failures and networks left behind, and no longer holds.
_FORGOTTEN = (
    "attention = '', attention_source = '', block_time = NULL, requested_block_time = NULL, blocks = 0,"
    " refresh_worker = NULL, refresh_expire_time = NULL, refresh_losses = 0"
)

_DISCONNECT = text(
    f"""
    UPDATE channel SET state = 'disconnected', key_id = '', data_key = '', secrets = '', version = version + 1,
        {_FORGOTTEN}
    WHERE id = :id RETURNING *
    """
)

_WAKE_PENDING = text(
    """
    UPDATE delivery SET act_time = :now
    WHERE channel_id = :id AND workspace_id = :workspace_id AND state = 'pending'
    """
)

_LOCK_OLD_KEYS = text(
    """
    SELECT * FROM channel
    WHERE key_id <> :current AND key_id <> '' AND NOT id = ANY(CAST(:left AS uuid[]))
    ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
    """
)

_REWRAP = text("UPDATE channel SET key_id = :key_id, data_key = :data_key WHERE id = :id")

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
        display_name = excluded.display_name, {_FORGOTTEN}
    RETURNING id, version, coalesce((SELECT state FROM earlier) = 'disconnected', true) AS is_new
    """
)

_KEEP_SECRETS = text(
    """
    UPDATE channel SET key_id = :key_id, data_key = :data_key, secrets = :secrets WHERE id = :id
    RETURNING *, CAST(:is_new AS boolean) AS is_new
    """
)

_FIND_OTHERS = text(
    """
    SELECT id, workspace_id FROM channel
    WHERE network = :network AND account = :account AND server_url = :server_url
        AND workspace_id <> :workspace_id AND state <> 'disconnected'
    ORDER BY id
    """
)
