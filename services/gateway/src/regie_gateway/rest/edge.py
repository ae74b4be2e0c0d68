"""What happens to every request before and after its endpoint: key, scope, rate, body, idempotency."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from uuid import UUID

import grpc
import orjson
import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from google.protobuf.message import Message
from joserfc.jwk import OKPKey
from regie_chassis import rpc
from regie_chassis.clock import Clock
from regie_chassis.database import Database, is_transient
from regie_chassis.errors import RegieError
from regie_chassis.identity import Caller, Signer
from regie_chassis.ids import API_KEY, new_id, show_id

from regie_gateway import idempotency
from regie_gateway.api_keys import ApiKey
from regie_gateway.authentication import Authenticator, MissingScope
from regie_gateway.backends import Backends
from regie_gateway.idempotency import Answer, Claim
from regie_gateway.rate_limit import RateLimit
from regie_gateway.reads import PostReads
from regie_gateway.rest.operations import Operation
from regie_gateway.rest.problems import UnsupportedMediaType, answer_of
from regie_gateway.stream import Feed
from regie_gateway.strict_json import MalformedJson, parse

KEPT_HEADERS = ("content-type", "location", "etag")
CALL = "regie.call"

Reply = TypeVar("Reply", bound=Message)
Handle = Callable[[Request], Awaitable[Response]]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Edge:
    """All that endpoints stand on; made once by `app.build`."""

    database: Database
    clock: Clock
    backends: Backends
    post_reads: PostReads
    authenticator: Authenticator
    rate_limit: RateLimit
    signer: Signer
    feed: Feed
    secret: bytes
    """Keys the fingerprints of idempotent requests."""
    why_not_ready: Callable[[], Awaitable[str]]


@dataclass(slots=True)
class Call:
    """One admitted request: whose it is, and the way to the services behind."""

    edge: Edge
    key: ApiKey
    identity: str
    request_id: str

    @property
    def workspace_id(self) -> UUID:
        """The caller's workspace; it never comes from anywhere else."""
        return self.key.workspace_id

    async def ask(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Any, Reply],
        request: Message,
        *,
        timeout: float = rpc.DEFAULT_DEADLINE,
    ) -> Reply:
        """Calls a service behind in the caller's name, within `timeout` seconds."""
        return await rpc.call(method, request, identity=self.identity, timeout=timeout)


class LoadedRequest(Request):
    """A request whose JSON body was read strictly."""

    loaded: Any = None

    async def json(self) -> Any:
        return self.loaded


def secret_of(key: OKPKey) -> bytes:
    """Returns the secret behind fingerprints: one that every replica has, and nobody else."""
    return hashlib.sha256(b"idempotency fingerprints" + str(key.as_dict(private=True)["d"]).encode()).digest()


def call_of(request: Request) -> Call:
    """Returns the admitted call behind an endpoint's request."""
    return cast("Call", request.scope[CALL])


def reply(data: Any, *, status: int = 200, location: str = "") -> Response:
    """Returns JSON made of plain values."""
    headers = {"location": location} if location else None
    return Response(orjson.dumps(data), status, headers=headers, media_type="application/json")


async def answer(edge: Edge, operation: Operation, handle: Handle, request: Request) -> Response:
    """Admits a request, reads its body, and has it handled once."""
    try:
        call = await _admit(edge, operation, request)
        request.scope[CALL] = call
        loaded = await _load(operation, request)
        if operation.method == "POST":
            given = request.headers.get("idempotency-key")
            if given is not None:
                return await _answer_once(call, idempotency.check_key(given), loaded, handle)
        return await handle(loaded)
    except RegieError:
        raise
    except Exception as error:
        if is_transient(error):
            raise rpc.ServiceUnavailable(
                "the database does not answer or is too busy; try again in a moment"
            ) from error
        raise


async def _admit(edge: Edge, operation: Operation, request: Request) -> Call:
    key = await edge.authenticator.authenticate(request.headers.get("authorization", ""))
    now = edge.clock.now()
    edge.rate_limit.take(key.id, now)
    if operation.scope is not None and operation.scope not in key.scopes:
        raise MissingScope(f"this API key lacks the scope {operation.scope}; use or make one that has it")
    identity = edge.signer.sign(Caller(key.workspace_id, show_id(API_KEY, key.id)), now=now)
    request_id = "" if operation.method == "GET" else str(new_id())
    return Call(edge, key, identity, request_id)


async def _load(operation: Operation, request: Request) -> Request:
    if b"%00" in request.scope["query_string"]:
        raise MalformedJson("the query holds NUL")
    if operation.body == "none":
        return request
    loaded = LoadedRequest(request.scope, request.receive)
    body = await loaded.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if operation.body == "image":
        if not kind.startswith("image/"):
            raise UnsupportedMediaType("send the picture's bytes with its image/* content type")
    elif body:
        if kind != "application/json":
            raise UnsupportedMediaType("send JSON with the content type application/json")
        loaded.loaded = parse(body)
    return loaded


async def _answer_once(call: Call, key: str, request: Request, handle: Handle) -> Response:
    edge, workspace_id = call.edge, call.workspace_id
    mark = idempotency.fingerprint(
        edge.secret,
        request.method.encode(),
        request.scope["path"].encode(),
        request.scope["query_string"],
        await request.body(),
    )
    async with edge.database.transaction() as session:
        claimed = await idempotency.claim(
            session, workspace_id=workspace_id, key=key, mark=mark, token=new_id(), now=edge.clock.now()
        )
    if isinstance(claimed, Answer):
        return Response(claimed.body, claimed.status, {**claimed.headers, "Idempotent-Replayed": "true"})
    call.request_id = str(idempotency.request_id(workspace_id, key, mark))
    try:
        response = await handle(request)
    except RequestValidationError:
        await _settle(edge, claimed, None)
        raise
    except RegieError as error:
        response = answer_of(error)
    except BaseException:
        await _settle(edge, claimed, Answer(500, {}, b""))
        raise
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    await _settle(edge, claimed, Answer(response.status_code, headers, _kept_body(response)))
    return response


async def _settle(edge: Edge, claimed: Claim, answered: Answer | None) -> None:
    try:
        async with edge.database.transaction() as session:
            if answered is None:
                await idempotency.forget(session, claimed)
            elif answered.status >= 500 or answered.status == 429:
                await idempotency.release(session, claimed)
            else:
                await idempotency.keep_answer(session, claimed, answered)
    except Exception as error:
        if not is_transient(error):
            raise
        # The answer stands all the same: the lease runs out, and the request id makes another try harmless.
        log.warning("idempotency.not_settled", error=type(error).__name__)


def _kept_body(response: Response) -> bytes:
    return response.kept_body if isinstance(response, ShownOnce) else bytes(response.body)


class ShownOnce(Response):
    """An answer with a secret in it; only `kept_body`, which is without, is stored."""

    def __init__(self, data: dict[str, Any], kept: dict[str, Any], *, status: int, location: str) -> None:
        headers = {"location": location, "cache-control": "no-store"}
        super().__init__(orjson.dumps(data), status, headers=headers, media_type="application/json")
        self.kept_body = orjson.dumps(kept)
