"""The side door for people and tests: faults, the log of calls, counts. Its own calls are not logged."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from regie_sandbox.calls import World
from regie_sandbox.faults import UnusableRule

Endpoint = Callable[[Request], Awaitable[Response]]
MAX_POSTS = 1_000_000


def routes(world: World) -> list[Route]:
    """The administration of one world."""
    return [
        Route("/admin/faults", _faults(world), methods=["GET", "PUT", "DELETE"]),
        Route("/admin/log", _log(world), methods=["GET", "DELETE"]),
        Route("/admin/posts", _posts(world), methods=["GET"]),
        Route("/admin/posts/count", _count(world), methods=["GET"]),
        Route("/healthz", _health, methods=["GET"]),
    ]


def _faults(world: World) -> Endpoint:
    async def faults(request: Request) -> Response:
        """Shows the rules; PUT puts a list in their place; DELETE takes all away."""
        if request.method == "DELETE":
            world.faults.replace([])
        elif request.method == "PUT":
            try:
                world.faults.replace(orjson.loads(await request.body()))
            except orjson.JSONDecodeError:
                return _json({"error": "body_invalid", "message": "Send JSON."}, status=422)
            except UnusableRule as error:
                return _json({"error": "rule_invalid", "message": str(error)}, status=422)
        return _json({"rules": world.faults.listed()})

    return faults


def _log(world: World) -> Endpoint:
    async def log(request: Request) -> Response:
        """Every call with a sequence number over `after`, of one `operation` if given; DELETE empties it."""
        if request.method == "DELETE":
            world.clear_log()
            return Response(status_code=204)
        after = request.query_params.get("after", "0")
        if not after.isascii() or not after.isdigit():
            return _json({"error": "after_invalid", "message": "after is a sequence number."}, status=422)
        lines = world.log.lines(operation=request.query_params.get("operation") or None, after=int(after[:18]))
        body = b'{"calls":[' + b",".join(lines) + b'],"last":%d}' % world.log.last
        return Response(body, media_type="application/json")

    return log


def _posts(world: World) -> Endpoint:
    async def posts(request: Request) -> Response:
        """Every visible post, oldest first, of one `account` and one `key` if given."""
        account, key = request.query_params.get("account"), request.query_params.get("key")
        network = world.network
        found = network.posts_of(account, key) if account else network.posts()
        wanted = [post for post in islice(found, MAX_POSTS) if key is None or post.key == key]
        return _json({"posts": wanted[::-1]})

    return posts


def _count(world: World) -> Endpoint:
    async def count(_request: Request) -> Response:
        network = world.network
        return _json(
            {"count": network.post_count(), "deleted": network.deleted, "repeated_keys": network.repeated_keys()}
        )

    return count


async def _health(_request: Request) -> Response:
    """The process id lets a starter check that its own process answers, and not an earlier one on the port."""
    return _json({"status": "ok", "pid": os.getpid()})


def _json(document: Any, *, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")
