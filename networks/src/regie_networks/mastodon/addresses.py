"""The status at an address that a person gives. The server itself resolves the address to a post and its account."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import quote, unquote, urlsplit

from regie_networks.bounds import same_place
from regie_networks.draft import Draft, Remote
from regie_networks.errors import FailureKind, Inconclusive, NotNamed
from regie_networks.lookup import Lookup, Others
from regie_networks.mastodon.client import MastodonClient, text_of
from regie_networks.mastodon.lookup import READ_BACK, SourceCache
from regie_networks.mastodon.media import media_ids
from regie_networks.mastodon.text import as_sent, exact, is_like, shows
from regie_networks.mastodon.timeline import Status, read_timeline, skew_of, status_of

# As Mastodon, its web clients, GoToSocial, Takahe, Pleroma, Pixelfed and Hollo write the address of a post.
_ADDRESS = re.compile(
    r"/(?:(?:web|deck)/)?(?:@[^/]+/(?:(?:statuses|posts)/)?|(?:ap/)?users/[^/]+/statuses/|statuses/|notice/|notes/|p/[^/]+/)"
    r"(?P<id>[A-Za-z0-9][A-Za-z0-9_-]*)(?:\.json|/(?:activity|embed))?/?"
)
_CERTAIN, _SAME, _ALIKE, _OTHER = 3, 2, 1, 0  # how much a status looks like a segment


async def named_status(
    server: MastodonClient, draft: Draft, index: int, url: str, look: Lookup, *, sources: SourceCache
) -> Remote:
    """Returns the status at the address. Raises `NotNamed` unless it may be the segment's own, and no other's."""
    if not same_place(url, server.url):
        raise NotNamed(f"this is not an address at {server.url}")

    async def load() -> tuple[tuple[Status, str | None], Sequence[str]]:
        status = await _at(server, draft, url)
        source = sources.get(server, status)
        if source is None:
            source = await sources.read(server, status)
        return (status, source), (status.id, status.url)

    (status, source), others = await look.read(load)
    why = _why_not(draft, index, status, source, others)
    if why:
        raise NotNamed(why, remote_id=status.id)
    return Remote(status.id, status.url)


def _why_not(draft: Draft, index: int, status: Status, source: str | None, others: Others) -> str:
    """Returns the reason against it, empty for none."""
    segment = draft.segments[index]
    reply_to = draft.remotes[index - 1].id if index else ""
    if not others.taken.isdisjoint((status.id, status.url)):
        return "the post at this address is another delivery's"
    if status.reblog:
        return "at this address is a boost, and no post of its own"
    if (status.reply_to, len(status.media)) != (reply_to, len(segment.attachments)):
        return "the post at this address has another place in a thread, or other pictures"
    media = media_ids(draft, segment) if segment.attachments else []
    certain = bool(media) and {one.id for one in status.media} == set(media)
    own = _Content(segment.text, [attachment.alt_text for attachment in segment.attachments])
    closeness = _CERTAIN if certain else own.closeness(status, source)
    if closeness == _OTHER:
        return "the post at this address has another text"
    for rival in others.rivals:
        theirs = _Content(rival.text, rival.alt_texts)
        if rival.key == segment.key or rival.reply_to != reply_to or theirs.equals(own):
            continue
        if theirs.closeness(status, source) >= closeness:
            return "the post at this address looks like that of another delivery, of which no post is known"
    return ""


class _Content:
    """The text of a segment."""

    def __init__(self, text: str, alt_texts: Sequence[str]) -> None:
        self._text = text
        self._alt_texts = Counter(map(exact, alt_texts))

    def equals(self, other: _Content) -> bool:
        return (as_sent(self._text), self._alt_texts) == (as_sent(other._text), other._alt_texts)

    def closeness(self, status: Status, source: str | None) -> int:
        if len(status.media) != self._alt_texts.total():
            return _OTHER
        same = shows(self._text, status.content, source)
        if same and Counter(exact(one.alt_text) for one in status.media) == self._alt_texts:
            return _SAME
        return _ALIKE if same or is_like(self._text, status.content, source) else _OTHER


async def _at(server: MastodonClient, draft: Draft, url: str) -> Status:
    match = _ADDRESS.fullmatch(unquote(urlsplit(url).path))
    if match is None:
        return await _listed(server, draft, url)
    response = await server.ask(
        "GET",
        f"/api/v1/statuses/{quote(match['id'], safe='')}",
        rejected=FailureKind.PLATFORM_ERROR,
        absent=None,
    )
    if response.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        raise NotNamed("the server has no post at this address")
    entry = response.json()
    account_id = text_of(entry.get("account") if isinstance(entry, dict) else None, "id")
    if text_of(entry, "id") != match["id"] or not account_id:
        raise Inconclusive("the server's answer about the post cannot be read")
    if account_id != draft.account.remote_id:
        raise NotNamed("the post at this address is another account's")
    status = status_of(entry)
    if status.created < draft.compose_time - READ_BACK + skew_of(response, server.clock.now()):
        raise NotNamed("the post at this address is older than this delivery", remote_id=status.id)
    return status


async def _listed(server: MastodonClient, draft: Draft, url: str) -> Status:
    """Looks for an address of another form among the account's own statuses, as the server's API gives it."""
    timeline = await read_timeline(server, draft.account.remote_id, draft.compose_time - READ_BACK)
    whole = url.partition("#")[0]
    given = {whole.rstrip("/"), whole.partition("?")[0].rstrip("/")}
    for status in timeline.statuses:
        if {status.url.rstrip("/"), status.uri.rstrip("/")} & given:
            return status
    if not timeline.complete:
        raise Inconclusive("the account has too many posts to look through")
    raise NotNamed("this is not the address of a post of this account; copy it from the post's own page")
