"""The rules of Bluesky for the content of a post."""

from __future__ import annotations

import re
from datetime import date

from regie_networks.content import ANY_IMAGE, ContentRules, Limit, MediaKind, MediaRule, Source, Unit
from regie_networks.draft import Draft, Format
from regie_networks.errors import FailureKind, Unacceptable
from regie_networks.review import review_draft

LEXICONS = "https://github.com/bluesky-social/atproto/blob/main/lexicons/app/bsky"
POST = Source(f"{LEXICONS}/feed/post.json", date(2026, 11, 23))
IMAGES = Source(f"{LEXICONS}/embed/images.json", date(2026, 11, 23))
MAX_GRAPHEMES = 300
MAX_BYTES = 3000
MAX_PICTURES = 4
MAX_PICTURE_BYTES = 2_000_000

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")

RULES = ContentRules(
    title="Bluesky",
    formats=(Format.TEXT, Format.IMAGE, Format.CAROUSEL, Format.THREAD),
    visibilities=("public",),
    text=(Limit(MAX_BYTES, Unit.BYTES, POST), Limit(MAX_GRAPHEMES, Unit.GRAPHEMES, POST)),
    max_attachments=MAX_PICTURES,
    media=(MediaRule(MediaKind.IMAGE, (ANY_IMAGE,), IMAGES, max_bytes=MAX_PICTURE_BYTES, is_fitted=True),),
    refusals={
        MediaKind.ANIMATION: "Bluesky shows only the first frame of an animation: attach a still picture",
    },
)


def review(draft: Draft) -> None:
    """Raises `Unacceptable` for content that every Bluesky server refuses."""
    if draft.language and not _LANGUAGE.fullmatch(draft.language):
        raise Unacceptable(FailureKind.CONTENT_REJECTED, "The language is no BCP 47 tag such as en or pt-BR")
    review_draft(RULES, draft)
