"""Links, mentions and hashtags in a text, as the byte ranges that `app.bsky.richtext.facet` wants.

A server accepts ranges that are reversed or past the end, so that what is wrong here is wrong for every reader.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from regie_publisher.connectors.graphemes import count_graphemes

MAX_TAG_GRAPHEMES = 64
MAX_TAG_BYTES = 640
MAX_HANDLE_LENGTH = 253

_LINK = re.compile(r"(?<!\w)https?://[^\s<>\"\ufeff]+", re.IGNORECASE)
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_MENTION = re.compile(rf"(?<![^\s(\[])@((?:{_LABEL}\.)+[a-zA-Z](?:[a-zA-Z0-9-]{{0,61}}[a-zA-Z0-9])?)(?![\w@-]|\.\w)")
# A hashtag ends at white space and at what nobody can see but joiners, which are part of Persian and Hindi words;
# U+FE0F and U+20E3 after the sign make it a keycap emoji.
_TAG = re.compile(r"(?<!\S)[#\uff03](?![\ufe0f\u20e3])([^\s\u00ad\u200b\u200e\u200f\u2060\ufeff]+)")
_SENTENCE_ENDS = ".,;:!?'*_~\u2026\u2019\u201d\u00bb"
_CLOSING = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of characters that means something: kind is link, mention or tag."""

    start: int
    end: int
    kind: str
    value: str


def spans(text: str) -> list[Span]:
    """Finds what can become a facet, in order and never overlapping; a link wins over what stands in it."""
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
    """Returns the facets of a text. A mention whose handle has no entry in `dids` stays plain text."""
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
        uri = _without_tail(match.group())
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


def _without_tail(uri: str) -> str:
    """Drops the punctuation of the sentence around a link, but keeps brackets that the link itself opened."""
    while uri:
        last = uri[-1]
        opening = _CLOSING.get(last)
        unbalanced = opening is not None and uri.count(last) > uri.count(opening)
        if not unbalanced and last not in _SENTENCE_ENDS:
            break
        uri = uri[:-1]
    return uri


def _has_host(uri: str) -> bool:
    try:
        host = urlsplit(uri).hostname
    except ValueError:
        return False
    return bool(host) and any(char.isalnum() for char in host or "")
