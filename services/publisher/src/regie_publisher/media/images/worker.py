"""A picture worker: a process that reads pictures, one at a time, under limits of its own.

Started by `pool` as `python -m`, with an empty environment. It ends with its parent, at the end of its input.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
from pathlib import Path
from typing import BinaryIO

from regie_networks.rendition import Bounds, Rendition

from regie_publisher.media.images import frames
from regie_publisher.media.images.normalising import normalise
from regie_publisher.media.images.picture import Normalised
from regie_publisher.media.images.refusals import COSTLY, PictureRefused, TooCostly
from regie_publisher.media.images.renditions import fit

NICENESS = 5
"""So that hostile pictures do not take the time of the process that publishes."""


def main(arguments: list[str]) -> None:
    """Takes the limits: bytes of memory, seconds of CPU for one picture."""
    memory, cpu_seconds = (int(one) for one in arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    os.nice(NICENESS)
    if sys.platform == "linux":  # elsewhere the kernel does not hold to it, or refuses it
        _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _serve(sys.stdin.buffer, sys.stdout.buffer, cpu_seconds)


def _serve(source: BinaryIO, sink: BinaryIO, cpu_seconds: int) -> None:
    while len(prefix := source.read(frames.HEAD.size)) == frames.HEAD.size:
        head, body = (source.read(size) for size in frames.sizes(prefix))
        _limit_cpu(cpu_seconds)
        sink.write(_answer(frames.read_head(head), body))
        sink.flush()


def _limit(kind: int, value: int) -> None:
    """Sets the soft limit, which the kernel enforces, up to the process's hard limit."""
    _soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _limit_cpu(seconds: int) -> None:
    """Sets the soft limit so many seconds from here; past it the kernel ends the process with SIGXCPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + seconds)


def _answer(head: dict[str, object], body: bytes) -> bytes:
    try:
        made = _make(head, body)
    except PictureRefused as error:
        return frames.pack({"refused": type(error).__name__, "message": error.message})
    except MemoryError:
        return frames.pack({"refused": TooCostly.__name__, "message": COSTLY})
    except Exception as error:  # noqa: BLE001  # broad: the parent logs it, and the next picture still has to be read
        return frames.pack({"failed": type(error).__name__})
    size = {"content_type": made.content_type, "width": made.width, "height": made.height}
    return frames.pack(size | ({"frames": made.frames} if isinstance(made, Normalised) else {}), made.data)


def _make(head: dict[str, object], body: bytes) -> Normalised | Rendition:
    bounds = head.get("fit")
    if not isinstance(bounds, dict):
        return normalise(Path(str(head["normalise"])).read_bytes())
    return fit(body, Bounds(**bounds | {"content_types": tuple(bounds["content_types"])}))


if __name__ == "__main__":
    main(sys.argv[1:])
