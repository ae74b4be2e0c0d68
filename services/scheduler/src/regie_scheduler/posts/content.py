"""What a post says: the rules that every network shares, and the form in which it is stored.

A variant is stored as the serialized `DueVariant` that will leave with `PostDue`, so that the due loop only copies.
What a single network allows is the publisher's to know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from regie.scheduler.events.v1.scheduler_events_pb2 import DueAttachment, DueSegment, DueVariant
from regie_chassis.errors import Invalid
from regie_chassis.ids import CHANNEL, MEDIA, InvalidId, parse_id

MOST_VARIANTS = 50
MOST_SEGMENTS = 25
MOST_TEXT = 100_000  # characters in a segment
MOST_ATTACHMENTS = 4
MOST_ALT_TEXT = 10_000  # characters
MOST_TITLE = 500  # characters
MOST_BYTES = 512 * 1024  # of all variants together: PostDue carries them, and a NATS server takes messages up to 1 MiB
VISIBILITIES = frozenset({"", "public", "unlisted", "private", "direct"})
# The shape of RFC 5646, section 2.1, without the grandfathered tags; whether a subtag is registered is not looked up.
LANGUAGE = re.compile(
    r"[a-z]{2,3}(-[a-z]{3}){0,3}(-[a-z]{4})?(-([a-z]{2}|[0-9]{3}))?(-([a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"
    r"(-[0-9a-wyz](-[a-z0-9]{2,8})+)*(-x(-[a-z0-9]{1,8})+)?",
    re.IGNORECASE,
)
MOST_LANGUAGE = 35  # characters, as RFC 5646 section 4.4.1 advises


class InvalidPost(Invalid):
    """A post's content can never be accepted as it is."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A picture with its description."""

    media_id: str
    alt_text: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a thread."""

    text: str
    attachments: Sequence[Attachment]


@dataclass(frozen=True, slots=True)
class Content:
    """What a post is to say on one channel, as it came in."""

    channel_id: str
    segments: Sequence[Segment]
    visibility: str
    language: str


@dataclass(frozen=True, slots=True)
class StoredContent:
    """What a post says on one channel, checked and in its stored form."""

    channel_id: UUID
    content: bytes


def check_title(title: str) -> None:
    """Raises InvalidPost for a title that is too long or cannot be stored."""
    _check_text(title, "title", MOST_TITLE)


def check_contents(contents: Sequence[Content]) -> list[StoredContent]:
    """Returns the variants in their stored form. Raises InvalidPost with the field to blame."""
    if not 1 <= len(contents) <= MOST_VARIANTS:
        raise InvalidPost(f"a post has 1 to {MOST_VARIANTS} variants, this one has {len(contents)}", field="variants")
    stored: dict[UUID, StoredContent] = {}
    for number, content in enumerate(contents):
        field = f"variants[{number}]"
        channel_id = _parse(CHANNEL, content.channel_id, f"{field}.channel_id")
        if channel_id in stored:
            raise InvalidPost("a channel has one variant; this is its second", field=f"{field}.channel_id")
        _check_content(content, field)
        stored[channel_id] = StoredContent(channel_id, _encode(content))
    if sum(len(one.content) for one in stored.values()) > MOST_BYTES:
        raise InvalidPost(f"the variants together are larger than {MOST_BYTES // 1024} KiB", field="variants")
    return list(stored.values())


def _check_content(content: Content, field: str) -> None:
    if not 1 <= len(content.segments) <= MOST_SEGMENTS:
        raise InvalidPost(f"a variant has 1 to {MOST_SEGMENTS} segments", field=f"{field}.segments")
    if content.visibility not in VISIBILITIES:
        raise InvalidPost("visibility is public, unlisted, private or direct", field=f"{field}.visibility")
    if content.language and not is_language(content.language):
        raise InvalidPost("language is a BCP 47 tag, as in pt-BR", field=f"{field}.language")
    for number, segment in enumerate(content.segments):
        _check_segment(segment, f"{field}.segments[{number}]")


@lru_cache(maxsize=256)
def is_language(tag: str) -> bool:
    """True for what has the shape of a BCP 47 tag."""
    return len(tag) <= MOST_LANGUAGE and LANGUAGE.fullmatch(tag) is not None


def _check_segment(segment: Segment, field: str) -> None:
    if not segment.text.strip() and not segment.attachments:
        raise InvalidPost("a segment needs a text or an attachment", field=f"{field}.text")
    _check_text(segment.text, f"{field}.text", MOST_TEXT)
    if len(segment.attachments) > MOST_ATTACHMENTS:
        raise InvalidPost(f"a segment has at most {MOST_ATTACHMENTS} attachments", field=f"{field}.attachments")
    for number, attachment in enumerate(segment.attachments):
        _parse(MEDIA, attachment.media_id, f"{field}.attachments[{number}].media_id")
        _check_text(attachment.alt_text, f"{field}.attachments[{number}].alt_text", MOST_ALT_TEXT)


def _check_text(text: str, field: str, most: int) -> None:
    if len(text) > most:
        raise InvalidPost(f"this is longer than {most} characters", field=field)
    if "\x00" in text:
        raise InvalidPost("a NUL character cannot be published; remove it", field=field)
    if not text.isascii() and any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        raise InvalidPost("half of a surrogate pair is not a character; remove it", field=field)


def _parse(prefix: str, text: str, field: str) -> UUID:
    try:
        return parse_id(prefix, text)
    except InvalidId as error:
        raise InvalidPost(error.message, field=field) from error


def _encode(content: Content) -> bytes:
    return DueVariant(
        channel_id=content.channel_id,
        segments=_segments(content),
        visibility=content.visibility,
        language=content.language,
    ).SerializeToString()


def _segments(content: Content) -> Iterator[DueSegment]:
    for segment in content.segments:
        attachments = [DueAttachment(media_id=one.media_id, alt_text=one.alt_text) for one in segment.attachments]
        yield DueSegment(text=segment.text, attachments=attachments)
