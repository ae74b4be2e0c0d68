"""HEIC and AVIF, as phones and browsers make them. They are read and stored in another form: few networks take them."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, features

from regie_publisher.media.images.cicp import profile_of_code_points
from regie_publisher.media.images.refusals import Unreadable

try:
    from pillow_heif import HeifImageFile
except ImportError:  # no wheel for this machine
    HeifImageFile = None  # type: ignore[assignment, misc]

_AVIF, _HEIF = {b"avif", b"avis"}, {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def brand_of(data: bytes) -> str:
    """Returns AVIF, HEIF, or an empty string for neither."""
    if data[4:8] != b"ftyp":
        return ""
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
    return "AVIF" if brands & _AVIF else "HEIF" if brands & _HEIF else ""


def open_heif(data: bytes, brand: str) -> Image.Image:
    """Returns the opened picture, not decoded yet. Raises Unreadable where this machine has no decoder."""
    if brand == "AVIF" and features.check("avif"):
        return Image.open(BytesIO(data), formats=["AVIF"])
    if brand == "HEIF" and HeifImageFile is not None:
        return HeifImageFile(BytesIO(data))  # type: ignore[no-untyped-call]
    raise Unreadable(f"{brand} pictures cannot be read here: save it as JPEG, PNG or WebP")


def described_profile(data: bytes) -> bytes | None:
    """Returns the profile that the code points of the first colour box name. Raises Unreadable for HDR."""
    at = data.find(b"colrnclx")
    if at < 0 or at + 12 > len(data):
        return None
    return profile_of_code_points(
        int.from_bytes(data[at + 8 : at + 10], "big"), int.from_bytes(data[at + 10 : at + 12], "big")
    )
