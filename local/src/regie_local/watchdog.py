"""Ends child processes when their parent is gone, for whatever reason.

A shell of a megabyte waits at the other end of a pipe. The parent sends it each child's id; the pipe closes when the
parent ends, even by `kill -9`. The kernel's own signal for this (PR_SET_PDEATHSIG) follows the thread that started
the child instead of the process, and is lost on the way into a user namespace.
"""

from __future__ import annotations

import atexit
import os
import subprocess
from collections.abc import Sequence
from functools import cache

GRACE = 8  # seconds between the polite signal and SIGKILL

# Reads "+ <signal> <pid>" and "- <signal> <pid>". `kill -0` asks whether a process is still there.
SCRIPT = f"""
trap '' INT HUP TERM
children=''
while read -r sign number pid; do
  if [ "$sign" = + ]; then children="$children $number:$pid"; else
    kept=''
    for child in $children; do [ "$child" = "$number:$pid" ] || kept="$kept $child"; done
    children=$kept
  fi
done
for child in $children; do kill -s "${{child%%:*}}" "${{child##*:}}" 2>/dev/null; done
waited=0
while [ $waited -lt {GRACE * 10} ]; do
  alive=''
  for child in $children; do kill -0 "${{child##*:}}" 2>/dev/null && alive=yes; done
  [ -n "$alive" ] || exit 0
  sleep 0.1
  waited=$((waited + 1))
done
for child in $children; do kill -s KILL "${{child##*:}}" 2>/dev/null; done
"""


class Watchdog:
    """One shell that outlives this process by as long as its children need to end.

    `keep` are file descriptors that the shell holds open until then, such as a folder's lock.
    """

    def __init__(self, *, keep: Sequence[int] = ()) -> None:
        reading, self._writing = os.pipe()
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", SCRIPT],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=keep,
            start_new_session=True,
        )
        os.close(reading)

    @property
    def pid(self) -> int:
        """The shell's process id."""
        return self._shell.pid

    def watch(self, pid: int, stop_signal: str) -> None:
        """Has the child ended with `stop_signal` (INT, TERM) should this process be gone before it."""
        os.write(self._writing, f"+ {stop_signal} {pid}\n".encode())

    def forget(self, pid: int, stop_signal: str) -> None:
        """Unregisters an ended child, since its id may belong to another process from now on."""
        os.write(self._writing, f"- {stop_signal} {pid}\n".encode())

    def close(self) -> None:
        """Ends the shell, and with it every child that is still being watched."""
        os.close(self._writing)
        self._shell.wait(GRACE * 2)


@cache
def process_watchdog() -> Watchdog:
    """Returns the watchdog of this process, for children that nobody gave another."""
    watchdog = Watchdog()
    atexit.register(watchdog.close)
    return watchdog
