"""How long a text is for Mastodon, and when two texts are the same."""

from __future__ import annotations

import html
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_networks.mastodon.testing.server import rendered
from regie_networks.mastodon.text import (
    counted_length,
    exact,
    is_another_text,
    plain,
    skeleton,
    skeleton_of_html,
    without_hosts,
)

NAMES = st.from_regex(r"[a-z0-9_]{1,12}", fullmatch=True)
HOSTS = st.from_regex(r"[a-z0-9]{1,10}\.[a-z]{2,6}", fullmatch=True)
PATHS = st.from_regex(r"(/[a-zA-Z0-9_-]{1,40}){1,3}", fullmatch=True)
LINKS = st.builds("https://{}{}".format, HOSTS, PATHS)
MENTIONS = st.builds("@{}@{}".format, NAMES, HOSTS)
TAGS = st.from_regex(r"#[a-z0-9]{1,12}", fullmatch=True)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="@\uff20#:"), min_size=1, max_size=20)
BREAKS = st.sampled_from([" ", "\n", "\n\n", "\t"])
TEXTS = st.lists(
    st.tuples(
        st.one_of(LINKS, MENTIONS, TAGS, WORDS, st.sampled_from(["a < b && c > d", "<b>no</b>", "&amp;"])), BREAKS
    )
).map(lambda parts: "".join(word + gap for word, gap in parts))


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("", 0),
        ("  padded  ", 6),
        ("café", 4),
        ("cafe\u0301", 4),
        ("👩‍👩‍👧‍👦", 1),
        ("🇫🇷🇩🇪", 2),
        ("https://example.com/" + "a" * 300, 23),
        ("http://a.example", 23),
        ("(https://example.com/x)", 25),
        ("https://example.com/x.", 24),
        ("https://en.wikipedia.example/wiki/Mastodon_(software)", 23),
        ("https://例え.jp/道?q=1", 23),
        ("xhttps://example.com/", 21),
        ("https://localhost/page", 22),
        ("@ana", 4),
        ("@ana@social.example hello", 10),
        ("mail ana@social.example", 23),
        ("@ana@social.example@other.example", 33),
        ("https://social.example/@ana@other.example", 23),
    ],
)
def test_a_text_is_counted_as_mastodon_counts_it(text: str, length: int) -> None:
    assert counted_length(text, 23) == length


@given(LINKS, st.integers(1, 300))
def test_a_link_counts_what_the_server_reserves_for_it(link: str, reserved: int) -> None:
    assert counted_length(f"See {link} now", reserved) == len("See  now") + reserved


@given(NAMES, HOSTS)
def test_a_remote_mention_counts_its_local_part_only(name: str, host: str) -> None:
    assert counted_length(f"Hello @{name}@{host}!", 23) == len(f"Hello @{name}!")


@given(st.text("abcdefghij äöü日本", max_size=600))
def test_a_text_without_links_and_mentions_counts_its_characters(text: str) -> None:
    assert counted_length(text, 23) == len(text.strip())


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_counted_and_compared_without_failing(text: str) -> None:
    assert 0 <= counted_length(text, 1) <= len(text)
    assert exact(exact(text)) == exact(text)
    assert plain(text) is not None
    assert skeleton_of_html(text) is not None


@pytest.mark.parametrize("piece", ["<", "<a>", "<br", "https://a.b/(", "@a@", "@a.", "https://a-"])
def test_no_text_makes_counting_or_comparing_slow(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    before = time.monotonic()
    counted_length(text, 23)
    skeleton_of_html(text)
    assert time.monotonic() - before < 10


@given(TEXTS)
def test_a_text_is_recognised_in_its_html(text: str) -> None:
    content = rendered(text)
    assert exact(without_hosts(plain(content))) == exact(without_hosts(text))
    assert skeleton_of_html(content) == skeleton(text)


@given(TEXTS, st.from_regex(r"[a-z]{1,8}", fullmatch=True))
def test_one_more_word_makes_another_text(text: str, word: str) -> None:
    content = rendered(f"{text} {word}")
    assert exact(without_hosts(plain(content))) != exact(without_hosts(text))
    assert skeleton_of_html(content) != skeleton(text)


@pytest.mark.parametrize(
    "content",
    [
        "<p>Read <strong>this</strong>: <a href='https://example.com/page'>example.com/pa…</a></p>",
        "<p>Read this — </p><ul><li><a href='https://example.com/page'>a title</a></li></ul>",
    ],
)
def test_markdown_and_shortened_links_leave_the_skeleton(content: str) -> None:
    assert skeleton_of_html(content).startswith("readthis")
    assert skeleton_of_html(content) == skeleton("Read **this**: https://example.com/page")


@given(st.one_of(st.text(max_size=300), TEXTS))
def test_a_text_is_never_taken_for_another_than_what_its_server_makes_of_it(text: str) -> None:
    assert not is_another_text(text, rendered(text))
    assert not is_another_text(text, f"<p>{html.escape(text)}</p>")


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("1. one thing\n2. another thing", "<ol><li>one thing</li><li>another thing</li></ol>"),
        ("read **this** [report](https://example.com/a)", '<p>read <strong>this</strong> <a href="x">report</a></p>'),
        ("@ben@a.very.long.name.of.a.server.example hi", '<p><a href="x">@ben</a> hi</p>'),
        (":blobcat: :blobcat:", '<p><img alt="cat"> <img alt="cat"></p>'),
        ("https://example.com/a/very/long/address/of/a/page", '<p><a href="x">example.com/a/very/long…</a></p>'),
        ("hello", "<p>hello</p><p>#tag #another</p>"),
    ],
)
def test_markup_makes_no_other_text(text: str, content: str) -> None:
    assert not is_another_text(text, content)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("We open the new library today", "<p>The train to the coast is late because of works</p>"),
        ("Hello", "<p>The train to the coast is late because of works near the bridge</p>"),
    ],
)
def test_plainly_other_words_are_another_text(text: str, content: str) -> None:
    assert is_another_text(text, content)
