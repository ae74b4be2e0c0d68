"""How much processor time do the processes of an installation take?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import psutil


def cpu_of(roots: Mapping[str, int]) -> dict[str, float]:
    """Returns the seconds that each root process and its children have taken so far, by the root's name."""
    taken: dict[str, float] = defaultdict(float)
    for name, pid in roots.items():
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue  # a connection that has been closed
            taken[name] += times.user + times.system
    return taken


def per_item(before: Mapping[str, float], after: Mapping[str, float], items: int) -> dict[str, float]:
    """Returns the milliseconds that each took for one of `items`, and their sum as `all`."""
    each = {name: round((after[name] - before[name]) * 1000 / items, 4) for name in after}
    return each | {"all": round(sum(each.values()), 4)}
