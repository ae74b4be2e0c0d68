"""Do the claims and the timeline cost the same with many millions of rows as with few?

Two pairs of databases, migrated as in production, one with `--rows` posts and deliveries, one with `--few`. Half of
them are for later and half have ended; two of a hundred more were claimed just now, which is as many as autovacuum
leaves in these tables. Then the due claim, the claim of deliveries and the timeline run their own code on both.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median

import asyncpg
from regie_chassis.data import migrations
from regie_chassis.data.database import Database
from regie_local.postgres import EmbeddedPostgres
from regie_publisher.deliveries.claims import claim_pending, find_due
from regie_publisher.deliveries.queries import list_deliveries
from regie_publisher.fairness.hosts import Hosts
from regie_publisher.fairness.sharing import Limits
from regie_publisher.fairness.slots import Slots
from regie_scheduler.posts.due import BATCH, dispatch_due
from regie_scheduler.posts.queries import list_timeline
from results import result_line
from scale_rows import (
    CHANNELS,
    CLAIM_DELIVERIES,
    CLAIM_POSTS,
    DELIVERIES,
    POSTS,
    WORKSPACES,
    Kind,
    id_of,
)

SERVICES = Path(__file__).parents[1] / "services"
ROUNDS = 20
MEASURED = ("due_claim", "delivery_claim", "timeline")
READS = 200
SLOTS = 200  # of one claim of deliveries
FILL_TIMEOUT = 3600.0  # seconds for one statement
CLAIMED_SHARE = 0.02  # autovacuum_vacuum_scale_factor of both tables
PASSWORD = "bench"  # noqa: S105  # of a server that this program makes and ends
ROWS = {
    "scheduler": (("post", "variant", "post_change"), POSTS, CLAIM_POSTS),
    "publisher": (("delivery", "delivery_change"), DELIVERIES, CLAIM_DELIVERIES),
}


@dataclass(slots=True)
class Side:
    """The databases of one size, and the milliseconds that each call took there."""

    rows: int
    scheduler: Database
    publisher: Database
    times: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MEASURED})

    def cost(self, name: str) -> float:
        """Returns the median."""
        return round(median(self.times[name]), 3)


def main() -> None:
    """Measures both sizes in turns and prints their figures, the result last: that of the three which grows most."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--few", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="regie-bench-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            few, many = asyncio.run(measure(server, options.few, options.rows))
        finally:
            server.stop()
    ratios = {name: round(many.cost(name) / few.cost(name), 2) for name in MEASURED}
    worst = max(MEASURED, key=ratios.__getitem__)
    for side in (few, many):
        costs = ", ".join(f"{name} {side.cost(name)} ms (first {times[0]})" for name, times in side.times.items())
        print(f"{side.rows:,} rows: {costs}")
    print(
        result_line(
            "scale",
            ours=many.cost(worst),
            reference=few.cost(worst),
            unit="ms",
            better="lower",
            params={
                "rows": options.rows,
                "reference": f"the same code with {options.few:,} rows; of the three the one that grows most",
                "which": worst,
                "ratios": ratios,
                "claims": {"due": BATCH, "deliveries": SLOTS},
            },
        )
    )


async def measure(server: EmbeddedPostgres, few: int, many: int) -> tuple[Side, Side]:
    """Fills both sizes, then calls each in turn, so that a busy machine makes both slow."""
    now = datetime.now(UTC)
    sides = await filled_side(server, "few", few, now), await filled_side(server, "many", many, now)
    try:
        for _ in range(ROUNDS):
            for side in sides:
                side.times["due_claim"].append(await timed(partial(claim_posts, side, now)))
        for _ in range(ROUNDS):
            for side in sides:
                side.times["delivery_claim"].append(await timed(partial(claim_deliveries, side, now)))
        for number in random.Random(1).choices(range(few // 2), k=READS):  # no secret
            for side in sides:
                read = partial(read_timeline, side, number * side.rows // few)
                await read()  # from the disk, which is no question of the number of rows
                side.times["timeline"].append(await timed(read))
    finally:
        for side in sides:
            await side.scheduler.close()
            await side.publisher.close()
    return sides


async def timed(act: Callable[[], Awaitable[None]]) -> float:
    """Returns how many milliseconds it takes."""
    begin = time.perf_counter()
    await act()
    return round((time.perf_counter() - begin) * 1000, 3)


async def claim_posts(side: Side, now: datetime) -> None:
    """Claims one batch of due posts and stages their events."""
    assert await dispatch_due(side.scheduler, now=now) == BATCH


async def claim_deliveries(side: Side, now: datetime) -> None:
    """Looks up and claims as many deliveries as a process with free slots does."""
    slots = Slots(Limits(SLOTS * 5 // 4, SLOTS), Hosts(first_window=SLOTS, max_window=SLOTS))
    async with side.publisher.transaction() as session:
        due = await find_due(session, slots=slots, now=now)
        claimed = await claim_pending(session, due[:SLOTS], worker="bench", now=now)
    assert len(claimed) == SLOTS


async def read_timeline(side: Side, number: int) -> None:
    """Reads the timeline of a post as the gateway composes it: from both services."""
    post, workspace = id_of(Kind.POST, number), id_of(Kind.WORKSPACE, number % WORKSPACES)
    async with side.scheduler.reading() as session:
        assert (await list_timeline(session, workspace_id=workspace, post_id=post)).items
    async with side.publisher.reading() as session:
        assert (await list_deliveries(session, workspace_id=workspace, post_id=post)).items


async def filled_side(server: EmbeddedPostgres, name: str, rows: int, now: datetime) -> Side:
    """Returns the databases of one size."""
    scheduler = await filled_database(server, f"scheduler_{name}", rows, due=BATCH * ROUNDS, now=now)
    publisher = await filled_database(server, f"publisher_{name}", rows, due=SLOTS * ROUNDS, now=now)
    return Side(rows, scheduler, publisher)


async def filled_database(server: EmbeddedPostgres, name: str, rows: int, *, due: int, now: datetime) -> Database:
    """Returns a migrated database with the rows, vacuumed and analysed, and with what was claimed since then."""
    service = name.split("_")[0]
    url = await server.create_database(name, owner=service, password=PASSWORD)
    await migrations.upgrade(url, SERVICES / service / "migrations")
    connection = await asyncpg.connect(server.url(name).replace("+asyncpg", ""), command_timeout=FILL_TIMEOUT)
    tables, fill, claim = ROWS[service]
    recently = now - timedelta(minutes=2)
    claimed = int(rows * CLAIMED_SHARE)
    try:
        await connection.execute("SET session_replication_role = replica")  # no check of foreign keys row by row
        for table in tables:
            await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        if service == "publisher":
            await connection.execute(CHANNELS)
        for statement in fill:
            await connection.execute(statement, 0, rows // 2, now - timedelta(days=30), False)
            await connection.execute(statement, rows // 2, rows, now + timedelta(days=1), True)
        for table in tables:
            await connection.execute(f"VACUUM (ANALYZE) {table}")
        for statement in fill:
            await connection.execute(statement, rows, rows + claimed, recently, True)
        await connection.execute(claim, recently + timedelta(minutes=1))
        for statement in fill:
            begin = rows + claimed
            await connection.execute(statement, begin, begin + due, now - timedelta(seconds=50), True)
    finally:
        await connection.close()
    return Database(url)


if __name__ == "__main__":
    main()
