"""How fast does a video pass the gateway, and how much memory does it take, beside a plain write to the same store?

The video is uploaded over REST: through the edge, hashed, into the object store, looked at by the publisher. The
reference is obstore writing the same bytes into a folder beside it; `cp` of the file is printed, too.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import obstore
import psutil
from obstore.store import LocalStore
from regie_chassis.data.upload_area import PART, PARTS_IN_FLIGHT
from regie_local.local_cluster import LocalCluster
from regie_publisher.testing.videos import mp4
from results import result_line

MEBIBYTE = 1024 * 1024
CHUNK = 256 * 1024
SERVICES = ("publisher", "gateway")
LOOK_EVERY = 0.02  # seconds


def main() -> None:
    """Uploads once, prints both figures, the result last; ends with 1 where memory grew with the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=1023, help="the size of the video")
    parser.add_argument("--memory", type=int, default=64, help="the MiB by which a process may grow")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="regie-bench-") as name:
        folder = Path(name)
        with LocalCluster(folder / "regie", services=SERVICES, fsync=False) as cluster:
            asyncio.run(upload(cluster, MEBIBYTE))  # the first opens what is opened once
            before = memory(cluster)
            seconds, peak = asyncio.run(upload(cluster, options.mebibytes * MEBIBYTE))
        reference = asyncio.run(plain_write(folder / "plain", options.mebibytes * MEBIBYTE))
        copied = copy(folder / "plain" / "video", folder / "copy")
    rate, plain, cp = (options.mebibytes / taken for taken in (seconds, reference, copied))
    print(f"régie {rate:.0f} MiB/s, plain obstore {plain:.0f} MiB/s, cp {cp:.0f} MiB/s")
    grown = {service: (peak[service] - before[service]) / MEBIBYTE for service in SERVICES}
    for service in SERVICES:
        print(f"{service}: {before[service] / MEBIBYTE:.0f} MiB before, {peak[service] / MEBIBYTE:.0f} MiB at most")
    params = {
        "reference": "obstore writes the same bytes",
        "mebibytes": options.mebibytes,
        "cp_mebibytes_per_second": round(cp),
        **{f"{service}_grown_mebibytes": round(grown[service], 1) for service in SERVICES},
    }
    print(result_line("upload", ours=rate, reference=plain, unit="MiB/s", better="higher", params=params))
    if max(grown.values()) > options.memory:
        sys.exit(f"an upload took more than {options.memory} MiB of a process")


def memory(cluster: LocalCluster) -> dict[str, int]:
    """Returns the resident bytes of each service, without its picture workers."""
    return {service: psutil.Process(cluster.processes[service].pid).memory_info().rss for service in SERVICES}


async def upload(cluster: LocalCluster, size: int) -> tuple[float, dict[str, int]]:
    """Uploads a video and returns the seconds that it took, and the most memory that was seen."""
    peak, ended = memory(cluster), asyncio.Event()

    async def look() -> None:
        while not ended.is_set():
            for service, seen in memory(cluster).items():
                peak[service] = max(peak[service], seen)
            await asyncio.sleep(LOOK_EVERY)

    looking = asyncio.create_task(look())
    headers = {"Authorization": f"Bearer {cluster.api_key}", "Content-Type": "video/mp4"}
    begin = time.perf_counter()
    async with httpx2.AsyncClient(base_url=cluster.addresses.gateway, headers=headers, trust_env=False) as client:
        answer = await client.post("/v1/media", content=streamed(size), timeout=600)
    taken = time.perf_counter() - begin
    ended.set()
    await looking
    if answer.status_code != 201 or answer.json()["content_type"] != "video/mp4":
        sys.exit(f"the gateway answered {answer.status_code}: {answer.text}")
    return taken, peak


async def plain_write(folder: Path, size: int) -> float:
    """Returns the seconds that obstore alone takes for the same parts."""
    store = LocalStore(folder, mkdir=True)
    begin = time.perf_counter()
    await obstore.put_async(store, "video", streamed(size), chunk_size=PART, max_concurrency=PARTS_IN_FLIGHT)
    return time.perf_counter() - begin


def copy(source: Path, target: Path) -> float:
    """Returns the seconds that a copy of the file takes."""
    begin = time.perf_counter()
    shutil.copyfile(source, target)
    return time.perf_counter() - begin


async def streamed(size: int) -> AsyncIterator[bytes]:
    """Yields an MP4 file with `size` bytes of data."""
    for piece in pieces(size):
        yield piece


def pieces(size: int) -> Iterator[bytes]:
    empty = mp4()
    begin = empty.index(b"mdat") - 4
    yield empty[:begin] + (8 + size).to_bytes(4, "big") + b"mdat"
    chunk = bytes(CHUNK)
    for start in range(0, size, CHUNK):
        yield chunk[: size - start]
    yield empty[begin + 8 :]


if __name__ == "__main__":
    main()
