"""What happens to every request before and after its endpoint: key, scope, rate, body, idempotency."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
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
from regie_gateway.rest.inputs import InvalidRequest, UnreadParameter, check_headers, check_no_body, check_query
from regie_gateway.rest.operations import Operation
from regie_gateway.rest.places import place_of
from regie_gateway.rest.preconditions import PreconditionFailed, read_if_match
from regie_gateway.rest.problems import UnsupportedMediaType, answer_of
from regie_gateway.stream import Feed
from regie_gateway.strict_json import canonical, parse

KEPT_HEADERS = ("content-type", "location", "etag")
PASSED_HEADERS = ("location", "etag", "idempotent-replayed")  # also to who may not read the body
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
    workspace_rate_limit: RateLimit
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
    caller: Caller
    request_id: str
    revision: int = 0
    """The revision that If-Match names; 0 for any."""

    @property
    def workspace_id(self) -> UUID:
        """The caller's workspace; it never comes from anywhere else."""
        return self.key.workspace_id

    def identity(self, service: str) -> str:
        """Returns the token that shows this service who calls, and no other."""
        return self.edge.signer.sign(self.caller, audience=service, now=self.edge.clock.now())

    async def ask(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Any, Reply],
        request: Message,
        *,
        timeout: float = rpc.DEFAULT_DEADLINE,
    ) -> Reply:
        """Calls a service behind in the caller's name, within `timeout` seconds."""
        return await rpc.call(method, request, identity=self.identity(rpc.audience_of(method)), timeout=timeout)


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


def reply(data: Any, *, status: int = 200, location: str = "", etag: str = "") -> Response:
    """Returns JSON made of plain values."""
    headers = {name: value for name, value in (("location", location), ("etag", etag)) if value}
    return Response(orjson.dumps(data, option=orjson.OPT_UTC_Z), status, headers=headers, media_type="application/json")


async def answer(
    edge: Edge, operation: Operation, names: Mapping[str, bool], handle: Handle, request: Request
) -> Response:
    """Admits a request, reads its body, and has it handled once. `names` are the query parameters it may have."""
    loaded = request
    try:
        check_headers(request)
        call = await _admit(edge, operation, request)
        request.scope[CALL] = call
        check_query(request.scope["query_string"], names)
        call.revision = _if_match(operation, request)
        loaded = await _load(operation, request)
        key = request.headers.get("idempotency-key") if operation.method == "POST" else None
        if key is not None:
            response = await _answer_once(call, operation, idempotency.check_key(key), loaded, handle)
        else:
            response = await handle(loaded)
        return _readable(call, operation, response)
    except RegieError as error:
        return _problem(operation, loaded, error)
    except Exception as error:
        if is_transient(error):
            raise rpc.ServiceUnavailable(
                "the database does not answer or is too busy; try again in a moment"
            ) from error
        raise


def _readable(call: Call, operation: Operation, response: Response) -> Response:
    """Returns the answer without its body to a key that may write but not read."""
    if operation.reads is None or operation.reads in call.key.scopes or response.status_code != 200:
        return response
    headers = {name: response.headers[name] for name in PASSED_HEADERS if name in response.headers}
    return Response(status_code=204, headers=headers)


def _problem(operation: Operation, request: Request, error: RegieError) -> Response:
    if isinstance(error, UnreadParameter):
        return answer_of(error, error.field)
    body = request.loaded if isinstance(request, LoadedRequest) else None
    if error.reason == "REVISION_CONFLICT" and request.headers.get("if-match") is not None:
        error = PreconditionFailed(error.message, field="If-Match")
    return answer_of(error, place_of(error.field, operation, body))


async def _admit(edge: Edge, operation: Operation, request: Request) -> Call:
    address = request.client.host if request.client else ""
    key = await edge.authenticator.authenticate(request.headers.get("authorization", ""), address=address)
    now = edge.clock.now()
    edge.rate_limit.take(key.id, now)
    edge.workspace_rate_limit.take(key.workspace_id, now)
    if operation.scope is not None and operation.scope not in key.scopes:
        raise MissingScope(f"this API key lacks the scope {operation.scope}; use or make one that has it")
    caller = Caller(key.workspace_id, show_id(API_KEY, key.id))
    request_id = "" if operation.method == "GET" else str(new_id())
    return Call(edge, key, caller, request_id)


def _if_match(operation: Operation, request: Request) -> int:
    header = request.headers.get("if-match")
    if header is not None and not operation.if_match:
        raise InvalidRequest("what this operation acts on has no ETag; leave If-Match out", field="If-Match")
    return read_if_match(header)


async def _load(operation: Operation, request: Request) -> Request:
    if b"%00" in request.scope["query_string"]:
        raise InvalidRequest("a parameter holds NUL (%00); leave it out")
    if operation.method in {"GET", "HEAD"}:
        return request
    if request.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaType("send the body as it is, without Content-Encoding", field="Content-Encoding")
    loaded = LoadedRequest(request.scope, request.receive)
    body = await loaded.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if operation.body == "image":
        _check_image(kind)
    elif body:
        if kind != "application/json":
            raise UnsupportedMediaType("send JSON with the content type application/json", field="Content-Type")
        loaded.loaded = parse(body)
    if operation.body == "none":
        check_no_body(loaded.loaded)
    return loaded


def _check_image(kind: str) -> None:
    # The bytes say what they are; a client that does not know the type, or names another, is no reason to refuse.
    if kind in ("application/json", "multipart/form-data"):
        raise UnsupportedMediaType(
            "send the picture's bytes as the body, as they are and not in a form", field="Content-Type"
        )


async def _answer_once(call: Call, operation: Operation, key: str, request: Request, handle: Handle) -> Response:
    edge, workspace_id = call.edge, call.workspace_id
    loaded = request.loaded if isinstance(request, LoadedRequest) else None
    mark = idempotency.fingerprint(
        edge.secret,
        request.method.encode(),
        request.scope["path"].encode(),
        str(call.revision).encode(),
        await request.body() if loaded is None else canonical(loaded),
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
        response = _problem(operation, request, error)
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
        content = orjson.dumps(data, option=orjson.OPT_UTC_Z)
        super().__init__(content, status, headers={"location": location}, media_type="application/json")
        self.kept_body = orjson.dumps(kept, option=orjson.OPT_UTC_Z)
