"""Turns a framework's validation errors into our own sentences: the mistake, its place, and the value to give instead.

The place is a JSON Pointer (RFC 6901) into the body, or the bare name of a path, query or header parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import PydanticCustomError

STATUS = 422
REASON = "INVALID_REQUEST"

MESSAGES: Mapping[str, str] = {
    "missing": "this is required; give it",
    "extra_forbidden": "there is nothing of this name here; leave it out",
    "string_type": "give a text",
    "string_too_short": "give at least {min_length} {characters}",
    "string_too_long": "give at most {max_length} {characters}",
    "string_pattern_mismatch": "this does not have the form {pattern}",
    "int_type": "give a whole number",
    "int_parsing": "give a whole number",
    "int_parsing_size": "give a smaller whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "float_parsing": "give a number",
    "finite_number": "give a finite number",
    "bool_type": "give true or false",
    "bool_parsing": "give true or false",
    "path_type": "give a path",
    "list_type": "give a list",
    "dict_type": "give an object",
    "model_type": "give an object",
    "model_attributes_type": "give an object",
    "too_short": "give at least {min_length} {entries}",
    "too_long": "give at most {max_length} {entries}",
    "greater_than_equal": "give {ge} or more",
    "greater_than": "give more than {gt}",
    "less_than_equal": "give {le} or less",
    "less_than": "give less than {lt}",
    "literal_error": "give one of {expected}",
    "json_invalid": "give JSON",
}


class Finding(NamedTuple):
    """A mistake in a request and its place; an empty place is the whole body."""

    status: int
    reason: str
    place: str
    message: str


def refusal(message: str, *, status: int = STATUS, reason: str = REASON) -> PydanticCustomError:
    """Returns an error whose message reaches the caller word for word when a validator raises it."""
    return PydanticCustomError("refusal", "{message}", {"message": message, "status": status, "reason": reason})


def first_finding(errors: Sequence[Mapping[str, Any]], body: Any) -> Finding:
    """Returns the first of a framework's errors as the caller gets it."""
    error = errors[0]
    location = tuple(error["loc"])
    source, *rest = location or ("body",)
    if source == "body":
        place = pointer(rest, body, to_a_name=error["type"] in {"missing", "extra_forbidden"})
    else:
        place = str(rest[0]) if rest else ""
    if error["type"] == "refusal":
        context = error["ctx"]
        return Finding(context["status"], context["reason"], place, context["message"])
    return Finding(STATUS, REASON, place, sentence(error))


def pointer(location: Sequence[int | str], body: Any, *, to_a_name: bool = False) -> str:
    """Returns a place in the body as a JSON Pointer.

    Locations also name the branches of unions; only steps that exist in the body are kept, and the last one where it
    names a missing member.
    """
    steps: list[str] = []
    value = body
    for number, step in enumerate(location):
        if _has(value, step):
            value = value[step]
        elif not (to_a_name and number == len(location) - 1):
            continue
        steps.append(str(step))
    return join(steps)


def _has(value: Any, step: int | str) -> bool:
    if isinstance(value, Mapping):
        return step in value
    return isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value)


def join(steps: Sequence[str]) -> str:
    """Returns the steps as a JSON Pointer."""
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


def _nouns(context: Mapping[str, Any]) -> dict[str, str]:
    """Returns the nouns that a length counts, in the number that it asks for."""
    length = context.get("min_length", context.get("max_length"))
    return {noun: one if length == 1 else noun for noun, one in (("characters", "character"), ("entries", "entry"))}


def sentence(error: Mapping[str, Any]) -> str:
    """Returns one of a framework's errors as the value to give instead."""
    context = error.get("ctx") or {}
    template = MESSAGES.get(error["type"])
    if template:
        try:
            return template.format(**context, **_nouns(context))
        except KeyError:
            return str(error["msg"])
    if error["type"] == "value_error":
        return str(context["error"])
    return str(error["msg"]).removeprefix("Input should be ")
