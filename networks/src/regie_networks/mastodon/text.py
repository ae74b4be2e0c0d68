"""Text as Mastodon counts it, and comparison with the text that a server returns."""

from __future__ import annotations

import html
import re
import unicodedata

from regie_networks.graphemes import count_graphemes

_URL = r"""
    (?<![A-Za-z0-9@\uFF20$\#\uFF03])
    (?P<url>https?://(?:[\w-]+\.)+[^\W\d_][\w-]*(?::[0-9]+)?
        (?:[/?\#](?:(?:[^\s<>()]|\([^\s<>()]*\))*(?:[^\s<>()?!*"'「」:;=,.$%\[\]~&|@]|\([^\s<>()]*\)))?)?
    )"""
_MENTION = r"""
    (?<![=/\w])
    (?>@(?P<local>[A-Za-z0-9_]+(?:[.-]+[A-Za-z0-9_]+)*)(?P<host>@\w+(?:[.-]+\w+)*)?)
    (?![@\uFF20]|://)"""
_ENTITY = re.compile(f"{_URL}|{_MENTION}", re.VERBOSE | re.IGNORECASE)

# Each of these gives up at the next "<", so that no server can make them slow.
_BREAK = re.compile(r"(?i)<(?:br|/?(?:p|div|li|ul|ol|blockquote|pre|h[1-6]))\b[^<>]*>")
_TAG = re.compile(r"<[^<>]*>")
_LINK = re.compile(r"(?is)<a\b[^<>]*>((?:(?!<a\b).)*?)</a\s*>")
_BLANK = ("Cc", "Zs", "Zl", "Zp")


def counted_length(text: str, characters_reserved_per_url: int) -> int:
    """Returns how many characters the server counts: grapheme clusters, a link as the reserved number, of a mention
    only the local part.

    Where a link is doubtful, the server decides: this count only spares a call.
    """

    def stand_in(found: re.Match[str]) -> str:
        return "x" * characters_reserved_per_url if found["url"] else f"@{found['local']}"

    return count_graphemes(_ENTITY.sub(stand_in, text.strip()))


def plain(content: str) -> str:
    """Returns the text of a status' HTML. The parts of a link that are hidden by style alone are kept."""
    return html.unescape(_TAG.sub("", _BREAK.sub("\n", content)))


def as_sent(text: str) -> str:
    """Returns the form that is equal for a text and a server's source of it, without blanks at the ends."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n").strip())


def exact(text: str) -> str:
    """Returns the form that is equal for equal texts in HTML: the amount of white space does not matter.

    Its presence does: "now here" is not "nowhere". Invisible characters count as no white space.
    """
    shown = (" " if (kind := unicodedata.category(sign)) in _BLANK else "" if kind == "Cf" else sign for sign in text)
    return unicodedata.normalize("NFC", " ".join("".join(shown).split()))


def without_hosts(text: str) -> str:
    """Returns the text with every mention cut to its local part, as HTML shows it."""
    return _ENTITY.sub(lambda found: found[0] if found["url"] else f"@{found['local']}", text)


def skeleton(text: str) -> str:
    """Returns the letters and digits, without links and hosts: equal in every server's version of the same text.

    Markdown, typography and shortened links do not change it, so that texts that differ only in them are alike too.
    """
    bare = _ENTITY.sub(lambda found: " " if found["url"] else f"@{found['local']}", text)
    return "".join(sign for sign in unicodedata.normalize("NFKC", bare).casefold() if sign.isalnum())


def skeleton_of_html(content: str) -> str:
    def keep_mentions(found: re.Match[str]) -> str:
        shown = plain(found[1]).lstrip()
        return found[0] if shown.startswith(("@", "#")) else " "

    return skeleton(plain(_LINK.sub(keep_mentions, content)))


def shows(text: str, content: str, source: str | None) -> bool:
    """True where a status' HTML and its source, if the server shows it, are certainly of the text."""
    if source is None:
        return exact(without_hosts(plain(content))) == exact(without_hosts(text))
    if as_sent(text) == as_sent(source):
        return True
    return "<" in source and exact(text) == exact(plain(source))  # HTML as the source: white space is the server's own


def is_like(text: str, content: str, source: str | None) -> bool:
    """True where they are of the text but for links, signs and markup."""
    shown = (content,) if source is None else (source, content)
    bones = skeleton(text)
    return bones in map(skeleton_of_html, shown) or (source is not None and bones == skeleton(source))


def is_another_text(text: str, content: str) -> bool:
    """True when a status' HTML is certainly of another text, under any markup.

    Markup moves, adds and drops little of a text; two texts that share less than a third of their runs of letters, in
    either direction, are two. Short texts have too few runs, so only their length is compared.
    """
    bones, shown_bones = skeleton(text), skeleton(plain(content))
    sent, shown = _runs(bones), _runs(shown_bones)
    if not sent or not shown:
        return not sent and len(shown_bones) > 3 * max(len(bones), 10)
    shared = len(sent & shown)
    return shared * 3 < len(sent) and shared * 3 < len(shown)


def _runs(bones: str) -> frozenset[str]:
    """Returns the runs of four letters, without digits: lists lose them, and templates differ by them alone."""
    letters = "".join(sign for sign in bones if sign.isalpha())
    return frozenset(letters[at : at + 4] for at in range(len(letters) - 3))
