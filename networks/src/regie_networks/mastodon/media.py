"""Pictures on their way to a server: each uploaded once, then waited for until the server has processed it."""

from __future__ import annotations

import asyncio
import mimetypes
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import quote

import httpx2

from regie_networks.bounds import is_id
from regie_networks.contract import SaveHandle
from regie_networks.draft import Draft, Picture, Segment
from regie_networks.errors import FailureKind, NotSent, OutcomeUnknown
from regie_networks.mastodon.client import MastodonClient, text_of

UPLOAD_TIMEOUT = 120.0
"""Seconds."""
POLL_EVERY = timedelta(seconds=2)
POLLS = 15


def missing_pictures(draft: Draft) -> bool:
    """True while a picture of the draft is not ready on the server."""
    return any(
        _ready(segment, position) not in draft.handles
        for segment in draft.segments
        for position in range(len(segment.pictures))
    )


def media_ids(draft: Draft, segment: Segment) -> list[str]:
    """Returns the server's ids of the segment's pictures, in order. Raises `NotSent` where one is not ready."""
    names = [_ready(segment, position) for position in range(len(segment.pictures))]
    if any(name not in draft.handles for name in names):
        raise NotSent("A picture is not on the server yet: prepare the draft first")
    return [draft.handles[name] for name in names]


async def prepare_pictures(server: MastodonClient, draft: Draft, save_handle: SaveHandle) -> None:
    """Uploads what is not uploaded and waits for what is not ready, saving each step as its own handle."""
    pictures = [
        (segment, position, picture)
        for segment in draft.segments
        for position, picture in enumerate(segment.pictures)
        if _ready(segment, position) not in draft.handles
    ]

    async def save(name: str, value: str) -> None:
        await save_handle(name, value)
        draft.handles[name] = value

    for segment, position, picture in pictures:
        if _uploaded(segment, position) not in draft.handles:
            media_id, ready = await _upload(server, picture)
            await save(_uploaded(segment, position), media_id)
            if ready:
                await save(_ready(segment, position), media_id)
    for segment, position, _picture in pictures:
        if _ready(segment, position) not in draft.handles:
            media_id = draft.handles[_uploaded(segment, position)]
            await _wait_until_ready(server, media_id)
            await save(_ready(segment, position), media_id)


def _uploaded(segment: Segment, position: int) -> str:
    return f"media/{segment.key}/{position}"


def _ready(segment: Segment, position: int) -> str:
    return f"ready/{segment.key}/{position}"


async def _upload(server: MastodonClient, picture: Picture) -> tuple[str, bool]:
    """Returns the picture's id on the server and whether it is ready (200) or still processed (202)."""
    name = f"picture{mimetypes.guess_extension(picture.content_type) or ''}"
    form = httpx2.Request(
        "POST",
        server.url,
        data={"description": picture.alt_text} if picture.alt_text else None,
        files={"file": (name, await picture.read(), picture.content_type)},
    )
    response = await server.ask(
        "POST",
        "/api/v2/media",
        headers={"Content-Type": form.headers["Content-Type"]},
        content=form.read(),
        rejected=FailureKind.MEDIA_REJECTED,
        absent=FailureKind.UNSUPPORTED,
        timeout=UPLOAD_TIMEOUT,
    )
    media_id = text_of(response.json(), "id")
    if not is_id(media_id):
        raise OutcomeUnknown("The server took the picture and did not say its id")
    return media_id, response.status == HTTPStatus.OK


async def _wait_until_ready(server: MastodonClient, media_id: str) -> None:
    for _poll in range(POLLS):
        response = await server.ask(
            "GET",
            f"/api/v1/media/{quote(media_id, safe='')}",
            rejected=FailureKind.MEDIA_REJECTED,
            absent=FailureKind.MEDIA_REJECTED,
        )
        if response.status == HTTPStatus.OK:
            return
        await server.clock.wait(asyncio.Event(), POLL_EVERY)
    raise NotSent("The server is still processing a picture")
