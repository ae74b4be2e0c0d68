"""Which server addresses people may give: the public internet over https, and hosts that the settings name."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from urllib.parse import urlsplit

from regie_chassis.egress import is_public
from regie_chassis.errors import Unprocessable
from regie_chassis.resolving import shared_resolver

LONGEST = 500
RESOLVE_TIMEOUT = 5.0  # seconds


class AddressRefused(Unprocessable):
    """A server's address is private, not https, or no plain address."""


async def check_server_url(url: str, allowed_hosts: Collection[str]) -> str:
    """Returns the address in its plain form, `https://host[:port][/path]`. Raises AddressRefused.

    A name that cannot be resolved passes: the call that follows says so in its own words. The judgement holds for
    this answer only, which is why the client judges again whenever it connects.
    """
    plain = plain_server_url(url, allowed_hosts)
    host = urlsplit(plain).hostname or ""
    if host in allowed_hosts:
        return plain
    if not all(is_public(address) for address in await _resolve(host)):
        raise AddressRefused(f"{host} is not a public address; give the server's public address", field="server_url")
    return plain


def plain_server_url(url: str, allowed_hosts: Collection[str]) -> str:
    """Returns the address without what does not belong in it. Raises AddressRefused; asks nobody."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _refused("it is not an address") from error
    if len(url) > LONGEST or any(character.isspace() or ord(character) < 32 or character == "\\" for character in url):
        raise _refused("it is too long or has characters that do not belong there")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in allowed_hosts):
        raise _refused("it must begin with https://")
    if not host or "@" in parts.netloc or parts.query or parts.fragment or url.endswith(("?", "#")):
        raise _refused("it must be host and port alone, without user, query or fragment")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def _refused(why: str) -> AddressRefused:
    return AddressRefused(f"the server's address is refused: {why}", field="server_url")


async def _resolve(host: str) -> list[str]:
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            return await shared_resolver()(host, 0)
    except (OSError, UnicodeError, TimeoutError):
        return []
