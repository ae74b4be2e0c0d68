"""Reads pictures in child processes, a few at once, in turn between workspaces (ADR 0022).

A slot is free again when its worker has finished, not when the caller stops waiting: else a caller that gives up
early would hold the machine without holding a slot.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

import structlog
from regie_networks.rendition import Bounds, Rendition

from regie_publisher.media.images.container import check_size
from regie_publisher.media.images.picture import Normalised
from regie_publisher.media.images.process import Limits, MachineBusy, WorkerLost, WorkerProcess
from regie_publisher.media.images.refusals import REFUSALS, TooCostly, Unreadable

WORKERS = 2
MAX_WAITING = 32
MAX_WAITING_BYTES = 60_000_000
"""Of the uploads of one workspace that wait; they are held in temporary files."""

log = structlog.get_logger()
Made = tuple[dict[str, object], bytes]


class PoolBusy(Exception):
    """The picture was not read, and is not at fault: the same call may succeed later."""


@dataclass(slots=True, eq=False)
class _Job:
    workspace_id: UUID
    head: Mapping[str, object]
    body: bytes
    size: int
    """Bytes of the picture, in `body` or in a file."""
    made: asyncio.Future[Made]


class PicturePool:
    """The picture workers of one process. They start with it, or at the first picture, and end with it."""

    name = "picture workers"

    def __init__(self, *, workers: int = WORKERS, limits: Limits | None = None) -> None:
        self._workers = workers
        self._limits = limits or Limits()
        self._idle: list[WorkerProcess] = []
        self._running: dict[asyncio.Task[None], UUID] = {}
        self._waiting: dict[UUID, deque[_Job]] = {}
        self._turn = 0
        self._turns: dict[UUID, int] = {}
        """The last turn of each workspace with a picture that is read or waits."""
        self._stopping = False

    @property
    def running(self) -> int:
        """The number of pictures that are being read."""
        return len(self._running)

    async def start(self) -> None:
        """Starts the workers ahead of the first picture."""
        while len(self._idle) < self._workers:
            self._idle.append(await WorkerProcess.start(self._limits))

    async def stop(self) -> None:
        """Ends all workers. Waiting and running work ends in PoolBusy."""
        self._stopping = True
        for job in [job for jobs in self._waiting.values() for job in jobs]:
            _fail(job, PoolBusy("the process is stopping"))
        self._waiting.clear()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.gather(*(worker.end() for worker in self._idle))
        self._idle.clear()

    async def normalise(self, path: Path, *, size: int, workspace_id: UUID) -> Normalised:
        """Returns the picture in a file of `size` bytes as it is stored. Raises PictureRefused or PoolBusy."""
        check_size(size)
        head, made = await self._made({"normalise": str(path)}, b"", size, workspace_id)
        return Normalised(made, *_size(head), frames=_count(head, "frames"))

    async def fit(self, data: bytes, bounds: Bounds, *, workspace_id: UUID) -> Rendition:
        """Returns a form of a stored still picture within the bounds. Raises PictureRefused or PoolBusy."""
        head, made = await self._made({"fit": asdict(bounds)}, data, len(data), workspace_id)
        return Rendition(made, *_size(head))

    def check_room(self, workspace_id: UUID, size: int) -> None:
        """Raises PoolBusy where an upload of `size` bytes could not wait now; ask before it is fetched."""
        self._forget_abandoned()
        if self._stopping:
            raise PoolBusy("the process is stopping; try again in a moment")
        jobs = self._waiting.get(workspace_id, deque())
        if len(jobs) >= MAX_WAITING or sum(one.size for one in jobs) + size > MAX_WAITING_BYTES:
            raise PoolBusy("too many pictures of yours wait to be read; try again in a moment")

    async def _made(self, head: Mapping[str, object], body: bytes, size: int, workspace_id: UUID) -> Made:
        self._forget_abandoned()
        if self._stopping:
            raise PoolBusy("the process is stopping; try again in a moment")
        job = _Job(workspace_id, head, body, size, asyncio.get_running_loop().create_future())
        jobs = self._waiting.get(workspace_id, deque())
        if "fit" in head:
            jobs.appendleft(job)  # a post is due; nobody's upload is
        else:
            self.check_room(workspace_id, size)
            jobs.append(job)
        self._waiting[workspace_id] = jobs
        self._fill_slots()
        answer, made = await job.made
        if "refused" in answer:
            raise REFUSALS.get(str(answer["refused"]), Unreadable)(str(answer.get("message", ""))[:500])
        if "failed" in answer:
            log.error("pictures.worker_failed", error=str(answer["failed"])[:100])
            raise Unreadable("the picture cannot be read: save it anew")
        return answer, made

    def _fill_slots(self) -> None:
        while (job := self._next()) is not None:
            task = asyncio.create_task(self._run(job), name=f"picture of {job.workspace_id}")
            self._running[task] = job.workspace_id
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        workspace_id = self._running.pop(task)
        self._forget_abandoned()
        if workspace_id not in self._waiting and workspace_id not in self._running.values():
            del self._turns[workspace_id]
        if not self._stopping:
            self._fill_slots()

    def _next(self) -> _Job | None:
        """Takes the next picture, of the workspace whose last turn is the longest ago.

        The last free slot is for a workspace that has none, so that slow pictures of one hold up no other.
        """
        free = self._workers - len(self._running)
        alone = self._workers > 1 and free == 1
        ready = [one for one in self._waiting if not (alone and one in self._running.values())] if free else []
        if not ready:
            return None
        workspace_id = min(ready, key=lambda one: self._turns.get(one, 0))
        jobs = self._waiting[workspace_id]
        job = jobs.popleft()
        if not jobs:
            del self._waiting[workspace_id]
        self._turn += 1
        self._turns[workspace_id] = self._turn
        return job

    def _forget_abandoned(self) -> None:
        for workspace_id, jobs in list(self._waiting.items()):
            kept = deque(job for job in jobs if not job.made.done())
            if kept:
                self._waiting[workspace_id] = kept
            else:
                del self._waiting[workspace_id]

    async def _run(self, job: _Job) -> None:
        try:
            made = await self._read(job)
        except asyncio.CancelledError:
            _fail(job, PoolBusy("the process is stopping"))
            raise
        except Exception as error:  # noqa: BLE001  # broad: whatever it is, it is the waiting caller's
            _fail(job, error)
        else:
            if not job.made.done():
                job.made.set_result(made)

    async def _read(self, job: _Job) -> Made:
        """Has a worker read the picture, and another one where the first is lost, as by the kernel out of memory."""
        try:
            try:
                return await self._ask_worker(job)
            except WorkerLost as error:
                log.warning("pictures.worker_lost", error=str(error))
                return await self._ask_worker(job)
        except MachineBusy as error:
            log.error("pictures.machine_busy", error=str(error))
            raise PoolBusy("the machine is too busy to read the picture; try again in a moment") from error
        except WorkerLost as error:
            log.error("pictures.worker_lost", error=str(error))
            raise Unreadable("the picture cannot be read: save it anew") from error

    async def _ask_worker(self, job: _Job) -> Made:
        worker = self._idle.pop() if self._idle else await WorkerProcess.start(self._limits)
        try:
            answer = await worker.ask(job.head, job.body)
        except asyncio.CancelledError:
            await worker.end()
            raise
        except Exception as error:
            await worker.end()
            # Here and now, so that its start is not waited for by whoever comes next.
            self._idle.append(await WorkerProcess.start(self._limits))
            if isinstance(error, TooCostly):
                log.warning("pictures.too_costly", bytes=len(job.body))
            raise
        self._idle.append(worker)
        return answer


def _fail(job: _Job, error: Exception) -> None:
    if not job.made.done():
        job.made.set_exception(error)


def _size(head: Mapping[str, object]) -> tuple[str, int, int]:
    return str(head.get("content_type", "")), _count(head, "width"), _count(head, "height")


def _count(head: Mapping[str, object], name: str) -> int:
    value = head.get(name)
    if not isinstance(value, int) or not 1 <= value <= 1_000_000:
        raise Unreadable("the picture cannot be read: save it anew")
    return value
