"""The FastAPI application: every operation behind the same admission, and the document that describes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.routing import Route
from starlette.types import ASGIApp

from regie_gateway.http.admission import handle
from regie_gateway.http.body_limit import BodyLimit, FileLimits
from regie_gateway.http.context import GatewayContext
from regie_gateway.http.cors import CrossOrigin
from regie_gateway.http.document import render
from regie_gateway.http.inputs import query_names
from regie_gateway.http.methods import Methods, not_allowed
from regie_gateway.http.operations import (
    IDEMPOTENCY_KEY,
    IF_MATCH,
    Operation,
    Operations,
    possible_problems,
    route_endpoint,
)
from regie_gateway.http.problems import add_problem_handlers, problem_response, problem_responses
from regie_gateway.http.tracing import Traced


class AdmittedRoute(APIRoute):
    """A route that admits requests before FastAPI sees them."""

    def __init__(self, gateway: GatewayContext, operation: Operation) -> None:
        self._gateway = gateway
        self.operation = operation
        extra: dict[str, Any] = dict(operation.extra)
        headers = [IDEMPOTENCY_KEY] if operation.method == "POST" else []
        if operation.if_match:
            headers.append(IF_MATCH)
        if headers:
            extra["parameters"] = headers
        extra["security"] = [{"api_key": [operation.scope] if operation.scope else []}]
        super().__init__(
            operation.path,
            route_endpoint(operation),
            methods=[operation.method],
            operation_id=operation.id,
            summary=operation.summary,
            description=operation.description,
            tags=[operation.tag],
            status_code=operation.status,
            response_model=None,
            # One without an answer has no content but its `extra`.
            response_class=JSONResponse if operation.answer else Response,
            responses=_responses(operation),
            openapi_extra=extra,
        )

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Puts admission before FastAPI's own handler."""
        names = query_names(self.operation.endpoint)
        return partial(handle, self._gateway, self.operation, names, super().get_route_handler())


def _responses(operation: Operation) -> dict[int | str, dict[str, Any]]:
    responses = problem_responses(*possible_problems(operation))
    if operation.answer is not None:
        responses[operation.status] = {"model": operation.answer, "description": "As asked."}
    if operation.reads is not None:
        responses[204] = {"description": f"Done. The key lacks {operation.reads}, so the answer has no body."}
    return responses


class Application(FastAPI):
    """FastAPI with our document; swagger's own page is off, as it loads its scripts from elsewhere."""

    cors_origins: Collection[str] = ()
    tags: Mapping[str, str] = MappingProxyType({})
    """The descriptions of the operations' tags."""

    def build_middleware_stack(self) -> ASGIApp:
        """Puts CORS before all, also before the layer that answers 500."""
        stack = super().build_middleware_stack()
        if not self.cors_origins:
            return stack
        methods = {method for route in self.routes if isinstance(route, Route) for method in route.methods or ()}
        return CrossOrigin(stack, origins=self.cors_origins, methods=methods | {"HEAD"})

    def openapi(self) -> dict[str, Any]:
        """Returns the OpenAPI 3.1 document."""
        if not self.openapi_schema:
            declared = [route.operation for route in self.routes if isinstance(route, AdmittedRoute)]
            self.openapi_schema = render(self.routes, declared, self.tags)
        return self.openapi_schema


def build_application(
    gateway: GatewayContext,
    resources: Sequence[Operations],
    *,
    body_limit: int,
    file_limits: FileLimits,
    cors_origins: Collection[str] = (),
) -> Application:
    """Returns the ASGI application. Routes are tried in the order of `resources`."""
    # Spans are Traced's, one for each request; FastAPI's own would stand beside them and cost more than the edge.
    silent: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
    app = Application(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, telemetry=silent)
    app.cors_origins = cors_origins
    app.tags = {resource.tag: resource.description for resource in resources if resource.description}
    add_problem_handlers(app)
    app.add_exception_handler(405, lambda request, _: not_allowed(app.routes, request))
    for resource in resources:
        for operation in resource.all:
            app.router.routes.append(AdmittedRoute(gateway, operation))
    _add_probes(app, gateway)
    app.add_middleware(Methods, routes=app.routes)
    app.add_middleware(BodyLimit, limit=body_limit, files={"/v1/media": file_limits})
    app.add_middleware(Traced)
    return app


def _add_probes(app: Application, gateway: GatewayContext) -> None:
    async def healthz(_: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def readyz(_: Request) -> Response:
        if reason := await gateway.why_not_ready():
            return problem_response(503, "NOT_READY", reason, retry_after=1)
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def openapi(_: Request) -> Response:
        return Response(orjson.dumps(app.openapi()), media_type="application/json")

    for path, endpoint in (("/healthz", healthz), ("/readyz", readyz), ("/openapi.json", openapi)):
        app.router.routes.append(Route(path, endpoint, methods=["GET"]))
