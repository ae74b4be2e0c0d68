"""The rules for the content of a post: its formats, lengths and attachments, with the page that states each limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from regie_networks.draft import Format

VISIBILITIES = ("public", "unlisted", "private", "direct")
"""The audiences of a post; a draft has one of these, or none for the network's default. Few networks have all."""
ANY_IMAGE = "image/*"
ANY_VIDEO = "video/*"


class Unit(StrEnum):
    """The unit of a limit: bytes of UTF-8, code points of Unicode (characters), or grapheme clusters, which are what
    a reader takes for one sign."""

    BYTES = "bytes"
    CHARACTERS = "characters"
    GRAPHEMES = "graphemes"
    WEIGHTED = "weighted"
    """Grapheme clusters; links and mentions count as on the network's page."""


class MediaKind(StrEnum):
    """The kinds of attachments."""

    IMAGE = "image"
    ANIMATION = "animation"
    VIDEO = "video"


@dataclass(frozen=True, slots=True)
class Source:
    """The page that states a limit, and the day on which it was read.

    `url` begins with https://, or is the path of a page of this repository.
    """

    url: str
    read_date: date

    @property
    def public_url(self) -> str:
        """The address at which anybody can open the page; empty for a page of this repository."""
        return self.url if self.url.startswith("https://") else ""


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a network takes of something that is counted in `unit`."""

    maximum: int
    unit: Unit
    source: Source


@dataclass(frozen=True, slots=True)
class MediaRule:
    """The attachments of one kind that a network takes. None is no limit, or a limit that only the server knows.

    `content_types` may end in a star; `is_fitted` means that `prepare` makes a larger image smaller.
    """

    kind: MediaKind
    content_types: tuple[str, ...]
    source: Source
    max_bytes: int | None = None
    max_pixels: int | None = None
    is_fitted: bool = False


@dataclass(frozen=True, slots=True)
class ContentRules:
    """The content that a network accepts.

    `title` names the network in messages. `text` limits a part, `max_attachments` the attachments of a part,
    `alt_text` the description of one. `is_per_server` means that the numbers hold for a server that states none:
    `review` leaves lengths and attachments to `prepare`, which asks the server.
    """

    title: str
    formats: tuple[Format, ...]
    visibilities: tuple[str, ...]
    text: tuple[Limit, ...]
    max_attachments: int
    media: tuple[MediaRule, ...]
    alt_text: Limit | None = None
    is_per_server: bool = False
    weigh: Callable[[str], int] = len
    """Counts a text in `Unit.WEIGHTED`."""
    refusals: Mapping[MediaKind, str] = field(default_factory=dict)
    """The reason to give where a kind of attachment is refused that the network would take and not show."""

    def media_rule(self, kind: MediaKind) -> MediaRule | None:
        """Returns the rule for attachments of a kind, None where the network takes none."""
        return next((rule for rule in self.media if rule.kind is kind), None)
