"""Every request before and after its endpoint: key, rate, scope, body, idempotency, in this order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request, Response
from regie.ids.v1.prefixes import API_KEY
from regie_chassis.boundary import rpc
from regie_chassis.boundary.errors import RegieError
from regie_chassis.boundary.identity import Caller
from regie_chassis.boundary.ids import new_id, show_id
from regie_chassis.data.database import is_transient

from regie_gateway.access.authentication import MissingScope
from regie_gateway.access.idempotency import check_key
from regie_gateway.http.context import CONTEXT, GatewayContext, RequestContext
from regie_gateway.http.idempotent import handle_once
from regie_gateway.http.inputs import (
    InvalidRequest,
    UnreadParameter,
    UnsupportedMediaType,
    check_headers,
    check_no_body,
    check_query,
)
from regie_gateway.http.operations import Operation
from regie_gateway.http.places import place_of
from regie_gateway.http.preconditions import PreconditionFailed, read_if_match
from regie_gateway.http.problems import error_response
from regie_gateway.http.strict_json import canonical, parse

PASSED_HEADERS = ("location", "etag", "idempotent-replayed")  # also to a key that may not read the body

Handler = Callable[[Request], Awaitable[Response]]


class LoadedRequest(Request):
    """A request with a strictly read JSON body; FastAPI takes the body from `json`."""

    loaded: Any = None

    async def json(self) -> Any:
        return self.loaded


async def handle(
    gateway: GatewayContext, operation: Operation, names: Mapping[str, bool], handler: Handler, request: Request
) -> Response:
    """Admits a request, reads its body, and has it handled once. `names` are the query parameters it may have."""
    loaded = request
    try:
        check_headers(request)
        context = await _admit(gateway, operation, request)
        request.scope[CONTEXT] = context
        check_query(request.scope["query_string"], names)
        context.revision = _if_match(operation, request)
        key = _idempotency_key(operation, request)
        loaded = await _load(operation, request)
        async with _received(context, operation, loaded):
            if key is None:
                response = await handler(loaded)
            else:
                response = await handle_once(
                    context,
                    loaded,
                    key=key,
                    content=await _content(context, loaded),
                    handler=handler,
                    on_error=lambda error: _problem(operation, loaded, error),
                )
        return _readable(context, operation, response)
    except RegieError as error:
        return _problem(operation, loaded, error)
    except Exception as error:  # broad: the gateway answers for an outage, too
        if is_transient(error):
            raise rpc.ServiceUnavailable(
                "the database does not answer or is too busy; try again in a moment"
            ) from error
        raise


def _readable(context: RequestContext, operation: Operation, response: Response) -> Response:
    """Returns the response without its body to a key that may write but not read."""
    if operation.reads is None or operation.reads in context.key.scopes or response.status_code != 200:
        return response
    headers = {name: response.headers[name] for name in PASSED_HEADERS if name in response.headers}
    return Response(status_code=204, headers=headers)


def _problem(operation: Operation, request: Request, error: RegieError) -> Response:
    if isinstance(error, UnreadParameter):
        return error_response(error, error.field)
    if error.reason == "REVISION_CONFLICT" and request.headers.get("if-match") is not None:
        error = PreconditionFailed(error.message, field="If-Match")
    return error_response(error, place_of(error.field, operation, _loaded_body(request)))


async def _admit(gateway: GatewayContext, operation: Operation, request: Request) -> RequestContext:
    address = request.client.host if request.client else ""
    key = await gateway.authenticator.authenticate(request.headers.get("authorization", ""), address=address)
    now = gateway.clock.now()
    gateway.rate_limit.take(key.id, now)
    gateway.workspace_rate_limit.take(key.workspace_id, now)
    if operation.scope is not None and operation.scope not in key.scopes:
        raise MissingScope(f"this API key lacks the scope {operation.scope}; use or make one that has it")
    caller = Caller(key.workspace_id, show_id(API_KEY, key.id))
    request_id = "" if operation.method == "GET" else str(new_id())
    return RequestContext(gateway, key, caller, request_id)


def _if_match(operation: Operation, request: Request) -> int:
    header = request.headers.get("if-match")
    if header is not None and not operation.if_match:
        raise InvalidRequest("what this operation acts on has no ETag; leave If-Match out", field="If-Match")
    return read_if_match(header)


def _idempotency_key(operation: Operation, request: Request) -> str | None:
    key = request.headers.get("idempotency-key") if operation.method == "POST" else None
    return None if key is None else check_key(key)


async def _load(operation: Operation, request: Request) -> Request:
    if b"%00" in request.scope["query_string"]:
        raise InvalidRequest("a parameter holds NUL (%00); leave it out")
    if operation.method in {"GET", "HEAD"}:
        return request
    if request.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaType("send the body as it is, without Content-Encoding", field="Content-Encoding")
    kind = _content_type(request)
    if operation.body == "file":
        _check_file(kind)
        return request  # it is read as it comes, by `_received`
    loaded = LoadedRequest(request.scope, request.receive)
    if body := await loaded.body():
        if kind != "application/json":
            raise UnsupportedMediaType("send JSON with the content type application/json", field="Content-Type")
        loaded.loaded = parse(body)
    if operation.body == "none":
        check_no_body(loaded.loaded)
    return loaded


@asynccontextmanager
async def _received(context: RequestContext, operation: Operation, request: Request) -> AsyncIterator[None]:
    """Has the file of an upload in the upload area for as long as the request is handled."""
    if operation.body != "file":
        yield
        return
    async with context.gateway.uploads.receive(request.stream(), workspace_id=context.workspace_id) as upload:
        context.upload, context.content_type = upload, _content_type(request)
        yield


async def _content(context: RequestContext, request: Request) -> bytes:
    """Returns the bytes that tell a request's body from another; of a file, its digest."""
    if context.upload is not None:
        return context.upload.sha256
    value = _loaded_body(request)
    return await request.body() if value is None else canonical(value)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_file(kind: str) -> None:
    # The bytes say what they are; a client that does not know the type, or names another as generated ones do with
    # JSON, is no reason to refuse. A form is no file.
    if kind == "multipart/form-data":
        raise UnsupportedMediaType(
            "send the file's bytes as the body, as they are and not in a form", field="Content-Type"
        )


def _loaded_body(request: Request) -> Any:
    return request.loaded if isinstance(request, LoadedRequest) else None
