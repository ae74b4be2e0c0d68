"""The memory of the fakes: rows by workspace, and answers by request id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from regie_chassis.boundary.rpc import ServiceUnavailable, caller

Answer = TypeVar("Answer", bound=Message)
TIME = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@dataclass(slots=True)
class Memory:
    """Keeps the received requests. `down` plays an outage; `hold`, when set, makes mutations wait for it."""

    rows: dict[tuple[UUID, str], Any] = field(default_factory=dict)
    answers: dict[tuple[UUID, str], Any] = field(default_factory=dict)
    received: list[Message] = field(default_factory=list)
    effects: int = 0
    down: bool = False
    lose_answers: int = 0
    hold: asyncio.Event | None = None

    def see(self, request: Message) -> UUID:
        """Notes a request and returns the caller's workspace."""
        if self.down:
            raise ServiceUnavailable("down in this test")
        self.received.append(request)
        return caller().workspace_id

    def put(self, key: str, row: Any) -> None:
        """Stores a row of the caller."""
        self.rows[caller().workspace_id, key] = row

    def get(self, key: str) -> Any:
        """Returns a row of the caller, None for another's."""
        return self.rows.get((caller().workspace_id, key))

    def all(self, kind: type[Any]) -> list[Any]:
        """Returns the caller's rows of one kind, the newest first."""
        mine = [row for (workspace, _), row in self.rows.items() if workspace == caller().workspace_id]
        return [row for row in reversed(mine) if isinstance(row, kind)]

    async def once(self, request: Any, act: Callable[[], Answer]) -> Answer:
        """Acts once for each request id."""
        workspace = self.see(request)
        if self.hold:
            await self.hold.wait()
        answer = self.answers.get((workspace, request.request_id))
        if answer is None:
            self.effects += 1
            answer = self.answers[workspace, request.request_id] = act()
        if self.lose_answers:
            self.lose_answers -= 1
            raise ServiceUnavailable("the answer is lost in this test")
        return answer


def timestamp(value: datetime = TIME) -> Timestamp:
    """Returns the instant as a message."""
    stamp = Timestamp()
    stamp.FromDatetime(value)
    return stamp
