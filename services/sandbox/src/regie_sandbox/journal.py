"""The file behind the network: one JSON line for every call, written before the call is answered.

A line is `{"call": …, "change": …}`: the request, and its change of the network (null for none). It is
handed to the operating system at once and unbuffered, so it outlives a `kill -9` of this process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

FILE_NAME = "journal.jsonl"


class Journal:
    """Append only. Without a folder it keeps nothing."""

    def __init__(self, data: Path | None) -> None:
        self._path = data / FILE_NAME if data else None
        self._descriptor: int | None = None

    def replay(self) -> Iterator[dict[str, Any]]:
        """Yields every line in order, oldest first, and drops a last line that was cut off in the middle."""
        if self._path is None or not self._path.exists():
            return
        whole = 0
        with self._path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                yield orjson.loads(line)
        os.truncate(self._path, whole)

    def append(self, line: bytes) -> None:
        """Writes one line, given without its line end. Raises OSError; then nothing has happened."""
        if self._path is None:
            return
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        written = os.write(self._descriptor, line + b"\n")
        if written != len(line) + 1:
            # What did not fit is taken back, so that the next line does not hang on a torn one.
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
            raise OSError(f"Only {written} of {len(line) + 1} bytes fitted into {self._path}")

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
