"""The rules of Mastodon for the content of a status: its own defaults, for servers that leave a number out."""

from __future__ import annotations

from datetime import date
from functools import partial

from regie_networks.content import (
    ANY_IMAGE,
    ANY_VIDEO,
    VISIBILITIES,
    ContentRules,
    Limit,
    MediaKind,
    MediaRule,
    Source,
    Unit,
)
from regie_networks.draft import Format
from regie_networks.mastodon.text import counted_length

SOURCE = Source("https://docs.joinmastodon.org/entities/Instance/", date(2026, 11, 23))
RESERVED_PER_URL = 23
"""Characters that a link counts as."""

TEXT = Limit(500, Unit.WEIGHTED, SOURCE)
ALT_TEXT = Limit(1500, Unit.CHARACTERS, SOURCE)

RULES = ContentRules(
    title="Mastodon",
    formats=(Format.TEXT, Format.LINK, Format.IMAGE, Format.CAROUSEL, Format.VIDEO, Format.THREAD),
    visibilities=VISIBILITIES,
    text=(TEXT,),
    max_attachments=4,
    media=(
        MediaRule(MediaKind.IMAGE, (ANY_IMAGE,), SOURCE),
        MediaRule(MediaKind.ANIMATION, (ANY_IMAGE,), SOURCE),
        MediaRule(MediaKind.VIDEO, (ANY_VIDEO,), SOURCE),
    ),
    alt_text=ALT_TEXT,
    is_per_server=True,
    weigh=partial(counted_length, characters_reserved_per_url=RESERVED_PER_URL),
)


def fits_everywhere(text: str) -> bool:
    """True for a text within Mastodon's defaults even if a server counts its links and mentions in full.

    No server of the family is known to take less, so such a text is sent without asking for the limits first.
    """
    return max(len(text), RULES.weigh(text)) <= TEXT.maximum
