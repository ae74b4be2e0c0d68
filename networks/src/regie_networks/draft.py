"""A delivery as connectors see it: the account, the segments with their pictures, and their places on the network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from regie_networks import bounds
from regie_networks.errors import FailureKind, OutcomeUnknown, Refused
from regie_networks.rendition import Bounds, Rendition


class Format(StrEnum):
    """The formats of a post, one list for all services."""

    TEXT = "text"
    LINK = "link"
    IMAGE = "image"
    CAROUSEL = "carousel"
    VIDEO = "video"
    REEL = "reel"
    STORY = "story"
    SHORT = "short"
    ARTICLE = "article"
    THREAD = "thread"
    POLL = "poll"
    DOCUMENT = "document"
    EVENT = "event"
    OFFER = "offer"


class Credentials(Protocol):
    """The opened secrets of one channel."""

    @property
    def secrets(self) -> Mapping[str, str]:
        """The newest secrets known to this process."""

    async def refresh(
        self,
        used: Mapping[str, str],
        renew: Callable[[Mapping[str, str]], Awaitable[Mapping[str, str]]],
    ) -> Mapping[str, str]:
        """Renews the secrets once, however many callers find them expired at the same time.

        `used` are the secrets that the network called expired. When somebody has renewed them since, those are
        returned and `renew` is not called; else `renew(used)` runs, and its result is sealed and committed
        before it is returned.

        `renew` raises `Refused(AUTH_EXPIRED)` only where the network itself proves that the secrets are useless, and
        `OutcomeUnknown` where its answer is lost: then the secrets may be spent, `NotSent` is raised here, and the
        same ones are offered again a few times, ever more rarely.
        """


@dataclass(frozen=True, slots=True)
class Account:
    """A connected account as a connector sees it."""

    server_url: str
    remote_id: str
    handle: str
    credentials: Credentials


async def _fit_nothing(_bounds: Bounds) -> Rendition:
    raise Refused(FailureKind.MEDIA_REJECTED, "The picture cannot be made smaller here")


@dataclass(frozen=True, slots=True)
class Picture:
    """An attached picture: upright, sRGB, nothing in it but the picture (ADR 0022).

    `read` loads its bytes; `width` and `height` are pixels, `size` is bytes; `frames` is more than 1 for an animation.
    `fit` makes a still form within bounds, in `prepare` and under limits; it raises `Refused` or `NotSent`.
    """

    media_id: str
    alt_text: str
    content_type: str
    size: int
    width: int
    height: int
    read: Callable[[], Awaitable[bytes]]
    frames: int = 1
    fit: Callable[[Bounds], Awaitable[Rendition]] = _fit_nothing


@dataclass(frozen=True, slots=True)
class Video:
    """An attached video. `stream` yields its bytes, `size` of them, each time that it is called."""

    media_id: str
    alt_text: str
    content_type: str
    size: int
    width: int
    height: int
    duration: timedelta
    stream: Callable[[], AsyncIterator[bytes]]


Attachment = Picture | Video


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a thread. `key` is unique, chosen before the first attempt, and the same in every attempt."""

    key: str
    text: str
    pictures: tuple[Picture, ...] = ()
    video: Video | None = None

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """The pictures and the video, in the order of display."""
        return self.pictures if self.video is None else (*self.pictures, self.video)


@dataclass(frozen=True, slots=True)
class Remote:
    """A segment on the network. `id` is the network's id for replies, `url` the address for people.

    The connector checks the id with `bounds.is_id`. `url` is empty where the network, or a person, gave no address
    that is safe to open.
    """

    id: str
    url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", bounds.web_url(self.url))


@dataclass(frozen=True, slots=True)
class Processing:
    """The network took the segment and is still working on it; `check` asks again after `check_after`."""

    handle: str
    check_after: timedelta

    def __post_init__(self) -> None:
        if len(self.handle) > bounds.MAX_HANDLE:
            raise OutcomeUnknown("The server took the post and gave it a handle that is too long to keep")
        object.__setattr__(self, "check_after", min(max(self.check_after, bounds.MIN_WAIT), bounds.MAX_WAIT))


@dataclass(slots=True)
class Draft:
    """One delivery as a connector sees it.

    `compose_time` is fixed with the delivery (UTC), so that every attempt sends the same bytes. `handles` are the
    values that `prepare` saved; `remotes` are the published segments, in order: segment n replies to the remote
    before it. `format` is None where it follows from the content (`format_of`).
    """

    account: Account
    segments: Sequence[Segment]
    visibility: str
    language: str
    compose_time: datetime
    handles: dict[str, str] = field(default_factory=dict)
    remotes: list[Remote] = field(default_factory=list)
    format: Format | None = None


def format_of(draft: Draft) -> Format:
    """Returns the draft's format, by its content where it has none of its own."""
    if draft.format is not None:
        return draft.format
    if len(draft.segments) > 1:
        return Format.THREAD
    attachments = draft.segments[0].attachments
    if any(isinstance(one, Video) for one in attachments):
        return Format.VIDEO
    return (Format.TEXT, Format.IMAGE, Format.CAROUSEL)[min(len(attachments), 2)]
