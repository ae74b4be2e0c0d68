"""Problem answers, and the limit on bodies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI, HTTPException, Request
from pydantic import BaseModel
from regie_chassis.boundary import errors
from regie_gateway.http.body_limit import DRAIN_LIMIT, BodyLimit, FileLimits
from regie_gateway.http.problems import PROBLEM, add_problem_handlers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

SECRET = "s3cret-words"
LIMIT = 100
KINDS = [kind for kind in errors.RegieError.__subclasses__() if kind.__module__ == errors.__name__]
MEGABYTE = 1024 * 1024


class SlotTaken(errors.Conflict):
    pass


class Body(BaseModel):
    count: int


def application() -> FastAPI:
    """An app that raises the error named by its path."""
    app = FastAPI()
    add_problem_handlers(app)

    @app.get("/kinds/{name}")
    async def raise_kind(name: str) -> None:
        raise getattr(errors, name)("do this instead", field="body.title")

    @app.get("/slot")
    async def raise_slot() -> None:
        raise SlotTaken("choose another time")

    @app.get("/unforeseen")
    async def raise_unforeseen() -> None:
        raise RuntimeError(SECRET)

    @app.get("/outage")
    async def raise_outage() -> None:
        raise asyncpg.CannotConnectNowError(SECRET)

    @app.get("/http")
    async def raise_http() -> None:
        raise HTTPException(418, "short and stout", headers={"X-Pot": "tea"})

    @app.post("/count")
    async def read_count(body: Body) -> dict[str, int]:
        return {"count": body.count}

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    # The server's outermost layer answers 500 and raises on, for the server's own log.
    transport = httpx2.ASGITransport(BodyLimit(application(), limit=LIMIT), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://regie.test") as client:
        yield client


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_error_is_a_problem_answer(
    client: httpx2.AsyncClient, kind: type[errors.RegieError]
) -> None:
    answer = await client.get(f"/kinds/{kind.__name__}")
    assert answer.status_code == kind.http_status
    assert answer.headers["content-type"] == PROBLEM
    body = answer.json()
    assert body["status"] == kind.http_status
    assert body["field"] == "body.title"
    assert body["detail"] == "do this instead"
    assert body["reason"] == kind("x").reason
    assert body["type"] == "urn:regie:problem:" + body["reason"].lower().replace("_", "-")
    assert answer.headers.get("retry-after") == ("1" if kind.retryable else None)


async def test_the_reason_is_that_of_the_error_itself(client: httpx2.AsyncClient) -> None:
    body = (await client.get("/slot")).json()
    assert (body["reason"], body["type"], body["title"]) == ("SLOT_TAKEN", "urn:regie:problem:slot-taken", "Conflict")
    assert "field" not in body


async def test_an_unforeseen_error_does_not_tell_its_text(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/unforeseen")
    assert (answer.status_code, answer.json()["reason"]) == (500, "INTERNAL")
    assert answer.headers["content-type"] == PROBLEM
    assert SECRET not in answer.text


async def test_an_outage_of_the_database_asks_to_come_back(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/outage")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert SECRET not in answer.text


async def test_the_frameworks_own_errors_are_problem_answers_too(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/nowhere")).json()["reason"] == "NOT_FOUND"
    assert (await client.put("/slot")).json()["reason"] == "METHOD_NOT_ALLOWED"
    answer = await client.get("/http")
    assert (answer.json()["detail"], answer.headers["x-pot"]) == ("short and stout", "tea")


@pytest.mark.parametrize(
    ("body", "field"),
    [(b'{"count": "many"}', "/count"), (b"{}", "/count"), (b"[]", ""), (b"", ""), (b"\xff", "")],
)
async def test_an_invalid_body_names_its_field(client: httpx2.AsyncClient, body: bytes, field: str) -> None:
    answer = await client.post("/count", content=body, headers={"content-type": "application/json"})
    assert answer.headers["content-type"] == PROBLEM
    assert answer.status_code in {400, 422}
    assert answer.status_code == 400 or answer.json()["field"] == field


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


JSON = {"content-type": "application/json"}
PADDED = b'{"count": 1}' + b" " * (LIMIT - 12)  # exactly at the limit


async def test_a_body_at_the_limit_passes_whole_and_in_chunks(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/count", content=PADDED, headers=JSON)).json() == {"count": 1}
    chunked = await client.post("/count", content=chunks(PADDED[:50], PADDED[50:]), headers=JSON)
    assert "content-length" not in chunked.request.headers
    assert chunked.json() == {"count": 1}


async def test_a_body_one_byte_past_the_limit_is_refused_whole_and_in_chunks(client: httpx2.AsyncClient) -> None:
    for content in (PADDED + b" ", chunks(PADDED, b" ")):
        answer = await client.post("/count", content=content, headers=JSON)
        assert (answer.status_code, answer.json()["reason"]) == (413, "REQUEST_TOO_LARGE")
        assert answer.headers["content-type"] == PROBLEM
        assert answer.headers["connection"] == "close"


class Endless:
    """A request with an endless body; it counts the bytes read before and after the answer."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.taken = 0
        self.drained = 0

    async def receive(self) -> Message:
        if any("body" in message for message in self.sent):
            self.drained += MEGABYTE
            return {"type": "http.request", "body": b" " * MEGABYTE, "more_body": True}
        self.taken += 10
        return {"type": "http.request", "body": b" " * 10, "more_body": True}


