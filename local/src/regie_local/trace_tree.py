"""A trace as a tree of lines, for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

ALIKE = 3  # so many siblings of one name are shown, the rest is counted

Shown = dict[str, Any]
"""A span as the trace store shows it."""


def tree(spans: Sequence[Shown]) -> list[str]:
    """Returns a line for each span below its parent, in order of start. A span without a known parent is a root.

    Of many siblings alike, as the events of one batch, the first are shown and the others counted.
    """
    known = {span["span_id"] for span in spans}
    children: dict[str, list[Shown]] = {}
    for span in sorted(spans, key=lambda span: span["start"]):
        parent = span["parent_id"] if span["parent_id"] in known else ""
        children.setdefault(parent, []).append(span)
    begin = min((span["start"] for span in spans), default=0.0)
    return [line for root in children.get("", ()) for line in _lines(root, children, begin, "", "")]


def _lines(span: Shown, children: dict[str, list[Shown]], begin: float, first: str, rest: str) -> Iterator[str]:
    milliseconds = (span["end"] - span["start"]) * 1000
    failed = f"  ✗ {span['status_message']}" if span["status"] == "error" else ""
    link = "  ⇠ linked" if span["links"] else ""
    offset = (span["start"] - begin) * 1000
    yield f"{first}{span['name']}  [{span['service']}] +{offset:.1f} ms, {milliseconds:.1f} ms{link}{failed}"
    below, others = _few_alike(children.get(span["span_id"], []))
    for index, child in enumerate(below):
        last = index == len(below) - 1 and not others
        yield from _lines(child, children, begin, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))
    if others:
        yield f"{rest}└─ … " + ", ".join(f"{count} more {name}" for name, count in others.items())


def _few_alike(siblings: Sequence[Shown]) -> tuple[list[Shown], Counter[str]]:
    seen: Counter[str] = Counter()
    few, others = [], Counter[str]()
    for span in siblings:
        seen[span["name"]] += 1
        if seen[span["name"]] <= ALIKE:
            few.append(span)
        else:
            others[span["name"]] += 1
    return few, others
