"""Which status a person names by its address. The server itself says which post is behind it, and whose."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import quote, unquote, urlsplit

from regie_publisher.connectors.connector import CannotTell, Draft, FailureKind, NotNamed, Remote
from regie_publisher.connectors.look import Others
from regie_publisher.connectors.mastodon.readback import READ_BACK, Match, SourceCache
from regie_publisher.connectors.mastodon.server import Server, text_of
from regie_publisher.connectors.mastodon.timeline import Status, read_timeline, status_of
from regie_publisher.connectors.values import is_id, same_place

# As Mastodon, its web clients, GoToSocial, Takahe, Pleroma, Pixelfed and Hollo write the address of a post.
_ADDRESS = re.compile(
    r"/(?:(?:web|deck)/)?(?:@[^/]+/(?:(?:statuses|posts)/)?|(?:ap/)?users/[^/]+/statuses/|statuses/|notice/|notes/|p/[^/]+/)"
    r"(?P<id>[A-Za-z0-9][A-Za-z0-9_-]*)(?:\.json|/(?:activity|embed))?/?"
)


async def named_status(server: Server, draft: Draft, index: int, url: str, *, sources: SourceCache) -> Remote:
    """Returns the status at the address. Raises `NotNamed` unless it may be the segment's own."""
    if not same_place(url, server.url):
        raise NotNamed(f"this is not an address at {server.url}; give the one that the post has there")
    status = await _at(server, draft, url)
    match = Match(draft, index, Others(frozenset(), ()), keeps_media_ids=False, skew=timedelta(0))
    if status.created < draft.compose_time - READ_BACK:
        raise NotNamed("the post at this address is older than this delivery", remote_id=status.id)
    if not match.has_its_place(status):
        raise NotNamed("the post at this address has another place in a thread, or other pictures", remote_id=status.id)
    source = sources.get(server, status)
    if source is None:
        source = await sources.read(server, status)
    if match.is_same(status, source) is False:
        raise NotNamed("the post at this address has another text", remote_id=status.id)
    return Remote(status.id, status.url)


async def _at(server: Server, draft: Draft, url: str) -> Status:
    parts = urlsplit(url)
    found = _ADDRESS.fullmatch(unquote(parts.path))
    if found is None:
        return await _listed(server, draft, url)
    answer = await server.ask(
        "GET",
        f"/api/v1/statuses/{quote(found['id'], safe='')}",
        rejected=FailureKind.PLATFORM_ERROR,
        absent=None,
    )
    entry = answer.json()
    if answer.status // 100 != 2 or not is_id(text_of(entry, "id")):
        raise NotNamed("the server has no post at this address")
    if text_of(entry.get("account") if isinstance(entry, dict) else None, "id") != draft.account.remote_id:
        raise NotNamed("the post at this address is another account's")
    return status_of(entry)


async def _listed(server: Server, draft: Draft, url: str) -> Status:
    """Looks for an address of another form among the account's own statuses, word for word."""
    timeline = await read_timeline(server, draft.account.remote_id, draft.compose_time - READ_BACK)
    for status in timeline.statuses:
        if status.url.rstrip("/") == url.rstrip("/"):
            return status
    if not timeline.complete:
        raise CannotTell("the account has too many posts to look through")
    raise NotNamed("this is not the address of a post of this account; copy it from the post's own page")
