"""The limits of a post's content."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import given
from hypothesis import strategies as st
from regie.ids.v1.prefixes import CHANNEL, MEDIA, POST
from regie.scheduler.events.v1.scheduler_events_pb2 import DueAttachment, DueSegment, DueVariant
from regie.scheduler.v1.posts_service_pb2 import VARIANT_STATE_PUBLISHED, Segment, Variant
from regie_chassis.boundary.ids import new_id, show_id
from regie_scheduler.posts.content import (
    MAX_ALT_TEXT,
    MAX_TEXT,
    MAX_TITLE,
    InvalidPost,
    check_title,
    check_variants,
    is_language,
)
from regie_scheduler.testing import due_variant

CHANNEL_ID = show_id(CHANNEL, new_id())
PICTURE = DueAttachment(media_id=show_id(MEDIA, new_id()), alt_text="a cat")
FINE = DueVariant(
    channel_id=CHANNEL_ID,
    segments=[DueSegment(text="hello", attachments=[PICTURE])],
    visibility="public",
    language="pt-BR",
)


def changed(segments: Sequence[DueSegment] | None = None, **changes: str) -> DueVariant:
    """Returns the valid variant with other fields."""
    names = {"channel_id": FINE.channel_id, "visibility": FINE.visibility, "language": FINE.language, **changes}
    return DueVariant(segments=FINE.segments if segments is None else segments, **names)


def segment(text: str, *pictures: DueAttachment) -> DueSegment:
    return DueSegment(text=text, attachments=pictures)


def picture(**changes: str) -> DueAttachment:
    return DueAttachment(**{"media_id": PICTURE.media_id, "alt_text": PICTURE.alt_text, **changes})


def field_at_fault(*variants: DueVariant) -> str:
    with pytest.raises(InvalidPost) as caught:
        check_variants(variants)
    assert caught.value.reason == "INVALID_POST"
    return caught.value.field


def test_what_is_accepted_is_stored_whole() -> None:
    (stored,) = check_variants([FINE])
    due = DueVariant.FromString(stored.content)
    assert (due.channel_id, due.visibility, due.language) == (CHANNEL_ID, "public", "pt-BR")
    assert (due.segments[0].text, due.segments[0].attachments[0].alt_text) == ("hello", "a cat")


def test_the_stored_form_reads_as_the_variant_of_the_api() -> None:
    assert forms(DueVariant.DESCRIPTOR).items() <= forms(Variant.DESCRIPTOR).items()


def test_what_the_api_adds_to_the_stored_form_is_not_stored() -> None:
    assert {number for number in forms(Variant.DESCRIPTOR) if number not in forms(DueVariant.DESCRIPTOR)}
    added = Variant(state=VARIANT_STATE_PUBLISHED, remote_id="1", segments=[Segment(text="hello", remote_url="u")])
    stored = DueVariant.FromString(added.SerializeToString())
    stored.DiscardUnknownFields()
    assert stored == DueVariant(segments=[DueSegment(text="hello")])


def forms(message: Descriptor, path: tuple[int, ...] = ()) -> dict[tuple[int, ...], tuple[str, int]]:
    """Returns name and type of every field by its tags, those of inner messages included."""
    result: dict[tuple[int, ...], tuple[str, int]] = {}
    for field in message.fields:
        place = (*path, field.number)
        result[place] = (field.name, field.type)
        if field.message_type is not None:
            result |= forms(field.message_type, place)
    return result


@pytest.mark.parametrize(
    ("variant", "field"),
    [
        (changed(channel_id=""), "channel_id"),
        (changed(channel_id=show_id(POST, new_id())), "channel_id"),
        (changed(segments=[]), "segments"),
        (changed(segments=[*FINE.segments] * 26), "segments"),
        (changed(segments=[segment("")]), "segments[0].text"),
        (changed(segments=[*FINE.segments, segment(" \n")]), "segments[1].text"),
        (changed(segments=[segment("a" * (MAX_TEXT + 1))]), "segments[0].text"),
        (changed(segments=[segment("a\0b")]), "segments[0].text"),
        (changed(segments=[segment("a", *[PICTURE] * 5)]), "segments[0].attachments"),
        (changed(segments=[segment("a", picture(media_id="cat.png"))]), "segments[0].attachments[0].media_id"),
        (changed(segments=[segment("a", picture(alt_text="\0"))]), "segments[0].attachments[0].alt_text"),
        (
            changed(segments=[segment("a", picture(alt_text="a" * (MAX_ALT_TEXT + 1)))]),
            "segments[0].attachments[0].alt_text",
        ),
        (changed(visibility="friends"), "visibility"),
        (changed(language="english please"), "language"),
    ],
)
def test_what_cannot_be_published_is_refused_with_the_field_to_blame(variant: DueVariant, field: str) -> None:
    assert field_at_fault(variant) == f"variants[0].{field}"


def test_a_message_holds_no_half_of_a_surrogate_pair() -> None:
    with pytest.raises(UnicodeEncodeError):
        DueSegment(text="a\ud83d")


def test_a_picture_needs_no_text() -> None:
    assert check_variants([changed(segments=[segment("", PICTURE)])])


def test_a_post_needs_a_variant_and_has_at_most_fifty() -> None:
    assert field_at_fault() == "variants"
    assert field_at_fault(*[due_variant() for _ in range(51)]) == "variants"
    assert len(check_variants([due_variant() for _ in range(50)])) == 50


def test_a_channel_has_one_variant() -> None:
    assert field_at_fault(FINE, FINE) == "variants[1].channel_id"


def test_the_whole_must_fit_into_one_event() -> None:
    assert field_at_fault(*[due_variant("a" * MAX_TEXT) for _ in range(6)]) == "variants"


@pytest.mark.parametrize("title", ["a" * (MAX_TITLE + 1), "a\0"])
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


@given(st.text(max_size=60), st.text(max_size=20), st.text(max_size=40))
def test_any_text_is_stored_as_it_is_or_refused(text: str, language: str, channel_id: str) -> None:
    for variant in (changed([segment(text)]), changed(language=language), changed(channel_id=channel_id)):
        try:
            (stored,) = check_variants([variant])
        except InvalidPost:
            continue
        assert DueVariant.FromString(stored.content) == variant
