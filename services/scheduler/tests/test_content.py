"""What a post may say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import given
from hypothesis import strategies as st
from regie.scheduler.events.v1.scheduler_events_pb2 import DueVariant
from regie.scheduler.v1.posts_service_pb2 import Variant
from regie_chassis.ids import CHANNEL, MEDIA, POST, new_id, show_id
from regie_scheduler.posts.content import (
    MOST_ALT_TEXT,
    MOST_TEXT,
    MOST_TITLE,
    Attachment,
    Content,
    InvalidPost,
    Segment,
    check_contents,
    check_title,
    is_language,
)

CHANNEL_ID = show_id(CHANNEL, new_id())
PICTURE = Attachment(show_id(MEDIA, new_id()), "a cat")
FINE = Content(CHANNEL_ID, [Segment("hello", [PICTURE])], "public", "pt-BR")


def said(**changes: object) -> Content:
    return replace(FINE, **changes)  # type: ignore[arg-type]


def blamed(*contents: Content) -> str:
    with pytest.raises(InvalidPost) as caught:
        check_contents(contents)
    assert caught.value.reason == "INVALID_POST"
    return caught.value.field


def test_what_is_accepted_is_stored_whole() -> None:
    (stored,) = check_contents([FINE])
    due = DueVariant.FromString(stored.content)
    assert (due.channel_id, due.visibility, due.language) == (CHANNEL_ID, "public", "pt-BR")
    assert (due.segments[0].text, due.segments[0].attachments[0].alt_text) == ("hello", "a cat")


def test_the_stored_form_reads_as_the_variant_of_the_api() -> None:
    def within(stored: Descriptor, shown: Descriptor) -> bool:
        """True where `shown` has every field of `stored` under the same tag; what it shows besides is its own."""
        theirs = shown.fields_by_name
        return all(
            field.name in theirs
            and (field.number, field.type) == (theirs[field.name].number, theirs[field.name].type)
            and (field.message_type is None or within(field.message_type, theirs[field.name].message_type))
            for field in stored.fields
        )

    assert within(DueVariant.DESCRIPTOR, Variant.DESCRIPTOR)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (said(channel_id=""), "channel_id"),
        (said(channel_id=show_id(POST, new_id())), "channel_id"),
        (said(segments=[]), "segments"),
        (said(segments=[*FINE.segments] * 26), "segments"),
        (said(segments=[Segment("", [])]), "segments[0].text"),
        (said(segments=[*FINE.segments, Segment(" \n", [])]), "segments[1].text"),
        (said(segments=[Segment("a" * (MOST_TEXT + 1), [])]), "segments[0].text"),
        (said(segments=[Segment("a\0b", [])]), "segments[0].text"),
        (said(segments=[Segment("a\ud83d", [])]), "segments[0].text"),
        (said(segments=[Segment("a", [PICTURE] * 5)]), "segments[0].attachments"),
        (said(segments=[Segment("a", [replace(PICTURE, media_id="cat.png")])]), "segments[0].attachments[0].media_id"),
        (said(segments=[Segment("a", [replace(PICTURE, alt_text="\0")])]), "segments[0].attachments[0].alt_text"),
        (
            said(segments=[Segment("a", [replace(PICTURE, alt_text="a" * (MOST_ALT_TEXT + 1))])]),
            "segments[0].attachments[0].alt_text",
        ),
        (said(visibility="friends"), "visibility"),
        (said(language="english please"), "language"),
    ],
)
def test_what_cannot_be_published_is_refused_with_the_field_to_blame(content: Content, field: str) -> None:
    assert blamed(content) == f"variants[0].{field}"


def test_a_picture_needs_no_text() -> None:
    assert check_contents([said(segments=[Segment("", [PICTURE])])])


def test_a_post_needs_a_variant_and_has_at_most_fifty(content: Callable[..., Content]) -> None:
    assert blamed() == "variants"
    assert blamed(*[content() for _ in range(51)]) == "variants"
    assert len(check_contents([content() for _ in range(50)])) == 50


def test_a_channel_has_one_variant() -> None:
    assert blamed(FINE, FINE) == "variants[1].channel_id"


def test_the_whole_must_fit_into_one_event(content: Callable[..., Content]) -> None:
    assert blamed(*[content("a" * MOST_TEXT) for _ in range(6)]) == "variants"


@pytest.mark.parametrize("title", ["a" * (MOST_TITLE + 1), "a\0", "\udc00"])
def test_a_title_that_cannot_be_stored_is_refused(title: str) -> None:
    with pytest.raises(InvalidPost) as caught:
        check_title(title)
    assert caught.value.field == "title"


@pytest.mark.parametrize(
    "tag", ["en", "pt-BR", "zh-Hant-TW", "es-419", "de-CH-1996", "sl-rozaj-biske", "en-u-ca-gregory"]
)
def test_a_plausible_language_is_accepted(tag: str) -> None:
    assert is_language(tag)


@pytest.mark.parametrize("tag", ["e", "english-", "en_US", "en--US", "en\n", "123", "en-" + "abcde-" * 9 + "x"])
def test_what_has_not_the_shape_of_a_language_is_refused(tag: str) -> None:
    assert not is_language(tag)


@given(st.text(st.characters(), max_size=60), st.text(st.characters(), max_size=20), st.text(max_size=40))
def test_any_text_is_stored_as_it_is_or_refused(words: str, language: str, channel_id: str) -> None:
    for content in (said(segments=[Segment(words, [])]), said(language=language), said(channel_id=channel_id)):
        try:
            (stored,) = check_contents([content])
        except InvalidPost:
            continue
        assert DueVariant.FromString(stored.content).segments[0].text == content.segments[0].text
