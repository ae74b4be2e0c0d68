"""A form with one file, sent as a stream: a video is never held in memory as a whole (RFC 7578)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from uuid import uuid4


class MultipartForm:
    """The fields, and one file named `file`. `stream` can be read once."""

    def __init__(
        self, fields: Mapping[str, str], file_name: str, file_type: str, size: int, file: AsyncIterator[bytes]
    ) -> None:
        boundary = uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        disposition = f'Content-Disposition: form-data; name="file"; filename="{file_name}"'
        parts.append(f"--{boundary}\r\n{disposition}\r\nContent-Type: {file_type}\r\n\r\n")
        self._head = "".join(parts).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._file = file
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.length = len(self._head) + size + len(self._tail)

    async def stream(self) -> AsyncIterator[bytes]:
        """Yields the form."""
        yield self._head
        async for chunk in self._file:
            yield chunk
        yield self._tail


async def whole(content: bytes) -> AsyncIterator[bytes]:
    """Yields bytes that are at hand."""
    yield content
