"""The numbers of published statuses."""

from __future__ import annotations

from http import HTTPStatus

from regie_publisher.connectors.connector import Account, Engagement, FailureKind, Observation, OutcomeUnknown, Remote
from regie_publisher.connectors.mastodon.server import Server, count_of, host_of, text_of

FIRST_PAGE = 80
"""Mastodon's most accounts on one page."""

_COUNTS = {
    "likes": "favourites_count",
    "replies": "replies_count",
    "reposts": "reblogs_count",
    "quotes": "quotes_count",
}


async def observe_status(server: Server, account: Account, remote: Remote) -> Observation | None:
    """Returns the status' totals and the first page of those who liked it, or None where the status is gone."""
    answer = await server.ask("GET", f"/api/v1/statuses/{remote.id}", rejected=FailureKind.PLATFORM_ERROR, absent=None)
    if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return None
    body = answer.json()
    if not isinstance(body, dict):
        raise OutcomeUnknown("The server's answer about a status cannot be read")
    counts = {value: count_of(body, name) for value, name in _COUNTS.items()}
    values = {value: count for value, count in counts.items() if count is not None}
    likes = await _read_likes(server, account, remote) if values.get("likes") else ()
    return Observation(remote.id, values, likes)


async def _read_likes(server: Server, account: Account, remote: Remote) -> tuple[Engagement, ...]:
    answer = await server.ask(
        "GET",
        f"/api/v1/statuses/{remote.id}/favourited_by",
        params={"limit": str(FIRST_PAGE)},
        rejected=FailureKind.PLATFORM_ERROR,
        absent=None,
    )
    body = answer.json()
    people = body if isinstance(body, list) else []
    home = account.handle.rpartition("@")[2] or host_of(account.server_url)
    names = [_full_name(acct, home) for person in people if text_of(person, "id") and (acct := text_of(person, "acct"))]
    # The id that a server gives a person is its own: another server has it for somebody else, and another for them.
    return tuple(Engagement(name.lower(), name, "like") for name in names)


def _full_name(acct: str, home: str) -> str:
    """The server's own people come without a host."""
    return acct if "@" in acct else f"{acct}@{home}"
