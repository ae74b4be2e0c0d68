"""Warnings about a rule, returned with a preview: comparisons that never meet the stored type."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from regie_audience.attributes import kind_of
from regie_audience.rules.instants import LOCAL, instant_of
from regie_audience.rules.model import EXISTENCE, ORDER, Comparison, Rule, comparisons

SAMPLE = 1_000  # of the newest profiles, whose attributes' types are looked at
MAX_WARNINGS = 20
_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?")
_KINDS = {"string": "text", "array": "list"}

Kinds = Mapping[str, frozenset[str]]
"""By attribute: the kinds of its values."""


@dataclass(frozen=True, slots=True)
class RuleWarning:
    """A hint about one comparison; the path is that of an error at the same place."""

    path: str
    message: str


async def warnings_of(session: AsyncSession, *, workspace_id: UUID, rule: Rule) -> list[RuleWarning]:
    """Returns up to MAX_WARNINGS hints on a rule, from its own form and from the newest profiles."""
    named = {comparison.attribute for _, comparison in comparisons(rule)}
    rows = await session.execute(_KINDS_OF, {"workspace_id": workspace_id, "sample": SAMPLE, "names": sorted(named)})
    kinds_by_name: dict[str, set[str]] = {}
    sampled = 0
    for row in rows:
        sampled = row.sampled
        if row.kind is not None:
            kinds_by_name.setdefault(row.name, set()).add(_KINDS.get(row.kind, row.kind))
    kinds = {name: frozenset(kinds) for name, kinds in kinds_by_name.items()} if sampled else None
    return warn(rule, kinds)


def warn(rule: Rule, kinds: Kinds | None) -> list[RuleWarning]:
    """Returns up to MAX_WARNINGS hints, given the kinds of the stored values; None when there are no profiles."""
    warnings: list[RuleWarning] = []
    for path, comparison in comparisons(rule):
        messages = [*_of_form(comparison), *(() if kinds is None else _of_kinds(comparison, kinds))]
        warnings += [RuleWarning(path, message) for message in messages]
    return warnings[:MAX_WARNINGS]


def _of_form(rule: Comparison) -> Iterator[str]:
    texts = _texts(rule)
    if rule.operator in ORDER and any(_NUMBER.fullmatch(one) for one in texts):
        yield (
            f'{rule.operator} compares the text {rule.value!r} character by character, so that "9" comes after'
            ' "30"; give a number without quotes'
        )
    if any(LOCAL.fullmatch(one) and instant_of(one) is None for one in texts):
        yield "a time without an offset is compared as a plain text; end it with Z or an offset such as +02:00"


def _of_kinds(rule: Comparison, kinds: Kinds) -> Iterator[str]:
    stored = kinds.get(rule.attribute)
    if not stored:
        if rule.operator != "absent":
            yield f"none of the newest profiles has the attribute {rule.attribute}; check its name"
        return
    comparable = _comparable_kinds(rule)
    if comparable and not stored & comparable:
        yield (
            f"{rule.attribute} is a {' or '.join(sorted(stored))} in the newest profiles, and {rule.operator} compares"
            f" a {' or '.join(sorted(comparable))}; change the rule's value or send the attribute as that type"
        )


def _comparable_kinds(rule: Comparison) -> frozenset[str]:
    if rule.operator in EXISTENCE:
        return frozenset()
    if rule.operator == "contains":
        return frozenset({"text", "list"})
    return frozenset({"text" if rule.operator == "in" else kind_of(rule.value)})


def _texts(rule: Comparison) -> Sequence[str]:
    if isinstance(rule.value, str):
        return [rule.value]
    return rule.value if isinstance(rule.value, list) and rule.operator == "in" else []


_KINDS_OF = text(
    """
    WITH newest AS MATERIALIZED (
        SELECT attributes FROM profile WHERE workspace_id = :workspace_id ORDER BY id DESC LIMIT :sample
    )
    SELECT name, jsonb_typeof(attributes -> name) AS kind, (SELECT count(*) FROM newest) AS sampled
    FROM newest, unnest(CAST(:names AS text[])) AS named (name)
    GROUP BY 1, 2
    """
)
