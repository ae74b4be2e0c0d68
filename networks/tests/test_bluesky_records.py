"""Records: the same bytes every time, within the limits, and as the lexicons want them."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from regie_networks.bluesky.records import (
    UploadedPicture,
    mention_handle,
    picture_handle,
    post_record,
    remote_post,
)
from regie_networks.bluesky.rules import review
from regie_networks.draft import Account, Draft, Picture, Segment
from regie_networks.errors import FailureKind, Refused
from regie_networks.testing.fakes import FakeCredentials

COMPOSED = datetime(2026, 3, 1, 13, 0, 0, 999999, tzinfo=timezone(timedelta(hours=1)))
FAMILY = "👨‍👩‍👧‍👦"
CONJUNCT = "क्ष"  # one character of Hindi, three code points, nine bytes
CID = "bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
FORMATS = {
    "datetime": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "language": r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]+)*",
    "uri": r"[a-zA-Z]+:(//)?[^\s/]\S*",
    "did": r"did:[a-z]+:[a-zA-Z0-9._:%-]+",
    "at-uri": r"at://did:plc:[a-z0-9]+/[a-zA-Z.]+/[a-z0-9]+",
    "cid": r"bafyrei[a-z2-7]+",
}

Schema = dict[str, Any]


def picture(media_id: str = "media_1", content_type: str = "image/png") -> Picture:
    async def read() -> bytes:
        return b""

    return Picture(media_id, "what it shows", content_type, 10, 4, 3, read)


def draft(*texts: str, pictures: tuple[Picture, ...] = ()) -> Draft:
    account = Account("https://pds.test", "did:plc:me", "me.test", FakeCredentials({}))
    segments = [Segment(f"3k2a4b6c8d2e{n}", text, pictures) for n, text in enumerate(texts, start=2)]
    return Draft(account, segments, visibility="public", language="en", compose_time=COMPOSED)


def prepared(content: Draft) -> Draft:
    blob = {"$type": "blob", "ref": {"$link": CID}, "mimeType": "image/png", "size": 10}
    for segment in content.segments:
        content.handles |= {picture_handle(one): UploadedPicture(blob, 4, 3).to_handle() for one in segment.pictures}
    content.handles[mention_handle("alice.test")] = "did:plc:alice"
    content.remotes = [
        remote_post(f"at://did:plc:me/app.bsky.feed.post/{one.key}", CID, "me.test") for one in content.segments
    ]
    return content


def refusal(content: Draft) -> FailureKind | None:
    try:
        review(content)
    except Refused as refused:
        return refused.kind
    return None


class Lexicons:
    """Checks values against the network's own schemas, and refuses unknown members."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self, value: Any, ref: str, home: str = "") -> None:
        name, _, part = (f"{home}{ref}" if ref.startswith("#") else ref).partition("#")
        document = json.loads((self._folder / f"{name.replace('.', '/')}.json").read_text())
        schema = document["defs"][part or "main"]
        self._check(value, schema.get("record", schema), name)

    def _check(self, value: Any, schema: Schema, home: str) -> None:
        if schema["type"] == "object":
            self._check_object(value, schema, home)
        elif schema["type"] == "array":
            assert len(value) <= schema.get("maxLength", len(value))
            for item in value:
                self._check(item, schema["items"], home)
        elif schema["type"] == "ref":
            self.check(value, schema["ref"], home)
        elif schema["type"] == "union":
            assert value["$type"] in [f"{home}{ref}" if ref.startswith("#") else ref for ref in schema["refs"]]
            self.check(value, value["$type"])
        else:
            LEAVES[schema["type"]](value, schema)

    def _check_object(self, value: Any, schema: Schema, home: str) -> None:
        assert set(schema.get("required", [])) <= set(value) <= {*schema["properties"], "$type"}
        for name, item in value.items():
            if name != "$type":
                self._check(item, schema["properties"][name], home)


def _check_string(value: Any, schema: Schema) -> None:
    assert isinstance(value, str)
    assert len(value.encode()) <= schema.get("maxLength", len(value.encode()))
    if "maxGraphemes" in schema:
        assert len(regex.findall(r"\X", value)) <= schema["maxGraphemes"]
    if "format" in schema:
        assert re.fullmatch(FORMATS[schema["format"]], value), value


def _check_integer(value: Any, schema: Schema) -> None:
    assert isinstance(value, int)
    assert value >= schema.get("minimum", value)


def _check_blob(value: Any, schema: Schema) -> None:
    assert value["$type"] == "blob"
    assert value["size"] <= schema["maxSize"]
    assert value["mimeType"].startswith("image/")


