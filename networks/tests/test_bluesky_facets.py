"""Links, mentions and hashtags are found, with exactly their own bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_networks.bluesky.facets import build_facets, mentioned_handles, spans

DIDS = {"alice.test": "did:plc:alice"}

pieces = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            " ",
            "\n",
            "#",
            "@",
            "#Größe",
            "#日本語",
            "@alice.test",
            "https://example.com/ä?q=#x",
            "(https://a.b/(c))",
            "👨‍👩‍👧‍👦",
            "#️⃣",
            ".",
        ]
    ),
)
texts = st.lists(pieces, max_size=12).map("".join)


def cuts(text: str) -> list[str]:
    return [text[span.start : span.end] for span in spans(text)]


@given(texts)
def test_every_byte_range_cuts_out_exactly_what_was_found(text: str) -> None:
    facets: list[Any] = build_facets(text, dict.fromkeys(mentioned_handles(text), "did:plc:someone"))
    data = text.encode()
    assert [data[one["index"]["byteStart"] : one["index"]["byteEnd"]].decode() for one in facets] == cuts(text)
    for facet, cut in zip(facets, cuts(text), strict=True):
        feature = facet["features"][0]
        assert cut in (feature.get("uri"), "#" + feature.get("tag", ""), "\uff03" + feature.get("tag", "")) or (
            cut.startswith("@") and feature["did"] == "did:plc:someone"
        )


@given(texts)
def test_ranges_never_overlap_and_are_never_empty(text: str) -> None:
    end = 0
    facets: list[Any] = build_facets(text, dict.fromkeys(mentioned_handles(text), "did:plc:someone"))
    for facet in facets:
        assert end <= facet["index"]["byteStart"] < facet["index"]["byteEnd"] <= len(text.encode())
        end = facet["index"]["byteEnd"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see https://example.com.", ["https://example.com"]),
        ("(https://example.com/a_(b))", ["https://example.com/a_(b)"]),
        ("“https://example.com/ä”", ["https://example.com/ä"]),
        ("HTTP://EXAMPLE.COM/A, and", ["HTTP://EXAMPLE.COM/A"]),
        ("https://example.com/#part", ["https://example.com/#part"]),
        ("https:// https://. ftp://example.com xhttps://example.com", []),
        ("http://[broken", []),
        # What may end an address stays, as in the official client; only pairs around it go.
        ("https://play.example/p/vhIPYQjX8_ ok", ["https://play.example/p/vhIPYQjX8_"]),
        (
            "https://example.com/~ https://example.com/a* https://example.com/=",
            [
                "https://example.com/~",
                "https://example.com/a*",
                "https://example.com/=",
            ],
        ),
        ("*https://example.com/a* _https://example.com/b_", ["https://example.com/a", "https://example.com/b"]),
        ("**https://example.com/a**, 'https://example.com/b'.", ["https://example.com/a", "https://example.com/b"]),
        ("https://example.com/a_?!", ["https://example.com/a_"]),
        # A sentence in any script ends a link.
        ("https://example.com/a。", ["https://example.com/a"]),
        ("https://example.com/a。次の文", ["https://example.com/a"]),
        ("\uff08https://example.com\uff09と", ["https://example.com"]),
        ("(https://example.com)と [https://example.com/[a]]b", ["https://example.com", "https://example.com/[a]"]),
        ("「https://example.com/」、https://example.com\uff01", ["https://example.com/", "https://example.com"]),
        (
            "https://ja.example/wiki/日本語 https://例え.jp/道?q=1",
            [
                "https://ja.example/wiki/日本語",
                "https://例え.jp/道?q=1",
            ],
        ),
        ("https://example.com/a… «https://example.com/b»", ["https://example.com/a", "https://example.com/b"]),
        (
            "https://example.com/\u200btext \u202bhttps://example.com\u202c",
            [
                "https://example.com/",
                "https://example.com",
            ],
        ),
        (
            "https://example.com/a\u200e \u2066https://example.com/b\u2069 https://example.com/c\ufeffd",
            [
                "https://example.com/a",
                "https://example.com/b",
                "https://example.com/c",
            ],
        ),
        ("https://fa.example/می\u200cشود", ["https://fa.example/می\u200cشود"]),
        ("example.com and www.example.com", []),
    ],
)
def test_links_are_found(text: str, found: list[str]) -> None:
    assert cuts(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("@alice.test", ["alice.test"]),
        ("(@Alice.Test), @bob.example.org.", ["alice.test", "bob.example.org"]),
        ("@alice.test @alice.test", ["alice.test"]),
        ("mail alice@alice.test, @alice, @alice@mastodon.social, @-a.test @a.1 l'@alice.test", []),
        ("こんにちは @ami1.testさん", ["ami1.test"]),
        ("@alice.testé @bob.test。 \uff08@eve.test\uff09", ["alice.test", "bob.test", "eve.test"]),
        ("\u2068@alice.test\u2069 @bob.test\u200b", ["alice.test", "bob.test"]),
        ("@alice.test_ @alice.test-", []),
        ("@" + ".".join(["a" * 60] * 5) + ".test", []),
    ],
)
def test_mentions_are_found(text: str, found: list[str]) -> None:
    assert mentioned_handles(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("#one #Größe! #日本語 #2026plan", ["#one", "#Größe", "#日本語", "#2026plan"]),
        ("\uff03全角", ["\uff03全角"]),
        ("#don't #a.b...", ["#don't", "#a.b"]),
        ("#2026 #1,000 # #! ##twice a#b #️⃣ #\u20e3", []),
        ("#می\u200cشود #क्\u200dष", ["#می\u200cشود", "#क्\u200dष"]),
        ("\u202b#tag\u202c #b\u2069 (#no)", ["#tag", "#b"]),
        ("#" + "a" * 64, ["#" + "a" * 64]),
        ("#" + "a" * 65, []),
        ("#" + "👩‍👩‍👧‍👦" * 30, []),
    ],
)
def test_hashtags_are_found(text: str, found: list[str]) -> None:
    assert cuts(text) == found


def test_a_mention_of_nobody_stays_plain_text() -> None:
    facets: list[Any] = build_facets("@alice.test @nobody.test", {**DIDS, "nobody.test": ""})
    assert [facet["features"][0]["did"] for facet in facets] == ["did:plc:alice"]
