"""MediaService: message → use case → message."""

from __future__ import annotations

from uuid import UUID

from regie.ids.v1.prefixes import MEDIA
from regie.publisher.v1 import media_service_pb2 as pb
from regie.publisher.v1.media_service_pb2_grpc import MediaServiceServicer
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.rpc import Context, caller
from regie_chassis.data.upload_area import Upload
from regie_chassis.process.clock import Clock

from regie_publisher.media.uploads import UploadLost, Uploads


class MediaServicer(MediaServiceServicer):
    """Answers for the verified caller's workspace."""

    def __init__(self, uploads: Uploads, clock: Clock) -> None:
        self._uploads = uploads
        self._clock = clock

    async def CompleteUpload(self, request: pb.CompleteUploadRequest, context: Context) -> pb.CompleteUploadResponse:
        upload = Upload(_upload_id(request.upload_id), caller().workspace_id, request.size, request.sha256)
        media = await self._uploads.complete_upload(upload, declared_type=request.declared_type, now=self._clock.now())
        return pb.CompleteUploadResponse(
            media=pb.Media(
                media_id=show_id(MEDIA, media.id),
                content_type=media.content_type,
                size=media.size,
                width=media.width,
                height=media.height,
                frames=media.frames,
                duration_seconds=media.duration.total_seconds(),
            )
        )


def _upload_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise UploadLost("there is no such upload; upload the file again") from error
