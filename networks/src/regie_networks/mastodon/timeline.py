"""An account's own statuses as its server lists them, newest first."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from regie_networks.bounds import is_id
from regie_networks.errors import FailureKind, Inconclusive
from regie_networks.http import Response
from regie_networks.mastodon.client import MastodonClient, text_of

PAGE = 40
"""The most that Mastodon gives; a server that gives less is read in more pages."""
MAX_PAGES = 25
CLOCK_NOISE = timedelta(seconds=30)
"""A `Date` has whole seconds and is made before the answer arrives; less than this is no clock that is wrong."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A picture of a status. The server names it as it was named at its upload, or anew."""

    id: str
    alt_text: str


@dataclass(frozen=True, slots=True)
class Status:
    """The compared parts of a status."""

    id: str
    url: str
    uri: str
    created: datetime
    reply_to: str
    media: tuple[Attachment, ...]
    content: str
    edited: str
    reblog: bool
    visibility: str


@dataclass(slots=True)
class Timeline:
    """`complete` is true when everything since the horizon was read."""

    statuses: list[Status] = field(default_factory=list)
    visibilities: set[str] = field(default_factory=set)
    complete: bool = False
    skew: timedelta = timedelta(0)
    """How far the server's clock is behind ours (negative) or before it, by the `Date` of its answer."""


async def read_timeline(server: MastodonClient, account_id: str, horizon: datetime) -> Timeline:
    """Reads until a status is older than the horizon or there are no more. Raises `Inconclusive` for a useless list."""
    timeline = Timeline()
    seen: set[str] = set()
    params = {"limit": str(PAGE), "exclude_reblogs": "true"}
    for _page in range(MAX_PAGES):
        statuses, skew = await _read_page(server, account_id, params)
        timeline.skew = min(timeline.skew, skew)
        # Pages may overlap by statuses that were made at the same moment; only one without any news is endless.
        fresh = [status for status in statuses if status.id not in seen]
        if statuses and not fresh:
            raise Inconclusive("The server gives the same statuses on every page")
        seen.update(status.id for status in fresh)
        timeline.visibilities.update(status.visibility for status in fresh)
        oldest = horizon + timeline.skew  # times are the server's; a clock behind ours dates new posts back
        timeline.statuses += [each for each in fresh if each.created >= oldest and not each.reblog]
        # A short page is no end: servers filter after they have counted. Only an empty one is.
        if not statuses or statuses[-1].created < oldest:
            timeline.complete = True
            break
        params["max_id"] = statuses[-1].id
    return timeline


async def _read_page(server: MastodonClient, account_id: str, params: dict[str, str]) -> tuple[list[Status], timedelta]:
    response = await server.ask(
        "GET",
        f"/api/v1/accounts/{quote(account_id, safe='')}/statuses",
        params=params,
        rejected=FailureKind.PLATFORM_ERROR,
        absent=FailureKind.PLATFORM_ERROR,
    )
    body = response.json()
    if not isinstance(body, list):
        raise Inconclusive("The server's list of statuses cannot be read")
    return [status_of(entry) for entry in body], skew_of(response, server.clock.now())


def skew_of(response: Response, now: datetime) -> timedelta:
    """Returns how far the clock of the responding server is ahead of ours; negative where it is behind."""
    try:
        skew = parsedate_to_datetime(response.headers.get("date", "")) - now
    except (ValueError, TypeError, OverflowError):
        return timedelta(0)
    return skew if abs(skew) > CLOCK_NOISE else timedelta(0)


def status_of(entry: object) -> Status:
    """Returns a status as the server shows it. Raises `Inconclusive` for an unreadable one."""
    created = moment_of(text_of(entry, "created_at"))
    status_id = text_of(entry, "id")
    if not isinstance(entry, dict) or created is None or not is_id(status_id):
        raise Inconclusive("The server's list of statuses holds one that cannot be read")
    media = entry.get("media_attachments")
    return Status(
        id=status_id,
        url=text_of(entry, "url") or text_of(entry, "uri"),
        uri=text_of(entry, "uri"),
        created=created,
        reply_to=text_of(entry, "in_reply_to_id"),
        media=tuple(
            Attachment(text_of(each, "id"), text_of(each, "description"))
            for each in (media if isinstance(media, list) else [])
        ),
        content=text_of(entry, "content"),
        edited=text_of(entry, "edited_at"),
        reblog=entry.get("reblog") is not None,
        visibility=text_of(entry, "visibility"),
    )


def moment_of(value: str) -> datetime | None:
    """Returns the time that a server writes, in UTC where it names no zone; None where it is none."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