async def post(
    app: ASGIApp, body: Endless | Receive, *headers: tuple[bytes, bytes], path: str = "/count"
) -> list[Message]:
    """Posts below the level of a client, so that the headers are free."""
    sent: list[Message] = []
    if isinstance(body, Endless):
        body.sent = sent
    receive = body.receive if isinstance(body, Endless) else body

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), *headers],
        "http_version": "1.1",
        "scheme": "http",
    }
    async with asyncio.timeout(5):
        await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("declared", [b"1", b"0", b"100"])
async def test_a_body_longer_than_it_says_is_cut_at_the_limit(declared: bytes) -> None:
    body = Endless()
    sent = await post(BodyLimit(application(), limit=LIMIT), body, (b"content-length", declared))
    assert sent[0]["status"] == 413
    assert body.taken == LIMIT + 10


@pytest.mark.parametrize(
    "declared", [b"101", b"9" * 30, b"9" * 10_000, b"-1", b"+5", b"1e3", b"x", b"", b"1 1", b"\xb2"]
)
async def test_a_declared_length_past_the_limit_or_beyond_sense_is_refused_unread(declared: bytes) -> None:
    body = Endless()
    sent = await post(BodyLimit(application(), limit=LIMIT), body, (b"content-length", declared))
    assert sent[0]["status"] == 413
    assert body.taken == 0
    assert len(sent[1]["body"]) == int(dict(sent[0]["headers"])[b"content-length"])  # whole, before the rest is taken
    assert body.drained == DRAIN_LIMIT + MEGABYTE


async def test_a_path_may_have_a_limit_of_its_own() -> None:
    app = BodyLimit(application(), limit=LIMIT, files={"/big": FileLimits(LIMIT * 2, LIMIT * 2)})
    for path, expected in (("/big", LIMIT * 2), ("/count", LIMIT)):
        seen = await post(app, Endless(), (b"content-length", b"%d" % (expected + 1)), path=path)
        assert seen[0]["status"] == 413
        passed = await post(app, nothing_more, (b"content-length", b"%d" % expected), path=path)
        assert passed[0]["status"] != 413


@pytest.mark.parametrize(
    ("head", "limit"),
    [(b"\0\0\0\x20ftypisom", 60), (b"\x89PNG\r\n\x1a\n", 40), (b"\0\0\0\x20fty", 40), (b"", 40)],
)
@pytest.mark.parametrize("piece", [1, 7, 64])
async def test_the_first_bytes_of_a_file_choose_its_limit(head: bytes, limit: int, piece: int) -> None:
    app = BodyLimit(application(), limit=LIMIT, files={"/count": FileLimits(picture=40, video=60)})
    for size, refused in ((limit, False), (limit + 1, True)):
        content = head.ljust(size, b"\0")
        parts = [content[at : at + piece] for at in range(0, size, piece)]
        answer = await post(app, in_pieces(parts), path="/count")
        assert (answer[0]["status"] == 413) is refused, size


async def test_a_file_that_says_that_it_is_too_large_is_refused_by_its_first_bytes() -> None:
    app = BodyLimit(application(), limit=LIMIT, files={"/count": FileLimits(picture=40, video=60)})
    body = Endless()
    sent = await post(app, body, (b"content-length", b"50"), path="/count")
    assert (sent[0]["status"], body.taken) == (413, 10)


def in_pieces(parts: list[bytes]) -> Callable[[], Awaitable[Message]]:
    async def receive() -> Message:
        part = parts.pop(0) if parts else b""
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    return receive


async def nothing_more() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def test_an_answer_that_has_begun_is_not_answered_twice() -> None:
    async def hasty(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await receive()

    with pytest.raises(errors.TooLarge):
        await post(BodyLimit(hasty, limit=LIMIT), Endless())


async def test_a_client_that_hangs_up_in_its_body_is_no_error() -> None:
    sent: list[Message] = []
    parts: list[Message] = [
        {"type": "http.request", "body": b'{"count"', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return parts.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/read",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    app = application()

    @app.post("/read")
    async def read(request: Request) -> None:
        await request.body()

    with capture_logs() as logs:
        await BodyLimit(app, limit=LIMIT)(scope, receive, send)
    assert [message.get("status") for message in sent] == [499, None]
    assert logs == []
