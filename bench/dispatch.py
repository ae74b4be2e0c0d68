"""Measures the lateness of posts when many are due in the same instant.

Measures from the due time to the connector's call over the full path (claim, outbox, NATS, inbox, delivery, intent,
tracing), and the cost in each process until the outcomes are recorded. Beside it, in the same run on the same kind
of servers: PostgreSQL and NATS with no features, Procrastinate, and Celery with threads. Each but Celery, which keeps
later tasks in its workers' memory, runs with and without later jobs in its tables.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cpu import cpu_of, per_item
from references import run_bare_path, run_celery, run_procrastinate
from regie_chassis.boundary.ids import new_id
from regie_local.local_cluster import LocalCluster
from results import percentile, result_line
from seeding import announce_posts, connect_channels, insert_posts, open_database, until_published

SAMPLE_RATIO = "0.1"  # what production runs with
DAY = 86_400.0
COPIED_PER_SECOND = 4_000
RECORDED_TIMEOUT = 120.0  # seconds for each 5,000 posts


def main() -> None:
    """Runs all sides and prints their figures, the result last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=5000)
    parser.add_argument("--later", type=int, default=100_000)
    parser.add_argument("--alone", action="store_true", help="without Procrastinate and Celery, which take a minute")
    options = parser.parse_args()
    posts, later = options.posts, options.later
    lags: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="regie-bench-") as name:
        folder = Path(name)
        lags["régie"], cpu = run_ours(folder / "now", posts, 0)
        lags["régie, later rows"], cpu_later = run_ours(folder / "later", posts, later)
        lags["bare path"] = run_bare_path(folder / "bare", posts, 0)
        lags["bare path, later rows"] = run_bare_path(folder / "bare-later", posts, later)
        if not options.alone:
            lags["celery"] = run_celery(folder / "celery", posts)
            lags["procrastinate"] = run_procrastinate(folder / "procrastinate", posts, 0)
            lags["procrastinate, later rows"] = run_procrastinate(folder / "procrastinate-later", posts, later)
    for side, values in lags.items():
        print(describe(side, values))
    for side, costs in (("régie", cpu), ("régie, later rows", cpu_later)):
        print(f"{side}: ms of processor time for a post: " + ", ".join(f"{one} {ms}" for one, ms in costs.items()))
    print(
        result_line(
            "dispatch_p99",
            ours=p99(lags["régie, later rows"]),
            reference=p99(lags["bare path, later rows"]),
            unit="ms",
            better="lower",
            params={
                "posts": posts,
                "later": later,
                "reference": "PostgreSQL and NATS with no features: claim, publish, take in another process",
                "p99_ms": {side: p99(values) for side, values in lags.items()},
                "p50_ms": {side: p50(values) for side, values in lags.items()},
                "per_second": {side: round(len(values) / max(values)) for side, values in lags.items()},
                "cpu_ms_a_post": cpu_later,
                "trace_sample_ratio": float(SAMPLE_RATIO),
            },
        )
    )


def p50(lags: Sequence[float]) -> float:
    """Returns the median in milliseconds."""
    return round(percentile(lags, 0.5) * 1000, 1)


def p99(lags: Sequence[float]) -> float:
    """Returns the 99th percentile in milliseconds."""
    return round(percentile(lags, 0.99) * 1000, 1)


def describe(side: str, lags: Sequence[float]) -> str:
    """Returns one line of figures."""
    return (
        f"{side}: {len(lags)} in {max(lags):.3f} s = {len(lags) / max(lags):.0f}/s,"
        f" late p50 {percentile(lags, 0.5) * 1000:.0f} ms, p99 {p99(lags):.0f} ms"
    )


def run_ours(folder: Path, posts: int, later: int, *, rate: float = 0) -> tuple[list[float], dict[str, float]]:
    """Returns how late each post's call was, in seconds, and the processor time of a post by process.

    All are due at once, or `rate` of them a second.
    """
    calls = folder.with_suffix(".json")
    with line(folder, calls) as installation:
        due_times = asyncio.run(seed_posts(installation, posts, later, rate=rate))
        roots = roots_of(installation)
        before = cpu_of(roots)
        asyncio.run(until_published(installation, posts, timeout=RECORDED_TIMEOUT * max(posts / 5000, 1)))
        after = cpu_of(roots)
    # The order of the calls is that of the due times, but for what overtakes within a batch.
    call_times = sorted(json.loads(calls.read_text()))
    return [at - due for at, due in zip(call_times, due_times, strict=True)], per_item(before, after, posts)


def line(folder: Path, calls: Path) -> LocalCluster:
    """Returns a scheduler, and a publisher with a network that only records its calls in a file."""
    shared = {"REGIE_TRACE_SAMPLE_RATIO": SAMPLE_RATIO, "REGIE_LOG_LEVEL": "WARNING"}
    noop = str(Path(__file__).with_name("noop_publisher.py"))
    return LocalCluster(
        folder,
        services=("scheduler", "publisher"),
        env={"scheduler": shared, "publisher": shared | {"BENCH_CALLS": str(calls)}},
        programs={"publisher": [noop]},
    )


def roots_of(installation: LocalCluster) -> dict[str, int]:
    """Returns the process ids of the line by name."""
    servers = {"PostgreSQL": installation.postgres.child, "NATS": installation.nats.child}
    return {name: installation.process(name).pid for name in ("scheduler", "publisher")} | {
        name: child.pid for name, child in servers.items() if child
    }


async def seed_posts(installation: LocalCluster, posts: int, later: int, *, rate: float) -> list[float]:
    """Writes all posts straight into the scheduler's tables and returns when they are due."""
    workspace = new_id()
    channels = await connect_channels(installation, workspace)
    connection = await open_database(installation, "scheduler")
    try:
        await insert_posts(connection, workspace, channels, [time.time() + DAY] * later)
        await connection.execute("ANALYZE post, variant")
        due_time = time.time() + 4 + posts / COPIED_PER_SECOND
        due_times = [due_time + (number / rate if rate else 0) for number in range(posts)]
        await insert_posts(connection, workspace, channels, due_times)
        await announce_posts(connection, due_time)
    finally:
        await connection.close()
    return due_times


if __name__ == "__main__":
    main()
