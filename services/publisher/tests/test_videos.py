"""MP4 files, measured by a few small reads, and those that are none."""

from __future__ import annotations

import struct
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from regie_publisher.media.videos.boxes import MAX_BOXES
from regie_publisher.media.videos.mp4 import VideoFacts, VideoRefused, is_video, measure
from regie_publisher.testing.pictures import plain
from regie_publisher.testing.videos import QUARTER_TURN, box, head, large_box, movie_head, mp4, track

UNKNOWN = 0xFFFFFFFF
NO_SHAPE = box(b"trak", box(b"tkhd"), box(b"mdia", box(b"hdlr", bytes(8), b"vide")))


async def facts(data: bytes) -> VideoFacts:
    async def read(start: int, end: int) -> bytes:
        assert 0 <= start < end <= len(data)
        return data[start:end]

    return await measure(read, len(data))


@pytest.mark.parametrize(
    ("head_bytes", "expected"),
    [
        (mp4(), True),
        (mp4(brand=b"M4V "), True),
        (mp4(brand=b"qt  "), True),
        (box(b"ftyp", b"heic", bytes(4), b"mif1"), False),
        (box(b"ftyp", b"avif", bytes(4), b"mif1"), False),
        (plain(), False),
        (b"", False),
        (b"ftypisom", False),
    ],
)
def test_a_video_is_told_by_its_first_bytes(head_bytes: bytes, expected: bool) -> None:
    assert is_video(head_bytes[:256]) is expected


@pytest.mark.parametrize("movie_first", [True, False])
async def test_size_and_duration_are_read_wherever_they_stand(movie_first: bool) -> None:
    expected = VideoFacts(640, 360, timedelta(seconds=2.5))
    assert await facts(mp4(size=300_000, movie_first=movie_first)) == expected


async def test_a_large_video_takes_a_few_small_reads() -> None:
    described = box(b"moov", movie_head(), track())
    data_size, begin = 1 << 30, head()
    end = len(begin) + 16 + data_size
    reads: list[int] = []

    async def read(start: int, stop: int) -> bytes:
        reads.append(stop - start)
        if start >= end:
            return described[start - end : stop - end]
        file = begin + struct.pack(">I4sQ", 1, b"mdat", 16 + data_size)
        return file[start:stop].ljust(stop - start, b"\0")

    assert (await measure(read, end + len(described))).width == 640
    assert len(reads) <= 4
    assert max(reads) <= 64 * 1024


async def test_a_video_that_was_filmed_upright_is_high_and_not_wide() -> None:
    data = mp4(movie=box(b"moov", movie_head(), track(1920, 1080, matrix=QUARTER_TURN)))
    assert (await facts(data)).width == 1080


async def test_a_video_in_fragments_has_its_length_beside_its_head() -> None:
    extends = box(b"mvex", box(b"mehd", bytes(4), struct.pack(">I", 7000)))
    movie = box(b"moov", movie_head(length=0), extends, track())
    many = b"".join(box(b"moof", bytes(8)) + box(b"mdat", bytes(8)) for _ in range(MAX_BOXES))
    assert (await facts(head() + movie + many)).duration == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("movie", "seconds"),
    [
        (movie_head(units=1, length=5, wide=True), 5),
        (movie_head(length=UNKNOWN), 0),
        (movie_head(length=0), 0),
    ],
)
async def test_a_duration_has_two_forms_and_may_be_unknown(movie: bytes, seconds: float) -> None:
    assert (await facts(mp4(movie=box(b"moov", movie, track())))).duration == timedelta(seconds=seconds)


async def test_a_box_of_64_bits_is_read() -> None:
    data = head() + large_box(b"mdat", bytes(100)) + box(b"moov", movie_head(), track())
    assert (await facts(data)).height == 360


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (mp4(size=1000)[:-1], "missing or damaged"),
        (mp4(size=1000, movie_first=True)[:-1], "missing or damaged"),
        (mp4() + b"\0\0\0", "in the middle"),
        (mp4() + b"\0\0\0\1free\0", "in the middle"),
        (mp4() + b"\0\0\0\7free", "missing or damaged"),
        (head(), "cut off"),
        (head() + box(b"mdat", bytes(9)), "cut off"),
        (head() + box(b"moov", movie_head(), track()), "cut off"),
        (mp4(brand=b"qt  "), "QuickTime"),
        (mp4(movie=box(b"moov", movie_head(), track(handler=b"soun"))), "no video track"),
        (mp4(movie=box(b"moov", movie_head(), track(0, 360))), "no video track"),
        (mp4(movie=box(b"moov", movie_head(), track(20_000, 360))), "no video track"),
        (mp4(movie=box(b"moov", movie_head(units=0), track())), "damaged"),
        (mp4(movie=box(b"moov", box(b"mvhd", bytes(4)), track())), "damaged"),
        (mp4(movie=box(b"moov", movie_head(), NO_SHAPE)), "damaged"),
        (mp4(movie=box(b"moov", movie_head(units=1, length=200_000), track())), "longer than 1 day"),
        (head() + box(b"free") * MAX_BOXES, "too many parts"),
    ],
)
async def test_what_is_no_whole_mp4_is_refused_with_the_way_out(data: bytes, words: str) -> None:
    with pytest.raises(VideoRefused, match=words) as refused:
        await facts(data)
    assert "save the video anew as MP4" in refused.value.message


WHOLE = mp4(size=50)


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=12))
async def test_no_damage_brings_anything_but_facts_or_a_refusal(at: int, noise: bytes) -> None:
    damaged = WHOLE[:at] + noise + WHOLE[at + len(noise) :]
    if not is_video(damaged):
        return
    try:
        found = await facts(damaged)
    except VideoRefused:
        return
    assert found.width > 0
    assert timedelta(0) <= found.duration <= timedelta(days=1)
