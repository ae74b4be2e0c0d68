"""The accepted server addresses: the public internet over https, and the places that the settings name.

One server has one form here, since it is part of an account's identity (ADR 0018).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

import httpx2
from regie_chassis.boundary.errors import Unprocessable

from regie_networks.egress import is_public, place_of
from regie_networks.resolving import shared_resolver

MAX_LENGTH = 500
MAX_HOST = 253
MAX_LABEL = 63
RESOLVE_TIMEOUT = 5.0  # seconds
DEFAULT_PORTS = {"http": 80, "https": 443}

_ACCOUNT_NAME = re.compile(r"@?[^\s@/:]+@([^\s@/:]+)")
# White space and what nobody sees, as it comes along when a line is copied out of a page: marks of direction, BOM.
_MARGIN = "\\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
_MARGINS = re.compile(f"^[{_MARGIN}]+|[{_MARGIN}]+$")


class AddressRefused(Unprocessable):
    """A server's address is private, not https, or no plain address."""


async def check_server_url(url: str, allowed_hosts: Collection[str]) -> str:
    """Returns the address in its plain form, `https://host[:port][/path]`. Raises AddressRefused.

    `allowed_hosts` are places, `host:port`, that may be private and plain http.

    A name that cannot be resolved passes: the call that follows fails with its own error. The judgement holds for
    this answer only, so the client judges again at each connection.
    """
    plain = plain_server_url(url, allowed_hosts)
    host = urlsplit(plain).hostname or ""
    if _place(urlsplit(plain)) in allowed_hosts:
        return plain
    if not all(is_public(address) for address in await _resolve(host)):
        raise AddressRefused(f"{host} is not a public address; give the server's public address", field="server_url")
    return plain


def plain_server_url(url: str, allowed_hosts: Collection[str]) -> str:
    """Returns the address in its one form, without surplus parts. Raises AddressRefused; makes no lookup.

    Takes pasted forms: an address without a scheme is https, and `@name@host` means the host.
    """
    url = without_margins(url)
    if name := _ACCOUNT_NAME.fullmatch(url):
        url = name[1]
    if "://" not in url:
        url = f"https://{url}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _refused("it is not an address") from error
    if len(url) > MAX_LENGTH or any(
        character.isspace() or ord(character) < 32 or character == "\\" for character in url
    ):
        raise _refused("it is too long or has characters that do not belong there")
    if parts.scheme != "https" and not (parts.scheme == "http" and _place(parts) in allowed_hosts):
        raise _refused(_why_not(parts, allowed_hosts))
    if not host or "@" in parts.netloc or parts.query or parts.fragment or url.endswith(("?", "#")):
        raise _refused("it must be host and port alone, without user, query or fragment")
    host = _ascii_host(host)
    shown = f"[{host}]" if ":" in host else host
    shown_port = f":{port}" if port and port != DEFAULT_PORTS[parts.scheme] else ""
    return f"{parts.scheme}://{shown}{shown_port}{parts.path.rstrip('/')}"


def origin_of(plain_url: str) -> str:
    """Returns scheme, host and port of an address in its plain form."""
    scheme, _, rest = plain_url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def host_of(plain_url: str) -> str:
    """Returns host and port of an address in its plain form, empty where it has none."""
    return urlsplit(plain_url).netloc


def without_margins(text: str) -> str:
    """Returns a pasted line without the white space and the invisible characters around it."""
    return _MARGINS.sub("", text)


def _ascii_host(host: str) -> str:
    """Returns the host as it goes over the wire. Raises AddressRefused where no resolver could ever take it."""
    try:
        ascii_host = httpx2.URL(f"https://[{host}]" if ":" in host else f"https://{host}").raw_host.decode("ascii")
    except (httpx2.InvalidURL, ValueError) as error:
        raise _refused("its host is no name that a server can have") from error
    plain = ascii_host.removesuffix(".").lower()
    if len(plain) > MAX_HOST or not all(1 <= len(label) <= MAX_LABEL for label in plain.split(".")):
        raise _refused("its host is no name that a server can have")
    return plain


def _place(parts: SplitResult) -> str:
    return place_of(parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0))


def _why_not(parts: SplitResult, allowed_hosts: Collection[str]) -> str:
    """Returns the reason for an address that is not https; where some may be plain, also the way to one that may."""
    reason = "it must begin with https://"
    if parts.scheme != "http" or not allowed_hosts:
        return reason
    return (
        f"{reason}, since PUBLISHER_ALLOWED_HOSTS does not have its host and port;"
        " for the sandbox of this installation leave server_url out"
    )


def _refused(why: str) -> AddressRefused:
    return AddressRefused(f"the server's address is refused: {why}", field="server_url")


async def _resolve(host: str) -> list[str]:
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT):
            return await shared_resolver()(host, 0)
    except (OSError, UnicodeError, TimeoutError):
        return []
