"""The numbers of published statuses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import quote

from regie_networks.draft import Account, Remote
from regie_networks.errors import ConnectorError, FailureKind, OutcomeUnknown
from regie_networks.mastodon.client import MastodonClient, count_of, host_of, text_of
from regie_networks.observation import AccountObservation, Engagement, Observation, Unread

FIRST_PAGE = 80
"""Mastodon's most accounts on one page."""
READ_WITHIN = 15.0
"""Seconds for all statuses of a call; the rest is read another time."""

_COUNTS = {
    "likes": "favourites_count",
    "replies": "replies_count",
    "reposts": "reblogs_count",
    "quotes": "quotes_count",
}
METRICS = tuple(_COUNTS)
_ACCOUNT_COUNTS = {"followers": "followers_count", "following": "following_count", "posts": "statuses_count"}


async def observe_statuses(
    server: MastodonClient, account: Account, remotes: Sequence[Remote], *, within: float = READ_WITHIN
) -> list[Observation | Unread]:
    """Reads each status on its own; a failed status does not affect the others, and lost statuses are left out.

    An error of the whole account (a refusal, no connection, no time left) ends the reading and marks the rest.
    """
    read: list[Observation | Unread] = []
    deadline = asyncio.get_running_loop().time() + within
    for at, remote in enumerate(remotes):
        try:
            async with asyncio.timeout_at(deadline):
                observation = await observe_status(server, account, remote)
        except OutcomeUnknown as error:
            read.append(Unread(remote.id, error))
        except (ConnectorError, TimeoutError) as error:
            reason = error if isinstance(error, ConnectorError) else OutcomeUnknown("There was no time left to read it")
            return [*read, *(Unread(rest.id, reason) for rest in remotes[at:])]
        else:
            read += [observation] if observation is not None else []
    return read


async def observe_status(server: MastodonClient, account: Account, remote: Remote) -> Observation | None:
    """Returns the status' totals and the first page of its likes, or None where the status is gone."""
    path = f"/api/v1/statuses/{quote(remote.id, safe='')}"
    response = await server.ask("GET", path, rejected=FailureKind.PLATFORM_ERROR, absent=None)
    if response.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return None
    body = response.json()
    if not isinstance(body, dict):
        raise OutcomeUnknown("The server's answer about a status cannot be read")
    values = {value: body[name] for value, name in _COUNTS.items() if body.get(name) is not None}
    totals = Observation(remote.id, values)
    if not totals.values.get("likes"):
        return totals
    return Observation(remote.id, values, await _read_likes(server, account, remote))


async def observe_account(server: MastodonClient, account: Account) -> AccountObservation:
    """Returns the numbers that the server shows of the account."""
    response = await server.ask(
        "GET",
        f"/api/v1/accounts/{quote(account.remote_id, safe='')}",
        rejected=FailureKind.PLATFORM_ERROR,
        absent=FailureKind.AUTH_EXPIRED,
    )
    body = response.json()
    if text_of(body, "id") != account.remote_id:
        raise OutcomeUnknown("The server's answer about the account cannot be read")
    values = {name: value for name, theirs in _ACCOUNT_COUNTS.items() if (value := count_of(body, theirs)) is not None}
    return AccountObservation(values)


async def _read_likes(server: MastodonClient, account: Account, remote: Remote) -> tuple[Engagement, ...]:
    response = await server.ask(
        "GET",
        f"/api/v1/statuses/{quote(remote.id, safe='')}/favourited_by",
        params={"limit": str(FIRST_PAGE)},
        rejected=FailureKind.PLATFORM_ERROR,
        absent=None,
    )
    body = response.json()
    people = body if isinstance(body, list) else []
    home = home_of(account)
    names = [
        full_name(acct, home)
        for person in people[:FIRST_PAGE]
        if text_of(person, "id") and (acct := text_of(person, "acct"))
    ]
    # The id that a server gives a person is its own: another server has it for somebody else, and another for them.
    return tuple(Engagement(name.lower(), name, "like") for name in names)


def home_of(account: Account) -> str:
    """Returns the host in the names of the account's server."""
    return account.handle.rpartition("@")[2] or host_of(account.server_url)


def full_name(acct: str, home: str) -> str:
    """Returns a person's name with its host; the server's own people come without one."""
    return acct if "@" in acct else f"{acct}@{home}"
