"""Replies to a published post, as networks show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from regie_networks import bounds

PAGE_SIZE = 40


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply. `parent_remote_id` is the post that it answers: the one asked for, or another reply to it.

    `create_time` is None where the network gives none that can be read; only usable replies are handed on.
    """

    remote_id: str
    parent_remote_id: str
    author_id: str
    author_handle: str
    text: str
    create_time: datetime | None
    url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "author_handle", bounds.visible(self.author_handle)[: bounds.MAX_NAME])
        object.__setattr__(self, "text", bounds.paragraphs(self.text))
        object.__setattr__(self, "url", bounds.web_url(self.url))

    @property
    def is_usable(self) -> bool:
        """True where the ids are such as can be kept, and the time has a zone."""
        ids = bounds.is_id(self.remote_id) and bounds.is_id(self.parent_remote_id)
        is_dated = self.create_time is not None and self.create_time.tzinfo is not None
        return ids and is_dated and bounds.is_actor_id(self.author_id)


@dataclass(frozen=True, slots=True)
class ReplyPage:
    """A page of replies. `next_page_token` is empty on the last; `left_out` counts replies that cannot be stored."""

    replies: tuple[Reply, ...]
    next_page_token: str = ""
    left_out: int = 0


def page_after(replies: Iterable[Reply], page_token: str) -> ReplyPage:
    """Returns the page after the token's reply, for networks that return all replies at once.

    Begins anew where that reply is gone: a repeated reply does no harm, a missed one does.
    """
    everything = list(replies)
    usable = [reply for reply in everything if reply.is_usable]
    start = next((at + 1 for at, reply in enumerate(usable) if reply.remote_id == page_token), 0)
    page = usable[start : start + PAGE_SIZE]
    more = start + PAGE_SIZE < len(usable)
    left_out = len(everything) - len(usable) if start == 0 else 0
    return ReplyPage(tuple(page), page[-1].remote_id if more else "", left_out)
