"""Attachments on their way to a server: each uploaded once, then waited for until the server has processed it."""

from __future__ import annotations

import asyncio
import mimetypes
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import quote

from regie_networks.bounds import is_id
from regie_networks.contract import SaveHandle
from regie_networks.draft import Attachment, Draft, Segment, Video
from regie_networks.errors import FailureKind, NotSent, OutcomeUnknown
from regie_networks.mastodon.client import MastodonClient, text_of
from regie_networks.multipart import MultipartForm, whole

UPLOAD_TIMEOUT = 120.0
"""Seconds."""
SLOWEST_UPLOAD = 250_000
"""Bytes a second that a video is given time for."""
POLL_EVERY = timedelta(seconds=2)
POLLS = 15


def missing_attachments(draft: Draft) -> bool:
    """True while an attachment of the draft is not ready on the server."""
    return any(
        _ready(segment, position) not in draft.handles
        for segment in draft.segments
        for position in range(len(segment.attachments))
    )


def media_ids(draft: Draft, segment: Segment) -> list[str]:
    """Returns the server's ids of the segment's attachments, in order. Raises `NotSent` where one is not ready."""
    names = [_ready(segment, position) for position in range(len(segment.attachments))]
    if any(name not in draft.handles for name in names):
        raise NotSent("An attachment is not on the server yet: prepare the draft first")
    return [draft.handles[name] for name in names]


async def prepare_attachments(server: MastodonClient, draft: Draft, save_handle: SaveHandle) -> None:
    """Uploads missing media and waits until they are ready, saving each step as its own handle."""
    attachments = [
        (segment, position, attachment)
        for segment in draft.segments
        for position, attachment in enumerate(segment.attachments)
        if _ready(segment, position) not in draft.handles
    ]

    async def save(name: str, value: str) -> None:
        await save_handle(name, value)
        draft.handles[name] = value

    for segment, position, attachment in attachments:
        if _uploaded(segment, position) not in draft.handles:
            media_id, ready = await _upload(server, attachment)
            await save(_uploaded(segment, position), media_id)
            if ready:
                await save(_ready(segment, position), media_id)
    for segment, position, _attachment in attachments:
        if _ready(segment, position) not in draft.handles:
            media_id = draft.handles[_uploaded(segment, position)]
            await _wait_until_ready(server, media_id)
            await save(_ready(segment, position), media_id)


def _uploaded(segment: Segment, position: int) -> str:
    return f"media/{segment.key}/{position}"


def _ready(segment: Segment, position: int) -> str:
    return f"ready/{segment.key}/{position}"


async def _upload(server: MastodonClient, attachment: Attachment) -> tuple[str, bool]:
    """Returns the attachment's id on the server and whether it is ready (200) or still processed (202)."""
    form = await _form(attachment)
    response = await server.ask(
        "POST",
        "/api/v2/media",
        headers={"Content-Type": form.content_type, "Content-Length": str(form.length)},
        content=form.stream(),
        rejected=FailureKind.MEDIA_REJECTED,
        absent=FailureKind.UNSUPPORTED,
        timeout=max(UPLOAD_TIMEOUT, attachment.size / SLOWEST_UPLOAD),
    )
    media_id = text_of(response.json(), "id")
    if not is_id(media_id):
        raise OutcomeUnknown("The server took the attachment and did not say its id")
    return media_id, response.status == HTTPStatus.OK


async def _form(attachment: Attachment) -> MultipartForm:
    name = f"attachment{mimetypes.guess_extension(attachment.content_type) or ''}"
    fields = {"description": attachment.alt_text} if attachment.alt_text else {}
    if isinstance(attachment, Video):
        return MultipartForm(fields, name, attachment.content_type, attachment.size, attachment.stream())
    content = await attachment.read()
    return MultipartForm(fields, name, attachment.content_type, len(content), whole(content))


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
    raise NotSent("The server is still processing an attachment")
