"""Many rows as parameters of one statement: an array for each column, which PostgreSQL unnests into rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Columns:
    """The columns of the rows that a statement takes as arrays, with their SQL types.

        _ROWS = Columns(id="uuid", body="text")
        _INSERT = text(f"INSERT INTO note ({_ROWS.names}) SELECT {_ROWS.names} FROM {_ROWS.unnest}")
        await session.execute(_INSERT, _ROWS.parameters([(id, body), …]))

    Inside the statement the rows are called `alias`; their parameters begin with it, so that others keep their names.
    """

    def __init__(self, alias: str = "given", /, **types: str) -> None:
        self._alias = alias
        self._types = types

    @property
    def names(self) -> str:
        """The columns, separated by commas."""
        return ", ".join(self._types)

    @property
    def unnest(self) -> str:
        """The rows as an item of FROM."""
        arrays = ", ".join(f"CAST(:{self._parameter(name)} AS {kind}[])" for name, kind in self._types.items())
        return f"unnest({arrays}) AS {self._alias} ({self.names})"

    def parameters(self, rows: Iterable[Sequence[object]]) -> dict[str, list[object]]:
        """Returns the parameters for rows with their values in the order of the columns."""
        columns = list(zip(*rows, strict=True)) or [()] * len(self._types)
        return {self._parameter(name): list(values) for name, values in zip(self._types, columns, strict=True)}

    def parameters_of(self, items: Iterable[object]) -> dict[str, list[object]]:
        """Returns the parameters for objects that have an attribute for each column."""
        items = list(items)
        return {self._parameter(name): [getattr(one, name) for one in items] for name in self._types}

    def _parameter(self, name: str) -> str:
        return f"{self._alias}_{name}"
