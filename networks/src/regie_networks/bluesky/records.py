"""The record of a post (`app.bsky.feed.post`): its bytes, which are the same in every attempt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from regie_networks.bluesky.facets import build_facets, mentioned_handles
from regie_networks.draft import Draft, Picture, Remote
from regie_networks.errors import FailureKind, Unacceptable

COLLECTION = "app.bsky.feed.post"


@dataclass(frozen=True, slots=True)
class UploadedPicture:
    """A picture that the server holds: its blob reference and the pixels of the sent file."""

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
    """Names the handle under which `prepare` saves the account of a mention; an empty value means no account."""
    return f"mention:{handle}"


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


def own_key(remote: Remote, did: str) -> str:
    """Returns the key of a post of the account. Raises `Unacceptable` for anything else."""
    prefix, _, key = strong_ref(remote)["uri"].rpartition("/")
    if prefix != f"at://{did}/{COLLECTION}" or not key:
        raise Unacceptable(FailureKind.CONTENT_REJECTED, "This is no post of the account")
    return key


def _image(picture: Picture, handles: Mapping[str, str]) -> dict[str, object]:
    uploaded = UploadedPicture.from_handle(handles[picture_handle(picture)])
    image: dict[str, object] = {"image": uploaded.blob, "alt": picture.alt_text}
    if uploaded.width > 0 and uploaded.height > 0:
        image["aspectRatio"] = {"width": uploaded.width, "height": uploaded.height}
    return image
