"""The proof that a call with a lost answer had no effect (ADR 0017)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Repeat(StrEnum):
    """When a call with a lost answer may be repeated, by class of network (ADR 0017)."""

    AT_ONCE = "at_once"
    """The key makes the write idempotent: the same bytes under the same key are one post, whenever they land."""
    UNDER_KEY = "under_key"
    """The server is known to honour the key for a while, but not for two calls that it handles at the same moment."""
    AFTER_QUIET = "after_quiet"
    """Nothing protects a second call, and the account can be read: only a proven absence permits one."""
    BY_PERSON = "by_person"
    """Nothing can be read: only a person can confirm that the post is not there."""


QUIET = timedelta(seconds=120)
"""Proxies and servers give a call up within 60 s as a rule, within 120 s but for rare ones."""


@dataclass(frozen=True, slots=True)
class Absence:
    """The conditions that prove, on one account's server, that a call had no effect and will have none.

    `quiet` is how long after the end of the last call anything on the way may still carry it to its effect. At least
    `looks` empty looks prove an absence, the last of them begun after the quiet time.
    `settle` and `key_life` are for `Repeat.UNDER_KEY`: the time after a call's end within which a repeated call could
    meet it, and how long the server keeps a key.

    Networks with a state of the commit (containers, upload sessions) are `AFTER_QUIET`: their `find` reads the state
    of the saved handle, and returns None only where the network reports that it was not committed.
    """

    repeat: Repeat
    quiet: timedelta = QUIET
    looks: int = 2
    settle: timedelta = timedelta(0)
    key_life: timedelta = timedelta(0)
