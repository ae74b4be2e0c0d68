"""What is taken for a picture, and what is taken out of one."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from regie_publisher.pictures import LARGEST, TYPES, InvalidMedia, MediaTooLarge, look


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 30), **saved: object) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, "teal").save(buffer, kind, **saved)
    return buffer.getvalue()


def with_tells(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Make] = "Secret camera"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 30.0, 0.0)
    return exif


@pytest.mark.parametrize("kind", list(TYPES))
def test_the_type_is_found_by_looking(kind: str) -> None:
    looked = look(picture(kind))
    assert (looked.content_type, looked.width, looked.height) == (TYPES[kind], 40, 30)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_position_and_camera_are_taken_out(kind: str) -> None:
    data = picture(kind, exif=with_tells(1))
    assert b"Secret camera" in data
    looked = look(data)
    assert b"Secret camera" not in looked.data
    with Image.open(BytesIO(looked.data)) as cleaned, Image.open(BytesIO(data)) as original:
        assert not cleaned.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        assert cleaned.tobytes() == original.tobytes(), "the pixels stay as they are"


def test_a_turned_jpeg_stays_turned() -> None:
    looked = look(picture("JPEG", exif=with_tells(6)))
    assert (looked.width, looked.height) == (30, 40)
    with Image.open(BytesIO(looked.data)) as cleaned:
        assert dict(cleaned.getexif()) == {ExifTags.Base.Orientation: 6}


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"<svg/>", b"\x00" * 100, b"%PDF-1.7"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMedia):
        look(data)


@pytest.mark.parametrize("kind", list(TYPES))
def test_half_a_picture_is_refused(kind: str) -> None:
    data = picture(kind, (300, 300))
    with pytest.raises(InvalidMedia):
        look(data[: len(data) // 2])


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(MediaTooLarge):
        look(b"\x00" * (LARGEST + 1))


def test_a_small_file_that_unpacks_into_a_huge_picture_is_refused() -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\x00" * 1000))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(MediaTooLarge):
        look(bomb)


@given(kind=st.sampled_from(list(TYPES)), at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_damage_is_refused_or_harmless_and_never_a_crash(kind: str, at: int, byte: int) -> None:
    data = bytearray(picture(kind))
    data[at % len(data)] = byte
    try:
        look(bytes(data))
    except (InvalidMedia, MediaTooLarge):
        return
