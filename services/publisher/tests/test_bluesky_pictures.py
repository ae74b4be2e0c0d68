"""Pictures: untouched where they fit, smaller where they do not, refused where that would spoil them."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from regie_publisher.connectors.bluesky.pictures import load_rendition
from regie_publisher.connectors.bluesky.records import MAX_PICTURE_BYTES
from regie_publisher.connectors.connector import FailureKind, Picture, Refused


def picture(data: bytes, content_type: str = "image/png", size: tuple[int, int] = (1, 1)) -> Picture:
    async def read() -> bytes:
        return data

    return Picture("media_1", "", content_type, len(data), *size, read)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


async def test_a_picture_that_fits_is_sent_as_it_is() -> None:
    data = encoded(Image.new("RGB", (20, 10)), "PNG")
    rendition = await load_rendition(picture(data, size=(20, 10)))
    assert (rendition.data, rendition.content_type) == (data, "image/png")
    assert (rendition.width, rendition.height) == (20, 10)


async def test_a_large_picture_keeps_its_shape_and_its_upright_side() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    data = encoded(Image.effect_noise((2400, 1800), 90), "PNG", exif=exif)
    assert len(data) > MAX_PICTURE_BYTES
    rendition = await load_rendition(picture(data))
    assert len(rendition.data) <= MAX_PICTURE_BYTES
    assert (rendition.content_type, rendition.width, rendition.height) == ("image/jpeg", 1500, 2000)
    with Image.open(io.BytesIO(rendition.data)) as shrunk:
        assert shrunk.size == (1500, 2000)


async def test_what_is_transparent_becomes_white() -> None:
    noise = Image.effect_noise((1800, 1800), 90)
    clear = Image.merge("LA", (noise, Image.new("L", noise.size, 0)))
    rendition = await load_rendition(picture(encoded(clear, "PNG")))
    with Image.open(io.BytesIO(rendition.data)) as shrunk:
        assert shrunk.getpixel((5, 5)) == (255, 255, 255)


async def test_an_animation_is_not_stilled_in_silence() -> None:
    frames = [Image.effect_noise((1200, 1200), spread) for spread in (60, 90)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert len(data) > MAX_PICTURE_BYTES
    with pytest.raises(Refused, match="movement") as refused:
        await load_rendition(picture(data, "image/gif"))
    assert refused.value.kind is FailureKind.MEDIA_REJECTED


async def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(Refused, match="smaller") as refused:
        await load_rendition(picture(b"\0" * (MAX_PICTURE_BYTES + 1)))
    assert refused.value.kind is FailureKind.MEDIA_REJECTED
