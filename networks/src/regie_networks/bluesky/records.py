"""The record of a post (`app.bsky.feed.post`): its limits, and its bytes, which are the same in every attempt."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from regie_networks.bluesky.facets import build_facets, mentioned_handles
from regie_networks.draft import Draft, Picture, Remote, Segment
from regie_networks.errors import FailureKind, Unacceptable
from regie_networks.graphemes import count_graphemes

COLLECTION = "app.bsky.feed.post"
MAX_GRAPHEMES = 300
MAX_BYTES = 3000
MAX_PICTURES = 4
MAX_PICTURE_BYTES = 2_000_000

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")


@dataclass(frozen=True, slots=True)
class UploadedPicture:
    """A picture that the server holds: its blob reference and the pixels of what was sent."""

    blob: Mapping[str, object]
    width: int
    height: int

    def to_handle(self) -> str:
        return json.dumps({"blob": self.blob, "width": self.width, "height": self.height})

    @classmethod
    def from_handle(cls, handle: str) -> UploadedPicture:
        saved = json.loads(handle)
        return cls(saved["blob"], saved["width"], saved["height"])


def picture_handle(picture: Picture) -> str:
    """Names the handle under which `prepare` saves an uploaded picture."""
    return f"picture:{picture.media_id}"


def mention_handle(handle: str) -> str:
    """Names the handle under which `prepare` saves whom a mention means; an empty value means nobody."""
    return f"mention:{handle}"


def review_draft(draft: Draft) -> None:
    """Raises `Unacceptable` for what no Bluesky server takes."""
    if draft.visibility not in ("", "public"):
        message = f"Bluesky has no visibility {draft.visibility!r}: every post is public"
        raise Unacceptable(FailureKind.UNSUPPORTED, message)
    if draft.language and not _LANGUAGE.fullmatch(draft.language):
        raise Unacceptable(FailureKind.CONTENT_REJECTED, "The language is no BCP 47 tag such as en or pt-BR")
    for number, segment in enumerate(draft.segments, start=1):
        _review_text(segment, f"Part {number}" if len(draft.segments) > 1 else "The text")
        _review_pictures(segment.pictures)


def post_record(draft: Draft, index: int) -> dict[str, object]:
    """Returns segment `index` as a record; needs the handles that `prepare` saved and the remotes before it."""
    segment = draft.segments[index]
    dids = {name: draft.handles.get(mention_handle(name), "") for name in mentioned_handles(segment.text)}
    # A millisecond each keeps a thread in order wherever it is sorted by time.
    created = draft.compose_time + timedelta(milliseconds=index)
    record: dict[str, object] = {"$type": COLLECTION, "text": segment.text, "createdAt": format_time(created)}
    if draft.language:
        record["langs"] = [draft.language]
    if facets := build_facets(segment.text, dids):
        record["facets"] = facets
    if segment.pictures:
        images = [_image(picture, draft.handles) for picture in segment.pictures]
        record["embed"] = {"$type": "app.bsky.embed.images", "images": images}
    if index > 0:
        record["reply"] = {"root": strong_ref(draft.remotes[0]), "parent": strong_ref(draft.remotes[index - 1])}
    return record


def format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def remote_post(uri: str, cid: str, did: str) -> Remote:
    """Returns a post as a Remote. A reply needs the URI and the hash, so `id` carries both.

    The address names the account by its DID: a handle changes, and then leads nowhere or to somebody else.
    """
    profile, key = quote(did, safe=":"), quote(uri.rpartition("/")[2], safe="")
    return Remote(id=f"{uri}|{cid}", url=f"https://bsky.app/profile/{profile}/post/{key}")


def strong_ref(remote: Remote) -> dict[str, str]:
    uri, _, cid = remote.id.partition("|")
    return {"uri": uri, "cid": cid}


def _image(picture: Picture, handles: Mapping[str, str]) -> dict[str, object]:
    uploaded = UploadedPicture.from_handle(handles[picture_handle(picture)])
    image: dict[str, object] = {"image": uploaded.blob, "alt": picture.alt_text}
    if uploaded.width > 0 and uploaded.height > 0:
        image["aspectRatio"] = {"width": uploaded.width, "height": uploaded.height}
    return image


def _review_text(segment: Segment, where: str) -> None:
    try:
        size = len(segment.text.encode())
    except UnicodeEncodeError as error:
        raise Unacceptable(FailureKind.CONTENT_REJECTED, f"{where} is no valid Unicode") from error
    if not segment.text.strip() and not segment.pictures:
        raise Unacceptable(FailureKind.CONTENT_REJECTED, f"{where} is empty and has no picture")
    if size > MAX_BYTES:
        message = f"{where} has {size} bytes; Bluesky takes {MAX_BYTES}"
        raise Unacceptable(FailureKind.CONTENT_REJECTED, message)
    length = count_graphemes(segment.text)
    if length > MAX_GRAPHEMES:
        message = f"{where} has {length} characters; Bluesky takes {MAX_GRAPHEMES}"
        raise Unacceptable(FailureKind.CONTENT_REJECTED, message)


def _review_pictures(pictures: Sequence[Picture]) -> None:
    if len(pictures) > MAX_PICTURES:
        message = f"A post has {len(pictures)} pictures; Bluesky takes {MAX_PICTURES}"
        raise Unacceptable(FailureKind.MEDIA_REJECTED, message)
    for picture in pictures:
        if not picture.content_type.startswith("image/"):
            message = f"Bluesky takes pictures here, not {picture.content_type}"
            raise Unacceptable(FailureKind.MEDIA_REJECTED, message)
        if picture.frames > 1:
            message = "Bluesky shows only the first frame of an animation: attach a still picture"
            raise Unacceptable(FailureKind.MEDIA_REJECTED, message)
