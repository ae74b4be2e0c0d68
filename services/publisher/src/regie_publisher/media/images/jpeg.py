"""JPEG files, segment by segment (ITU-T T.81 annex B).

The first picture up to its end is kept; data that phones append (a video, a gain map, a second picture with a
position of its own) are not. Of the application segments only JFIF and Adobe's stay, both in their shortest form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from regie_publisher.media.images.container import Container, check_canvas
from regie_publisher.media.images.exif import Facts, read_exif
from regie_publisher.media.images.profiles import ADOBE_RGB
from regie_publisher.media.images.refusals import COSTLY, TooCostly, Unreadable

MAX_SCANS = 100
MAX_PASSES = 1_000_000_000
"""Pixels times scans. A progressive picture has about ten scans; each costs a pass over all pixels."""
DAMAGED = "the JPEG picture is damaged or not whole: save it anew"

_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_SCAN_END = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)
_ALONE = {0x01, 0xD8, *range(0xD0, 0xD8)}
_TABLES = {0xC4, 0xDB, 0xDD}
_FRAMES = {0xC0, 0xC1, 0xC2}
_OTHER_FRAMES = {*range(0xC3, 0xD0)} - {0xC4, 0xC8}
"""Lossless, hierarchical and arithmetic coding: nothing that shows pictures on the web reads them."""


@dataclass(slots=True)
class _Frame:
    progressive: bool
    width: int
    height: int
    sampling: dict[int, tuple[int, int]]

    def blocks(self, component: int) -> int:
        """Returns how many blocks of 8 x 8 the component has."""
        across, down = self.sampling[component]
        most_across = max(pair[0] for pair in self.sampling.values())
        most_down = max(pair[1] for pair in self.sampling.values())
        width = -(-self.width * across // most_across)
        height = -(-self.height * down // most_down)
        return -(-width // 8) * -(-height // 8)


@dataclass(slots=True)
class _Walk:
    kept: list[bytes] = field(default_factory=lambda: [b"\xff\xd8"])
    frame: _Frame | None = None
    exif: Facts | None = None
    profile: dict[int, bytes] = field(default_factory=dict)
    shown: set[int] = field(default_factory=set)
    """Components with a first scan."""
    scans: int = 0
    jfif: bool = False
    adobe: bool = False
    entropy: tuple[int, int] | None = None

    def keep(self, code: int, body: bytes) -> None:
        self.kept.append(bytes((0xFF, code)) + (len(body) + 2).to_bytes(2, "big") + body)


def read_jpeg(data: bytes) -> Container:
    """Returns the first picture of the file. Raises PictureRefused."""
    walk = _Walk()
    at = 2
    while (marker := _MARKER.search(data, at)) is not None:
        code, at = marker[1][0], marker.end()
        if code in _ALONE:
            continue
        if code == 0xD9:
            break
        end = at + int.from_bytes(data[at : at + 2], "big")
        if end < at + 2 or end > len(data):
            raise Unreadable(DAMAGED)
        body, at = data[at + 2 : end], end
        if code == 0xDA:
            at = _keep_scan(walk, data, body, end)
        else:
            _keep_segment(walk, code, body)
    return _whole(walk)


def _keep_segment(walk: _Walk, code: int, body: bytes) -> None:
    if code in _FRAMES:
        walk.frame = _read_frame(walk, code, body)
        walk.keep(code, body)
    elif code in _OTHER_FRAMES:
        raise Unreadable("the picture is a JPEG of a kind that browsers do not show: save it as an ordinary JPEG")
    elif code in _TABLES:
        walk.keep(code, body)
    elif code == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 12 and not walk.jfif:
        walk.jfif = True
        walk.keep(code, body[:12] + b"\0\0")  # without its thumbnail
    elif code == 0xEE and body.startswith(b"Adobe") and len(body) >= 12 and not walk.adobe:
        walk.adobe = True
        walk.keep(code, body[:12])
    elif code == 0xE1 and body.startswith(b"Exif\0\0") and walk.exif is None:
        walk.exif = read_exif(body)
    elif code == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
        walk.profile.setdefault(body[12], body[14:])


def _read_frame(walk: _Walk, code: int, body: bytes) -> _Frame:
    components = body[5] if len(body) > 5 else 0
    if walk.frame is not None or not 1 <= components <= 4 or len(body) != 6 + 3 * components:
        raise Unreadable(DAMAGED)
    if body[0] != 8:
        raise Unreadable(f"the JPEG picture has {body[0]} bits a sample: save it with 8")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    entries = [body[at : at + 3] for at in range(6, len(body), 3)]
    sampling = {entry[0]: (entry[1] >> 4, entry[1] & 15) for entry in entries}
    if not width or not height or len(sampling) != components:
        raise Unreadable(DAMAGED)
    if any(not 1 <= one <= 4 for pair in sampling.values() for one in pair):
        raise Unreadable(DAMAGED)
    check_canvas("JPEG", width, height)
    return _Frame(code == 0xC2, width, height, sampling)


def _keep_scan(walk: _Walk, data: bytes, head: bytes, start: int) -> int:
    """Keeps a scan and its data, and returns where they end."""
    count = head[0] if head else 0
    if walk.frame is None or len(head) != 4 + 2 * count:
        raise Unreadable(DAMAGED)
    walk.scans += 1
    if walk.scans > MAX_SCANS or walk.scans * walk.frame.width * walk.frame.height > MAX_PASSES:
        raise TooCostly(COSTLY)
    components = head[1 : 1 + 2 * count : 2]
    if not components or any(one not in walk.frame.sampling for one in components):
        raise Unreadable(DAMAGED)
    ended = _SCAN_END.search(data, start)
    end = ended.start() if ended else max(start, len(data.rstrip(b"\xff")))
    spectrum, approximation = head[-3], head[-1] >> 4
    if spectrum == 0 and approximation == 0:
        walk.shown.update(components)
        _check_amount(walk.frame, components, end - start)
    walk.keep(0xDA, head)
    before = sum(map(len, walk.kept))
    walk.kept.append(data[start:end])
    walk.entropy = (before, before + end - start)
    return end


def _check_amount(frame: _Frame, components: bytes, length: int) -> None:
    """Raises Unreadable where the data cannot be that many blocks: a decoder would fill up with grey without an error.

    The shortest code has one bit, and a block has one for its first coefficient and, unless that is all there is to the
    scan, one for its end.
    """
    bits = sum(frame.blocks(component) for component in components) * (1 if frame.progressive else 2)
    if length * 8 < bits:
        raise Unreadable(DAMAGED)


def _whole(walk: _Walk) -> Container:
    frame = walk.frame
    if frame is None or walk.shown != set(frame.sampling):
        raise Unreadable(DAMAGED)
    walk.kept.append(b"\xff\xd9")
    exif = walk.exif or Facts()
    profile = b"".join(walk.profile[number] for number in sorted(walk.profile)) or None
    if profile is None and exif.adobe_rgb:
        profile = ADOBE_RGB
    return Container(
        "JPEG",
        b"".join(walk.kept),
        frame.width,
        frame.height,
        orientation=exif.orientation,
        profile=profile,
        lossless=False,
        entropy=walk.entropy if walk.scans == 1 and not frame.progressive else None,
    )
