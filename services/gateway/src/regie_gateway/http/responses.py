"""Responses made of plain values."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Response


def json_response(data: Any, *, status: int = 200, location: str = "", etag: str = "") -> Response:
    """Returns plain values as JSON."""
    headers = {name: value for name, value in (("location", location), ("etag", etag)) if value}
    return Response(orjson.dumps(data, option=orjson.OPT_UTC_Z), status, headers=headers, media_type="application/json")


class SecretResponse(Response):
    """A response with a secret; an idempotency key stores only `stored_body`, which is without it."""

    def __init__(self, data: dict[str, Any], stored: dict[str, Any], *, status: int, location: str) -> None:
        content = orjson.dumps(data, option=orjson.OPT_UTC_Z)
        super().__init__(content, status, headers={"location": location}, media_type="application/json")
        self.stored_body = orjson.dumps(stored, option=orjson.OPT_UTC_Z)


def stored_body(response: Response) -> bytes:
    """Returns the body that an idempotency key stores."""
    return response.stored_body if isinstance(response, SecretResponse) else bytes(response.body)
