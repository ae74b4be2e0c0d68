"""The reference of bench/dispatch.py: Celery with threads over Redis, and a task that notes when it ran.

Celery keeps later jobs in the memory of its workers, so it has no case with later jobs; its Redis writes
nothing to a disk, as Celery's own guide sets it up, so that unlike Régie's and Procrastinate's its jobs do not
outlive a crash.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from celery import Celery

CONCURRENCY = 8
QUEUE = "bench"

ran: list[float] = []
lock = threading.Lock()


def make_app(url: str, count: int = 0, target: Path | None = None) -> Celery:
    """Returns an app with the one task; a worker writes the times to `target` after `count` of them."""
    app = Celery("bench", broker=url)
    app.conf.update(
        task_ignore_result=True,
        task_default_queue=QUEUE,
        worker_prefetch_multiplier=0,  # what is due at once is held by the worker as a whole
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
    )

    @app.task(name="noop")  # type: ignore[untyped-decorator]
    def noop(number: int) -> None:  # noqa: ARG001  # a task has an argument, as a post has content
        at = time.time()
        with lock:
            ran.append(at)
            complete = target is not None and len(ran) == count
        if complete and target is not None:
            part = target.with_suffix(".part")
            part.write_text(json.dumps(ran))
            part.rename(target)

    return app


def seed(url: str, *, due: int, due_time: float) -> None:
    """Sends all tasks with their time."""
    app = make_app(url)
    when = datetime.fromtimestamp(due_time, UTC)
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(due):
            app.send_task("noop", args=(number,), eta=when, producer=producer)


def work(url: str, count: int, target: Path) -> None:
    """Works until it is stopped."""
    os.chdir(target.parent)
    app = make_app(url, count, target)
    arguments = ["worker", "--pool=threads", f"--concurrency={CONCURRENCY}", "--loglevel=ERROR"]
    app.worker_main([*arguments, "--without-gossip", "--without-mingle", "--without-heartbeat"])


def main() -> None:
    """`send URL COUNT DUE_TIME` or `work URL COUNT FILE`."""
    role, url, count, rest = sys.argv[1:]
    if role == "send":
        seed(url, due=int(count), due_time=float(rest))
    else:
        work(url, int(count), Path(rest))


if __name__ == "__main__":
    main()
