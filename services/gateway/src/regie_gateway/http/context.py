"""The collaborators of every endpoint, and one admitted request with the way to the services behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from uuid import UUID

import grpc
from fastapi import Request
from google.protobuf.message import Message
from regie_chassis.boundary import rpc
from regie_chassis.boundary.identity import Caller, Signer
from regie_chassis.data.database import Database
from regie_chassis.data.upload_area import Upload
from regie_chassis.process.clock import Clock

from regie_gateway.access.api_keys import ApiKey
from regie_gateway.access.authentication import Authenticator
from regie_gateway.access.rate_limit import RateLimit
from regie_gateway.backends import Backends
from regie_gateway.events.event_stream import Broadcaster
from regie_gateway.http.uploads import Uploads
from regie_gateway.post_loader import PostLoader

CONTEXT = "regie.context"  # in the ASGI scope

Reply = TypeVar("Reply", bound=Message)


@dataclass(frozen=True, slots=True)
class GatewayContext:
    """The collaborators of all endpoints; made once by `app.build`."""

    database: Database
    clock: Clock
    backends: Backends
    post_loader: PostLoader
    authenticator: Authenticator
    rate_limit: RateLimit
    workspace_rate_limit: RateLimit
    signer: Signer
    broadcaster: Broadcaster
    uploads: Uploads
    fingerprint_key: bytes
    """Keys the fingerprints of idempotent requests."""
    why_not_ready: Callable[[], Awaitable[str]]


@dataclass(slots=True)
class RequestContext:
    """One admitted request: its caller, and the way to the services behind."""

    gateway: GatewayContext
    key: ApiKey
    caller: Caller
    request_id: str
    revision: int = 0
    """The revision that If-Match names; 0 for any."""
    upload: Upload | None = None
    """The file of an operation that takes one."""
    content_type: str = ""
    """The type that the client gives the file, without parameters."""

    @property
    def backends(self) -> Backends:
        """The stubs of the services behind."""
        return self.gateway.backends

    @property
    def workspace_id(self) -> UUID:
        """The caller's workspace; it never comes from anywhere else."""
        return self.key.workspace_id

    def identity(self, service: str) -> str:
        """Returns the token that proves the caller's identity to this service, and to no other."""
        return self.gateway.signer.sign(self.caller, audience=service, now=self.gateway.clock.now())

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Any, Reply],
        request: Message,
        *,
        timeout: float = rpc.DEFAULT_DEADLINE,
    ) -> Reply:
        """Calls a service behind in the caller's name, within `timeout` seconds."""
        return await rpc.call(method, request, identity=self.identity(rpc.audience_of(method)), timeout=timeout)


def request_context(request: Request) -> RequestContext:
    """Returns the context of an admitted request."""
    return cast("RequestContext", request.scope[CONTEXT])
