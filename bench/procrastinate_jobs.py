"""The reference of bench/dispatch.py: Procrastinate with a job that does nothing but note when it ran."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from procrastinate import App, PsycopgConnector
from procrastinate.types import JSONValue

CONCURRENCY = 30  # 100 was no faster when it was measured
POLL = 0.1  # seconds; the default of 5 would leave the first job late by as much

JobArguments = dict[str, JSONValue]

ran: list[float] = []
finished: dict[int, asyncio.Event] = {}


def make_app(dsn: str) -> App:
    """Returns an app with the one job."""
    app = App(connector=PsycopgConnector(conninfo=dsn, min_size=2, max_size=10))

    @app.task(name="noop", queue="bench")
    async def noop(number: int) -> None:  # noqa: ARG001  # a job has an argument, as a post has content
        ran.append(time.time())
        if len(ran) in finished:
            finished[len(ran)].set()

    return app


async def seed(dsn: str, *, due: int, due_time: float, later: int, later_time: float) -> None:
    """Makes the tables and defers all jobs."""
    app = make_app(dsn)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for count, at in ((later, later_time), (due, due_time)):
            when = datetime.fromtimestamp(at, UTC)
            deferrer = app.configure_task("noop", queue="bench", schedule_at=when)
            for first in range(0, count, 5000):
                jobs: list[JobArguments] = [{"number": n} for n in range(first, min(first + 5000, count))]
                await deferrer.batch_defer_async(*jobs)


async def work(dsn: str, count: int) -> None:
    """Works until `count` jobs have run."""
    app = make_app(dsn)
    async with app.open_async():
        worker = asyncio.create_task(
            app.run_worker_async(
                queues=["bench"],
                concurrency=CONCURRENCY,
                fetch_job_polling_interval=POLL,
                delete_jobs="always",
                install_signal_handlers=False,
            )
        )
        done = asyncio.Event()
        finished[count] = done
        await done.wait()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


def main(dsn: str, count: int, target: Path) -> None:
    """Works, then writes when each job ran."""
    asyncio.run(work(dsn, count))
    part = target.with_suffix(".part")
    part.write_text(json.dumps(ran))
    part.rename(target)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