LEAVES = {"string": _check_string, "integer": _check_integer, "blob": _check_blob}


@pytest.fixture(scope="session")
def lexicons() -> Lexicons:
    specs = Path(os.environ.get("REGIE_SPECS", Path(__file__).parents[3] / "shared" / "specs"))
    folder = specs / "bluesky" / "lexicons"
    if not folder.is_dir():
        missing = f"the lexicons of the AT Protocol are not at {folder}; set REGIE_SPECS"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return Lexicons(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["a ", "#tag ", "#größe ", "@alice.test ", "https://example.com/ä ", FAMILY, "\n"])),
    st.integers(0, 4),
    st.sampled_from(["", "en", "pt-BR", "zh-Hant"]),
)
def test_every_record_is_as_the_lexicon_wants_it(
    lexicons: Lexicons, words: list[str], pictures: int, language: str
) -> None:
    text = "".join(words)
    shown = tuple(picture(f"media_{n}") for n in range(pictures))
    content = prepared(replace(draft("first", text, "last", pictures=shown), language=language))
    if refusal(content) is None:
        for index in range(3):
            lexicons.check(post_record(content, index), "app.bsky.feed.post")


def test_a_record_that_breaks_the_lexicon_is_seen_to_break_it(lexicons: Lexicons) -> None:
    record = post_record(prepared(draft("text")), 0)
    for broken in ({"createdAt": "today"}, {"text": "x" * 301}, {"langs": ["english!"]}, {"mood": "fine"}):
        with pytest.raises(AssertionError):
            lexicons.check({**record, **broken}, "app.bsky.feed.post")


def test_every_attempt_sends_the_same_bytes() -> None:
    content = prepared(draft("@alice.test #one", "two", pictures=(picture(),)))
    again = prepared(draft("@alice.test #one", "two", pictures=(picture(),)))
    for index in range(2):
        assert json.dumps(post_record(content, index)) == json.dumps(post_record(again, index))


def test_the_parts_of_a_thread_are_a_millisecond_apart_in_utc() -> None:
    content = prepared(draft("one", "two"))
    assert [post_record(content, index)["createdAt"] for index in range(2)] == [
        "2026-03-01T12:00:00.999Z",
        "2026-03-01T12:00:01.000Z",
    ]


def test_an_empty_alt_text_is_sent_as_it_is() -> None:
    content = prepared(draft("look", pictures=(replace(picture(), alt_text=""),)))
    record: Any = post_record(content, 0)
    assert record["embed"]["images"][0]["alt"] == ""


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x" * 300, None),
        ("x" * 301, FailureKind.CONTENT_REJECTED),
        (FAMILY * 120, None),
        (FAMILY * 121, FailureKind.CONTENT_REJECTED),  # 121 characters, but 3025 bytes
        (CONJUNCT * 300, None),
        ("e\u0301" * 300, None),
        ("🇩🇪" * 301, FailureKind.CONTENT_REJECTED),
        ("", FailureKind.CONTENT_REJECTED),
        (" \n ", FailureKind.CONTENT_REJECTED),
        ("broken \ud800", FailureKind.CONTENT_REJECTED),
    ],
)
def test_the_limits_of_a_text(text: str, kind: FailureKind | None) -> None:
    assert refusal(draft(text)) is kind
    assert refusal(draft("first", text)) is kind


@pytest.mark.parametrize(
    ("count", "content_type", "kind"),
    [
        (4, "image/webp", None),
        (5, "image/png", FailureKind.MEDIA_REJECTED),
        (1, "video/mp4", FailureKind.MEDIA_REJECTED),
    ],
)
def test_the_limits_of_pictures(count: int, content_type: str, kind: FailureKind | None) -> None:
    pictures = tuple(picture(f"media_{n}", content_type) for n in range(count))
    assert refusal(draft("", pictures=pictures)) is kind


@pytest.mark.parametrize(("visibility", "kind"), [("", None), ("public", None), ("private", FailureKind.UNSUPPORTED)])
def test_only_public_posts_exist(visibility: str, kind: FailureKind | None) -> None:
    assert refusal(replace(draft("text"), visibility=visibility)) is kind


@pytest.mark.parametrize("language", ["english!", "e", "en_GB", "en\n"])
def test_a_language_that_is_none_is_refused(language: str) -> None:
    assert refusal(replace(draft("text"), language=language)) is FailureKind.CONTENT_REJECTED


def test_times_are_written_in_utc() -> None:
    assert post_record(replace(draft("text"), compose_time=datetime(2026, 1, 1, tzinfo=UTC)), 0)["createdAt"] == (
        "2026-01-01T00:00:00.000Z"
    )
