"""A real server and a real client over the loopback: identity, deadlines, errors, health."""

# ruff: noqa: ARG002  # servicers take what gRPC gives them

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from joserfc.jwk import OKPKey
from regie.metrics.v1.post_metrics_service_pb2 import (
    GetPostMetricsRequest,
    GetPostMetricsResponse,
    GetPostSeriesRequest,
    GetPostSeriesResponse,
)
from regie.metrics.v1.post_metrics_service_pb2_grpc import (
    PostMetricsServiceServicer,
    PostMetricsServiceStub,
    add_PostMetricsServiceServicer_to_server,
)
from regie_chassis.boundary import errors
from regie_chassis.boundary.errors import RegieError
from regie_chassis.boundary.identity import LEEWAY, LIFETIME, Caller, InvalidIdentity, Signer, Verifier, new_key
from regie_chassis.boundary.ids import new_id
from regie_chassis.boundary.rpc import (
    IDENTITY,
    Context,
    DeadlinePassed,
    RemoteError,
    RpcServer,
    ServiceUnavailable,
    audience_of,
    call,
    caller,
    open_channel,
)
from regie_chassis.process.settings import WrongSetting
from regie_local.testing.clock import START, FakeClock
from regie_local.testing.waiting import until

KEY = new_key()
CALLER = Caller(new_id(), "key_1")
ASK = GetPostMetricsRequest(post_id="post_1")
SECRET = "s3cret-words"
Answer = Callable[[], Awaitable[None]]


class PostNotFound(errors.NotFound):
    pass


