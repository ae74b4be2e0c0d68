"""Rules for a post's content that every network shares, and its stored form.

A variant is stored as the serialized `DueVariant` that leaves with `PostDue`, so that the due loop only copies. The
publisher checks the limits of a single network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from regie.ids.v1.prefixes import CHANNEL, MEDIA
from regie.scheduler.events.v1.scheduler_events_pb2 import DueSegment, DueVariant
from regie_chassis.boundary.errors import Invalid
from regie_chassis.boundary.ids import InvalidId, parse_id

MAX_VARIANTS = 50
MAX_SEGMENTS = 25
MAX_TEXT = 100_000  # characters in a segment
MAX_ATTACHMENTS = 4
MAX_ALT_TEXT = 10_000  # characters
MAX_TITLE = 500  # characters
MAX_BYTES = 512 * 1024  # of all variants together: PostDue carries them, and a NATS server takes messages up to 1 MiB
VISIBILITIES = frozenset({"", "public", "unlisted", "private", "direct"})
# The shape of RFC 5646, section 2.1, without the grandfathered tags; whether a subtag is registered is not looked up.
LANGUAGE = re.compile(
    r"[a-z]{2,3}(-[a-z]{3}){0,3}(-[a-z]{4})?(-([a-z]{2}|[0-9]{3}))?(-([a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"
    r"(-[0-9a-wyz](-[a-z0-9]{2,8})+)*(-x(-[a-z0-9]{1,8})+)?",
    re.IGNORECASE,
)
MAX_LANGUAGE = 35  # characters, as RFC 5646 section 4.4.1 advises


class InvalidPost(Invalid):
    """A post's content can never be accepted as it is."""


@dataclass(frozen=True, slots=True)
class StoredContent:
    """The content for one channel, checked and in its stored form."""

    channel_id: UUID
    content: bytes


def check_title(title: str) -> None:
    """Raises InvalidPost for a title that is too long or cannot be stored."""
    _check_text(title, "title", MAX_TITLE)


def check_variants(variants: Sequence[DueVariant]) -> list[StoredContent]:
    """Returns the variants in their stored form. Raises InvalidPost with the field at fault."""
    if not 1 <= len(variants) <= MAX_VARIANTS:
        raise InvalidPost(f"a post has 1 to {MAX_VARIANTS} variants, this one has {len(variants)}", field="variants")
    stored: dict[UUID, StoredContent] = {}
    for number, variant in enumerate(variants):
        field = f"variants[{number}]"
        channel_id = _parse(CHANNEL, variant.channel_id, f"{field}.channel_id")
        if channel_id in stored:
            raise InvalidPost("a channel has one variant; this is its second", field=f"{field}.channel_id")
        _check_variant(variant, field)
        stored[channel_id] = StoredContent(channel_id, variant.SerializeToString())
    if sum(len(content.content) for content in stored.values()) > MAX_BYTES:
        raise InvalidPost(f"the variants together are larger than {MAX_BYTES // 1024} KiB", field="variants")
    return list(stored.values())


def _check_variant(variant: DueVariant, field: str) -> None:
    if not 1 <= len(variant.segments) <= MAX_SEGMENTS:
        raise InvalidPost(f"a variant has 1 to {MAX_SEGMENTS} segments", field=f"{field}.segments")
    if variant.visibility not in VISIBILITIES:
        raise InvalidPost("visibility is public, unlisted, private or direct", field=f"{field}.visibility")
    if variant.language and not is_language(variant.language):
        raise InvalidPost("language is a BCP 47 tag, as in pt-BR", field=f"{field}.language")
    for number, segment in enumerate(variant.segments):
        _check_segment(segment, f"{field}.segments[{number}]")


@lru_cache(maxsize=256)
def is_language(tag: str) -> bool:
    """True for a tag with the shape of BCP 47."""
    return len(tag) <= MAX_LANGUAGE and LANGUAGE.fullmatch(tag) is not None


def _check_segment(segment: DueSegment, field: str) -> None:
    if not segment.text.strip() and not segment.attachments:
        raise InvalidPost("a segment needs a text or an attachment", field=f"{field}.text")
    _check_text(segment.text, f"{field}.text", MAX_TEXT)
    if len(segment.attachments) > MAX_ATTACHMENTS:
        raise InvalidPost(f"a segment has at most {MAX_ATTACHMENTS} attachments", field=f"{field}.attachments")
    for number, attachment in enumerate(segment.attachments):
        _parse(MEDIA, attachment.media_id, f"{field}.attachments[{number}].media_id")
        _check_text(attachment.alt_text, f"{field}.attachments[{number}].alt_text", MAX_ALT_TEXT)


def _check_text(text: str, field: str, limit: int) -> None:
    # A message holds no half of a surrogate pair: protobuf refuses it (a test compares).
    if len(text) > limit:
        raise InvalidPost(f"this is longer than {limit} characters", field=field)
    if "\x00" in text:
        raise InvalidPost("a NUL character cannot be published; remove it", field=field)


def _parse(prefix: str, text: str, field: str) -> UUID:
    try:
        return parse_id(prefix, text)
    except InvalidId as error:
        raise InvalidPost(error.message, field=field) from error
