"""Messages between the publisher and a picture worker: a JSON head and the bytes of a picture, with their lengths.

A picture to normalise comes as the path of its file, in the head.

JSON and no pickle: a worker decodes hostile bytes, so that nothing from it may be run.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

HEAD = struct.Struct(">II")
MAX_HEAD = 64_000
MAX_BODY = 20_000_000


class BadFrame(Exception):
    """The other side does not speak as agreed."""


def pack(head: Mapping[str, object], body: bytes = b"") -> bytes:
    """Returns one frame."""
    text = json.dumps(head).encode()
    return HEAD.pack(len(text), len(body)) + text + body


def sizes(prefix: bytes) -> tuple[int, int]:
    """Returns the bytes of head and body. Raises BadFrame for more than is ever sent."""
    head, body = HEAD.unpack(prefix)
    if head > MAX_HEAD or body > MAX_BODY:
        raise BadFrame(f"a frame of {head} and {body} bytes")
    return head, body


def read_head(text: bytes) -> dict[str, object]:
    """Returns the head. Raises BadFrame."""
    try:
        head = json.loads(text)
    except ValueError as error:
        raise BadFrame("a head that is no JSON") from error
    if not isinstance(head, dict):
        raise BadFrame("a head that is no object")
    return head
