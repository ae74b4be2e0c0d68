"""Smaller forms of pictures: within every limit, as large as it allows, transparent where that is taken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from regie_networks.rendition import Bounds
from regie_publisher.media.images.picture import GIF, JPEG, PNG, WEBP
from regie_publisher.media.images.refusals import TooLarge, Unreadable
from regie_publisher.media.images.renditions import fit
from regie_publisher.testing.pictures import encoded, noise, opened, plain

CLEAR = encoded(Image.new("RGBA", (300, 200), (200, 30, 30, 0)), "PNG")


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    max_pixels=st.integers(1, 40_000),
    max_side=st.integers(1, 400),
)
def test_a_rendition_keeps_to_every_limit_and_to_its_shape(
    width: int, height: int, max_pixels: int, max_side: int
) -> None:
    rendition = fit(plain("PNG", (width, height)), Bounds(max_pixels=max_pixels, max_side=max_side))
    assert opened(rendition.data).size == (rendition.width, rendition.height)
    assert max(rendition.width, rendition.height) <= max_side
    assert rendition.width * rendition.height <= max_pixels or 1 in (rendition.width, rendition.height)
    if width * height <= max_pixels and max(width, height) <= max_side:
        assert (rendition.width, rendition.height) == (width, height)


def test_a_rendition_is_as_large_as_the_limit_allows() -> None:
    rendition = fit(plain("JPEG", (4000, 2000)), Bounds(max_pixels=2_000_000))
    assert (rendition.width, rendition.height) == (2000, 1000)


@pytest.mark.parametrize("content_type", [JPEG, PNG, WEBP])
def test_a_rendition_fits_in_its_bytes(content_type: str) -> None:
    bounds = Bounds(max_bytes=60_000, content_types=(content_type,))
    rendition = fit(encoded(noise((600, 400)), "PNG"), bounds)
    assert rendition.content_type == content_type
    assert len(rendition.data) <= 60_000
    with pytest.raises(TooLarge):
        fit(plain(), Bounds(max_bytes=10, content_types=(content_type,)))


@pytest.mark.parametrize(
    ("content_types", "expected"),
    [((JPEG, PNG, WEBP), PNG), ((JPEG, WEBP), WEBP), ((JPEG,), JPEG), ((JPEG, GIF), JPEG)],
)
def test_transparency_stays_where_it_is_taken_and_is_white_elsewhere(
    content_types: tuple[str, ...], expected: str
) -> None:
    rendition = fit(CLEAR, Bounds(max_side=100, content_types=content_types))
    assert rendition.content_type == expected
    value = opened(rendition.data).convert("RGBA").getpixel((9, 9))
    assert isinstance(value, tuple)
    assert value == (255, 255, 255, 255) if expected == JPEG else value[3] == 0


def test_a_form_that_nobody_makes_is_refused() -> None:
    with pytest.raises(Unreadable, match="no form is known"):
        fit(plain(), Bounds(content_types=("video/mp4",)))
