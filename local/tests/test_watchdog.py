from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from regie_local.processes import ChildProcess, ProcessFailed
from regie_local.testing.waiting import until

PARENT = """
import sys, time
from pathlib import Path
from regie_local.processes import ChildProcess
child = ChildProcess("sleeper", ["sleep", "600"], log=Path(sys.argv[1]) / "sleeper.log")
child.start()
print(child.pid, flush=True)
time.sleep(600)
"""


def killed_parent_of_a_child(folder: Path) -> int:
    """Starts a process that starts a child, kills the process, and returns the child's id."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(folder)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    return child


async def test_children_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    child = killed_parent_of_a_child(tmp_path)

    async def gone() -> bool:
        return not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE

    await until(gone, what="the end of the child")


def test_a_child_that_ignores_its_stop_signal_is_killed(tmp_path: Path) -> None:
    child = ChildProcess("stubborn", ["sh", "-c", "trap '' TERM; echo ready; sleep 600"], log=tmp_path / "stubborn.log")
    child.start()
    child.wait_until(lambda: "ready" in child.log_tail(), timeout=10)
    child.stop(timeout=0.2)
    assert not child.running


def test_a_child_that_ends_early_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = ChildProcess("broken", ["sh", "-c", "echo no such luck; exit 3"], log=tmp_path / "broken.log")
    child.start()
    with pytest.raises(ProcessFailed, match="no such luck"):
        child.wait_until(lambda: False, timeout=10)
    assert child.reap() == 3


def test_the_reported_end_of_a_log_is_that_of_this_start(tmp_path: Path) -> None:
    log = tmp_path / "broken.log"
    log.write_text("of the day before\n")
    child = ChildProcess("broken", ["sh", "-c", "seq 1 40; exit 3"], log=log)
    for _ in range(2):
        child.start()
        with pytest.raises(ProcessFailed) as failed:
            child.wait_until(lambda: False, timeout=10)
        child.reap()
        assert str(failed.value).splitlines()[1:] == [str(number) for number in range(21, 41)]
    assert log.read_text().startswith("of the day before\n")
    child = ChildProcess("silent", ["true"], log=log)
    child.start()
    child.reap()
    assert child.log_tail() == ""
