"""Normalises a picture at upload, once for all networks (ADR 0022). Runs in a child process.

The file is rebuilt from its allowed parts. Only where the pixels themselves have to change (orientation, colours, 16
bits, data that do not match the head, a form that few networks take) are they encoded anew.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from PIL import Image

from regie_publisher.media.images import heif
from regie_publisher.media.images.container import MAX_BYTES, Container, check_canvas, check_size
from regie_publisher.media.images.encoding import Style, encode, save, style_of
from regie_publisher.media.images.exif import read_exif
from regie_publisher.media.images.gif import read_gif
from regie_publisher.media.images.jpeg import read_jpeg
from regie_publisher.media.images.picture import GIF, JPEG, PNG, WEBP, Normalised
from regie_publisher.media.images.pixels import eight_bits, moves_colours, to_srgb, upright, with_alpha
from regie_publisher.media.images.png import read_png
from regie_publisher.media.images.refusals import COSTLY, TooCostly, TooLarge, Unreadable
from regie_publisher.media.images.webp import read_webp

TYPES = {"PNG": PNG, "JPEG": JPEG, "WEBP": WEBP, "GIF": GIF}
TAIL = 32
"""Bytes at the end of JPEG data that a decoder must come to ask for."""
PADDING = 16

_READERS = {
    b"\xff\xd8\xff": read_jpeg,
    b"\x89PNG\r\n\x1a\n": read_png,
    b"RIFF": read_webp,
    b"GIF87a": read_gif,
    b"GIF89a": read_gif,
}
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""Errors that Pillow and its decoders raise for hostile bytes."""


def normalise(data: bytes) -> Normalised:
    """Returns the picture as it is stored. Normalising that again changes nothing. Raises PictureRefused. Blocks."""
    check_size(len(data))
    with damage_refused():
        brand = heif.brand_of(data)
        stored = _from_heif(data, brand) if brand else _settled(read_container(data))
    return Normalised(stored.data, TYPES[stored.kind], stored.width, stored.height, frames=stored.frames)


def read_container(data: bytes) -> Container:
    """Returns the file taken apart. Raises PictureRefused."""
    for magic, read in _READERS.items():
        if data.startswith(magic) and (magic != b"RIFF" or data[8:12] == b"WEBP"):
            return read(data)
    raise Unreadable("the bytes are no PNG, JPEG, WebP, GIF, HEIC or AVIF picture")


@contextmanager
def damage_refused() -> Iterator[None]:
    """Turns errors of decoders for hostile bytes into refusals."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hostile bytes make decoders complain; what counts is what they raise
            yield
    except (MemoryError, Image.DecompressionBombError) as error:
        raise TooCostly(COSTLY) from error
    except _DAMAGE as error:
        raise Unreadable("the picture is damaged or not whole: save it anew") from error


def _settled(container: Container) -> Container:
    """Returns the container with its pixels as every network shows them."""
    if container.frames > 1:
        return _settled_animation(container)
    source = _Measured(container)
    with Image.open(source, formats=[container.kind]) as image:
        source.exhausted = False
        image.load()
        if image.size != (container.width, container.height):
            raise Unreadable(f"the picture says two sizes: {image.size} and {container.width} x {container.height}")
        profile = container.profile if moves_colours(image, container.profile) else None
        if not (profile or source.surplus or container.deep or container.orientation != 1 or image.mode == "CMYK"):
            return container
        pixels = upright(to_srgb(eight_bits(image), profile), container.orientation)
        style = style_of(image, lossless=container.lossless)
    return read_container(encode(pixels, container.kind, style))


def _settled_animation(container: Container) -> Container:
    """Decodes every frame, so that damage shows at upload, and encodes them anew only where their pixels change."""
    with Image.open(BytesIO(container.data), formats=[container.kind]) as image:
        durations = []
        count = int(getattr(image, "n_frames", 1))
        for index in range(count):
            image.seek(index)
            image.load()
            durations.append(image.info.get("duration", 0))
        profile = container.profile if moves_colours(image.convert("RGBA"), container.profile) else None
        if not (profile or container.surplus or container.deep or container.orientation != 1):
            return container
        first, *others = _frames(image, count, profile, container.orientation)
        options: dict[str, Any] = {}
        if container.kind == "WEBP":
            options = {"lossless": container.lossless, "quality": 90, "method": 2}
        data = save(
            first,
            container.kind,
            save_all=True,
            append_images=others,
            duration=durations,
            loop=image.info.get("loop", 0),
            **options,
        )
    if len(data) > MAX_BYTES:
        raise TooLarge(f"the animation, turned upright and into sRGB, has over {MAX_BYTES} bytes: make it smaller")
    return read_container(data)


def _frames(image: Image.Image, count: int, profile: bytes | None, orientation: int) -> Iterator[Image.Image]:
    for index in range(count):
        image.seek(index)
        yield upright(to_srgb(image.convert("RGBA"), profile), orientation)


def _from_heif(data: bytes, brand: str) -> Container:
    """Returns the first picture in a form that networks take: JPEG, or PNG where it is transparent."""
    with heif.open_heif(data, brand) as image:
        check_canvas(brand, image.width, image.height)
        if brand == "AVIF" and getattr(image, "n_frames", 1) > 1:
            raise Unreadable("animated AVIF is not read: save it as WebP or GIF")
        image.load()
        profile = image.info.get("icc_profile") or heif.described_profile(data)
        orientation = read_exif(image.info.get("exif") or b"").orientation
        pixels = upright(to_srgb(with_alpha(eight_bits(image)), profile), orientation)
    if pixels.mode in ("LA", "RGBA") and pixels.getchannel("A").getextrema() == (255, 255):
        pixels = pixels.convert(pixels.mode[:-1])
    kind = "PNG" if pixels.has_transparency_data else "JPEG"
    return read_container(encode(pixels, kind, Style()))


class _Measured(BytesIO):
    """Hands a file to its decoder so that it shows whether the decoder needs all of a JPEG's data, and no more.

    libjpeg fills missing data with grey and skips surplus data, both without an error. So the data end without
    their end mark, in a little padding: a decoder that wants more runs dry, which Pillow calls truncated; one that
    never asks for the tail has had enough before. A progressive picture needs its end mark; `jpeg._check_amount` has
    looked at it.
    """

    def __init__(self, container: Container) -> None:
        self._tail = len(container.data)
        self._container = container
        self.exhausted = False
        if container.entropy is None:
            super().__init__(container.data)
            return
        start, end = container.entropy
        super().__init__(container.data[:end] + bytes(PADDING))
        self._tail = max(start, end - TAIL)

    @property
    def surplus(self) -> bool:
        """True when the data held more than the decoder needed."""
        return self._container.surplus or (self._container.entropy is not None and not self.exhausted)

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        if at >= self._tail:
            self.exhausted = True
        elif size is not None and size > 0:
            size = min(size, self._tail - at)
        return super().read(size)
