"""The state of the stand-in network: posts, pictures, expired tokens, posts that are still processed.

It changes in one way only, by `apply`, with the same changes live and when the journal is replayed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regie_sandbox.grants import Grants

FIRST_ID = 1_000_001


def time_text(seconds: float) -> str:
    """Returns a time, in seconds since the epoch, as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A picture or a video of a post."""

    id: str
    alt: str
    type: str = ""


@dataclass(frozen=True, slots=True)
class Post:
    """A visible post. `key` is the tag of the client that wrote it; `published` is in seconds since the epoch."""

    id: str
    account: str
    text: str
    key: str
    media: tuple[Attachment, ...]
    reply_to: str | None
    visibility: str
    language: str
    created_at: str
    published: float


@dataclass(slots=True)
class Pending:
    """A post that the network took and is still working on, and which post it became."""

    handle: str
    post: Post
    polls_left: int
    post_id: str | None = None


class Network:
    """The state, and the reading of it."""

    def __init__(self, data: Path | None = None) -> None:
        self._media_folder = data / "media" if data else None
        self._media: dict[str, bytes] = {}
        self._media_types: dict[str, str] = {}
        self._posts: dict[str, Post] = {}
        self._by_account: defaultdict[str, list[str]] = defaultdict(list)
        self._by_key: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self._replies: defaultdict[str, list[str]] = defaultdict(list)
        self._pending: dict[str, Pending] = {}
        self._expired_tokens: set[str] = set()
        self.grants = Grants()
        self._next_number = FIRST_ID
        self.deleted = 0

    @property
    def next_id(self) -> str:
        """The id that the next post, picture or token gets; taken by applying its change."""
        return str(self._next_number)

    def post(self, post_id: str) -> Post | None:
        return self._posts.get(post_id)

    def posts(self) -> Iterator[Post]:
        """All visible posts, newest first."""
        return (post for post in reversed(self._posts.values()))

    def post_count(self) -> int:
        return len(self._posts)

    def repeated_keys(self) -> int:
        """Counts the keys under which one account has more than one visible post."""
        return sum(
            1
            for (_, key), ids in self._by_key.items()
            if key and len(ids) > 1 and sum(post_id in self._posts for post_id in ids) > 1
        )

    def posts_of(self, account: str, key: str | None = None) -> Iterator[Post]:
        """The visible posts of an account, newest first, of one key if given."""
        ids = self._by_account.get(account, ()) if key is None else self._by_key.get((account, key), ())
        return self._visible(reversed(ids))

    def replies(self, post_id: str) -> list[Post]:
        """The visible direct replies, oldest first."""
        return list(self._visible(self._replies.get(post_id, ())))

    def pending(self, handle: str) -> Pending | None:
        return self._pending.get(handle)

    def pending_of(self, account: str, key: str) -> list[Pending]:
        """Returns the post that is still processed for an account under a key."""
        return [
            pending
            for pending in self._pending.values()
            if pending.post_id is None and (pending.post.account, pending.post.key) == (account, key)
        ]

    def has_expired(self, token: str) -> bool:
        return token in self._expired_tokens

    def media_type(self, media_id: str) -> str | None:
        return self._media_types.get(media_id)

    def media_bytes(self, media_id: str) -> bytes | None:
        """The picture itself, or None for an id that was never given."""
        if media_id not in self._media_types:
            return None
        if self._media_folder is None:
            return self._media.get(media_id)
        return (self._media_folder / media_id).read_bytes()

    def keep_media(self, media_id: str, picture: bytes) -> None:
        """Stores the bytes of a picture that is not known yet: the change that names it comes after."""
        if self._media_folder is None:
            self._media[media_id] = picture
            return
        self._media_folder.mkdir(parents=True, exist_ok=True)
        (self._media_folder / media_id).write_bytes(picture)

    def apply(self, change: Mapping[str, Any]) -> None:
        """Makes one change happen. The only way in."""
        if not self.grants.apply(change):
            self._apply(change)
        # Every change takes a number, so that an id is never given twice.
        self._next_number += 1

    def _apply(self, change: Mapping[str, Any]) -> None:
        match change:
            case {"published": post}:
                self._add(read_post(post), change.get("finished"))
            case {"deleted": post_id}:
                self.deleted += self._posts.pop(post_id, None) is not None
            case {"uploaded": media_id, "type": media_type}:
                self._media_types[media_id] = media_type
            case {"accepted": post, "handle": handle, "polls": polls}:
                self._pending[handle] = Pending(handle, read_post(post), polls)
            case {"polled": handle}:
                self._pending[handle].polls_left -= 1
            case {"expired": token}:
                self._expired_tokens.add(token)
            case {"renewed": _}:
                pass  # the number that it takes is all there is to it
            case _:
                raise ValueError(f"Not a change: {sorted(change)}")

    def _add(self, post: Post, finished: str | None) -> None:
        self._posts[post.id] = post
        self._by_account[post.account].append(post.id)
        self._by_key[post.account, post.key].append(post.id)
        if post.reply_to:
            self._replies[post.reply_to].append(post.id)
        if finished is not None:
            self._pending[finished].post_id = post.id

    def _visible(self, ids: Iterable[str]) -> Iterator[Post]:
        return (post for post_id in ids if (post := self._posts.get(post_id)) is not None)


def read_post(fields: Mapping[str, Any] | Post) -> Post:
    """Reads a post back from its journal line; a post that was just made is taken as it is."""
    if isinstance(fields, Post):
        return fields
    media = tuple(Attachment(**attachment) for attachment in fields["media"])
    return Post(**{**fields, "media": media})
