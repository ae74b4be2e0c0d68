"""Links, mentions and hashtags in a text, as the byte ranges of `app.bsky.richtext.facet`.

A server accepts ranges that are reversed or past the end, so that a mistake here reaches every reader.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from regie_networks.graphemes import count_graphemes

MAX_TAG_GRAPHEMES = 64
MAX_TAG_BYTES = 640
MAX_HANDLE_LENGTH = 253

# What nobody sees ends a link, a mention and a hashtag: soft hyphen, zero-width space, marks of direction, BOM. Joiners
# do not, since they are part of Persian and Hindi words.
_UNSEEN = "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"
# East Asian sentences have no blanks: their punctuation, which no address is written with, is what ends a link.
_WIDE_ENDS = (
    "\u3001\u3002\u3008-\u3011\u3014-\u301f\uff01\uff02\uff07-\uff09\uff0c\uff0e\uff1a\uff1b\uff1f"
    "\uff3b\uff3d\uff5b\uff5d\uff5f-\uff65"
)
_WIDE_OPENINGS = "\u3008\u300a\u300c\u300e\u3010\u3014\u3016\u3018\u301a\uff08\uff3b\uff5b\uff5f\uff62"
_LINK = re.compile(rf"(?<![^\W_])https?://[^\s<>\"\x00-\x1f\x7f-\x9f{_UNSEEN}{_WIDE_ENDS}]+", re.IGNORECASE)
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
# Handles are ASCII, and so is what may not follow one: a Japanese particle does not belong to it.
_MENTION = re.compile(
    rf"(?<![^\s(\[{_UNSEEN}{_WIDE_OPENINGS}])"
    rf"@((?:{_LABEL}\.)+[a-zA-Z](?:[a-zA-Z0-9-]{{0,61}}[a-zA-Z0-9])?)(?![a-zA-Z0-9_@-]|\.[a-zA-Z0-9])"
)
# U+FE0F and U+20E3 after the sign make it a keycap emoji.
_TAG = re.compile(rf"(?<![^\s{_UNSEEN}])[#\uff03](?![\ufe0f\u20e3])([^\s{_UNSEEN}]+)")
_SENTENCE_ENDS = ".,;:!?"
_PAIRED = "'*_~`|"
"""Legal at the end of an address; around one, as in Markdown or quotation marks, they belong to the sentence."""
_CLOSING = {")": "(", "]": "[", "}": "{"}
_OPENING = {opening: closing for closing, opening in _CLOSING.items()}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of characters that means something: kind is link, mention or tag."""

    start: int
    end: int
    kind: str
    value: str


def spans(text: str) -> list[Span]:
    """Finds the possible facets, in order and never overlapping; a link wins over the mentions and hashtags in it."""
    kept: list[Span] = []
    taken = bytearray(len(text))
    for found in (*_links(text), *_mentions(text), *_tags(text)):
        if not any(taken[found.start : found.end]):
            taken[found.start : found.end] = b"\1" * (found.end - found.start)
            kept.append(found)
    return sorted(kept, key=lambda span: span.start)


def mentioned_handles(text: str) -> list[str]:
    """Returns the handles that a text mentions, in lower case, each once."""
    return list(dict.fromkeys(span.value for span in spans(text) if span.kind == "mention"))


def build_facets(text: str, dids: Mapping[str, str]) -> list[dict[str, object]]:
    """Returns the facets of a text. A mention without an entry in `dids` stays plain text."""
    facets: list[dict[str, object]] = []
    for span in spans(text):
        feature = _feature(span, dids)
        if feature is not None:
            start = len(text[: span.start].encode())
            end = start + len(text[span.start : span.end].encode())
            facets.append({"index": {"byteStart": start, "byteEnd": end}, "features": [feature]})
    return facets


def _feature(span: Span, dids: Mapping[str, str]) -> dict[str, object] | None:
    if span.kind == "link":
        return {"$type": "app.bsky.richtext.facet#link", "uri": span.value}
    if span.kind == "tag":
        return {"$type": "app.bsky.richtext.facet#tag", "tag": span.value}
    did = dids.get(span.value)
    return {"$type": "app.bsky.richtext.facet#mention", "did": did} if did else None


def _links(text: str) -> Iterator[Span]:
    for match in _LINK.finditer(text):
        uri = _without_tail(match.group(), before=text[: match.start()])
        if _has_host(uri):
            yield Span(match.start(), match.start() + len(uri), "link", uri)


def _mentions(text: str) -> Iterator[Span]:
    for match in _MENTION.finditer(text):
        handle = match.group(1).lower()
        if len(handle) <= MAX_HANDLE_LENGTH:
            yield Span(match.start(), match.end(), "mention", handle)


def _tags(text: str) -> Iterator[Span]:
    for match in _TAG.finditer(text):
        tag = match.group(1)
        while tag and _is_punctuation(tag[-1]):
            tag = tag[:-1]
        if _is_tag(tag):
            yield Span(match.start(), match.start(1) + len(tag), "tag", tag)


def _is_tag(tag: str) -> bool:
    if tag.startswith(("#", "\uff03")) or all(char.isdigit() or _is_punctuation(char) for char in tag):
        return False
    return len(tag.encode()) <= MAX_TAG_BYTES and count_graphemes(tag) <= MAX_TAG_GRAPHEMES


def _is_punctuation(char: str) -> bool:
    return unicodedata.category(char).startswith("P")


def _without_tail(uri: str, before: str) -> str:
    """Drops the punctuation of the sentence around a link, and keeps the link's own.

    Brackets stay where the link opened them; signs such as `*` go only where the same stand before the link.
    """
    if before.endswith(tuple(_OPENING)):
        uri = _until_closed(uri, before[-1])
    pairs = before[len(before.rstrip(_PAIRED)) :]
    while uri:
        last = uri[-1]
        opening = _CLOSING.get(last)
        if pairs and last == pairs[-1]:
            pairs = pairs[:-1]
        elif not (_ends_sentence(last) or (opening and uri.count(last) > uri.count(opening))):
            break
        uri = uri[:-1]
    return uri


def _ends_sentence(char: str) -> bool:
    return char in _SENTENCE_ENDS or (not char.isascii() and _is_punctuation(char))


def _until_closed(uri: str, opening: str) -> str:
    """Cuts a link that stands in a bracket where the bracket is closed again."""
    depth, closing = 1, _OPENING[opening]
    for position, char in enumerate(uri):
        depth += (char == opening) - (char == closing)
        if depth == 0:
            return uri[:position]
    return uri


def _has_host(uri: str) -> bool:
    try:
        host = urlsplit(uri).hostname
    except ValueError:
        return False
    return bool(host) and any(char.isalnum() for char in host or "")
