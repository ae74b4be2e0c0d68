"""Events on the wire, and the contract of a broker.

The subject is derived from the message's full name and the workspace, and never typed:
`regie.scheduler.events.v1.PostDue` in `ws_1` travels on `regie.scheduler.v1.post_due.ws_1`.
Id, time, workspace and trace travel as headers in CloudEvents' NATS binding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from regie.ids.v1.prefixes import WORKSPACE

from regie_chassis.boundary.errors import Unavailable
from regie_chassis.boundary.ids import parse_id, show_id

M = TypeVar("M", bound=Message)

MSG_ID = "Nats-Msg-Id"


class BrokerUnavailable(Unavailable):
    """The broker did not answer; nothing is known to have been stored."""


class NoSuchStream(Unavailable):
    """The stream does not exist yet; its owner has not started."""


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A service's event stream."""

    name: str
    subjects: tuple[str, ...]
    replicas: int = 1
    max_age: timedelta = timedelta(days=7)
    duplicate_window: timedelta = timedelta(minutes=20)


@dataclass(frozen=True, slots=True)
class StreamState:
    """Where a stream stands. `create_time` changes when it was lost and made anew."""

    last_seq: int
    create_time: datetime


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    """A durable pull consumer: one group of processes shares its messages."""

    stream: str
    name: str
    subjects: tuple[str, ...]
    ack_wait: timedelta = timedelta(seconds=30)
    max_ack_pending: int = 5000


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as the broker carries it."""

    subject: str
    id: str
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received:
    """A delivered message. `deliveries` counts from 1; `token` is the broker's own handle."""

    envelope: Envelope
    stream_seq: int
    deliveries: int
    token: object


@dataclass(frozen=True, slots=True)
class Unsendable:
    """Takes the place of a sequence for a message that no try can store, with the reason."""

    reason: str


Ack = int | Unsendable | None
"""A stored message's sequence in its stream, `Unsendable`, or None where no acknowledgement came."""


class Broker(Protocol):
    """Streams of messages, at least once.

    Every call is bounded in time and raises `BrokerUnavailable` when the broker does not answer.
    """

    async def ensure_stream(self, spec: StreamSpec) -> None:
        """Makes the stream, or brings it to this form. Repeatable."""

    async def stream_state(self, name: str) -> StreamState:
        """Returns where the stream stands. Raises NoSuchStream."""

    async def publish(self, envelopes: Sequence[Envelope]) -> list[Ack]:
        """Stores messages in their order, pipelined, and returns each one's sequence in its stream.

        A second message with the same id inside the duplicate window is not stored again and has the first one's
        sequence. `Unsendable` stands for a message that no try can store, and holds back no other. None stands for
        a message that was not acknowledged; it may be stored all the same.
        """

    async def ensure_consumer(self, spec: ConsumerSpec) -> None:
        """Makes the durable consumer, from the stream's start. Repeatable. Raises NoSuchStream."""

    async def fetch(self, spec: ConsumerSpec, limit: int, timeout: timedelta) -> list[Received]:
        """Returns up to `limit` messages as soon as there is one, none when the time is up.

        A consumer that was lost is made again. Raises NoSuchStream.
        """

    async def ack(self, received: Sequence[Received]) -> None:
        """Settles messages; they are not delivered again unless the broker loses the ack."""

    async def nak(self, received: Sequence[Received], delay: timedelta) -> None:
        """Gives messages back, to be delivered again after the delay."""

    async def pending(self, spec: ConsumerSpec) -> int:
        """Returns how many messages are undelivered or unsettled."""

    async def close(self) -> None:
        """Closes the connection."""


@dataclass(frozen=True, slots=True)
class Event(Generic[M]):
    """An event as a handler sees it. `traceparent` is that of the consumer's own span."""

    id: UUID
    workspace_id: UUID
    time: datetime
    message: M
    traceparent: str = ""
    sequence: int = 0
    """Grows with each event of its source about one thing; 0 for none."""


def service_of(full_name: str) -> str:
    """Returns the service that a full name of protobuf belongs to, as in `regie.<service>.events.v1.<Event>`."""
    return full_name.split(".")[1]


def stream_of(service: str) -> str:
    """Returns the name of a service's stream."""
    return f"regie_{service}"


def stream_spec(service: str, *, replicas: int = 1) -> StreamSpec:
    """Returns the stream that carries all events of a service."""
    return StreamSpec(name=stream_of(service), subjects=(f"regie.{service}.>",), replicas=replicas)


@lru_cache(maxsize=16_384)
def subject_of(full_name: str, workspace_id: UUID | None) -> str:
    """Returns an event's subject; without a workspace, the pattern for all of them."""
    _, service, _, version, name = full_name.split(".")
    event = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return f"regie.{service}.{version}.{event}.{show_id(WORKSPACE, workspace_id) if workspace_id else '*'}"


def headers_of(
    full_name: str, *, event_id: UUID, workspace_id: UUID, time: datetime, traceparent: str, sequence: int = 0
) -> dict[str, str]:
    """Returns an event's headers: CloudEvents 1.0 in binary mode, and the id that deduplicates."""
    headers = {
        MSG_ID: str(event_id),
        "ce-specversion": "1.0",
        "ce-id": str(event_id),
        "ce-type": full_name,
        "ce-source": f"/regie/{service_of(full_name)}",
        "ce-time": time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "ce-workspaceid": show_id(WORKSPACE, workspace_id),
        "content-type": "application/protobuf",
    }
    if traceparent:
        headers["traceparent"] = traceparent
    if sequence:
        headers["ce-sequence"] = show_sequence(sequence)
    return headers


def show_sequence(sequence: int) -> str:
    """Returns a sequence as CloudEvents' extension has it: texts in the order of the numbers."""
    return f"{sequence:020d}"


def wire_size(payload: bytes, headers: Mapping[str, str]) -> int:
    """Returns a message's size in bytes as a NATS server counts it against its `max_payload`: with the headers."""
    lines = sum(len(name.encode()) + len(value.encode("utf-8", "replace")) + 4 for name, value in headers.items())
    return len(payload) + lines + len(b"NATS/1.0\r\n\r\n")


def decode(envelope: Envelope, message_type: type[M], traceparent: str) -> Event[M]:
    """Reads an event back. Raises ValueError, KeyError or protobuf's DecodeError for anything else.

    The broker's permissions are on subjects, so the subject wins over headers that contradict it.
    """
    headers = envelope.headers
    workspace_id = parse_id(WORKSPACE, headers["ce-workspaceid"])
    subject = subject_of(message_type.DESCRIPTOR.full_name, workspace_id)
    if headers["ce-type"] != message_type.DESCRIPTOR.full_name or envelope.subject != subject:
        raise ValueError("its type and workspace are not those of its subject")
    return Event(
        id=UUID(headers["ce-id"]),
        workspace_id=workspace_id,
        time=datetime.fromisoformat(headers["ce-time"]),
        message=message_type.FromString(envelope.payload),
        traceparent=traceparent,
        sequence=int(headers.get("ce-sequence", "0")),
    )
