"""Attacks an installation of its own and prints the effects on its neighbour (`make hostile`).

Starts everything with a second tenant and a hostile network server, runs the attacks in turn while the first tenant
posts twice a second, and exits with 0 only when every attack was held: no service stopped, no answer of 500, no post of
the neighbour doubled, lost or more than a second late, and nothing read or done that the attacker has no right to.
Names of attacks as arguments run only those.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import edge_attacks as edge
import inside_attacks as inside
import network_attacks as network
from neighbour import Neighbour, Seen, open_neighbour
from rich.console import Console
from rich.table import Table
from scene import Scene, open_scene

MAX_LATE = 1.0  # seconds
ATTACK_TIMEOUT = 240.0  # seconds for one attack
SETTLE = 2.0  # seconds that the neighbour goes on after an attack

ATTACKS: dict[str, Callable[[Scene], Awaitable[list[str]]]] = {
    "C1 oversized account": network.oversized_account,
    "C1 oversized status": network.oversized_status,
    "H1 absurd people": network.absurd_people,
    "H1 H2 absurd numbers": network.absurd_numbers,
    "H3 forged event": inside.forged_event,
    "H4 hanging server": network.hanging_server,
    "H4 flood": network.flood,
    "H5 costly pictures": edge.costly_pictures,
    "H6 one-byte chunks": network.one_byte_chunks,
    "M1 endless head": edge.endless_head,
    "M1 slow clients": edge.slow_clients,
    "M2 many segments": edge.many_segments,
    "M3 pictures that tell": edge.pictures_that_tell,
    "M4 script of a network": network.script_address,
    "M4 script of a person": edge.script_by_a_person,
    "M5 narrow scopes": edge.narrow_scopes,
    "M6 loopback ports": network.loopback_ports,
    "M7 open folder": inside.open_folder,
    "M8 endless people": network.endless_people,
    "M9 long account id": network.long_account_id,
}


@dataclass
class Result:
    """One attack: the neighbour's observations, and every deviation."""

    name: str
    seen: Seen
    problems: list[str]
    peak_rss: int
    seconds: float


async def main(chosen: list[str], console: Console) -> int:
    """Returns the process's exit status."""
    names = [name for name in ATTACKS if not chosen or any(each.lower() in name.lower() for each in chosen)]
    with tempfile.TemporaryDirectory(prefix="regie-hostile-") as folder:
        async with open_scene(Path(folder) / "regie") as scene:
            neighbour = await open_neighbour(scene)
            results = []
            for name in names:
                console.print(f"{name} …", end=" ")
                results.append(await attack(name, scene, neighbour))
                console.print("held" if not results[-1].problems else "NOT HELD")
    console.print(table_of(results))
    for result in results:
        for problem in result.problems:
            console.print(f"{result.name}: {problem}", style="red", markup=False, soft_wrap=True)
    failed = sum(bool(result.problems) for result in results)
    console.print(f"{len(results) - failed} of {len(results)} attacks held")
    return 1 if failed or not results else 0


async def attack(name: str, scene: Scene, neighbour: Neighbour) -> Result:
    """Runs one attack beside the neighbour and judges it."""
    scene.remember()
    scene.attacker.problems.clear()
    began = time.monotonic()
    over = asyncio.Event()
    memory = asyncio.create_task(scene.watch_memory())
    living = asyncio.create_task(neighbour.live(over))
    try:
        async with asyncio.timeout(ATTACK_TIMEOUT):
            problems = await ATTACKS[name](scene)
            await asyncio.sleep(SETTLE)
    except TimeoutError:
        problems = [f"the attack did not end within {ATTACK_TIMEOUT:.0f} s"]
    finally:
        over.set()
    seen = await living
    memory.cancel()
    problems += [*scene.attacker.problems, *judge(seen)]
    problems += [f"{service} stopped or is not ready" for service in await scene.unhealthy()]
    return Result(name, seen, problems, scene.peak_rss, time.monotonic() - began)


def judge(seen: Seen) -> list[str]:
    """Returns the deviations that the neighbour saw."""
    problems = [f"the neighbour was refused: {refused}" for refused in seen.refused[:3]]
    if seen.worst_late is None:
        problems.append("a post of the neighbour never came out")
    elif seen.worst_late > MAX_LATE:
        problems.append(f"a post of the neighbour was {seen.worst_late:.2f} s late")
    if seen.doubled:
        problems.append(f"{seen.doubled} posts of the neighbour came out twice")
    if not seen.measured:
        problems.append("the neighbour's last post got no numbers")
    return problems


def table_of(results: list[Result]) -> Table:
    """Returns the report."""
    columns = ("attack", "neighbour's posts", "worst late", "worst answer", "publisher's memory", "took", "held")
    table = Table(*columns, title="What the neighbour felt")
    for result in results:
        late = "never came" if result.seen.worst_late is None else f"{result.seen.worst_late:.2f} s"
        table.add_row(
            result.name,
            str(result.seen.posts),
            late,
            f"{result.seen.worst_read:.2f} s",
            f"{result.peak_rss / 1e6:.0f} MB",
            f"{result.seconds:.0f} s",
            "no" if result.problems else "yes",
        )
    return table


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:], Console(width=120))))
