"""The stored file keeps the picture, and no data that its author did not mean to publish."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from regie_publisher.media.images.container import MAX_BYTES, MAX_PIXELS
from regie_publisher.media.images.jpeg import read_jpeg
from regie_publisher.media.images.normalising import TYPES, normalise
from regie_publisher.media.images.png import chunk
from regie_publisher.media.images.refusals import PictureRefused, TooCostly, TooLarge, Unreadable
from regie_publisher.testing.pictures import (
    SECRET,
    animation,
    encoded,
    jpeg_segment,
    many_scans,
    noise,
    opened,
    plain,
    png_of,
    scans_of,
    telling_exif,
    with_chunks,
    with_riff_chunks,
    with_segments,
)

VIDEO = b"\0\0\0\x18ftypmp42" + SECRET


def telling_jpegs() -> dict[str, bytes]:
    """JPEGs with something about their maker, each in another place."""
    jpeg = plain("JPEG")
    scan = scans_of(jpeg)[0]
    progressive = encoded(noise((64, 64)), "JPEG", progressive=True)
    between = scans_of(progressive)[2]
    second = with_segments(jpeg, jpeg_segment(0xE1, telling_exif()))
    return {
        "EXIF": plain("JPEG", exif=telling_exif()),
        "XMP": with_segments(jpeg, jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + SECRET)),
        "comment": with_segments(jpeg, jpeg_segment(0xFE, SECRET)),
        "IPTC": with_segments(jpeg, jpeg_segment(0xED, SECRET)),
        "content credentials": with_segments(jpeg, jpeg_segment(0xEB, b"JP\0\1" + SECRET)),
        "second picture behind the end": jpeg + second,
        "index of pictures": with_segments(jpeg, jpeg_segment(0xE2, b"MPF\0" + SECRET)) + second,
        "motion photo": jpeg + VIDEO,
        "thumbnail of JFXX": with_segments(jpeg, jpeg_segment(0xE0, b"JFXX\0\x10" + SECRET)),
        "behind a marker without length": jpeg[:2] + b"\xff\xd0" + jpeg_segment(0xE1, telling_exif()) + jpeg[2:],
        "before the scan": jpeg[:scan] + jpeg_segment(0xFE, SECRET) + jpeg[scan:],
        "between scans": progressive[:between] + jpeg_segment(0xFE, SECRET) + progressive[between:],
        "between segments": jpeg[:scan] + SECRET + jpeg[scan:],
        "profile": with_segments(jpeg, jpeg_segment(0xE2, b"ICC_PROFILE\0\x01\x01" + SECRET)),
        "Adobe": with_segments(jpeg, jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01" + SECRET)),
    }


def telling_pngs() -> dict[str, bytes]:
    """PNGs with something about their maker."""
    kept_out = (b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"caBX", b"prVt", b"sPLT", b"tIME", b"iCCP", b"pHYs", b"bKGD")
    made = {name.decode(): with_chunks(plain("PNG"), chunk(name, SECRET)) for name in kept_out}
    made["still acTL"] = with_chunks(plain("PNG"), chunk(b"acTL", struct.pack(">II", 1, 0) + SECRET))
    return made | {"behind the end": plain("PNG") + SECRET, "EXIF": plain("PNG", exif=telling_exif())}


def telling_webps() -> dict[str, bytes]:
    """WebPs with something about their maker."""
    webp = plain("WEBP")
    made = {name.decode(): with_riff_chunks(webp, (name, SECRET)) for name in (b"EXIF", b"XMP ", b"ICCP", b"PRIV")}
    frame = animation("WEBP")
    at = frame.index(b"ANMF")
    size = int.from_bytes(frame[at + 4 : at + 8], "little")
    more = b"PRIV" + (26).to_bytes(4, "little") + SECRET
    inside = frame[: at + 4] + (size + len(more)).to_bytes(4, "little") + frame[at + 8 : at + 8 + size] + more
    inside += frame[at + 8 + size :]
    inside = inside[:4] + (len(inside) - 8).to_bytes(4, "little") + inside[8:]
    return made | {"behind the end": webp + SECRET, "in a frame": inside, "EXIF": plain("WEBP", exif=telling_exif())}


def telling_gifs() -> dict[str, bytes]:
    """GIFs with something about their maker."""
    xmp = b"\x21\xff\x0bXMP DataXMP" + SECRET + b"\x01" + bytes(range(255, -1, -1)) + b"\0\0"
    gif = animation("GIF", comment=SECRET)
    at = gif.index(b"\x21\xff")
    comment = b"\x21\xfe" + bytes((len(SECRET),)) + SECRET + b"\0"
    text = b"\x21\x01\x0c" + b"\0" * 12 + bytes((len(SECRET),)) + SECRET + b"\0"
    private = b"\x21\xff\x0bPRIVATE 1.0" + bytes((len(SECRET),)) + SECRET + b"\0"
    more = {"XMP": xmp, "comment between": comment, "plain text": text, "private": private}
    made = {name: gif[:at] + block + gif[at:] for name, block in more.items()}
    return made | {"comment": gif, "behind the end": gif + SECRET}


TELLING = {
    f"{kind}: {where}": data
    for kind, files in (
        ("JPEG", telling_jpegs()),
        ("PNG", telling_pngs()),
        ("WebP", telling_webps()),
        ("GIF", telling_gifs()),
    )
    for where, data in files.items()
}


@pytest.mark.parametrize("where", list(TELLING))
def test_nothing_about_the_maker_is_kept(where: str) -> None:
    data = TELLING[where]
    assert SECRET in data
    normalised = normalise(data)
    assert SECRET not in normalised.data
    assert b"Jane" not in normalised.data
    assert b"ftyp" not in normalised.data
    assert normalised.data.count(b"\xff\xd8\xff") <= 1, "no second picture"
    assert opened(normalised.data).size == (normalised.width, normalised.height)


@pytest.mark.parametrize("kind", list(TYPES))
def test_the_pixels_of_an_ordinary_picture_stay_as_they_are(kind: str) -> None:
    image = noise((70, 50))
    data = encoded(image, kind)
    normalised = normalise(data)
    assert normalised.content_type == TYPES[kind]
    assert opened(normalised.data).tobytes() == opened(data).tobytes()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_keeps_its_frames_their_time_and_its_repetitions(kind: str) -> None:
    data = animation(kind)
    normalised = normalise(data)
    assert normalised.frames == 3
    with Image.open(BytesIO(normalised.data)) as image:
        assert (getattr(image, "n_frames", 1), image.info["loop"]) == (3, 0)
        image.seek(1)
        image.load()
        assert round(image.info["duration"]) == 200


@pytest.mark.parametrize("kind", ["MPO", "JPEG"])
def test_several_pictures_in_a_file_are_no_animation(kind: str) -> None:
    first, second = noise((64, 48)), noise((16, 12))
    data = encoded(first, kind, save_all=True, append_images=[second]) if kind == "MPO" else encoded(first, kind) * 2
    normalised = normalise(data)
    assert (normalised.content_type, normalised.frames) == ("image/jpeg", 1)
    assert (normalised.width, normalised.height) == (64, 48)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"<svg/>", b"\x00" * 100, b"%PDF-1.7", b"RIFF\x04\0\0\0WEBP"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(Unreadable):
        normalise(data)


@pytest.mark.parametrize("kind", list(TYPES))
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_part_of_a_picture_is_refused(kind: str, part: float) -> None:
    data = encoded(noise((300, 300)), kind)
    with pytest.raises(Unreadable):
        normalise(data[: int(len(data) * part)])


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_part_of_a_jpeg_with_an_end_put_on_it_is_refused(part: float) -> None:
    data = encoded(noise((300, 300)), "JPEG")
    with pytest.raises(Unreadable):
        normalise(data[: int(len(data) * part)] + b"\xff\xd9")


@pytest.mark.parametrize("progressive", [False, True])
def test_the_data_of_a_small_jpeg_under_a_large_head_are_refused(progressive: bool) -> None:
    data = bytearray(plain("JPEG", (8, 8), progressive=progressive))
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 7000, 7000)
    with pytest.raises(Unreadable):
        normalise(bytes(data))


@pytest.mark.parametrize("end", [b"", b"\xff", b"\xff\xff\xff", b"\xff\xff\xd9"])
def test_a_jpeg_whose_end_mark_is_missing_is_whole(end: bytes) -> None:
    data = encoded(noise((64, 48)), "JPEG")
    assert normalise(data[:-2] + end).data == data


def test_jpeg_data_beyond_the_picture_are_dropped() -> None:
    data = encoded(noise((64, 64)), "JPEG")
    normalised = normalise(data[:-2] + SECRET * 1000 + b"\xff\xd9")
    assert SECRET not in normalised.data
    assert len(normalised.data) < 2 * len(data)


def test_png_data_beyond_the_picture_are_dropped() -> None:
    row = b"\0" + b"\x10\x20\x30" * 8
    surplus = [zlib.compress(row * 8 + b"\0" * 2_000_000, 0), zlib.compress(row * 8) + SECRET]
    for data in surplus:
        normalised = normalise(png_of((8, 8, 8, 2), data))
        assert len(normalised.data) < 300
        assert SECRET not in normalised.data
        assert opened(normalised.data).getpixel((3, 3)) == (0x10, 0x20, 0x30)
    split = png_of((8, 8, 8, 2), zlib.compress(row * 8)).replace(chunk(b"IEND", b""), chunk(b"IDAT", SECRET))
    assert SECRET not in normalise(split + chunk(b"IEND", b"")).data


def test_png_data_that_are_too_few_are_refused() -> None:
    with pytest.raises(Unreadable):
        normalise(png_of((8, 8, 8, 2), zlib.compress(b"\0" * 100)))


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (8, 8), (33, 17)])
def test_an_interlaced_png_is_whole(size: tuple[int, int]) -> None:
    width, height = size
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = b""
    for column, row, across, down in passes:
        columns = len(range(column, width, across))
        rows += (b"\0" + b"\x40" * columns) * (len(range(row, height, down)) if columns else 0)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert normalise(data).data == data


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(TooLarge):
        normalise(b"\x00" * (MAX_BYTES + 1))


def test_a_small_file_that_unpacks_into_a_huge_picture_is_refused() -> None:
    with pytest.raises(TooLarge):
        normalise(png_of((20_000, 20_000, 8, 2), zlib.compress(b"\0" * 1000)))


def test_the_canvases_that_a_decoder_of_animations_holds_are_counted() -> None:
    side = int((MAX_PIXELS // 2) ** 0.5)
    with pytest.raises(TooLarge, match="frames"):
        normalise(animation("WEBP", (side, side), lossless=True, method=0))


def test_an_animation_of_too_many_pixels_in_all_is_refused() -> None:
    frames = [Image.new("L", (4, 3), level) for level in range(13)]
    data = bytearray(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    data[6:10] = struct.pack("<HH", 4000, 3000)
    with pytest.raises(TooLarge, match="13 frames"):
        normalise(bytes(data))


@pytest.mark.parametrize(("size", "scans"), [((7000, 7000), 900), ((7000, 7000), 21), ((40, 30), 101)])
def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded(size: tuple[int, int], scans: int) -> None:
    with pytest.raises(TooCostly):
        read_jpeg(many_scans(size, scans))
    assert read_jpeg(many_scans((3000, 3000), 100)).width == 3000


@pytest.mark.parametrize("code", [0xC3, 0xC5, 0xC9, 0xCA])
def test_a_jpeg_that_no_browser_shows_is_refused(code: int) -> None:
    data = plain("JPEG")
    with pytest.raises(Unreadable, match="ordinary JPEG"):
        normalise(data.replace(b"\xff\xc0", bytes((0xFF, code))))


SOURCES = [
    plain("JPEG"),
    encoded(noise((24, 24)), "JPEG", progressive=True),
    plain("PNG", exif=telling_exif(6)),
    encoded(noise((24, 24)).convert("P"), "PNG"),
    plain("WEBP"),
    encoded(noise((24, 24)), "WEBP", lossless=True),
    animation("GIF"),
    animation("WEBP"),
    animation("PNG"),
    plain("AVIF"),
]


@settings(max_examples=300, deadline=None)
@given(
    source=st.sampled_from(SOURCES),
    changes=st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 40),
    more=st.binary(max_size=40),
)
def test_a_changed_picture_is_refused_or_normalised_for_good(
    source: bytes, changes: list[tuple[int, int]], cut: int, more: bytes
) -> None:
    data = bytearray(source)
    for at, byte in changes:
        data[at % len(data)] = byte
    try:
        normalised = normalise(bytes(data[: len(data) - cut]) + more)
    except PictureRefused:
        return
    assert normalise(normalised.data) == normalised
    assert opened(normalised.data).size == (normalised.width, normalised.height)


@pytest.mark.parametrize("where", list(TELLING))
def test_a_normalised_picture_stays_as_it_is(where: str) -> None:
    normalised = normalise(TELLING[where])
    assert normalise(normalised.data) == normalised
