"""GET /v1/events: everything that happens in the workspace, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from regie_chassis.boundary.errors import Invalid
from starlette.types import Receive, Scope, Send

from regie_gateway.access.authentication import MissingScope
from regie_gateway.events.event_log import EventGone
from regie_gateway.events.event_stream import Broadcaster, Subscription
from regie_gateway.events.subscriptions import TYPES
from regie_gateway.http.context import RequestContext
from regie_gateway.http.operations import Operations

operations = Operations("events", "Everything that happens, as it happens.")

SEND_TIMEOUT = 60.0  # seconds; a reader that takes nothing for so long is let go
STREAM = {
    "text/event-stream": {
        "schema": {"type": "string"},
        "example": (
            "id: 0190a1b2-0000-7000-8000-000000000001\nevent: regie.scheduler.events.v1.PostCreated\n"
            'data: {"specversion":"1.0","id":"0190a1b2-0000-7000-8000-000000000001","source":"/regie/scheduler",…}\n\n'
        ),
    }
}


class InvalidEventId(Invalid):
    """Last-Event-ID is not an event's id."""


class UnknownEventType(Invalid):
    """A type in the filter does not exist."""


class EventsQuery(BaseModel):
    """The types of events, and the place to start from."""

    model_config = ConfigDict(extra="forbid")

    types: list[str] = Field(
        default=[],
        max_length=64,
        description=(
            "Only these types, given several times or separated by commas; all that the key may read when absent."
        ),
        examples=[["regie.publisher.events.v1.PostPublished"]],
    )
    last_event_id: str = Field(
        default="",
        max_length=64,
        description="As the Last-Event-ID header, for clients that cannot send it; the header counts where both come.",
    )


class EventStream(Response):
    """A stream that ends when the other side hangs up, its key is revoked, or the service drains."""

    def __init__(self, broadcaster: Broadcaster, subscription: Subscription) -> None:
        super().__init__(media_type="text/event-stream")
        del self.headers["content-length"]
        self.headers["x-accel-buffering"] = "no"
        self._broadcaster = broadcaster
        self._subscription = subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Sends chunks as they come, at the reader's own pace."""
        try:
            await self._stream(receive, send)
        finally:
            self._broadcaster.release(self._subscription)

    async def _stream(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        hang_up = asyncio.create_task(_hang_up(receive))
        hang_up.add_done_callback(lambda _: self._subscription.leave())
        chunks = self._broadcaster.stream(self._subscription)
        try:
            async for chunk in chunks:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            hang_up.cancel()
            await chunks.aclose()


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@operations.add(
    "GET",
    "/v1/events",
    scope="events:read",
    summary="Follow events as they happen",
    description=(
        "Server-sent events; `data` is a CloudEvent in JSON, `id` its id, `event` its type. With `Last-Event-ID` "
        "the stream goes on right after that event, without a gap, for up to seven days; without it the stream "
        "starts now. Events may come again after a reconnection: tell them apart by their id. A key sees the events "
        "that its reading scopes allow: posts, channels, metrics, profiles, keys."
    ),
    problems=(410,),
    extra={
        "responses": {"200": {"description": "A stream that does not end by itself.", "content": STREAM}},
    },
)
async def stream_events(
    context: RequestContext,
    query: Annotated[EventsQuery, Query()],
    last_event_id: Annotated[
        str, Header(alias="Last-Event-ID", max_length=64, description="The id of the last event you have dealt with.")
    ] = "",
) -> Response:
    types = _types(query.types, context.key.scopes)
    where = "Last-Event-ID" if last_event_id else "last_event_id"
    after = _event_id(last_event_id or query.last_event_id, where)
    try:
        subscription = await context.gateway.broadcaster.subscribe(context.key, types=types, last_event_id=after)
    except EventGone as error:
        raise EventGone(error.message, field=where) from error
    return EventStream(context.gateway.broadcaster, subscription)


def _types(given: Sequence[str], scopes: Collection[str]) -> frozenset[str]:
    """Returns the types to send: the requested ones, else all that the scopes allow; empty for every type."""
    requested = {name.strip() for text in given for name in text.split(",")}
    readable = {name for name, scope in TYPES.items() if scope is None or scope in scopes}
    for name in sorted(requested - readable):
        if name not in TYPES:
            raise UnknownEventType(f"there is no event type {name[:100]!r}; see the documentation", field="types")
        raise MissingScope(f"this API key lacks the scope {TYPES[name]}, which {name} takes", field="types")
    if requested:
        return frozenset(requested)
    return frozenset() if len(readable) == len(TYPES) else frozenset(readable)


def _event_id(text: str, where: str) -> UUID | None:
    if not text:
        return None
    try:
        event_id = UUID(text)
    except ValueError as error:
        raise InvalidEventId(_ADVICE, field=where) from error
    if str(event_id) != text.lower():  # in braces, without hyphens, as a URN
        raise InvalidEventId(_ADVICE, field=where)
    return event_id


_ADVICE = "this is not an event's id; give the id of an event you got, as it came"
