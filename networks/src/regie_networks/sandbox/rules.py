"""The rules of the sandbox network for the content of a post."""

from __future__ import annotations

from datetime import date

from regie_networks.content import VISIBILITIES, ContentRules, Limit, MediaKind, MediaRule, Source, Unit
from regie_networks.draft import Format

SOURCE = Source("services/sandbox/README.md", date(2026, 11, 30))
IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
MAX_MEDIA_BYTES = 10_000_000

RULES = ContentRules(
    title="The sandbox",
    formats=(Format.TEXT, Format.LINK, Format.IMAGE, Format.CAROUSEL, Format.VIDEO, Format.THREAD),
    visibilities=VISIBILITIES,
    text=(Limit(500, Unit.CHARACTERS, SOURCE),),
    max_attachments=4,
    media=(
        MediaRule(MediaKind.IMAGE, IMAGE_TYPES, SOURCE, max_bytes=MAX_MEDIA_BYTES),
        MediaRule(MediaKind.ANIMATION, IMAGE_TYPES, SOURCE, max_bytes=MAX_MEDIA_BYTES),
        MediaRule(MediaKind.VIDEO, ("video/mp4",), SOURCE, max_bytes=MAX_MEDIA_BYTES),
    ),
    alt_text=Limit(1500, Unit.CHARACTERS, SOURCE),
)
