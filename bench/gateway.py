"""How many posts a second can be read through the gateway, beside a bare FastAPI answer of the same document?

Ours is the whole way: key, scope, trace, gRPC, the scheduler's database. Both are loaded by the same client with the
same number of connections, one after the other, several rounds of each in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path
from statistics import median

import httpx2
import uvloop
from regie_local.local_cluster import LocalCluster
from regie_local.processes import ChildProcess, answers, free_port
from results import percentile, result_line

POSTS = 320
SAMPLE_RATIO = "0.1"  # what production runs with


def main() -> None:
    """Runs both sides and prints their figures, the result last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    shared = {
        "REGIE_TRACE_SAMPLE_RATIO": SAMPLE_RATIO,
        "REGIE_LOG_LEVEL": "WARNING",
        "GATEWAY_RATE_PER_SECOND": "0",
        "GATEWAY_WORKSPACE_RATE_PER_SECOND": "0",
    }
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="regie-bench-") as folder:
        program = [sys.executable, str(Path(__file__).with_name("bare_fastapi.py")), str(port)]
        bare = ChildProcess("bare FastAPI", program, log=Path(folder) / "bare.log")
        bare.start()
        try:
            names = ("scheduler", "publisher", "gateway")
            with LocalCluster(Path(folder) / "regie", services=names, env=dict.fromkeys(names, shared)) as installation:
                bare.wait_until(lambda: answers(port), timeout=30)
                url = installation.addresses.gateway
                posts = make_posts(url, installation.api_key)
                load = (options.connections, options.seconds)
                rounds = [
                    (
                        measure(int(url.rsplit(":", 1)[1]), posts, installation.api_key, *load),
                        measure(port, posts, "none", *load),
                    )
                    for _ in range(options.rounds)
                ]
        finally:
            bare.stop()
    for number, (ours, theirs) in enumerate(rounds, 1):
        for name, times in (("régie", ours), ("bare FastAPI", theirs)):
            p99 = percentile(times, 0.99) * 1000
            print(f"round {number}, {name}: {len(times) / options.seconds:.0f}/s, p99 {p99:.1f} ms")
    rate = [median(len(side) / options.seconds for side in sides) for sides in zip(*rounds, strict=True)]
    late = [median(percentile(side, 0.99) * 1000 for side in sides) for sides in zip(*rounds, strict=True)]
    params = vars(options) | {
        "posts": POSTS,
        "reference": "FastAPI on uvicorn, a constant post",
        "ours_p99_ms": round(late[0], 2),
        "reference_p99_ms": round(late[1], 2),
        "trace_sample_ratio": float(SAMPLE_RATIO),
    }
    print(result_line("gateway_read", ours=rate[0], reference=rate[1], unit="1/s", better="higher", params=params))


def make_posts(url: str, key: str) -> list[str]:
    """Makes the posts that are read, and returns their ids."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=url, headers=headers, trust_env=False) as client:
        channel = "chan_01m8370pt6enx8agpg77kpjnft"  # the scheduler asks nobody whether it exists
        body = {"title": "bench", "variants": [{"channel_id": channel, "segments": [{"text": "a post of the bench"}]}]}
        answers = [client.post("/v1/posts", json=body).raise_for_status() for _ in range(POSTS)]
        return [str(answer.json()["post_id"]) for answer in answers]


def measure(port: int, posts: list[str], key: str, connections: int, seconds: float) -> list[float]:
    """Loads a server for some seconds and returns how long each answer took, in seconds."""
    requests = [
        f"GET /v1/posts/{post_id} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        for post_id in posts
    ]

    async def load() -> list[float]:
        end = time.perf_counter() + seconds
        mixed = [requests[number:] + requests[:number] for number in range(0, POSTS, max(POSTS // connections, 1))]
        taken = await asyncio.gather(*(ask(port, mixed[n % len(mixed)], end) for n in range(connections)))
        return [one for times in taken for one in times]

    uvloop.run(load())  # a warm-up, as long as what counts
    return uvloop.run(load())


async def ask(port: int, requests: list[bytes], end: float) -> list[float]:
    """Asks on one connection, one answer after the other; anything but a 200 ends the bench."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times: list[float] = []
    for request in cycle(requests):
        if (begin := time.perf_counter()) >= end:
            break
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            sys.exit(f"the server answered {head.splitlines()[0].decode()}")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        times.append(time.perf_counter() - begin)
    writer.close()
    return times


if __name__ == "__main__":
    main()
