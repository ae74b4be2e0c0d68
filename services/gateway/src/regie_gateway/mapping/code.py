"""Writes a function that builds a dict from the attributes of an object, as straight-line code."""

from __future__ import annotations

from collections.abc import Callable
from keyword import iskeyword
from typing import Any

Mapper = Callable[[Any], dict[str, Any]]


class Code:
    """The code of one function, an entry of its dict at a time. It calls its argument `source`."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bound: dict[str, Any] = {}
        self._entries: list[str] = []

    def bind(self, value: object) -> str:
        """Returns the name under which the code knows a value."""
        name = f"bound_{len(self._bound)}"
        self._bound[name] = value
        return name

    def add(self, key: str, expression: str) -> None:
        """Adds an entry to the dict."""
        self._entries.append(f"        {key!r}: {expression},")

    def compile(self) -> Mapper:
        """Returns the function; a traceback through it shows the title."""
        lines = ["def to_json(source):", "    return {", *self._entries, "    }"]
        code = compile("\n".join(lines), f"<{self._title}>", "exec")
        exec(code, self._bound)  # noqa: S102  # names of descriptors and models only, as dataclasses does it
        mapper: Mapper = self._bound["to_json"]
        return mapper


def attribute(name: str) -> str:
    """Returns the expression for an attribute of the source."""
    return f"getattr(source, {name!r})" if iskeyword(name) else f"source.{name}"
