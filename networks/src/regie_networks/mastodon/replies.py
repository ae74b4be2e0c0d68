"""Removal of a status, and the replies to one."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from regie_networks.draft import Account, Remote
from regie_networks.errors import FailureKind, OutcomeUnknown, Refused
from regie_networks.mastodon.client import MastodonClient, text_of
from regie_networks.mastodon.metrics import full_name, home_of
from regie_networks.mastodon.text import plain
from regie_networks.mastodon.timeline import moment_of
from regie_networks.replies import Reply, ReplyPage, page_after

MAX_READ = 4096
"""Replies that are looked at: the most that Mastodon gives of one status."""
_GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


async def delete_status(server: MastodonClient, remote: Remote) -> None:
    """Removes the status. Only a response of the API proves that it is gone; a page proves nothing."""
    path = f"/api/v1/statuses/{quote(remote.id, safe='')}"
    response = await server.ask("DELETE", path, rejected=FailureKind.PLATFORM_ERROR, absent=None)
    if response.status in _GONE and not isinstance(response.json(), dict):
        raise Refused(FailureKind.PLATFORM_ERROR, response.error_text())


async def read_replies(server: MastodonClient, account: Account, remote: Remote, page_token: str) -> ReplyPage:
    """Reads the replies to the status and to its replies, which the server gives all at once."""
    path = f"/api/v1/statuses/{quote(remote.id, safe='')}/context"
    response = await server.ask("GET", path, rejected=FailureKind.PLATFORM_ERROR, absent=FailureKind.CONTENT_REJECTED)
    body = response.json()
    entries = body.get("descendants") if isinstance(body, dict) else None
    if not isinstance(entries, list):
        raise OutcomeUnknown("The server's list of replies cannot be read")
    return page_after((_reply(entry, home_of(account)) for entry in entries[:MAX_READ]), page_token)


def _reply(entry: object, home: str) -> Reply:
    author = entry.get("account") if isinstance(entry, dict) else None
    acct = text_of(author, "acct")
    name = full_name(acct, home) if acct else ""
    return Reply(
        remote_id=text_of(entry, "id"),
        parent_remote_id=text_of(entry, "in_reply_to_id"),
        author_id=name.lower(),
        author_handle=name,
        text=plain(text_of(entry, "content")).strip(),
        create_time=moment_of(text_of(entry, "created_at")),
        url=text_of(entry, "url") or text_of(entry, "uri"),
    )
