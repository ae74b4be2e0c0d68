"""Under which name a post is one delivery's alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_publisher.connectors.connector import Remote
from regie_publisher.deliveries.names import held_name, is_named, plain

ULID = "01HZX3K9QW8V7T6S5R4P3N2M1K"
RECORD = "at://did:plc:abc/app.bsky.feed.post/3kabc2defgh2x|bafycid"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://m.example/@ana/115123", "115123"),
        ("https://m.example/@ana7/115123/embed", "115123"),
        (f"https://g.example/@ana/statuses/{ULID.lower()}.json", ULID),
        ("https://client.example/#/m.example/s/115123", "115123"),
        ("https://bsky.app/profile/ana1.bsky.social/post/3kabc2defgh2x", "3kabc2defgh2x"),
        ("https://m.example/notes/abcdef", "abcdef"),
        ("https://m.example/objects/0a1b2c3d-aaaa-bbbb-cccc-0123456789ab", "0a1b2c3d-aaaa-bbbb-cccc-0123456789ab"),
    ],
)
def test_what_stands_for_the_id_in_an_address(url: str, name: str) -> None:
    assert held_name(Remote("", url)) == name
    assert held_name(Remote("115", url)) == "115"


@pytest.mark.parametrize(
    ("remote_id", "url", "named"),
    [
        (RECORD, "https://bsky.app/profile/ana.bsky.social/post/3kabc2defgh2x", True),
        (RECORD, "https://bsky.app/profile/ana.bsky.social/post/3kabc2defgh2y", False),
        (ULID, f"https://g.example/@ana/statuses/{ULID.lower()}", True),
        ("115", "https://m.example/@ana/1150", False),
        ("115", "https://m115.example/@115/7", False),
        ("", "https://m.example/@ana/1150", False),
    ],
)
def test_whether_an_address_names_a_post(remote_id: str, url: str, named: bool) -> None:
    assert is_named(remote_id, url) is named


@given(st.text(max_size=200))
def test_no_address_fails_and_none_keeps_a_nul(text: str) -> None:
    remote = Remote("", "https://m.example/" + text)  # which leaves out what is no address
    assert bool(held_name(remote)) == bool(remote.url)
    assert not is_named("no-such-id", remote.url)
    assert "\x00" not in plain(text)
