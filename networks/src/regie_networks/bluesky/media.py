"""Chooses the form of a picture for Bluesky: the stored file where it fits, else a smaller JPEG."""

from __future__ import annotations

from regie_networks.bluesky.rules import MAX_PICTURE_BYTES
from regie_networks.draft import Picture
from regie_networks.rendition import JPEG, Bounds, Rendition

BOUNDS = Bounds(max_bytes=MAX_PICTURE_BYTES, max_side=2000, content_types=(JPEG,))


async def load_rendition(picture: Picture) -> Rendition:
    """Returns the stored picture where it fits, else a smaller JPEG of it.

    Raises `Refused(MEDIA_REJECTED)` where no JPEG is small enough, `NotSent` where the conversion has to wait.
    """
    if picture.size > MAX_PICTURE_BYTES:
        return await picture.fit(BOUNDS)
    return Rendition(await picture.read(), picture.content_type, picture.width, picture.height)
