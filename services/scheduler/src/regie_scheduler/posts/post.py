"""A post in memory, as reads return it and writes store it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from regie_scheduler.posts.states import PostState, VariantState
from regie_scheduler.posts.times import PublishTime


@dataclass(frozen=True, slots=True)
class Variant:
    """The content for one channel (a serialized `DueVariant`) with the publisher's last report."""

    content: bytes
    state: VariantState = VariantState.PLANNED
    remote_id: str = ""
    remote_url: str = ""
    failure: str = ""
    remote_segments: str = "[]"
    """JSON: the public segments as [id, address], in order."""
    remove_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Post:
    """A post with its variants in their order."""

    id: UUID
    title: str
    state: PostState
    time: PublishTime | None
    revision: int
    create_time: datetime
    update_time: datetime
    cancel_time: datetime | None
    variants: Sequence[Variant]
