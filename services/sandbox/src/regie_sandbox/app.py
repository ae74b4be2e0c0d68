"""Puts one sandbox network together: the only file that knows every part."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route

from regie_sandbox import admin, feed, oauth, operations
from regie_sandbox.calls import Act, Operation, World
from regie_sandbox.journal import Journal
from regie_sandbox.network import Network
from regie_sandbox.origins import OwnOrigins


def build(data: Path | None = None, *, allowed_hosts: Iterable[str] = ()) -> Starlette:
    """Returns the application with the state of the folder `data`; None starts empty and stores nothing.

    It answers to names of the loopback, and to `allowed_hosts` in the form of the Host field.
    """
    world = World(Network(data), Journal(data))

    def route(method: str, path: str, name: str, act: Act, *, needs_token: bool = True) -> Route:
        return Route(path, Operation(world, name, act, needs_token=needs_token), methods=[method])

    routes: list[BaseRoute] = [
        route("POST", "/api/v1/posts", "create_post", operations.create_post),
        route("GET", "/api/v1/posts", "find", operations.find_posts),
        route("GET", "/api/v1/posts/metrics", "metrics", operations.get_metrics),
        route("GET", "/api/v1/posts/{id}", "get_post", operations.get_post),
        route("DELETE", "/api/v1/posts/{id}", "delete_post", operations.delete_post),
        route("GET", "/api/v1/posts/{id}/replies", "replies", operations.get_replies),
        route("GET", "/api/v1/account/metrics", "account_metrics", operations.get_account_metrics),
        route("GET", "/api/v1/processing/{handle}", "processing", operations.poll_processing),
        route("POST", "/api/v1/media", "media", operations.upload_media),
        route("GET", "/api/v1/account", "account", operations.get_account),
        route("POST", "/api/v1/token/refresh", "refresh", operations.refresh_token, needs_token=False),
        route("POST", "/oauth/register", "register_app", oauth.register_app, needs_token=False),
        route("POST", "/oauth/authorize", "authorize", oauth.authorize, needs_token=False),
        route("POST", "/oauth/token", "give_token", oauth.give_token, needs_token=False),
        *admin.routes(world),
        *feed.routes(world),
    ]
    return Starlette(routes=routes, middleware=[Middleware(OwnOrigins, allowed_hosts=allowed_hosts)])