class Metrics(PostMetricsServiceServicer):
    """Behaves as the test sets, and keeps the callers."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.act: Answer | None = None
        self.cancelled = False
        self.answer = GetPostMetricsResponse(totals={"likes": 1})

    async def GetPostMetrics(self, request: GetPostMetricsRequest, context: Context) -> GetPostMetricsResponse:
        self.callers.append(caller())
        try:
            if self.act:
                await self.act()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.answer

    async def GetPostSeries(self, request: GetPostSeriesRequest, context: Context) -> GetPostSeriesResponse:
        raise NotImplementedError


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@asynccontextmanager
async def serving(metrics: Metrics, **options: Any) -> AsyncIterator[RpcServer]:
    server = RpcServer(
        host="127.0.0.1",
        port=0,
        prefix="DEMO_RPC",
        verifier=Verifier(KEY),
        clock=options.pop("clock", FakeClock()),
        register=[lambda server: add_PostMetricsServiceServicer_to_server(metrics, server)],
        **options,
    )
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def server(metrics: Metrics, clock: FakeClock) -> AsyncIterator[RpcServer]:
    async with serving(metrics, clock=clock) as server:
        yield server


@pytest.fixture
async def stub(server: RpcServer) -> AsyncIterator[PostMetricsServiceStub]:
    async with open_channel(server.target) as channel:
        yield PostMetricsServiceStub(channel)


def token(key: OKPKey = KEY) -> str:
    return Signer(key).sign(CALLER, audience="metrics", now=START)


async def ask(stub: PostMetricsServiceStub, **options: Any) -> GetPostMetricsResponse:
    return await call(stub.GetPostMetrics, ASK, **{"identity": token(), **options})


async def refusal(stub: PostMetricsServiceStub, **options: Any) -> RegieError:
    with pytest.raises(RegieError) as refused:
        await ask(stub, **options)
    return refused.value


def raises(error: Exception) -> Answer:
    async def act() -> None:
        raise error

    return act


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_servicer_knows_the_verified_caller(stub: PostMetricsServiceStub, metrics: Metrics) -> None:
    assert (await ask(stub)).totals == {"likes": 1}
    assert metrics.callers == [CALLER]


@pytest.mark.parametrize(
    "identity", ["", "x", token()[:-4], token(new_key())], ids=["none", "garbage", "cut", "another key"]
)
async def test_a_call_without_a_genuine_identity_is_refused_and_does_nothing(
    stub: PostMetricsServiceStub, metrics: Metrics, identity: str
) -> None:
    error = await refusal(stub, identity=identity)
    assert (error.grpc_code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_IDENTITY")
    assert error.http_status == 401
    assert metrics.callers == []


async def test_a_call_with_no_identity_header_at_all_is_refused(stub: PostMetricsServiceStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.GetPostMetrics(ASK, timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_an_expired_identity_is_refused(stub: PostMetricsServiceStub, clock: FakeClock) -> None:
    old = token()
    await ask(stub, identity=old)
    await clock.advance(LIFETIME + LEEWAY)
    assert (await refusal(stub, identity=old)).reason == "INVALID_IDENTITY"


def test_outside_of_a_call_there_is_no_caller() -> None:
    with pytest.raises(InvalidIdentity):
        caller()


async def test_callers_at_once_are_not_mixed_up(stub: PostMetricsServiceStub, metrics: Metrics) -> None:
    callers = [Caller(new_id(), f"key_{number}") for number in range(20)]
    signer = Signer(KEY)
    await asyncio.gather(*(ask(stub, identity=signer.sign(one, audience="metrics", now=START)) for one in callers))
    assert sorted(metrics.callers, key=str) == sorted(callers, key=str)


@pytest.mark.parametrize(
    "error",
    [
        PostNotFound("give another id", field="post_id"),
        errors.Invalid("no", field="x"),
        errors.Unprocessable("no"),
        errors.Conflict("no"),
        errors.TooLarge("no"),
        errors.PermissionDenied("no"),
        errors.TooManyRequests("no"),
        errors.Unavailable("no"),
        errors.TimedOut("no"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_crosses_with_its_reason_field_status_and_message(
    stub: PostMetricsServiceStub, metrics: Metrics, error: RegieError
) -> None:
    metrics.act = raises(error)
    crossed = await refusal(stub)
    assert isinstance(crossed, RemoteError)
    assert crossed.reason == error.reason
    assert crossed.field == error.field
    assert crossed.message == error.message
    assert crossed.grpc_code == error.grpc_code
    assert crossed.http_status == error.http_status
    assert crossed.retryable == error.retryable


async def test_an_unforeseen_error_does_not_tell_its_text(stub: PostMetricsServiceStub, metrics: Metrics) -> None:
    metrics.act = raises(RuntimeError(SECRET))
    error = await refusal(stub)
    assert (error.grpc_code, error.http_status, error.reason) == (grpc.StatusCode.INTERNAL, 500, "INTERNAL")
    assert SECRET not in f"{error.message} {error.__cause__!r}"


@pytest.mark.parametrize("kind", [ConnectionRefusedError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError])
async def test_what_the_database_cannot_do_now_is_unavailable(
    stub: PostMetricsServiceStub, metrics: Metrics, kind: type[Exception]
) -> None:
    metrics.act = raises(kind(SECRET))
    error = await refusal(stub)
    assert (error.reason, error.http_status, error.retryable) == ("SERVICE_UNAVAILABLE", 503, True)
    assert SECRET not in error.message


async def test_a_deadline_that_passes_ends_the_call_on_both_sides(
    stub: PostMetricsServiceStub, metrics: Metrics
) -> None:
    metrics.act = for_ever
    error = await refusal(stub, timeout=0.2)
    assert error.reason == "DEADLINE_PASSED"
    assert error.grpc_code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (error.http_status, error.retryable) == (504, True)

    async def cancelled() -> bool:
        return metrics.cancelled

    await until(cancelled, timeout=5, what="the end of the work on the server")


async def test_a_servicers_own_timeout_is_a_deadline_that_passed(
    stub: PostMetricsServiceStub, metrics: Metrics
) -> None:
    metrics.act = raises(TimeoutError())
    assert (await refusal(stub)).reason == "DEADLINE_PASSED"


async def test_a_service_that_is_not_there_is_unavailable_long_before_the_deadline() -> None:
    with socket.socket() as unheard:  # bound and not listening: refuses
        unheard.bind(("127.0.0.1", 0))
        async with open_channel(f"127.0.0.1:{unheard.getsockname()[1]}") as channel:
            begin = time.monotonic()
            error = await refusal(PostMetricsServiceStub(channel), timeout=8)
    assert isinstance(error, ServiceUnavailable)
    assert time.monotonic() - begin < 5


async def test_a_server_that_takes_connections_and_says_nothing_is_bounded_by_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with open_channel(f"127.0.0.1:{silent.getsockname()[1]}") as channel:
            begin = time.monotonic()
            error = await refusal(PostMetricsServiceStub(channel), timeout=0.5)
    assert isinstance(error, DeadlinePassed | ServiceUnavailable)
    assert time.monotonic() - begin < 3


async def test_a_client_finds_a_server_that_came_back_on_its_port(metrics: Metrics) -> None:
    async with serving(metrics) as first:
        target, port = first.target, first.port
        channel = open_channel(target)
        stub: PostMetricsServiceStub = PostMetricsServiceStub(channel)
        await ask(stub)
    assert isinstance(await refusal(stub), ServiceUnavailable)
    again = unstarted(metrics, "127.0.0.1", port)
    await again.start()

    async def answers() -> bool:
        try:
            await ask(stub)
        except ServiceUnavailable:
            return False
        return True

    await until(answers, what="the answer after the restart")
    await channel.close()
    await again.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::]"])
async def test_a_taken_port_is_named_with_its_setting(
    metrics: Metrics, capfd: pytest.CaptureFixture[str], host: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(WrongSetting, match=rf"^DEMO_RPC_PORT: port {port} is taken by another program; give an"):
            await unstarted(metrics, host, port).start()
    assert capfd.readouterr().err == ""


async def test_an_address_of_another_machine_is_named_with_its_setting(metrics: Metrics) -> None:
    for host in ("192.0.2.1", "x" * 300):
        with pytest.raises(WrongSetting, match=r"^DEMO_RPC_HOST: this is no address of this machine; give one"):
            await unstarted(metrics, host, 0).start()


def unstarted(metrics: Metrics, host: str, port: int) -> RpcServer:
    return RpcServer(
        host=host,
        port=port,
        prefix="DEMO_RPC",
        verifier=Verifier(KEY),
        clock=FakeClock(),
        register=[lambda server: add_PostMetricsServiceServicer_to_server(metrics, server)],
    )


async def test_a_call_in_flight_is_answered_while_the_server_stops(metrics: Metrics) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def act() -> None:
        entered.set()
        await leave.wait()

    metrics.act = act
    async with serving(metrics) as server, open_channel(server.target) as channel:
        asking = asyncio.create_task(ask(PostMetricsServiceStub(channel)))
        await entered.wait()
        stopping = asyncio.create_task(server.stop())
        leave.set()
        assert (await asking).totals == {"likes": 1}
        await stopping


async def health_of(server: RpcServer) -> int:
    async with grpc.aio.insecure_channel(server.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
    return int(answer.status)


async def test_health_needs_no_identity_and_follows_the_checks(metrics: Metrics) -> None:
    healthy = True

    async def check() -> bool:
        return healthy

    async with serving(metrics, checks=[check]) as server:

        async def shows(status: int) -> bool:
            return await health_of(server) == status

        await until(lambda: shows(health_pb2.HealthCheckResponse.SERVING), timeout=5)
        healthy = False
        await until(lambda: shows(health_pb2.HealthCheckResponse.NOT_SERVING), timeout=5)
        healthy = True
        await until(lambda: shows(health_pb2.HealthCheckResponse.SERVING), timeout=5)


async def test_a_check_that_fails_is_not_serving(metrics: Metrics) -> None:
    broken = False

    async def check() -> bool:
        if broken:
            raise RuntimeError("cannot tell")
        return True

    async with serving(metrics, checks=[check]) as server:

        async def shows(status: int) -> bool:
            return await health_of(server) == status

        await until(lambda: shows(health_pb2.HealthCheckResponse.SERVING), timeout=5)
        broken = True
        await until(lambda: shows(health_pb2.HealthCheckResponse.NOT_SERVING), timeout=5)


async def test_a_message_past_the_size_limit_is_an_error_and_not_a_hang(stub: PostMetricsServiceStub) -> None:
    with pytest.raises(RegieError):
        await call(
            stub.GetPostMetrics, GetPostMetricsRequest(post_id="x" * (17 * 1024 * 1024)), identity=token(), timeout=5
        )


async def test_a_call_without_a_deadline_is_answered_and_has_the_servers_own(stub: PostMetricsServiceStub) -> None:
    answer = await stub.GetPostMetrics(ASK, metadata=((IDENTITY, token()),))
    assert answer.totals == {"likes": 1}


async def test_an_identity_for_another_service_is_refused(stub: PostMetricsServiceStub, metrics: Metrics) -> None:
    signer = Signer(KEY)
    await ask(stub, identity=signer.sign(CALLER, audience=audience_of(stub.GetPostMetrics), now=START))
    error = await refusal(stub, identity=signer.sign(CALLER, audience="publisher", now=START))
    assert (error.grpc_code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_IDENTITY")


async def test_an_answer_past_the_size_limit_says_what_to_do(metrics: Metrics) -> None:
    metrics.answer = GetPostMetricsResponse(totals={"x" * (17 * 1024 * 1024): 1})
    async with serving(metrics) as server, open_channel(server.target) as channel:
        with pytest.raises(RegieError) as refused:
            await call(PostMetricsServiceStub(channel).GetPostMetrics, ASK, identity=token(), timeout=5)
    assert (refused.value.reason, refused.value.http_status) == ("MESSAGE_TOO_LARGE", 413)
