"""The knobs: rules that make chosen calls go wrong, a counted number of times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

OPERATIONS = (
    "create_post",
    "find",
    "metrics",
    "get_post",
    "delete_post",
    "replies",
    "account_metrics",
    "media",
    "account",
    "refresh",
    "register_app",
    "authorize",
    "give_token",
    "processing",
)
MAX_NUMBER = 600_000


class UnusableRule(ValueError):
    """A rule that the admin interface refuses; the message gives a correct form."""


@dataclass(slots=True)
class Rule:
    """One fault and the calls it is for.

    `times` counts down to 0, after which the rule is spent; None is for ever. The fields after `text_contains`
    are the faults: one ending (or none) and any of the modifiers.
    """

    operation: str | None = None
    times: int | None = None
    text_contains: str | None = None
    latency_ms: int | None = None
    latency_after_ms: int | None = None
    processing_polls: int | None = None
    fail_before: int | None = None
    fail_after: int | None = None
    drop_before: bool | None = None
    drop_after: bool | None = None
    hang: bool | None = None
    hang_after: bool | None = None
    rate_limit: float | None = None
    expire_tokens: bool | None = None
    reject: str | None = None

    def matches(self, operation: str, text: str) -> bool:
        if self.times == 0 or (self.operation is not None and self.operation != operation):
            return False
        if self.processing_polls is not None and operation != "create_post":
            return False
        return self.text_contains is None or self.text_contains in text

    def ending(self) -> str | None:
        """Names the fault that decides how the call ends, if this rule has one."""
        return next((name for name in ENDINGS if getattr(self, name) is not None), None)


SELECTORS = ("operation", "text_contains")
MODIFIERS = ("latency_ms", "latency_after_ms", "processing_polls")
ENDINGS = tuple(field.name for field in fields(Rule) if field.name not in ("times", *SELECTORS, *MODIFIERS))
FAULTS = (*MODIFIERS, *ENDINGS)


@dataclass(slots=True)
class Verdict:
    """The verdict of the rules on one call: the rule of its ending, and the modifiers added up."""

    ending: str | None = None
    rule: Rule | None = None
    latency_ms: int = 0
    latency_after_ms: int = 0
    processing_polls: int | None = None


class Faults:
    """The rules in force, in order."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def replace(self, rules: object) -> None:
        """Puts `rules` (a list of JSON objects) in the place of all others; raises `UnusableRule`, changing nothing."""
        if not isinstance(rules, Sequence) or isinstance(rules, str):
            raise UnusableRule('Send a list of rules, such as [{"operation": "create_post", "fail_after": 503}].')
        self._rules = [read_rule(rule) for rule in rules]

    def listed(self) -> list[dict[str, object]]:
        """Returns the rules as they were sent, with the rest of `times`; spent rules stay, with 0."""
        return [
            {name: value for name in (*FAULTS, *SELECTORS) if (value := getattr(rule, name)) is not None}
            | {"times": rule.times}
            for rule in self._rules
        ]

    def take(self, operation: str, text: str) -> Verdict:
        """Returns the verdict on this call, and counts it against the rules that apply.

        Modifiers of several rules add up; of two endings the earlier rule's is used and the later stays uncounted.
        """
        verdict = Verdict()
        for rule in self._rules:
            ending = rule.ending()
            if not rule.matches(operation, text) or (ending and verdict.ending):
                continue
            if rule.times is not None:
                rule.times -= 1
            verdict.latency_ms += rule.latency_ms or 0
            verdict.latency_after_ms += rule.latency_after_ms or 0
            if verdict.processing_polls is None:
                verdict.processing_polls = rule.processing_polls
            if ending:
                verdict.ending, verdict.rule = ending, rule
        return verdict


def read_rule(sent: object) -> Rule:
    """Turns one JSON object into a rule; raises `UnusableRule`."""
    if not isinstance(sent, Mapping):
        raise UnusableRule("A rule is a JSON object.")
    names = {field.name for field in fields(Rule)}
    unknown = sorted(str(name) for name in sent if name not in names)
    if unknown:
        raise UnusableRule(f"Unknown: {', '.join(unknown)}. A rule has {', '.join(sorted(names))}.")
    for name, value in sent.items():
        _check(name, value)
    rule = Rule(**sent)
    endings = [name for name in ENDINGS if getattr(rule, name) is not None]
    if len(endings) > 1:
        raise UnusableRule(f"A call ends once: choose one of {', '.join(endings)}, or send several rules.")
    if all(getattr(rule, name) is None for name in FAULTS):
        raise UnusableRule(f"A rule needs a fault: one of {', '.join(FAULTS)}.")
    return rule


def _check(name: str, value: object) -> None:
    if value is None and name in ("times", *SELECTORS):
        return
    if name == "operation":
        good, expected = value in OPERATIONS, f"one of {', '.join(OPERATIONS)}"
    elif name in ("text_contains", "reject"):
        good, expected = isinstance(value, str) and value != "", "a text"
    elif name in ("fail_before", "fail_after"):
        good, expected = _whole(value, 500, 599), "a status from 500 to 599"
    elif name == "rate_limit":
        good, expected = _whole(value, 0, 86_400) or _fraction(value), "seconds from 0 to 86400"
    elif name in ("times", *MODIFIERS):
        good, expected = _whole(value, 0, MAX_NUMBER), f"a whole number from 0 to {MAX_NUMBER}"
    else:
        good, expected = value is True, "true"
    if not good:
        raise UnusableRule(f"{name} must be {expected}.")


def _whole(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _fraction(value: object) -> bool:
    return isinstance(value, float) and 0 <= value <= 86_400
