"""The sandbox as a process: cut connections, silence, and its state after a kill."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import httpx2
import pytest
from regie_sandbox.testing import NotReady, RunningSandbox, running_sandbox

ADA = {"Authorization": "Bearer sandbox-ada"}
PNG = b"\x89PNG\r\n\x1a\n"


def calling(sandbox: RunningSandbox) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=sandbox.url, headers=ADA, timeout=10, trust_env=False)


@pytest.mark.parametrize(("fault", "posts"), [("drop_before", 0), ("drop_after", 1)])
async def test_a_connection_is_cut_before_or_after_the_effect(sandbox: RunningSandbox, fault: str, posts: int) -> None:
    await sandbox.set_faults([{"operation": "create_post", "times": 1, fault: True}])
    async with calling(sandbox) as client:
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            await client.post("/api/v1/posts", json={"text": "x", "key": "k"})
        assert await sandbox.count() == posts
        assert (await client.post("/api/v1/posts", json={"text": "x", "key": "k"})).status_code == 201
    calls = await sandbox.log("create_post")
    assert [(call["answered"], call["effect"] is not None) for call in calls] == [("dropped", posts == 1), (201, True)]
    assert await sandbox.repeated_keys() == posts


@pytest.mark.parametrize(("fault", "posts"), [("hang", 0), ("hang_after", 1)])
async def test_a_call_that_hangs_is_never_answered(sandbox: RunningSandbox, fault: str, posts: int) -> None:
    await sandbox.set_faults([{"operation": "create_post", fault: True}])
    async with calling(sandbox) as client:
        waiting = asyncio.create_task(client.post("/api/v1/posts", json={"text": "x"}))
        calls = await sandbox.until_called("create_post")
        assert calls[0]["answered"] == "hanging"
        assert await sandbox.count() == posts
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_the_effect_can_be_seen_while_the_answer_is_late(sandbox: RunningSandbox) -> None:
    await sandbox.set_faults([{"operation": "create_post", "latency_after_ms": 600_000}])
    async with calling(sandbox) as client:
        waiting = asyncio.create_task(client.post("/api/v1/posts", json={"text": "x"}))
        await sandbox.until_called("create_post")
        assert await sandbox.count() == 1
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_everything_answered_survives_a_kill(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path) as sandbox, calling(sandbox) as client:
        await sandbox.set_faults(
            [{"processing_polls": 2, "text_contains": "slow"}, {"reject": "no", "text_contains": "bad"}]
        )
        media = (await client.post("/api/v1/media", content=PNG)).json()["id"]
        first = (await client.post("/api/v1/posts", json={"text": "a", "media": [{"id": media, "alt": "A"}]})).json()
        gone = (await client.post("/api/v1/posts", json={"text": "b"})).json()["id"]
        await client.delete(f"/api/v1/posts/{gone}")
        handle = (await client.post("/api/v1/posts", json={"text": "slow", "key": "s"})).json()["handle"]
        assert (await client.get(f"/api/v1/processing/{handle}")).json()["status"] == "processing"
        await client.post("/api/v1/posts", json={"text": "bad"})
        answers = await asyncio.gather(
            *(client.post("/api/v1/posts", json={"text": f"n{n}", "key": f"k{n}"}) for n in range(200))
        )
        posts, log = await sandbox.posts(), await sandbox.log()
        await sandbox.kill()
    with (tmp_path / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"call":{"sequence":')
    async with running_sandbox(tmp_path) as again, calling(again) as client:
        assert (await again.posts(), await again.log()) == (posts, log)
        assert {answer.json()["id"] for answer in answers} <= {post["id"] for post in posts}
        shown = (await client.get(f"/api/v1/posts/{first['id']}")).json()
        assert (shown["text"], shown["media"][0]["alt"]) == ("a", "A")
        assert (await client.get(f"/media/{media}")).content == PNG
        assert (await client.get(f"/api/v1/processing/{handle}")).json()["status"] == "done"
        fresh = (await client.post("/api/v1/posts", json={"text": "new"})).json()["id"]
        assert fresh not in {post["id"] for post in posts}
        assert fresh != gone
        assert (await again.log())[-1]["sequence"] > log[-1]["sequence"]


async def test_an_emptied_log_stays_empty_and_posts_stay(tmp_path: Path) -> None:
    async with running_sandbox(tmp_path) as sandbox, calling(sandbox) as client:
        await client.post("/api/v1/posts", json={"text": "a"})
        await sandbox.clear_log()
        await sandbox.kill()
    async with running_sandbox(tmp_path) as again:
        assert (await again.log(), await again.count()) == ([], 1)


async def test_a_rule_that_means_nothing_is_told_to_the_test(sandbox: RunningSandbox) -> None:
    with pytest.raises(ValueError, match="Unknown: nonsense"):
        await sandbox.set_faults([{"nonsense": 1}])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "abc", "give a port from 1 to 65535, or 0 for a free one"),
        ("PORT", "70000", "give a port from 1 to 65535, or 0 for a free one"),
        ("ALLOWED_HOSTS", "abc", "name each host with its port, as in 127.0.0.1:8090"),
        ("ALLOWED_HOSTS", "127.0.0.1:8090,http://x:80", "name each host with its port, as in 127.0.0.1:8090"),
        ("HOST", "192.0.2.1", "this is no address of this machine; give one, as in 127.0.0.1 or 0.0.0.0"),
        ("HOST", "x" * 300, "this is no address of this machine; give one, as in 127.0.0.1 or 0.0.0.0"),
        ("DATA", "/dev/null/x", "no data can be kept there (Not a directory); give a folder where you may write"),
    ],
)
async def test_a_wrong_setting_is_one_line_with_its_remedy(name: str, value: str, message: str) -> None:
    status, errors = await serve_wrongly({"SANDBOX_PORT": "0", f"SANDBOX_{name}": value})
    assert (status, errors) == (2, f"setting SANDBOX_{name}: {message}\n")


async def test_a_taken_port_is_one_line_with_its_remedy(sandbox: RunningSandbox) -> None:
    status, errors = await serve_wrongly({"SANDBOX_PORT": str(sandbox.port)})
    words = f"port {sandbox.port} is taken by another program; give another, or 0 for a free one"
    assert (status, errors) == (2, f"setting SANDBOX_PORT: {words}\n")


async def serve_wrongly(settings: dict[str, str]) -> tuple[int | None, str]:
    """Returns the exit status and the errors of a sandbox that cannot start."""
    arguments = (sys.executable, "-m", "regie_sandbox", "serve")
    child = await asyncio.create_subprocess_exec(
        *arguments, env={**os.environ, **settings}, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(20):
            _, errors = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return child.returncode, errors.decode()


async def test_a_taken_port_is_told_instead_of_talking_to_the_other_sandbox(sandbox: RunningSandbox) -> None:
    with pytest.raises(NotReady):
        async with running_sandbox(port=sandbox.port):
            pass
