"""Runs the references of bench/dispatch.py; each returns how late every job was, in seconds."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bare_path
import procrastinate_jobs
from regie_local.nats import EmbeddedNats
from regie_local.postgres import EmbeddedPostgres
from regie_local.processes import ChildProcess, answers, free_port

DAY = 86_400.0
HERE = Path(__file__).parent
TOOLS = HERE.parent / ".tools"
CELERY = TOOLS / "celery" / "bin" / "python"
REDIS = TOOLS / "redis" / "redis-server"
TIMEOUT = 240.0  # seconds
COPIED_PER_SECOND = 100_000
DEFERRED_PER_SECOND = 10_000
SENT_PER_SECOND = 1_500


def run_bare_path(folder: Path, posts: int, later: int, *, rate: float = 0) -> list[float]:
    """Runs PostgreSQL and NATS with no features, from claim to a consumer in another process.

    All are due at once, or `rate` of them a second.
    """
    folder.mkdir()
    target = folder / "times.json"
    with _postgres(folder) as dsn, _nats(folder) as nats_url:
        due_time = time.time() + 4 + (posts + later) / COPIED_PER_SECOND
        due_times = [due_time + (number / rate if rate else 0) for number in range(posts)]
        asyncio.run(bare_path.seed(dsn, nats_url, [*due_times, *([due_time + DAY] * later)]))
        program = [sys.executable, bare_path.__file__]
        consumer = [*program, "consume", nats_url, str(posts), str(target)]
        dispatcher = [*program, "dispatch", dsn, nats_url, str(posts), str(due_time)]
        with _child("consumer", consumer, folder), _child("dispatcher", dispatcher, folder):
            lags = _lags(target, 0)
    # The order of the calls is that of the due times, but for what overtakes within a batch.
    return [at - due for at, due in zip(sorted(lags), due_times, strict=True)]


def run_procrastinate(folder: Path, posts: int, later: int) -> list[float]:
    """Runs Procrastinate with a job that does nothing."""
    folder.mkdir()
    target = folder / "times.json"
    with _postgres(folder) as dsn:
        due_time = time.time() + 8 + (posts + later) / DEFERRED_PER_SECOND
        later_time = due_time + DAY
        asyncio.run(procrastinate_jobs.seed(dsn, due=posts, due_time=due_time, later=later, later_time=later_time))
        with _child("worker", [sys.executable, procrastinate_jobs.__file__, dsn, str(posts), str(target)], folder):
            return _lags(target, due_time)


def run_celery(folder: Path, posts: int) -> list[float]:
    """Runs Celery with threads over a Redis that writes nothing to a disk."""
    folder.mkdir()
    target, port = folder / "times.json", free_port()
    url = f"redis://127.0.0.1:{port}/0"
    redis = [str(REDIS), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    program = [str(CELERY), str(HERE / "celery_jobs.py")]
    with _child("redis", redis, folder) as server:
        server.wait_until(lambda: answers(port), timeout=TIMEOUT)
        due_time = time.time() + 10 + posts / SENT_PER_SECOND
        with _child("worker", [*program, "work", url, str(posts), str(target)], folder):
            sender = ChildProcess(
                "sender", [*program, "send", url, str(posts), str(due_time)], log=folder / "sender.log"
            )
            sender.start()
            if sender.reap(timeout=TIMEOUT):
                sys.exit(f"Celery's tasks could not be sent:\n{sender.log_tail()}")
            return _lags(target, due_time)


def _lags(target: Path, due_time: float) -> list[float]:
    deadline = time.monotonic() + TIMEOUT
    while not target.exists():
        if time.monotonic() > deadline:
            sys.exit(f"{target.parent.name} was not done in {TIMEOUT:.0f} s; its logs are in {target.parent}")
        time.sleep(0.1)
    return [at - due_time for at in json.loads(target.read_text())]


@contextmanager
def _child(name: str, command: list[str], folder: Path) -> Iterator[ChildProcess]:
    child = ChildProcess(name, command, log=folder / f"{name}.log", env=dict(os.environ))
    child.start()
    try:
        yield child
    finally:
        child.stop()


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    server = EmbeddedPostgres(folder / "postgres")
    server.start()
    try:
        url = asyncio.run(server.create_database("jobs", owner="jobs", password="jobs"))  # noqa: S106
        yield url.replace("+asyncpg", "")
    finally:
        server.stop()


@contextmanager
def _nats(folder: Path) -> Iterator[str]:
    server = EmbeddedNats(folder / "nats")
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
