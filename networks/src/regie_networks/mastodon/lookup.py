"""Finding a segment among the account's own statuses after an unknown outcome.

A status counts as the segment only where nothing else is possible: no other delivery holds it, and no delivery with
an open outcome would look the same. A status that is certainly another one is skipped without a call.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import quote

from regie_networks.draft import Draft, Remote, Segment
from regie_networks.errors import FailureKind, Inconclusive
from regie_networks.lookup import Lookup, Others
from regie_networks.mastodon.client import MastodonClient
from regie_networks.mastodon.media import media_ids
from regie_networks.mastodon.text import (
    as_sent,
    exact,
    is_another_text,
    is_like,
    shows,
    skeleton,
    skeleton_of_html,
)
from regie_networks.mastodon.timeline import Status, Timeline, read_timeline

CLOCK_TOLERANCE = timedelta(minutes=1)
"""How far the server's clock may be behind ours for an equal status still to be taken for the segment."""
READ_BACK = timedelta(minutes=15)
"""How far before `compose_time` the list is read. An equal status in between proves nothing, either way."""
MAX_COMPARED = 40
"""Sources read in one look, a call each. The next look goes on with the rest."""
KEPT_SOURCES = 1000


class SourceCache:
    """The texts of statuses as they were sent, by server, status and edit. They never change."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    def get(self, server: MastodonClient, status: Status) -> str | None:
        return self._kept.get((server.url, status.id, status.edited))

    async def read(self, server: MastodonClient, status: Status) -> str | None:
        """Reads the source text; None where the server does not show it."""
        response = await server.ask(
            "GET",
            f"/api/v1/statuses/{quote(status.id, safe='')}/source",
            rejected=FailureKind.PLATFORM_ERROR,
            absent=None,
        )
        body = response.json()
        text = body.get("text") if isinstance(body, dict) else None
        if not isinstance(text, str):
            return None
        self._kept[server.url, status.id, status.edited] = text
        while len(self._kept) > KEPT_SOURCES:
            self._kept.popitem(last=False)
        return text


async def find_segment(
    server: MastodonClient, draft: Draft, index: int, look: Lookup, *, sources: SourceCache, keeps_media_ids: bool
) -> Remote | None:
    """Returns the segment's status, or None when it is not among the account's statuses.

    `keeps_media_ids` is true for a server that is known to keep the id of an upload in its status.
    """

    async def load() -> tuple[Timeline, Sequence[str]]:
        timeline = await read_timeline(server, draft.account.remote_id, look.since - READ_BACK)
        return timeline, [name for status in timeline.statuses for name in (status.id, status.url)]

    timeline, others = await look.read(load)
    match = _Match(draft, index, others, keeps_media_ids, timeline.skew)
    found = await _search(server, match, timeline, sources)
    if found is not None:
        return Remote(found.id, found.url)
    if not timeline.complete:
        raise Inconclusive(f"More than {len(timeline.statuses)} statuses have followed: the list has no end in reach")
    visibility = draft.visibility or "public"
    if visibility in ("private", "direct") and visibility not in timeline.visibilities:
        # Takahe, for one, leaves these out of the list, even for their author.
        raise Inconclusive(f"This server's list shows no {visibility} status, so a missing one proves nothing")
    return None


async def _search(server: MastodonClient, match: _Match, timeline: Timeline, sources: SourceCache) -> Status | None:
    candidates = match.candidates(timeline)
    certain = next((status for status in candidates if match.has_its_attachments(status)), None)
    if certain is not None:
        return certain
    doubtful: Status | None = None
    compared = 0
    for status in candidates:
        source = sources.get(server, status)
        if source is None:
            if compared == MAX_COMPARED:
                raise Inconclusive("There are more alike statuses than one look compares; the next one goes on")
            compared += 1
            source = await sources.read(server, status)
        same = match.is_same(status, source)
        if same and status.created >= match.compose_time - CLOCK_TOLERANCE:
            match.check_rivals(status, source)
            return status
        if same is not False:
            doubtful = doubtful or status
    if doubtful is not None:
        raise Inconclusive(f"{_place_of(doubtful)} may be this one, and its text or its time does not prove it")
    return None


def _place_of(status: Status) -> str:
    return f"The status {status.url or status.id}"


class _Match:
    """A segment, and the conditions for a status to count as it."""

    def __init__(self, draft: Draft, index: int, others: Others, keeps_media_ids: bool, skew: timedelta) -> None:
        self._segment: Segment = draft.segments[index]
        self._text = self._segment.text
        self._reply_to = draft.remotes[index - 1].id if index > 0 else ""
        self._media = frozenset(media_ids(draft, self._segment)) if self._segment.attachments else frozenset()
        self._alt_texts = Counter(exact(picture.alt_text) for picture in self._segment.attachments)
        self._others = others
        self._keeps_media_ids = keeps_media_ids
        self.compose_time = draft.compose_time + skew

    def candidates(self, timeline: Timeline) -> list[Status]:
        """Returns the statuses that may be the segment: equal ones first, the older before the newer.

        Visibility is no criterion: a server may turn public into unlisted, for accounts that it has limited.
        """
        bones = skeleton(self._text)
        fitting = [status for status in timeline.statuses if self._fits(status)]
        return sorted(fitting, key=lambda status: (skeleton_of_html(status.content) != bones, status.created))

    def has_its_attachments(self, status: Status) -> bool:
        """True is certain: the server gives an uploaded picture to one status only."""
        return bool(self._media) and {each.id for each in status.media} == self._media

    def is_same(self, status: Status, source: str | None) -> bool | None:
        """True and False are certain; None where the server shows text or pictures too changed to decide."""
        same = self._has_its_text(status, source)
        if not same or not self._segment.attachments:
            return same
        alike = Counter(exact(each.alt_text) for each in status.media) == self._alt_texts
        described = any(self._alt_texts) or bool(self._text.strip())
        return True if alike and described else None

    def check_rivals(self, status: Status, source: str | None) -> None:
        """Raises `Inconclusive` where another open delivery would recognise its post in the same status."""
        by_source = source is not None and as_sent(source) == as_sent(self._text)
        for rival in self._others.rivals:
            same_place = rival.key != self._segment.key and rival.reply_to == self._reply_to
            if not same_place or len(rival.alt_texts) != len(self._segment.attachments):
                continue
            if by_source:
                same = as_sent(rival.text) == as_sent(self._text)
            elif source is not None:
                same = exact(rival.text) == exact(self._text)
            else:
                same = skeleton(rival.text) == skeleton(self._text)
            if same:
                message = f"{_place_of(status)} is like it, and another delivery of the same content waits for its own"
                raise Inconclusive(message)

    def _fits(self, status: Status) -> bool:
        if status.created < self.compose_time - READ_BACK or not self._others.taken.isdisjoint((status.id, status.url)):
            return False
        if (status.reply_to, len(status.media)) != (self._reply_to, len(self._segment.attachments)):
            return False
        if self.has_its_attachments(status):
            return True
        if self._segment.attachments and self._keeps_media_ids:
            return False
        return bool(status.edited) or not is_another_text(self._text, status.content)

    def _has_its_text(self, status: Status, source: str | None) -> bool | None:
        if shows(self._text, status.content, source):
            return True
        if source is None or status.edited:
            return None
        return None if is_like(self._text, status.content, source) else False
