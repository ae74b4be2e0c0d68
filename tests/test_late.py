"""`make late` in short: answers are lost and calls land late, and every promise holds.

The margin is wide, since a busy machine hands calls on later than planned.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WITHIN = 480.0  # seconds


@pytest.mark.processes
@pytest.mark.long
async def test_late_calls_break_no_promise_on_any_class_of_network() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "tools" / "late" / "late.py"),
        *("--posts", "12", "--quiet", "16", "--margin", "0.3", "--no-beyond"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(WITHIN):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, output.decode()
    assert b"Every promise held" in output
