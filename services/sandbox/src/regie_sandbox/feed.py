"""The page that people look at: the feed, one post with its thread, pictures, and the panel with the knobs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from regie_sandbox.calls import World
from regie_sandbox.network import Network, Post
from regie_sandbox.pages import authorize_html, feed_html, page_html

Endpoint = Callable[[Request], Awaitable[Response]]
THREADS_SHOWN = 50
POSTS_SEEN = 5_000
THREAD_LENGTH = 100
ASSETS = {"feed.css": "text/css", "feed.js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def routes(world: World) -> list[Route]:
    """Everything that a browser asks for."""
    return [
        Route("/", _page(world), methods=["GET"]),
        Route("/oauth/authorize", _authorize, methods=["GET"]),
        Route("/feed", _feed(world), methods=["GET"]),
        Route("/media/{id}", _media(world.network), methods=["GET"]),
        Route("/assets/{name}", _asset, methods=["GET"]),
        Route("/@{handle}", _page(world), methods=["GET"]),
        Route("/@{handle}/{id}", _page(world), methods=["GET"]),
    ]


def threads(network: Network, *, handle: str | None = None, post_id: str | None = None) -> list[list[Post]]:
    """Groups visible posts into threads, the newest thread first, each from its first post on.

    `handle` keeps the threads that an account started; `post_id` gives the one thread around a post.
    """
    if post_id is not None:
        post = network.post(post_id)
        return [_thread(network, _root(network, post))] if post else []
    result: list[list[Post]] = []
    source = network.posts() if handle is None else network.posts_of(handle)
    for _, post in zip(range(POSTS_SEEN), source, strict=False):
        if post.reply_to is None or network.post(post.reply_to) is None:
            result.append(_thread(network, post))
            if len(result) == THREADS_SHOWN:
                break
    return result


def _root(network: Network, post: Post) -> Post:
    while post.reply_to is not None and (parent := network.post(post.reply_to)) is not None:
        post = parent
    return post


def _thread(network: Network, first: Post) -> list[Post]:
    """The first post and its replies, each reply after its parent."""
    thread: list[Post] = []
    waiting = [first]
    while waiting and len(thread) < THREAD_LENGTH:
        post = waiting.pop()
        thread.append(post)
        waiting += reversed(network.replies(post.id))
    return thread


def _shown(world: World, request: Request) -> str:
    chosen = {**request.query_params, **request.path_params}
    found = threads(world.network, handle=chosen.get("handle") or None, post_id=chosen.get("id") or None)
    return feed_html(found, time.time())


def _page(world: World) -> Endpoint:
    async def page(request: Request) -> Response:
        body = page_html(
            _shown(world, request),
            handle=request.path_params.get("handle"),
            post_id=request.path_params.get("id"),
            count=world.network.post_count(),
            rules=world.faults.listed(),
        )
        missing = "id" in request.path_params and world.network.post(request.path_params["id"]) is None
        return Response(body, 404 if missing else 200, HEADERS, "text/html")

    return page


def _feed(world: World) -> Endpoint:
    async def feed(request: Request) -> Response:
        """The feed alone, for the script that keeps the page fresh."""
        headers = {**HEADERS, "X-Post-Count": str(world.network.post_count())}
        return Response(_shown(world, request), 200, headers, "text/html")

    return feed


async def _authorize(request: Request) -> Response:
    """Asks the person into which account the app may come. The answer leads to the app's own place."""
    query = request.query_params
    try:
        redirect = urlsplit(query.get("redirect_uri", ""))
        place = f"{redirect.scheme}://{redirect.netloc}" if redirect.scheme in ("http", "https") else ""
    except ValueError:
        place = ""
    safe = place if place.isprintable() and not set(place) & set(" ;,'\"") else ""
    policy = HEADERS["Content-Security-Policy"].replace("form-action 'none'", f"form-action 'self' {safe}")
    return Response(authorize_html(query), 200, HEADERS | {"Content-Security-Policy": policy}, "text/html")


def _media(network: Network) -> Endpoint:
    async def media(request: Request) -> Response:
        picture = network.media_bytes(request.path_params["id"])
        if picture is None:
            return Response("There is no such picture.", 404, HEADERS, "text/plain")
        return Response(picture, 200, HEADERS, network.media_type(request.path_params["id"]))

    return media


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS:
        return Response("There is no such file.", 404, HEADERS, "text/plain")
    return Response((files("regie_sandbox") / "assets" / name).read_bytes(), 200, HEADERS, ASSETS[name])
