"""Forms of the fixtures in the audience's tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

from regie_audience.profiles.queries import Profile
from regie_audience.segments.queries import Segment


class Upsert(Protocol):
    """Upserts profiles given as external id = attributes, into the test's workspace unless another is given."""

    async def __call__(
        self, people: Mapping[str, Mapping[str, object]], *, workspace: UUID | None = None
    ) -> list[Profile]: ...


class CreateSegment(Protocol):
    """Creates a segment of a rule given as data."""

    async def __call__(self, name: str, rule: Mapping[str, object], *, request_id: str = "") -> Segment: ...


class NewEvents(Protocol):
    """Returns the events that were staged since the last call, in their order, each as its message."""

    async def __call__(self) -> list[Any]: ...
