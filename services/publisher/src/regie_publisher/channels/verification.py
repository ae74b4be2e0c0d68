"""Checks an account's credentials at its network, and the addresses that the network names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from regie_chassis.boundary.errors import TooManyRequests, Unavailable, Unprocessable
from regie_networks.addresses import check_server_url, origin_of, without_margins
from regie_networks.contract import Connection, Connector
from regie_networks.errors import ConnectorError, FailureKind, Refused, Unacceptable

MAX_ACCOUNT = 1000
"""Bytes of an account's identity, which is part of an index."""


class InvalidCredentials(Unprocessable):
    """The network does not accept the credentials."""


class ServerNotSupported(Unprocessable):
    """The address answers, but not as a server of the network."""


class NetworkUnreachable(Unavailable):
    """The network gave no usable answer."""


class NetworkBusy(TooManyRequests):
    """The network asks to wait."""


async def verify_account(
    connector: Connector, server_url: str, credentials: Mapping[str, str], allowed_hosts: Collection[str]
) -> Connection:
    """Returns the connection with its plain address and the account's identity (ADR 0018).

    Raises AddressRefused, ServerNotSupported, InvalidCredentials, NetworkBusy or NetworkUnreachable.
    """
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
        raise _refusal(error) from error
    except ConnectorError as error:
        raise NetworkUnreachable(f"the network gave no usable answer: {error}; try again later") from error


def _refusal(error: Refused) -> NetworkBusy | NetworkUnreachable | ServerNotSupported | InvalidCredentials:
    if error.kind is FailureKind.RATE_LIMITED:
        seconds = f" {error.retry_after.total_seconds():.0f} s" if error.retry_after else ""
        return NetworkBusy(f"the network asks to wait{seconds}: {error.message}")
    if error.kind is FailureKind.PLATFORM_ERROR:
        return NetworkUnreachable(f"the network cannot say: {error.message}; try again later")
    if error.kind is FailureKind.UNSUPPORTED:
        message = f"there is no server of this network at that address; it answers: {error.message}"
        return ServerNotSupported(message, field="server_url")
    message = f"the network does not accept these credentials: {error.message}"
    return InvalidCredentials(message, field="credentials")
