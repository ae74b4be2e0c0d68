"""The last line of every bench: one JSON object that compares Régie with its reference in the same run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal


def percentile(values: Sequence[float], share: float) -> float:
    """Returns the value below which `share` (0 to 1) of the values lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def result_line(
    bench: str,
    *,
    ours: float,
    reference: float,
    unit: str,
    better: Literal["lower", "higher"],
    params: Mapping[str, Any],
) -> str:
    """Returns the line; ratio = ours ÷ reference."""
    return json.dumps(
        {
            "bench": bench,
            "ours": round(ours, 4),
            "reference": round(reference, 4),
            "ratio": round(ours / reference, 4),
            "unit": unit,
            "better": better,
            "params": dict(params),
        }
    )
