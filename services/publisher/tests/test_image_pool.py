"""Pictures are read in processes with limits; a bad one costs its own workspace, and nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from PIL import Image
from regie_chassis.boundary.ids import new_id
from regie_local.testing.waiting import until
from regie_networks.rendition import Bounds
from regie_publisher.media.images import frames
from regie_publisher.media.images.container import MAX_BYTES
from regie_publisher.media.images.picture import Normalised
from regie_publisher.media.images.pool import MAX_WAITING, PicturePool, PoolBusy
from regie_publisher.media.images.process import Limits, WorkerProcess
from regie_publisher.media.images.refusals import TooCostly, TooLarge, Unreadable
from regie_publisher.testing.pictures import P3, encoded, many_scans, noise, plain, telling_exif

PATIENT = Limits(cpu_seconds=30, wall_seconds=60)
"""For tests that are about something else, on a busy machine."""
NewPool = Callable[..., PicturePool]
FOLDER: list[Path] = []


@pytest.fixture
async def new_pool() -> AsyncIterator[NewPool]:
    """Makes pools and ends their processes."""
    made: list[PicturePool] = []

    def make(**options: object) -> PicturePool:
        made.append(PicturePool(**options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for pool in made:
        await pool.stop()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    """Gives `normalise` a folder for the files of pictures."""
    FOLDER.append(tmp_path)


async def normalise(pool: PicturePool, data: bytes, *, workspace_id: UUID) -> Normalised:
    """Has a picture read as an upload is: from a file."""
    path = FOLDER[-1] / f"{new_id()}"
    path.write_bytes(data)
    return await pool.normalise(path, size=len(data), workspace_id=workspace_id)


@cache
def slow_picture() -> bytes:
    """Returns seconds of work, in a small file that no cheap check refuses."""
    return plain("PNG", (7000, 7000), exif=telling_exif(6), icc_profile=P3)


@cache
def costly_picture() -> bytes:
    """Returns a picture that takes more than two seconds on any machine, the most that a limit of one can come to."""
    colours = ("teal", "red", "blue", "green", "white", "black")
    first, *others = [Image.new("RGB", (3500, 3500), colour) for colour in colours]
    return encoded(first, "PNG", save_all=True, append_images=others, icc_profile=P3)


def children() -> set[int]:
    """Returns the picture workers of this process."""
    workers = psutil.Process().children()
    return {one.pid for one in workers if "regie_publisher.media.images.worker" in " ".join(_command(one))}


async def _children() -> set[int]:
    return children()  # a process that has only just begun shows no command yet


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


async def test_a_picture_is_read_in_another_process_and_made_smaller_there(new_pool: NewPool) -> None:
    pool, workspace = new_pool(limits=PATIENT), new_id()
    data = encoded(noise((400, 300)), "PNG")
    normalised = await normalise(pool, data, workspace_id=workspace)
    assert (normalised.data, normalised.content_type, normalised.width, normalised.height) == (
        data,
        "image/png",
        400,
        300,
    )
    rendition = await pool.fit(data, Bounds(max_bytes=20_000), workspace_id=workspace)
    assert len(rendition.data) <= 20_000
    assert rendition.content_type == "image/jpeg"
    assert len(children()) == 1, "the same process reads one picture after the other"


async def test_refusals_keep_their_kind_and_their_words(new_pool: NewPool) -> None:
    pool, workspace = new_pool(limits=PATIENT), new_id()
    with pytest.raises(Unreadable, match="no PNG, JPEG"):
        await normalise(pool, b"<svg/>", workspace_id=workspace)
    with pytest.raises(TooLarge, match="50000000"):
        await normalise(pool, plain("PNG", (10_000, 5_001)), workspace_id=workspace)
    with pytest.raises(TooLarge, match="bytes"):
        await normalise(pool, bytes(10_000_001), workspace_id=workspace)
    with pytest.raises(TooLarge, match="attach a smaller one"):
        await pool.fit(plain(), Bounds(max_bytes=10), workspace_id=workspace)


async def test_a_picture_that_takes_too_much_time_is_refused_and_the_next_one_is_read(new_pool: NewPool) -> None:
    pool, workspace = new_pool(workers=1, limits=Limits(cpu_seconds=1, wall_seconds=60)), new_id()
    with pytest.raises(TooCostly, match="too much work"):
        await normalise(pool, costly_picture(), workspace_id=workspace)
    assert (await normalise(pool, plain(), workspace_id=workspace)).width == 40


async def test_the_time_of_one_picture_is_not_charged_to_the_next(new_pool: NewPool) -> None:
    pool, workspace = new_pool(workers=1, limits=Limits(cpu_seconds=1, wall_seconds=60)), new_id()
    picture = many_scans((3000, 3000), 90)
    [worker] = {await _worker_after(pool) for _ in range(1)}
    for _ in range(4):
        await normalise(pool, picture, workspace_id=workspace)
    assert psutil.Process(worker).cpu_times().user > 1
    assert children() == {worker}


async def _worker_after(pool: PicturePool) -> int:
    await normalise(pool, plain(), workspace_id=new_id())
    [worker] = await until(_children, what="a worker")
    return worker


async def test_a_picture_that_takes_too_much_memory_is_refused_and_the_next_one_is_read(new_pool: NewPool) -> None:
    pool, workspace = new_pool(workers=1, limits=Limits(memory=200_000_000, wall_seconds=60)), new_id()
    with pytest.raises(TooCostly, match="too much work"):
        await normalise(pool, plain("PNG", (7000, 7000)), workspace_id=workspace)
    assert (await normalise(pool, plain(), workspace_id=workspace)).width == 40


async def test_slow_pictures_of_one_workspace_do_not_hold_up_another(new_pool: NewPool) -> None:
    pool, slow, other = new_pool(limits=Limits(cpu_seconds=3, wall_seconds=60)), new_id(), new_id()
    await pool.start()
    burden = [asyncio.ensure_future(normalise(pool, slow_picture(), workspace_id=slow)) for _ in range(6)]
    await until(lambda: _busy(pool), what="a slow picture at work")
    for _ in range(10):
        assert (await normalise(pool, plain(), workspace_id=other)).width == 40
    assert not any(one.done() for one in burden), "the other's pictures were read while the first slow one still was"
    for one in burden:
        one.cancel()
    await asyncio.gather(*burden, return_exceptions=True)


async def _busy(pool: PicturePool) -> bool:
    return bool(pool.running)


async def test_workspaces_take_turns(new_pool: NewPool) -> None:
    pool = new_pool(workers=1, limits=PATIENT)
    first, second = new_id(), new_id()
    order: list[str] = []

    async def read(name: str, workspace_id: object) -> None:
        await normalise(pool, plain(), workspace_id=workspace_id)  # type: ignore[arg-type]
        order.append(name)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(read("first", first))
        for _ in range(2):
            tasks.create_task(read("second", second))
    assert order == ["first", "second", "first", "second", "first", "first"]


async def test_giving_up_early_frees_no_slot_that_is_still_in_use(new_pool: NewPool) -> None:
    pool, workspace = new_pool(workers=1, limits=Limits(cpu_seconds=2, wall_seconds=60)), new_id()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await normalise(pool, slow_picture(), workspace_id=workspace)
        assert len(children()) <= 1
    assert (await normalise(pool, plain(), workspace_id=new_id())).width == 40


async def test_a_workspace_cannot_fill_the_memory_with_pictures_that_wait(new_pool: NewPool) -> None:
    pool, workspace = new_pool(workers=1, limits=PATIENT), new_id()
    waiting = [asyncio.ensure_future(normalise(pool, plain(), workspace_id=workspace)) for _ in range(MAX_WAITING + 1)]
    await asyncio.sleep(0)
    with pytest.raises(PoolBusy):
        await normalise(pool, plain(), workspace_id=workspace)
    assert (await normalise(pool, plain(), workspace_id=new_id())).width == 40
    await asyncio.gather(*waiting)


async def test_what_is_due_goes_before_what_is_uploaded(new_pool: NewPool) -> None:
    pool, workspace = new_pool(workers=1, limits=PATIENT), new_id()
    order: list[str] = []

    async def upload() -> None:
        await normalise(pool, plain(), workspace_id=workspace)
        order.append("upload")

    async def publish() -> None:
        await pool.fit(plain(), Bounds(max_side=10), workspace_id=workspace)
        order.append("rendition")

    async with asyncio.TaskGroup() as tasks:
        for work in (upload, upload, upload, publish):
            tasks.create_task(work())
    assert order == ["upload", "rendition", "upload", "upload"]


async def test_pictures_that_wait_are_counted_by_bytes_too(new_pool: NewPool) -> None:
    pool, workspace = new_pool(workers=1, limits=PATIENT), new_id()
    large = bytes(MAX_BYTES)
    waiting = [asyncio.ensure_future(normalise(pool, large, workspace_id=workspace)) for _ in range(7)]
    await asyncio.sleep(0)
    with pytest.raises(PoolBusy):
        await normalise(pool, large, workspace_id=workspace)
    with pytest.raises(PoolBusy):
        pool.check_room(workspace, len(large))
    pool.check_room(new_id(), len(large))
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in results] == [Unreadable] * 7


async def test_a_worker_that_is_killed_is_replaced_and_its_picture_read_again(new_pool: NewPool) -> None:
    pool, workspace = new_pool(workers=1, limits=PATIENT), new_id()
    reading = asyncio.ensure_future(normalise(pool, many_scans((3000, 3000), 90), workspace_id=workspace))
    first = await until(_working, what="a worker at work")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert (await reading).width == 3000
    assert first not in children()


async def _working() -> int | None:
    return next((one for one in children() if psutil.Process(one).cpu_times().user > 0.05), None)


async def test_a_machine_without_time_is_not_the_pictures_fault(new_pool: NewPool) -> None:
    pool, workspace = new_pool(workers=1, limits=Limits(wall_seconds=0.5)), new_id()
    await pool.start()
    [worker] = await until(_children, what="a worker")
    os.kill(worker, signal.SIGSTOP)
    with pytest.raises(PoolBusy, match="busy"):
        await normalise(pool, plain(), workspace_id=workspace)
    assert worker not in children()


async def test_stopping_ends_every_process_and_every_wait(new_pool: NewPool) -> None:
    pool, workspace = new_pool(limits=PATIENT), new_id()
    await pool.start()
    waiting = [asyncio.ensure_future(normalise(pool, slow_picture(), workspace_id=workspace)) for _ in range(3)]
    await until(lambda: _busy(pool), what="a slow picture at work")
    assert len(children()) == 2
    await pool.stop()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in results] == [PoolBusy] * 3
    assert children() == set()
    with pytest.raises(PoolBusy):
        await normalise(pool, plain(), workspace_id=workspace)


async def test_a_worker_holds_no_secret_and_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLISHER_MASTER_KEY", "a secret")
    worker = await WorkerProcess.start(Limits())
    process = psutil.Process(worker.pid)
    assert "a secret" not in process.environ().values()
    assert process.net_connections() == []
    await worker.end()
    assert not psutil.pid_exists(worker.pid)


async def test_a_worker_ends_when_its_parent_is_gone() -> None:
    source = (
        "import asyncio; from regie_publisher.media.images.process import *\n"
        "async def main():\n"
        "    print((await WorkerProcess.start(Limits())).pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", source, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    worker = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()

    async def gone() -> bool:
        return not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE

    await until(gone, what="the worker's end")


def test_a_frame_that_no_worker_sends_is_refused() -> None:
    with pytest.raises(frames.BadFrame):
        frames.sizes(frames.HEAD.pack(10, 100_000_000))
    for head in (b"{", b"[]", b"\xff"):
        with pytest.raises(frames.BadFrame):
            frames.read_head(head)
