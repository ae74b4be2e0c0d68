"""gRPC on both sides: identity, deadlines and errors are handled here, so that servicers hold no rule of their own.

An error crosses as its canonical code with `ErrorInfo` (reason, domain) and, where a field is to blame, a
`BadRequest` violation; the client side turns it back into `RemoteError` with the same reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from opentelemetry.instrumentation.grpc import aio_client_interceptors, aio_server_interceptor

from regie_chassis.clock import Clock
from regie_chassis.database import is_outage
from regie_chassis.errors import DOMAIN, RegieError, TimedOut, Unavailable
from regie_chassis.identity import Caller, InvalidIdentity, Verifier

IDENTITY = "regie-identity"
DEFAULT_DEADLINE = 10.0  # seconds, for a call that came without one
LONGEST_DEADLINE = 60.0  # seconds
DRAIN_GRACE = 5.0  # seconds
HEALTH_EVERY = 1.0  # seconds
MAX_MESSAGE = 16 * 1024 * 1024  # bytes; a picture of 10 MB and its frame

KEEPALIVE = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
]
RETRYABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
SERVER_OPTIONS = [
    *KEEPALIVE,
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),  # a client that pings a busy server is no attacker: all of them are ours
    ("grpc.so_reuseport", 0),
]

log = structlog.get_logger()
_caller: ContextVar[Caller] = ContextVar("regie_caller")

Context = grpc.aio.ServicerContext[Any, Any]
Response = TypeVar("Response", bound=Message)


class ServiceUnavailable(Unavailable):
    """A service behind the gateway does not answer. Try again in a moment."""


class DeadlinePassed(TimedOut):
    """A service behind the gateway took too long. Try again; the request id makes it safe."""


class RemoteError(RegieError):
    """An error that another service answered with, carrying that service's reason."""

    def __init__(self, code: grpc.StatusCode, reason: str, message: str, *, http_status: int, field: str) -> None:
        super().__init__(message, field=field)
        self.grpc_code = code
        self.http_status = http_status
        self.retryable = code in RETRYABLE
        self._reason = reason

    @property
    def reason(self) -> str:
        return self._reason


def caller() -> Caller:
    """Returns the verified caller of the RPC at hand. Raises InvalidIdentity outside of one."""
    try:
        return _caller.get()
    except LookupError:
        raise InvalidIdentity("this call carries no identity; call through the gateway") from None


class _Interceptor(grpc.aio.ServerInterceptor):
    """Verifies who calls, bounds how long it may take, and turns errors into rich statuses."""

    def __init__(self, verifier: Verifier, clock: Clock) -> None:
        self._verifier = verifier
        self._clock = clock

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        details = handler_call_details
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None or details.method.startswith("/grpc.health."):
            return handler
        token = dict(details.invocation_metadata or ()).get(IDENTITY, "")
        behavior: Any = handler.unary_unary  # the stubs know only the blocking context here

        async def call(request: Any, context: Context) -> Any:
            try:
                _caller.set(self._verifier.verify(str(token), now=self._clock.now()))
                remaining = context.time_remaining()
                limit = DEFAULT_DEADLINE if remaining is None else min(remaining, LONGEST_DEADLINE)
                async with asyncio.timeout(limit):
                    return await behavior(request, context)
            except RegieError as error:
                await _abort(context, error)
            except TimeoutError:
                await _abort(context, DeadlinePassed("the answer was not ready in time; try again"))
            except Exception as error:  # broad: the edge answers for everything that is not foreseen
                if is_outage(error):
                    log.warning("rpc.database_outage", method=details.method, error=type(error).__name__)
                    await _abort(context, ServiceUnavailable("the database does not answer; try again in a moment"))
                log.error("rpc.failed", method=details.method, exc_info=error)
                await _abort(context, _Internal("something failed on our side; it is logged under this trace"))

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


class _Internal(RegieError):
    grpc_code = grpc.StatusCode.INTERNAL
    http_status = 500

    @property
    def reason(self) -> str:
        return "INTERNAL"


