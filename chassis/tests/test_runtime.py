# ruff: noqa: ARG002, PT012  # what is expected happens at the end of the block

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from regie_chassis.process.runtime import App, LoopFailed
from regie_local.testing.waiting import until

LONG = timedelta(seconds=20)
SHORT = timedelta(milliseconds=50)


class Diary:
    """The events of the test, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []


class FakePart:
    """Records its start and stop; fails or hangs as configured."""

    def __init__(self, name: str, diary: Diary, *, fails_at: str = "", hangs_at: str = "") -> None:
        self.name = name
        self._diary = diary
        self._fails_at = fails_at
        self._hangs_at = hangs_at

    async def start(self) -> None:
        await self._do("start")

    async def stop(self) -> None:
        await self._do("stop")

    async def _do(self, what: str) -> None:
        self._diary.lines.append(f"{what} {self.name}")
        if self._fails_at == what:
            raise RuntimeError(f"{self.name} cannot {what}")
        if self._hangs_at == what:
            await asyncio.Event().wait()


class FakeLoop:
    """Runs until `stopping` is set; fails, ends or stays as configured."""

    def __init__(self, name: str, diary: Diary, *, error: Exception | None = None, heeds: bool = True) -> None:
        self.name = name
        self._diary = diary
        self._error = error
        self._heeds = heeds
        self.go = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        self._diary.lines.append(f"run {self.name}")
        try:
            await (self.go if self._error else stopping).wait()
            if self._error:
                raise self._error
            if not self._heeds:
                await asyncio.Event().wait()
            self._diary.lines.append(f"drained {self.name}")
        except asyncio.CancelledError:
            self._diary.lines.append(f"cancelled {self.name}")
            raise


@pytest.fixture
def diary() -> Diary:
    return Diary()


async def test_parts_start_in_order_and_stop_in_reverse_after_the_loops(diary: Diary) -> None:
    parts = [FakePart("a", diary), FakePart("b", diary)]
    async with App("test", parts=parts, loops=[FakeLoop("l", diary)], drain=LONG):
        await asyncio.sleep(0)
    assert diary.lines == ["start a", "start b", "run l", "drained l", "stop b", "stop a"]


async def test_a_part_that_cannot_start_stops_those_before_it_and_no_loop_runs(diary: Diary) -> None:
    parts = [FakePart("a", diary), FakePart("b", diary, fails_at="start"), FakePart("c", diary)]
    with pytest.raises(RuntimeError, match="b cannot start"):
        async with App("test", parts=parts, loops=[FakeLoop("l", diary)], drain=LONG):
            pytest.fail("must not run")
    assert diary.lines == ["start a", "start b", "stop a"]


async def test_a_part_that_cannot_stop_leaves_no_other_open(diary: Diary) -> None:
    parts = [FakePart("a", diary), FakePart("b", diary, fails_at="stop"), FakePart("c", diary, hangs_at="stop")]
    async with asyncio.timeout(5):
        async with App("test", parts=parts, loops=[], drain=SHORT):
            pass
    assert diary.lines[3:] == ["stop c", "stop b", "stop a"]


async def test_a_loop_that_crashes_is_started_again_and_its_neighbours_go_on(diary: Diary) -> None:
    loop = FakeLoop("l", diary, error=ValueError("out of luck"))
    loops = [loop, FakeLoop("m", diary)]
    async with App("test", parts=[], loops=loops, drain=LONG, restart_pause=timedelta(milliseconds=1)):
        loop.go.set()

        async def started_often() -> bool:
            return diary.lines.count("run l") > 3

        await until(started_often, what="a loop that is started again")
        assert diary.lines.count("run m") == 1
    assert "drained m" in diary.lines


async def test_a_loop_that_just_ends_is_a_failure_too(diary: Diary) -> None:
    class Short:
        name = "short"

        async def run(self, stopping: asyncio.Event) -> None:
            return

    with pytest.raises(LoopFailed, match="short"):
        async with App("test", parts=[], loops=[Short()], drain=LONG) as app:
            await app.wait(asyncio.Event())


async def test_the_wait_ends_with_its_event(diary: Diary) -> None:
    until = asyncio.Event()
    async with App("test", parts=[], loops=[FakeLoop("l", diary)], drain=LONG) as app:
        until.set()
        async with asyncio.timeout(5):
            await app.wait(until)


async def test_a_loop_that_does_not_heed_is_cancelled_at_the_deadline_and_the_parts_stop(diary: Diary) -> None:
    loops = [FakeLoop("deaf", diary, heeds=False), FakeLoop("good", diary)]
    async with asyncio.timeout(5):
        async with App("test", parts=[FakePart("a", diary)], loops=loops, drain=SHORT):
            await asyncio.sleep(0)
    assert diary.lines[-3:] == ["drained good", "cancelled deaf", "stop a"]


async def test_a_block_that_raises_drains_as_well(diary: Diary) -> None:
    with pytest.raises(KeyError):
        async with App("test", parts=[FakePart("a", diary)], loops=[FakeLoop("l", diary)], drain=LONG):
            await asyncio.sleep(0)
            raise KeyError
    assert diary.lines[-2:] == ["drained l", "stop a"]


PROGRAM = """
import asyncio, sys
from datetime import timedelta
from regie_chassis.process.runtime import App, run

class Loop:
    name = "loop"
    async def run(self, stopping):
        print("ready", flush=True)
        if sys.argv[1] == "end":
            return
        await stopping.wait()
        if sys.argv[1] == "deaf":
            await asyncio.Event().wait()
        print("drained", flush=True)

run(lambda: App("program", parts=[], loops=[Loop()], drain=timedelta(seconds=0.5)))
"""


def start(behaviour: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, behaviour],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        cwd=Path(__file__).parent,
    )


def line_of(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    pytest.fail(f"the process ended without the word {word!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_drains_at_a_signal_and_ends_well(number: int) -> None:
    with start("good") as process:
        line_of(process, "ready")
        process.send_signal(number)
        output, _ = process.communicate(timeout=10)
    assert "drained" in output
    assert process.returncode == 0


def test_a_process_whose_loop_does_not_heed_ends_after_the_deadline() -> None:
    with start("deaf") as process:
        line_of(process, "ready")
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=10)
    assert time.monotonic() - begin < 5
    assert "drain_deadline_passed" in output
    assert process.returncode == 0


def test_a_process_whose_loop_just_ends_ends_badly_so_that_it_is_started_again() -> None:
    with start("end") as process:
        output, _ = process.communicate(timeout=10)
    assert process.returncode == 1
    assert "LoopFailed" in output
