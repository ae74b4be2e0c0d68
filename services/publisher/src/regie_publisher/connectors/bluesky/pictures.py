"""Chooses the form in which Bluesky gets a picture: as it is stored where it fits, else a smaller JPEG."""

from __future__ import annotations

from regie_publisher.connectors.bluesky.records import MAX_PICTURE_BYTES
from regie_publisher.connectors.connector import Picture
from regie_publisher.media.images.picture import JPEG, Bounds, Rendition

BOUNDS = Bounds(max_bytes=MAX_PICTURE_BYTES, max_side=2000, content_types=(JPEG,))


async def load_rendition(picture: Picture) -> Rendition:
    """Returns the picture as it is where it fits, else a JPEG of it that does.

    Raises `Refused(MEDIA_REJECTED)` for one that cannot be made small enough, `NotSent` where that has to wait.
    """
    if picture.size > MAX_PICTURE_BYTES:
        return await picture.fit(BOUNDS)
    return Rendition(await picture.read(), picture.content_type, picture.width, picture.height)
