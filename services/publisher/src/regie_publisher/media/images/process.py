"""One picture worker as its parent sees it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from regie_publisher.media.images import frames
from regie_publisher.media.images.refusals import COSTLY, TooCostly

MODULE = "regie_publisher.media.images.worker"
KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH",)
"""Variables that a Python may need to start; any other may be a secret."""
STREAM_BUFFER = 1_000_000
GRACE = 1.0
"""Seconds for a process to end by itself before it is killed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one picture. CPU time counts all threads of a decoder; the wall clock bounds work without CPU time."""

    memory: int = 1_200_000_000
    """Bytes of address space of a worker, including Python and its libraries."""
    cpu_seconds: int = 5
    wall_seconds: float = 10.0


class WorkerLost(Exception):
    """The worker ended without an answer."""


class MachineBusy(Exception):
    """The machine gave no process, or none of its time: no picture's fault."""


class WorkerProcess:
    """A child process that reads one picture at a time."""

    def __init__(self, process: asyncio.subprocess.Process, limits: Limits) -> None:
        self._process = process
        self._limits = limits

    @classmethod
    async def start(cls, limits: Limits) -> WorkerProcess:
        """Starts the process; it is ready when its first answer comes. Raises MachineBusy."""
        environment = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
        environment["MALLOC_ARENA_MAX"] = "2"  # each would count as 64 MB of address space
        command = (sys.executable, "-I", "-m", MODULE, str(limits.memory), str(limits.cpu_seconds))
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # decoders write there what a picture makes them write
                env=environment,
                cwd="/",
                limit=STREAM_BUFFER,
            )
        except OSError as error:
            raise MachineBusy(f"no process can be started: {error}") from error
        return cls(process, limits)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def ask(self, head: Mapping[str, object], body: bytes) -> tuple[dict[str, object], bytes]:
        """Has one picture read.

        Raises TooCostly where the CPU limit ended the worker, WorkerLost where anything else did, and MachineBusy where
        the time by the clock is over.

        After either, and after a cancellation, which kills it, the worker is of no use any more: `end` it.
        """
        try:
            async with asyncio.timeout(self._limits.wall_seconds):
                return await self._exchange(frames.pack(head, body))
        except TimeoutError as error:
            self._kill()
            raise MachineBusy("the worker did not answer in time") from error
        except asyncio.CancelledError:
            self._kill()
            raise
        except (asyncio.IncompleteReadError, ConnectionError, frames.BadFrame) as error:
            code = await self._code()
            if code == -signal.SIGXCPU:
                raise TooCostly(COSTLY) from error
            raise WorkerLost(f"the worker ended with {code}") from error

    async def end(self) -> None:
        """Ends the process and waits for it: at the end of its input it goes by itself, in a picture it is killed."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._code()

    async def _exchange(self, request: bytes) -> tuple[dict[str, object], bytes]:
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None
        assert source is not None
        sink.write(request)
        await sink.drain()
        head, body = frames.sizes(await source.readexactly(frames.HEAD.size))
        return frames.read_head(await source.readexactly(head)), await source.readexactly(body)

    async def _code(self) -> int:
        """Returns the exit code, that of its own end where it comes to one within the grace."""
        try:
            async with asyncio.timeout(GRACE):
                return await self._process.wait()
        except TimeoutError:
            self._kill()
            return await self._process.wait()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
