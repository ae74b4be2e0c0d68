"""The permissions of each NATS user: one user for each service, and one that shapes the streams (ADR 0020).

A service publishes its own events and reads through its own consumers; the server refuses everything else.
Shaping a stream is a right of its own, since a stream can be set to copy its messages to any other subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from regie_chassis.events.messaging import stream_of

STREAMS_USER = "streams"


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects that a user may publish to and subscribe to; all others are refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox_prefix(user: str) -> str:
    """Returns where a user's answers and messages arrive; nobody else may listen there."""
    return f"_INBOX_{user}"


def service_permissions(service: str, *, reads: Iterable[str]) -> Permissions:
    """Returns the permissions of a service that publishes its own events and reads the streams of others."""
    publish = [f"regie.{service}.>", f"$JS.API.STREAM.INFO.{stream_of(service)}"]
    for source in sorted(reads):
        consumer = f"{stream_of(source)}.{service}"
        publish += [
            f"$JS.API.CONSUMER.CREATE.{consumer}",
            f"$JS.API.CONSUMER.CREATE.{consumer}.>",
            f"$JS.API.CONSUMER.DURABLE.CREATE.{consumer}",
            f"$JS.API.CONSUMER.INFO.{consumer}",
            f"$JS.API.CONSUMER.MSG.NEXT.{consumer}",
            f"$JS.ACK.{consumer}.>",
        ]
    return Permissions(tuple(publish), (f"{inbox_prefix(service)}.>",))


def streams_permissions(services: Iterable[str]) -> Permissions:
    """Returns the permissions of the user that shapes these services' streams: it neither reads nor writes events."""
    names = [stream_of(service) for service in sorted(services)]
    publish = tuple(f"$JS.API.STREAM.{verb}.{name}" for name in names for verb in ("INFO", "CREATE", "UPDATE"))
    return Permissions(publish, (f"{inbox_prefix(STREAMS_USER)}.>",))


def authorization(permissions: Mapping[str, Permissions], passwords: Mapping[str, str]) -> dict[str, Any]:
    """Returns the `authorization` block of a NATS server for the users who have a password."""
    return {
        "users": [
            {
                "user": user,
                "password": passwords[user],
                "permissions": {"publish": {"allow": list(may.publish)}, "subscribe": {"allow": list(may.subscribe)}},
            }
            for user, may in permissions.items()
            if user in passwords
        ]
    }
