"""Compares Régie's state of each delivery with the networks' own tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
from standins import Row

ENDED_WITHOUT = ("failed", "missed", "cancelled")


@dataclass(slots=True)
class Tally:
    """The counts of one class. All but `once`, `not_there` and `person` must be 0."""

    posts: int = 0
    once: int = 0
    not_there: int = 0
    person: int = 0
    doubled: int = 0
    lost: int = 0
    anothers: int = 0
    denied: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def broken(self) -> int:
        return self.doubled + self.lost + self.anothers + self.denied


async def read_deliveries(database_url: str) -> list[Any]:
    """Returns every delivery as the publisher has it."""
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        return list(
            await connection.fetch(
                "SELECT id, channel_id, state, needs_person, segment_keys, remote_ids, network_message FROM delivery"
            )
        )
    finally:
        await connection.close()


def is_open(delivery: Any) -> bool:
    """True while something may still become of it without a person."""
    return delivery["state"] not in ("published", *ENDED_WITHOUT) and not delivery["needs_person"]


def count(deliveries: Sequence[Any], tables: Mapping[UUID, Sequence[Row]]) -> Tally:
    """Counts one class: its deliveries, and the tables of its accounts' servers by channel."""
    tally = Tally(posts=len(deliveries))
    for delivery in deliveries:
        # One that was cancelled or refused before it came has no key, and no call was made.
        key = next(iter(delivery["segment_keys"]), None)
        table, state = tables[delivery["channel_id"]], delivery["state"]
        there = sum(row.key == key for row in table)
        named = [row.key for row in table if row.id in map(_plain, delivery["remote_ids"])]
        faults = {
            "doubled": there > 1,
            "lost": state == "published" and not there,
            "anothers": state == "published" and named != [key],
            "denied": state in ENDED_WITHOUT and there > 0,
        }
        for name in (name for name, is_so in faults.items() if is_so):
            setattr(tally, name, getattr(tally, name) + 1)
            words = json.dumps(delivery["network_message"][:80])
            tally.examples.append(f"{name}: {delivery['id']} {state} {words}, {there} there")
        if state == "published":
            tally.once += there == 1
        elif state in ENDED_WITHOUT:
            tally.not_there += 1
        else:
            tally.person += 1
    return tally


def _plain(remote_id: str) -> str:
    """A Bluesky id is an address and a hash of the content."""
    return remote_id.partition("|")[0]
