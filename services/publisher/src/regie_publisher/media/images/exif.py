"""The two facts of EXIF that change how a picture looks: orientation, and Adobe RGB where no profile is embedded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

ORIENTATION, EXIF_IFD, INTEROPERABILITY_IFD, INTEROPERABILITY_INDEX = 0x0112, 0x8769, 0xA005, 0x0001
MAX_ENTRIES = 512


@dataclass(frozen=True, slots=True)
class Facts:
    """`adobe_rgb` follows DCF: a camera that writes Adobe RGB writes R03."""

    orientation: int = 1
    adobe_rgb: bool = False


def read_exif(body: bytes) -> Facts:
    """Returns the facts of a TIFF structure, with or without `Exif\\0\\0` before it. Damage counts as no fact."""
    tiff = body.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(tiff[:4])
    if order is None:
        return Facts()
    root = dict(_entries(tiff, _number(tiff[4:8], order), order))
    orientation = _number(root.get(ORIENTATION, b"")[:2], order)
    camera = dict(_entries(tiff, _number(root.get(EXIF_IFD, b""), order), order))
    interoperability = dict(_entries(tiff, _number(camera.get(INTEROPERABILITY_IFD, b""), order), order))
    adobe_rgb = interoperability.get(INTEROPERABILITY_INDEX, b"").startswith(b"R03")
    return Facts(orientation if 2 <= orientation <= 8 else 1, adobe_rgb)


def _entries(tiff: bytes, at: int, order: str) -> Iterator[tuple[int, bytes]]:
    """Yields tag and value field of each entry of one directory."""
    if at < 8:
        return
    count = min(_number(tiff[at : at + 2], order), MAX_ENTRIES)
    for start in range(at + 2, at + 2 + 12 * count, 12):
        entry = tiff[start : start + 12]
        if len(entry) == 12:
            yield _number(entry[:2], order), entry[8:]


def _number(data: bytes, order: str) -> int:
    return int.from_bytes(data, "little" if order == "little" else "big")