async def _abort(context: Context, error: RegieError) -> None:
    status = Status(code=error.grpc_code.value[0], message=error.message)
    info = ErrorInfo(reason=error.reason, domain=DOMAIN, metadata={"http_status": str(error.http_status)})
    status.details.append(_packed(info))
    if error.field:
        violation = BadRequest.FieldViolation(field=error.field, description=error.message)
        status.details.append(_packed(BadRequest(field_violations=[violation])))
    await context.abort_with_status(rpc_status.to_status(status))


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


class RpcServer:
    """The service's gRPC server with its health: SERVING while every check says so, read each second."""

    name = "rpc server"

    def __init__(
        self,
        *,
        host: str,
        port: int,
        verifier: Verifier,
        clock: Clock,
        register: Sequence[Callable[[grpc.aio.Server], None]],
        checks: Sequence[Callable[[], bool]] = (),
    ) -> None:
        self._address = f"{host}:{port}"
        self._host = host
        self._interceptors = [aio_server_interceptor(), _Interceptor(verifier, clock)]
        self._register = register
        self._checks = checks
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self.port = port

    @property
    def target(self) -> str:
        """host:port for clients, once started."""
        return f"{self._host}:{self.port}"

    async def start(self) -> None:
        server = grpc.aio.server(interceptors=self._interceptors, options=SERVER_OPTIONS)
        for register in self._register:
            register(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self.port = server.add_insecure_port(self._address)
        await server.start()
        self._server = server
        self._watch = asyncio.create_task(self._watch_checks(), name="health")

    async def _watch_checks(self) -> None:
        while True:
            try:
                serving = all(check() for check in self._checks)
            except Exception as error:  # broad: a check that cannot tell must not leave an old answer standing
                log.error("rpc.check_failed", exc_info=error)
                serving = False
            status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
            await self._health.set("", status)
            await asyncio.sleep(HEALTH_EVERY)

    async def stop(self) -> None:
        if self._watch:
            self._watch.cancel()
        await self._health.enter_graceful_shutdown()
        if self._server:
            await self._server.stop(DRAIN_GRACE)


def open_channel(target: str) -> grpc.aio.Channel:
    """Returns a channel to another service; it connects at the first call and again after every outage."""
    options = [*KEEPALIVE, ("grpc.max_reconnect_backoff_ms", 2_000), ("grpc.initial_reconnect_backoff_ms", 100)]
    return grpc.aio.insecure_channel(target, options=options, interceptors=aio_client_interceptors())


async def call(
    method: grpc.aio.UnaryUnaryMultiCallable[Any, Response],
    request: Message,
    *,
    identity: str,
    timeout: float = DEFAULT_DEADLINE,
) -> Response:
    """Calls another service as `identity` within `timeout` seconds. Raises RemoteError with that service's reason."""
    try:
        return await method(request, timeout=timeout, metadata=((IDENTITY, identity),))
    except grpc.aio.AioRpcError as error:
        raise _remote(error) from error


def _remote(error: grpc.aio.AioRpcError) -> RegieError:
    info: ErrorInfo | None = None
    field = ""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        if detail.Is(ErrorInfo.DESCRIPTOR):
            info = ErrorInfo()
            detail.Unpack(info)
        elif detail.Is(BadRequest.DESCRIPTOR):
            bad = BadRequest()
            detail.Unpack(bad)
            field = bad.field_violations[0].field if bad.field_violations else ""
    if info and info.domain == DOMAIN:
        return RemoteError(
            error.code(),
            info.reason,
            error.details() or "",
            http_status=int(info.metadata.get("http_status", "500")),
            field=field,
        )
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlinePassed("the service behind took too long; try again with the same idempotency key")
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return ServiceUnavailable("the service behind does not answer; try again in a moment")
    log.error("rpc.unforeseen_status", code=str(error.code()), details=error.details())
    return _Internal("something failed on our side; it is logged under this trace")
