"""Links, mentions and hashtags: what is found, and that its bytes are exactly its own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_publisher.connectors.bluesky.facets import build_facets, mentioned_handles, spans

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
        ("mail alice@alice.test, @alice, @alice@mastodon.social, @alice.testé @-a.test @a.1", []),
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
