"""Media: pictures to attach."""

from __future__ import annotations

from typing import Any

from regie.publisher.v1 import media_service_pb2 as pb

from regie_gateway.http.context import RequestContext
from regie_gateway.http.fields import View
from regie_gateway.http.operations import Operations

operations = Operations("media", "Pictures to attach.")

# Generators of clients know bytes by this form, and by this content type alone.
BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
UPLOAD_DEADLINE = 30.0
"""Seconds: pictures are read a few at once, for a few seconds each at most, and wait for their turn."""


class MediaView(View):
    """A stored picture, upright and in sRGB; the type is that of the stored bytes."""

    media_id: str
    content_type: str
    size: int
    width: int
    height: int
    frames: int
    """More than 1 for an animation, which some networks do not take."""


@operations.add(
    "POST",
    "/v1/media",
    scope="media:write",
    summary="Upload a picture",
    description="The body is the picture itself. Its type is read from its bytes.",
    answer=MediaView,
    status=201,
    body="image",
    extra={
        "requestBody": {
            "required": True,
            "description": (
                "The bytes of a JPEG, PNG, WebP, GIF, HEIC or AVIF picture, 10 MB at most. They tell their type; the "
                "header may say so, too, as in image/png, or be missing."
            ),
            "content": BYTES,
        }
    },
)
async def upload_media(context: RequestContext) -> pb.Media:
    request = pb.UploadMediaRequest(request_id=context.request_id, data=context.body)
    return (await context.call(context.backends.media.UploadMedia, request, timeout=UPLOAD_DEADLINE)).media
