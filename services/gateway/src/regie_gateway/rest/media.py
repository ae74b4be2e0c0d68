"""Media: pictures to attach."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from regie.publisher.v1 import publisher_service_pb2 as pb

from regie_gateway.rest.edge import call_of, reply
from regie_gateway.rest.fields import View
from regie_gateway.rest.operations import Operations

operations = Operations("media")

PICTURE: dict[str, Any] = {"schema": {}}  # bytes as they are, as OpenAPI 3.1 has it
# Generators of clients know bytes by this form, and by this content type.
BYTES = {"schema": {"type": "string", "format": "binary"}}


class MediaView(View):
    """A stored picture; the type is found by looking at the bytes."""

    media_id: str
    content_type: str
    size: int
    width: int
    height: int


@operations.add(
    "POST",
    "/v1/media",
    scope="media:write",
    summary="Upload a picture",
    description="The body is the picture itself. What it is is found by looking at the bytes.",
    answer=MediaView,
    status=201,
    body="image",
    extra={
        "requestBody": {
            "required": True,
            "description": "The picture's bytes, 10 MB at most.",
            "content": {
                "application/octet-stream": BYTES,
                "image/jpeg": PICTURE,
                "image/png": PICTURE,
                "image/webp": PICTURE,
                "image/gif": PICTURE,
            },
        }
    },
)
async def upload_media(request: Request) -> Response:
    call = call_of(request)
    asked = pb.UploadMediaRequest(request_id=call.request_id, data=await request.body())
    answered = await call.ask(call.edge.backends.publisher.UploadMedia, asked)
    media = answered.media
    shown = {
        "media_id": media.media_id,
        "content_type": media.content_type,
        "size": media.size,
        "width": media.width,
        "height": media.height,
    }
    return reply(shown, status=201)
