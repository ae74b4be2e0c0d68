"""Media: pictures and videos to attach."""

from __future__ import annotations

from typing import Any

from regie.publisher.v1 import media_service_pb2 as pb

from regie_gateway.http.context import RequestContext
from regie_gateway.http.fields import View
from regie_gateway.http.operations import Operations

operations = Operations("media", "Pictures to attach.")

# Generators of clients know bytes by this form, and by this content type alone.
BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
COMPLETE_DEADLINE = 50.0
"""Seconds, once the file is here: pictures wait for their turn to be read, a large video is copied within the store."""


class MediaView(View):
    """A stored picture, upright and in sRGB, or a video; the type is that of the stored bytes."""

    media_id: str
    content_type: str
    size: int
    width: int
    height: int
    frames: int
    """More than 1 for an animation, which some networks do not take."""
    duration_seconds: float
    """How long a video plays; 0 for a picture."""


@operations.add(
    "POST",
    "/v1/media",
    scope="media:write",
    summary="Upload a picture or a video",
    description="The body is the file itself. Its type is read from its bytes. A few files are taken at once.",
    answer=MediaView,
    status=201,
    body="file",
    extra={
        "requestBody": {
            "required": True,
            "description": (
                "The bytes of a JPEG, PNG, WebP, GIF, HEIC or AVIF picture, 10 MB at most, or of an MP4 video, 1 GiB "
                "at most. They tell their type; the header may say so, too, as in image/png, or be missing."
            ),
            "content": BYTES,
        }
    },
)
async def upload_media(context: RequestContext) -> pb.Media:
    upload = context.upload
    assert upload is not None, "admission receives the file of an operation that takes one"
    request = pb.CompleteUploadRequest(
        request_id=context.request_id,
        upload_id=str(upload.id),
        size=upload.size,
        sha256=upload.sha256,
        declared_type=context.content_type,
    )
    return (await context.call(context.backends.media.CompleteUpload, request, timeout=COMPLETE_DEADLINE)).media
