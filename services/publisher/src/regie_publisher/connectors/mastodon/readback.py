"""Finding a segment among the account's own statuses after an unknown outcome.

The idempotency key cannot be relied upon for this: some servers ignore it, others keep it for an hour only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from regie_publisher.connectors.connector import (
    CannotTell,
    Draft,
    FailureKind,
    NotSent,
    OutcomeUnknown,
    Refused,
    Remote,
)
from regie_publisher.connectors.mastodon.server import Server, text_of
from regie_publisher.connectors.mastodon.text import exact, plain, skeleton, skeleton_of_html, without_hosts
from regie_publisher.connectors.values import is_id

CLOCK_TOLERANCE = timedelta(minutes=1)
"""How far the server's clock may be behind ours for an equal status still to be taken for the segment."""
READ_BACK = timedelta(minutes=15)
"""How far before `compose_time` the list is read. An equal status in between proves nothing, either way."""
PAGE = 20
MAX_PAGES = 10
MAX_COMPARED = 40
"""Statuses whose source is asked for: a call each."""


@dataclass(frozen=True, slots=True)
class _Status:
    id: str
    url: str
    created: datetime
    reply_to: str
    media: int
    content: str
    edited: bool
    reblog: bool
    visibility: str


@dataclass(slots=True)
class _Timeline:
    """`complete` says that nothing since the horizon was left unread."""

    statuses: list[_Status] = field(default_factory=list)
    visibilities: set[str] = field(default_factory=set)
    complete: bool = False


async def find_segment(server: Server, draft: Draft, index: int) -> Remote | None:
    """Returns the segment's status, or None when it is proven absent; raises `CannotTell` and nothing else.

    A refusal is no statement about the segment either, so it becomes `CannotTell` with the refusal as its cause.
    """
    try:
        timeline = await _read_timeline(server, draft.account.remote_id, draft.compose_time - READ_BACK)
        found = await _match(server, draft, index, timeline)
    except (NotSent, OutcomeUnknown, Refused) as error:
        raise CannotTell(f"Reading the account's statuses failed: {error}") from error
    if found is not None:
        return found
    if not timeline.complete:
        raise CannotTell(f"More than {PAGE * MAX_PAGES} statuses have followed: the list was not read to its start")
    visibility = draft.visibility or "public"
    if visibility in ("private", "direct") and visibility not in timeline.visibilities:
        # Takahe, for one, leaves these out of the list, even for their author.
        raise CannotTell(f"This server's list shows no {visibility} status, so a missing one proves nothing")
    return None


async def _match(server: Server, draft: Draft, index: int, timeline: _Timeline) -> Remote | None:
    text = draft.segments[index].text
    candidates = _candidates(draft, index, timeline)
    doubtful = len(candidates) > MAX_COMPARED
    for status in candidates[:MAX_COMPARED]:
        same = await _is_same(server, status, text)
        if same and status.created >= draft.compose_time - CLOCK_TOLERANCE:
            return Remote(status.id, status.url)
        doubtful = doubtful or same is not False
    if doubtful:
        raise CannotTell("There is a status that may be this one, and its text or its time does not prove it")
    return None


def _candidates(draft: Draft, index: int, timeline: _Timeline) -> list[_Status]:
    """Returns the statuses of the segment's shape: those that look alike first, the older before the newer.

    Visibility is no criterion: a server may turn public into unlisted, for accounts that it has limited.
    """
    segment = draft.segments[index]
    shape = (draft.remotes[index - 1].id if index > 0 else "", len(segment.pictures))
    bones = skeleton(segment.text)
    fitting = [each for each in timeline.statuses if (each.reply_to, each.media) == shape]
    return sorted(fitting, key=lambda status: (skeleton_of_html(status.content) != bones, status.created))


async def _is_same(server: Server, status: _Status, text: str) -> bool | None:
    """True and False are certain; None where the server shows the text too changed to tell."""
    source = await _read_source(server, status.id)
    if source is None:
        shown = exact(without_hosts(plain(status.content)))
        return True if shown == exact(without_hosts(text)) else None
    if exact(text) in (exact(source), exact(plain(source))):
        return True
    alike = skeleton(text) in (skeleton(source), skeleton_of_html(source), skeleton_of_html(status.content))
    return None if alike or status.edited else False


async def _read_source(server: Server, status_id: str) -> str | None:
    """Returns the text as it was sent, or None where the server does not tell."""
    answer = await server.ask(
        "GET", f"/api/v1/statuses/{quote(status_id, safe='')}/source", rejected=FailureKind.PLATFORM_ERROR, absent=None
    )
    body = answer.json()
    text = body.get("text") if isinstance(body, dict) else None
    return text if isinstance(text, str) else None


async def _read_timeline(server: Server, account_id: str, horizon: datetime) -> _Timeline:
    """Reads the account's statuses, newest first, until one is older than the horizon or there are no more."""
    timeline = _Timeline()
    seen: set[str] = set()
    params = {"limit": str(PAGE), "exclude_reblogs": "true"}
    for _page in range(MAX_PAGES):
        statuses = await _read_page(server, account_id, params)
        if seen and not {status.id for status in statuses}.isdisjoint(seen):
            raise CannotTell("The server gives the same statuses on every page")
        seen.update(status.id for status in statuses)
        timeline.visibilities.update(status.visibility for status in statuses)
        timeline.statuses += [each for each in statuses if each.created >= horizon and not each.reblog]
        # A short page is no end: servers filter after they have counted. Only an empty one is.
        if not statuses or statuses[-1].created < horizon:
            timeline.complete = True
            break
        params["max_id"] = statuses[-1].id
    return timeline


async def _read_page(server: Server, account_id: str, params: dict[str, str]) -> list[_Status]:
    answer = await server.ask(
        "GET",
        f"/api/v1/accounts/{quote(account_id, safe='')}/statuses",
        params=params,
        rejected=FailureKind.PLATFORM_ERROR,
        absent=FailureKind.PLATFORM_ERROR,
    )
    body = answer.json()
    if not isinstance(body, list):
        raise CannotTell("The server's list of statuses cannot be read")
    return [_status(entry) for entry in body]


def _status(entry: object) -> _Status:
    created = _moment(text_of(entry, "created_at"))
    status_id = text_of(entry, "id")
    if not isinstance(entry, dict) or created is None or not is_id(status_id):
        raise CannotTell("The server's list of statuses holds one that cannot be read")
    media = entry.get("media_attachments")
    return _Status(
        id=status_id,
        url=text_of(entry, "url") or text_of(entry, "uri"),
        created=created,
        reply_to=text_of(entry, "in_reply_to_id"),
        media=len(media) if isinstance(media, list) else 0,
        content=text_of(entry, "content"),
        edited=bool(entry.get("edited_at")),
        reblog=entry.get("reblog") is not None,
        visibility=text_of(entry, "visibility"),
    )


def _moment(value: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
