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
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from regie_chassis.boundary.errors import DOMAIN, RegieError, TimedOut, TooLarge, Unavailable
from regie_chassis.boundary.identity import Caller, InvalidIdentity, Verifier
from regie_chassis.boundary.telemetry import context_of, traceparent_of, tracer
from regie_chassis.data.database import is_transient
from regie_chassis.events.messaging import service_of
from regie_chassis.process.clock import Clock
from regie_chassis.process.listening import check_listening

IDENTITY = "regie-identity"
DEFAULT_DEADLINE = 10.0  # seconds, for a call that came without one
MAX_DEADLINE = 60.0  # seconds
DRAIN_GRACE = 5.0  # seconds
HEALTH_EVERY = 1.0  # seconds
MAX_MESSAGE = 8 * 1024 * 1024  # bytes; a page of a list and what its estimate leaves out

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


class MessageTooLarge(TooLarge):
    """A request between services, or its answer, is larger than one call carries. Ask for less at a time."""


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


class _Edge:
    """Wraps every method of a server with the caller's identity, the deadline, the span and the mapping of errors.

    Methods are wrapped once, when they are registered: interceptors would be looked up and built for each call, which
    costs more than this whole wrapper (ADR 0013).
    """

    def __init__(self, server: grpc.aio.Server, verifier: Verifier, clock: Clock) -> None:
        self._server = server
        self._verifier = verifier
        self._clock = clock

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Called by generated code beside add_registered_method_handlers, which is enough."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Called by generated code; adds the service's methods with the edge around them."""
        audience = service_of(service_name)
        wrapped = {
            name: self._wrap(f"{service_name}/{name}", audience, handler) for name, handler in method_handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service_name, wrapped),))

    def _wrap(
        self, name: str, audience: str, handler: grpc.RpcMethodHandler[Any, Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        behavior: Any = handler.unary_unary  # the stubs know only the blocking context here
        if behavior is None:
            raise NotImplementedError(f"{name} streams; between services that is NATS's work")

        async def call(request: Any, context: Context) -> Any:
            metadata = dict(context.invocation_metadata() or ())
            parent = context_of(str(metadata.get("traceparent", "")))
            with tracer().start_as_current_span(name, context=parent, kind=SpanKind.SERVER):
                try:
                    identity = str(metadata.get(IDENTITY, ""))
                    _caller.set(self._verifier.verify(identity, audience=audience, now=self._clock.now()))
                    remaining = context.time_remaining()
                    limit = DEFAULT_DEADLINE if remaining is None else min(remaining, MAX_DEADLINE)
                    async with asyncio.timeout(limit):
                        return _sendable(await behavior(request, context))
                except Exception as error:  # noqa: BLE001  # broad: the edge answers for everything not foreseen
                    refusal = _refusal_of(error, name)
            return await _abort(context, refusal)

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _sendable(response: Message) -> Message:
    # gRPC would answer with an internal error. Lists are cut long before; this is for what nobody thought of.
    if response.ByteSize() > MAX_MESSAGE:
        log.error("rpc.answer_too_large", type=response.DESCRIPTOR.full_name, bytes=response.ByteSize())
        raise MessageTooLarge("the answer is larger than one call carries; ask for less at a time")
    return response


def _refusal_of(error: Exception, method: str) -> RegieError:
    """Returns the error for the caller; an unforeseen one is logged with its cause."""
    if isinstance(error, RegieError):
        return error
    span = trace.get_current_span()
    span.record_exception(error)
    span.set_status(StatusCode.ERROR, type(error).__name__)
    if isinstance(error, TimeoutError):
        return DeadlinePassed("the answer was not ready in time; try again")
    if is_transient(error):
        log.warning("rpc.database_unavailable", method=method, error=type(error).__name__)
        return ServiceUnavailable("the database does not answer or is too busy; try again in a moment")
    log.error("rpc.failed", method=method, exc_info=error)
    return _Internal("something failed on our side; it is logged under this trace")


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
    """The service's gRPC server with its health: SERVING while every check passes, read each second."""

    name = "rpc server"

    def __init__(
        self,
        *,
        host: str,
        port: int,
        prefix: str,
        verifier: Verifier,
        clock: Clock,
        register: Sequence[Callable[[Any], None]],
        checks: Sequence[Callable[[], Awaitable[bool]]] = (),
    ) -> None:
        self._address = f"{host}:{port}"
        self._host = host
        self._prefix = prefix
        self._verifier = verifier
        self._clock = clock
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
        """Listens. Raises WrongSetting for `<prefix>_PORT` or `<prefix>_HOST`."""
        check_listening(self._host, self.port, prefix=self._prefix)
        server = grpc.aio.server(options=SERVER_OPTIONS)
        for register in self._register:
            register(_Edge(server, self._verifier, self._clock))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self.port = server.add_insecure_port(self._address)
        await server.start()
        self._server = server
        self._watch = asyncio.create_task(self._watch_checks(), name="health")

    async def _watch_checks(self) -> None:
        while True:
            try:
                serving = all([await check() for check in self._checks])
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
    return grpc.aio.insecure_channel(target, options=options)


def audience_of(method: grpc.aio.UnaryUnaryMultiCallable[Any, Any]) -> str:
    """Returns the service of a method, which is the audience of the caller's token."""
    return service_of(_name_of(method))


def _name_of(method: grpc.aio.UnaryUnaryMultiCallable[Any, Any]) -> str:
    return bytes(method._method).decode().lstrip("/")  # type: ignore[attr-defined]  # noqa: SLF001  # nowhere public


async def call(
    method: grpc.aio.UnaryUnaryMultiCallable[Any, Response],
    request: Message,
    *,
    identity: str,
    timeout: float = DEFAULT_DEADLINE,
) -> Response:
    """Calls another service as `identity` within `timeout` seconds. Raises RemoteError with that service's reason."""
    name = _name_of(method)
    with tracer().start_as_current_span(name, kind=SpanKind.CLIENT, record_exception=False) as span:
        metadata = [(IDENTITY, identity)]
        if traceparent := traceparent_of(span):
            metadata.append(("traceparent", traceparent))
        try:
            return await method(request, timeout=timeout, metadata=metadata)
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
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:  # gRPC's own, as ours come with a reason
        return MessageTooLarge("this is larger than one call between services carries; send or ask for less at a time")
    log.error("rpc.unforeseen_status", code=str(error.code()), details=error.details())
    return _Internal("something failed on our side; it is logged under this trace")
