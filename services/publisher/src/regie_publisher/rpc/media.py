"""MediaService: message → use case → message."""

from __future__ import annotations

from regie.ids.v1.prefixes import MEDIA
from regie.publisher.v1 import media_service_pb2 as pb
from regie.publisher.v1.media_service_pb2_grpc import MediaServiceServicer
from regie_chassis.boundary.ids import show_id
from regie_chassis.boundary.rpc import Context, caller
from regie_chassis.process.clock import Clock

from regie_publisher.media.store import MediaStore


class MediaServicer(MediaServiceServicer):
    """Answers for the verified caller's workspace."""

    def __init__(self, media_store: MediaStore, clock: Clock) -> None:
        self._media_store = media_store
        self._clock = clock

    async def UploadMedia(self, request: pb.UploadMediaRequest, context: Context) -> pb.UploadMediaResponse:
        media = await self._media_store.upload(request.data, workspace_id=caller().workspace_id, now=self._clock.now())
        return pb.UploadMediaResponse(
            media=pb.Media(
                media_id=show_id(MEDIA, media.id),
                content_type=media.content_type,
                size=media.size,
                width=media.width,
                height=media.height,
                frames=media.frames,
            )
        )
