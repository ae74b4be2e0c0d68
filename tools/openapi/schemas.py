"""Compares two JSON schemas of a document's two versions, from the side of a client that was built on the older one.

In a request the newer schema must take all that the older one took; in an answer it must not hold more than the older
one promised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
Document = Mapping[str, Any]

UPPER = ("maximum", "maxLength", "maxItems", "maxProperties")
LOWER = ("minimum", "minLength", "minItems", "minProperties")
EXACT = ("pattern", "format", "patternProperties", "propertyNames")


class Comparison:
    """Two versions of a document; `request` chooses the side."""

    def __init__(self, old: Document, new: Document, *, request: bool) -> None:
        self._old = old
        self._new = new
        self._request = request
        self._compared: set[tuple[int, int]] = set()

    def changes(self, place: str, old: Schema, new: Schema) -> Iterator[str]:
        """Yields the breaking changes of a schema, each with its place."""
        before, after = alternatives(self._old, old), alternatives(self._new, new)
        pairs = _pair(before, after)
        for lost in [one for one in before if not any(one is left for left, _ in pairs)]:
            yield f"{place} is no {_form(lost)} any more"
        if not self._request:
            for gained in [one for one in after if not any(one is right for _, right in pairs)]:
                yield f"{place} can be {_form(gained)} now"
        for left, right in pairs:
            if (id(left), id(right)) not in self._compared:  # schemas may hold themselves
                self._compared.add((id(left), id(right)))
                yield from self._of_pair(place, left, right)

    def _of_pair(self, place: str, old: Schema, new: Schema) -> Iterator[str]:
        for value in _values(old) or ():
            if (allowed := _values(new)) is not None and value not in allowed:
                yield f"{place} has no value {value!r} any more"
        if self._request:
            yield from _narrowed(place, old, new)
        elif _values(old) is not None and _values(new) is None:
            yield f"{place} is no closed list any more"
        yield from self._of_object(place, old, new)
        if "items" in old and "items" in new:
            yield from self.changes(f"{place}/[]", old["items"], new["items"])
        if isinstance(old.get("additionalProperties"), dict) and isinstance(new.get("additionalProperties"), dict):
            yield from self.changes(f"{place}/*", old["additionalProperties"], new["additionalProperties"])

    def _of_object(self, place: str, old: Schema, new: Schema) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name in sorted(before.keys() - after.keys()):
            yield f"{place}/{name} is gone"
        for name in sorted(before.keys() & after.keys()):
            yield from self.changes(f"{place}/{name}", before[name], after[name])
        was, now = set(old.get("required", ())), set(new.get("required", ()))
        if self._request:
            for name in sorted(now - was):
                yield f"{place}/{name} is required now"
        else:
            for name in sorted((was - now) & after.keys()):
                yield f"{place}/{name} may be absent now"


def alternatives(document: Document, schema: Schema) -> list[Schema]:
    """Returns the forms that a value may have, each without references."""
    if "$ref" in schema:
        return alternatives(document, resolve(document, schema["$ref"]))
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return [form for one in schema[keyword] for form in alternatives(document, one)]
    if "allOf" in schema:
        raise NotImplementedError("allOf is not compared; the gateway's document has none")
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    return [schema]


def resolve(document: Document, reference: str) -> Schema:
    """Returns the part of the document that a reference names."""
    value: Any = document
    for step in reference.removeprefix("#/").split("/"):
        value = value[step]
    schema: Schema = value
    return schema


def _pair(before: list[Schema], after: list[Schema]) -> list[tuple[Schema, Schema]]:
    """Pairs forms of both versions: those of the same title first, then those of the same type."""
    pairs: list[tuple[Schema, Schema]] = []
    left, right = list(before), list(after)
    for keys in (("title", "type"), ("type",)):
        for old in list(left):
            match = next((new for new in right if all(old.get(key) == new.get(key) for key in keys)), None)
            if match is not None and (keys == ("type",) or "title" in old):
                pairs.append((old, match))
                left = [one for one in left if one is not old]
                right = [one for one in right if one is not match]
    return pairs


def _values(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _narrowed(place: str, old: Schema, new: Schema) -> Iterator[str]:
    if _values(new) is not None and _values(old) is None:
        yield f"{place} is a closed list now"
    if new.get("additionalProperties") is False and old.get("additionalProperties") is not False:
        yield f"{place} takes no other names any more"
    yield from _bounds(place, old, new)


def _bounds(place: str, old: Schema, new: Schema) -> Iterator[str]:
    for keyword in UPPER:
        if keyword in new and new[keyword] < old.get(keyword, float("inf")):
            yield f"{place} has a lower {keyword}: {new[keyword]}"
    for keyword in LOWER:
        if keyword in new and new[keyword] > old.get(keyword, 0):
            yield f"{place} has a higher {keyword}: {new[keyword]}"
    for keyword in EXACT:
        if keyword in new and new[keyword] != old.get(keyword):
            yield f"{place} has another {keyword}"


def _form(schema: Schema) -> str:
    return str(schema.get("title") or schema.get("type") or "value of its own")
