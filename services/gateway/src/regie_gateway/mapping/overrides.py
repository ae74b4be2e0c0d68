"""Marks of a view's field that differs from the message's field of the same name.

A mark stands in the field's annotation: `state: Annotated[SegmentState, WhenEmpty("planned")]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class From:
    """The value is computed from the whole message or row."""

    compute: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class WhenEmpty:
    """The value of a text that is empty, or of a state that is unspecified or unknown."""

    value: str
