"""Pictures as Bluesky gets them: as stored where they fit, smaller where they do not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from PIL import Image
from regie.ids.v1.prefixes import MEDIA
from regie_chassis.boundary.ids import show_id
from regie_networks.bluesky.media import load_rendition
from regie_networks.bluesky.rules import MAX_PICTURE_BYTES, review
from regie_networks.draft import Account, Draft, Picture, Segment
from regie_networks.errors import FailureKind, Refused
from regie_publisher.testing.harness import PublisherHarness
from regie_publisher.testing.pictures import (
    P3,
    SECRET,
    animation,
    encoded,
    jpeg_segment,
    noise,
    opened,
    plain,
    telling_exif,
    with_segments,
)

Upload = Callable[[bytes], Awaitable[Picture]]
LARGE = (3000, 2000)


@pytest.fixture
def upload(harness: PublisherHarness) -> Upload:
    """Uploads a picture and returns it as a connector sees it."""

    async def store(data: bytes) -> Picture:
        media = await harness.upload(data)
        return harness.media_store.picture(media, show_id(MEDIA, media.id), "")

    return store


def large(colour: tuple[int, int, int], **options: object) -> bytes:
    """Returns a JPEG over the size, of one colour but for noise in its right half."""
    image = noise(LARGE)
    image.paste(colour, (0, 0, 1500, 2000))
    data = encoded(image, "JPEG", quality=97, **options)
    assert len(data) > MAX_PICTURE_BYTES
    return data


def pixel(data: bytes, at: tuple[int, int]) -> tuple[int, ...]:
    value = opened(data).convert("RGB").getpixel(at)
    assert isinstance(value, tuple)
    return value


async def test_a_picture_that_fits_is_sent_as_it_is_stored(upload: Upload) -> None:
    picture = await upload(plain("PNG", (20, 10)))
    rendition = await load_rendition(picture)
    assert (rendition.data, rendition.content_type) == (await picture.read(), "image/png")
    assert (rendition.width, rendition.height) == (20, 10)


async def test_a_large_picture_keeps_its_shape_and_its_upright_side(upload: Upload) -> None:
    rendition = await load_rendition(await upload(large((200, 0, 0), exif=telling_exif(6))))
    assert len(rendition.data) <= MAX_PICTURE_BYTES
    assert rendition.content_type == "image/jpeg"
    assert (rendition.height, opened(rendition.data).size) == (2000, (rendition.width, rendition.height))
    assert abs(rendition.width - 1333) <= 1
    assert pixel(rendition.data, (600, 100))[0] > 180, "what was left is on top"


async def test_what_is_published_has_the_colours_of_the_profile(upload: Upload) -> None:
    rendition = await load_rendition(await upload(large((234, 51, 35), icc_profile=P3)))
    red, green, blue = pixel(rendition.data, (300, 300))
    assert red >= 250
    assert max(green, blue) <= 8


async def test_a_gradient_of_sixteen_bits_stays_one(upload: Upload) -> None:
    rows = noise((2000, 1600), "L").convert("I")
    ramp = Image.linear_gradient("L").resize((2000, 400)).convert("I")
    rows.paste(ramp, (0, 0))
    data = encoded(rows.point(lambda value: value * 257).convert("I;16"), "PNG")
    assert len(data) > MAX_PICTURE_BYTES
    rendition = await load_rendition(await upload(data))
    levels = [pixel(rendition.data, (500, at))[0] for at in (20, 100, 200, 300, 380)]
    assert all(abs(level - at * 255 / 400) < 8 for level, at in zip(levels, (20, 100, 200, 300, 380), strict=True))


@pytest.mark.parametrize("small", [True, False])
async def test_no_byte_tells_of_the_maker(upload: Upload, small: bool) -> None:
    jpeg = plain("JPEG") if small else large((0, 0, 0))
    second = with_segments(plain("JPEG"), jpeg_segment(0xE1, telling_exif()))
    data = with_segments(jpeg, jpeg_segment(0xE1, telling_exif()), jpeg_segment(0xFE, SECRET))
    for behind in (second, b"\0\0\0\x18ftypmp42" + SECRET):
        picture = await upload(data + behind)
        for published in (await picture.read(), (await load_rendition(picture)).data):
            assert SECRET not in published
            assert b"Exif" not in published
            assert b"ftyp" not in published
            assert published.count(b"\xff\xd8\xff") == 1


async def test_a_picture_of_several_in_one_file_is_made_smaller(upload: Upload) -> None:
    data = large((10, 200, 10))
    picture = await upload(with_segments(data, jpeg_segment(0xE2, b"MPF\0" + bytes(60))) + plain("JPEG"))
    assert picture.frames == 1
    assert (await load_rendition(picture)).width == 2000


async def test_what_is_transparent_becomes_white(upload: Upload) -> None:
    clear = Image.merge("LA", (noise((1800, 1800), "L"), Image.new("L", (1800, 1800), 0)))
    rendition = await load_rendition(await upload(encoded(clear, "PNG")))
    assert pixel(rendition.data, (5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
@pytest.mark.parametrize("size", [(40, 30), (400, 300)])
async def test_an_animation_is_refused_at_every_size_and_before_its_time(
    upload: Upload, kind: str, size: tuple[int, int], harness: PublisherHarness
) -> None:
    picture = await upload(animation(kind, size))
    assert picture.frames == 3
    account = Account("https://bsky.example", "did:plc:a", "a", object())  # type: ignore[arg-type]
    draft = Draft(account, [Segment("key", "text", (picture,))], "public", "en", harness.clock.now())
    with pytest.raises(Refused, match="first frame") as refused:
        review(draft)
    assert refused.value.kind is FailureKind.MEDIA_REJECTED


async def test_a_picture_that_nothing_can_make_smaller_is_refused() -> None:
    async def read() -> bytes:
        raise AssertionError("the size says enough")

    with pytest.raises(Refused, match="smaller") as refused:
        await load_rendition(Picture("media_1", "", "image/png", MAX_PICTURE_BYTES + 1, 1, 1, read))
    assert refused.value.kind is FailureKind.MEDIA_REJECTED
