"""Pixels as every network shows them: upright, in sRGB, with eight bits a sample."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import pillow_heif
import pytest
from PIL import ExifTags, Image, ImageCms
from regie_publisher.media.images.exif import Facts, read_exif
from regie_publisher.media.images.normalising import normalise
from regie_publisher.media.images.picture import Normalised
from regie_publisher.media.images.pixels import eight_bits
from regie_publisher.media.images.png import chunk
from regie_publisher.media.images.profiles import ADOBE_RGB, D65, P3_PRIMARIES, SRGB_PRIMARIES, matrix_profile
from regie_publisher.media.images.refusals import Unreadable
from regie_publisher.testing.pictures import (
    CORNERS,
    P3,
    animation,
    corners,
    encoded,
    jpeg_segment,
    noise,
    opened,
    png_of,
    srgb_profile,
    telling_exif,
    with_chunks,
    with_segments,
)

TURNED = {1: "0123", 2: "1032", 3: "3210", 4: "2301", 5: "0213", 6: "2031", 7: "3120", 8: "1302"}
"""Which of `CORNERS` lie top left, top right, bottom left and bottom right for each orientation (EXIF 2.32, 4.6.4)."""
RED_IN_P3 = (234, 51, 35)
RED_IN_ADOBE = (219, 0, 0)


def seen(data: bytes) -> list[tuple[int, ...]]:
    """Returns the colours of the four corners."""
    image = opened(data).convert("RGB")
    right, bottom = image.width - 4, image.height - 4
    return [image.getpixel(at) for at in ((3, 3), (right, 3), (3, bottom), (right, bottom))]  # type: ignore[misc]


def near(one: tuple[int, ...], other: tuple[int, ...], by: int = 6) -> bool:
    return all(abs(a - b) <= by for a, b in zip(one, other, strict=True))


def upright_again(normalised: Normalised) -> None:
    """Checks that the stored file has no orientation and has the reported size."""
    image = opened(normalised.data)
    assert ExifTags.Base.Orientation not in image.getexif()
    assert image.size == (normalised.width, normalised.height)


@pytest.mark.parametrize("orientation", list(TURNED))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_becomes_pixels(kind: str, orientation: int) -> None:
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    normalised = normalise(encoded(corners(), kind, exif=telling_exif(orientation), **options))
    expected = [CORNERS[int(at)] for at in TURNED[orientation]]
    assert all(near(one, other) for one, other in zip(seen(normalised.data), expected, strict=True))
    assert (normalised.width, normalised.height) == ((64, 32) if orientation < 5 else (32, 64))
    upright_again(normalised)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_every_frame_of_a_turned_animation_is_upright(kind: str) -> None:
    frames = [corners(), corners().transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(
        frames[0], kind, save_all=True, append_images=frames[1:], duration=70, exif=telling_exif(6), **options
    )
    normalised = normalise(data)
    assert (normalised.frames, normalised.width, normalised.height) == (2, 32, 64)
    assert seen(normalised.data) == [CORNERS[int(at)] for at in TURNED[6]]
    with Image.open(BytesIO(normalised.data)) as image:
        image.seek(1)
        assert image.convert("RGB").getpixel((3, 3)) == CORNERS[3]
        assert round(image.info["duration"]) == 70


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(("profile", "red"), [(P3, RED_IN_P3), (ADOBE_RGB, RED_IN_ADOBE)])
def test_colours_are_those_of_the_profile(kind: str, profile: bytes, red: tuple[int, int, int]) -> None:
    options = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    normalised = normalise(encoded(Image.new("RGB", (32, 32), red), kind, icc_profile=profile, **options))
    assert near(seen(normalised.data)[0], (255, 0, 0), 4)
    assert "icc_profile" not in opened(normalised.data).info


def test_colours_of_every_frame_are_those_of_the_profile() -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED_IN_P3, (0, 0, 0))]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, icc_profile=P3)
    normalised = normalise(data)
    assert normalised.frames == 2
    assert near(seen(normalised.data)[0], (255, 0, 0), 4)


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "L", "1"])
def test_colours_and_transparency_go_together(mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (*RED_IN_P3, 128)).convert(mode) if mode != "1" else Image.new("1", (8, 8), 1)
    before = image.convert("RGBA").getpixel((2, 2))
    after = opened(normalise(encoded(image, "PNG", icc_profile=P3)).data).convert("RGBA").getpixel((2, 2))
    assert isinstance(before, tuple)
    assert isinstance(after, tuple)
    assert after[3] == before[3]
    assert near(after[:3], (255, 0, 0), 8) if mode in ("P", "RGBA") else after[:3] == before[:3]


def test_pixels_under_an_ordinary_profile_stay_as_they_are() -> None:
    data = encoded(noise((40, 30)), "JPEG", icc_profile=srgb_profile())
    normalised = normalise(data)
    assert len(normalised.data) < len(data)
    assert opened(normalised.data).tobytes() == opened(data).tobytes()
    assert b"ICC_PROFILE" not in normalised.data


@pytest.mark.parametrize("profile", [b"nothing", P3[:200], P3[:-40] + b"\xff" * 40])
def test_a_damaged_profile_says_nothing(profile: bytes) -> None:
    normalised = normalise(encoded(Image.new("RGB", (8, 8), (10, 20, 30)), "PNG", icc_profile=profile))
    assert len(seen(normalised.data)) == 4


def test_print_colours_become_those_of_a_screen() -> None:
    data = encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=95)
    normalised = normalise(data)
    assert opened(normalised.data).mode == "RGB"
    assert near(seen(normalised.data)[0], (255, 0, 0), 8)


def test_print_colours_with_a_profile_for_others_become_those_of_a_screen() -> None:
    data = encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG", quality=95, icc_profile=P3)
    assert near(seen(normalise(data).data)[0], (255, 0, 0), 8)


def test_a_camera_that_says_adobe_rgb_in_exif_only_is_heard() -> None:
    entry = struct.Struct(">HHII").pack
    body = b"Exif\0\0MM\0*" + struct.pack(">I", 8)
    body += b"\0\x01" + entry(0x8769, 4, 1, 26) + b"\0\0\0\0"
    body += b"\0\x01" + entry(0xA005, 4, 1, 44) + b"\0\0\0\0"
    body += b"\0\x01" + struct.pack(">HHI4s", 1, 2, 4, b"R03\0") + b"\0\0\0\0"
    assert read_exif(body) == Facts(1, adobe_rgb=True)
    data = encoded(Image.new("RGB", (32, 32), RED_IN_ADOBE), "JPEG", quality=98, subsampling=0)
    assert near(seen(normalise(with_segments(data, jpeg_segment(0xE1, body))).data)[0], (255, 0, 0), 4)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([chunk(b"gAMA", struct.pack(">I", 100_000))], 188),
        ([chunk(b"gAMA", struct.pack(">I", 45_455))], 128),
        ([chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"sRGB", b"\0")], 128),
        ([chunk(b"gAMA", struct.pack(">I", 0))], 128),
        ([chunk(b"gAMA", struct.pack(">I", 100_000)), chunk(b"cHRM", b"\0" * 32)], 128),
    ],
)
def test_what_a_png_says_of_its_light_is_honoured(chunks: list[bytes], expected: int) -> None:
    data = with_chunks(encoded(Image.new("RGB", (4, 4), (128, 128, 128)), "PNG"), *chunks)
    normalised = normalise(data)
    assert near(seen(normalised.data)[0], (expected,) * 3, 3)
    assert b"gAMA" not in normalised.data


def test_code_points_name_colours_and_hdr_is_refused() -> None:
    red = encoded(Image.new("RGB", (8, 8), RED_IN_P3), "PNG")
    assert near(seen(normalise(with_chunks(red, chunk(b"cICP", b"\x0c\x0d\0\x01"))).data)[0], (255, 0, 0), 4)
    with pytest.raises(Unreadable, match="HDR"):
        normalise(with_chunks(red, chunk(b"cICP", b"\x09\x10\0\x01")))


def test_the_profiles_made_of_primaries_are_those_of_the_standards() -> None:
    made = ImageCms.ImageCmsProfile(BytesIO(matrix_profile(SRGB_PRIMARIES, D65, None)))
    known = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    for name in ("red_colorant", "green_colorant", "blue_colorant"):
        for one, other in zip(getattr(made.profile, name)[0], getattr(known.profile, name)[0], strict=True):
            assert abs(one - other) < 0.001
    with pytest.raises(ValueError, match="line"):
        matrix_profile((P3_PRIMARIES[0],) * 3, D65, None)


@pytest.mark.parametrize("colour_type", [0, 2, 4, 6])
def test_sixteen_bits_are_scaled(colour_type: int) -> None:
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    row = b"\0" + b"".join(struct.pack(">H", level * 257) * samples for level in range(256))
    normalised = normalise(png_of((256, 1, 16, colour_type), zlib.compress(row)))
    image = opened(normalised.data)
    assert (normalised.content_type, image.info.get("icc_profile")) == ("image/png", None)
    assert normalised.data[24] == 8, "bits a sample"
    assert [image.convert("L").getpixel((level, 0)) for level in (0, 1, 64, 128, 255)] == [0, 1, 64, 128, 255]


def test_the_transparent_grey_of_sixteen_bits_stays_transparent() -> None:
    row = b"\0" + b"".join(struct.pack(">H", level * 257) for level in range(256))
    data = png_of((256, 1, 16, 0), zlib.compress(row), chunk(b"tRNS", struct.pack(">H", 7 * 257)))
    image = opened(normalise(data).data).convert("LA")
    assert [image.getpixel((at, 0)) for at in (6, 7, 8)] == [(6, 255), (7, 0), (8, 255)]


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I"])
def test_every_mode_of_sixteen_bits_is_scaled(mode: str) -> None:
    image = Image.new(mode, (4, 1))
    for at, value in enumerate((0, 257, 32896, 65535)):
        image.putpixel((at, 0), value)
    assert list(eight_bits(image).tobytes()) == [0, 1, 128, 255]


def heic(image: Image.Image, **options: object) -> bytes:
    buffer = BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=95, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_pictures_of_phones_are_read_and_stored_as_jpeg(orientation: int) -> None:
    normalised = normalise(heic(corners(128, 64), exif=telling_exif(orientation)))
    expected = [CORNERS[int(at)] for at in TURNED[orientation]]
    assert normalised.content_type == "image/jpeg"
    assert all(near(one, other, 24) for one, other in zip(seen(normalised.data), expected, strict=True))
    assert (normalised.width, normalised.height) == ((128, 64) if orientation < 5 else (64, 128))
    assert normalise(normalised.data) == normalised
    assert b"Jane" not in normalised.data


def test_the_colours_of_phones_are_converted() -> None:
    image = Image.new("RGB", (64, 64), RED_IN_P3)
    image.info["icc_profile"] = P3
    assert near(seen(normalise(heic(image)).data)[0], (255, 0, 0), 8)


@pytest.mark.parametrize("orientation", [1, 2, 5, 6])
def test_avif_is_read_and_stored_as_jpeg(orientation: int) -> None:
    data = encoded(corners(128, 64), "AVIF", quality=95, subsampling="4:4:4", exif=telling_exif(orientation))
    normalised = normalise(data)
    expected = [CORNERS[int(at)] for at in TURNED[orientation]]
    assert normalised.content_type == "image/jpeg"
    assert all(near(one, other, 24) for one, other in zip(seen(normalised.data), expected, strict=True))
    assert near(
        seen(normalise(encoded(Image.new("RGB", (64, 64), RED_IN_P3), "AVIF", quality=95, icc_profile=P3)).data)[0],
        (255, 0, 0),
        8,
    )


def test_transparency_of_avif_and_heic_is_kept() -> None:
    clear = Image.new("RGBA", (64, 64), (200, 30, 30, 0))
    for data in (encoded(clear, "AVIF"), heic(clear)):
        normalised = normalise(data)
        pixel = opened(normalised.data).convert("RGBA").getpixel((9, 9))
        assert (normalised.content_type, isinstance(pixel, tuple) and pixel[3]) == ("image/png", 0)
    assert normalise(encoded(Image.new("RGBA", (64, 64), "teal"), "AVIF")).content_type == "image/jpeg"


def test_an_animated_avif_is_refused() -> None:
    with pytest.raises(Unreadable, match="animated AVIF"):
        normalise(animation("AVIF"))


def test_half_a_heic_is_refused() -> None:
    data = heic(noise((300, 300)))
    with pytest.raises(Unreadable):
        normalise(data[: len(data) // 2])
