"""The statements of all services: read as text, and prepared on the migrated databases."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from regie_chassis.data.database import ARRAYS
from regie_local.testing.fixtures import NewDatabase
from regie_publisher.channels.channel import ChannelState
from regie_publisher.deliveries.delivery import Cause, State
from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql.asyncpg import dialect
from sqlalchemy.engine import make_url

ROOT = Path(__file__).parents[2]
CHASSIS = ROOT / "chassis"
SERVICES = sorted(folder.parent for folder in ROOT.glob("services/*/migrations"))
ARRAY = re.compile(r"\bAS (\w+)\[\]")

INLINE = {
    # A migration holds its own DDL, with the conditions of indexes and the defaults of columns, and runs once.
    "regie_chassis.data.migrations.upgrade": 2,
    "regie_chassis.data.migrations.run_environment": 1,
    "regie_chassis.data.migrations.create_messaging_tables": 4,
    "regie_chassis.data.migrations.add_dead_outbox": 2,
    # The condition is compiled from the rule of a preview.
    "regie_audience.segments.previews.preview_segment": 2,
    # The condition is compiled from the rule of the segment.
    "regie_audience.memberships.work._fill_chunk": 1,
    # DDL takes no parameters, and each day has a partition of its own.
    "regie_metrics.observations.partitions.Partitions._drop": 1,
    "regie_metrics.observations.partitions.ensure": 2,
}
"""How many statements a function builds when it is called."""


def test_the_causes_in_statements_are_those_of_the_list() -> None:
    sources = "".join(path.read_text() for path in ROOT.glob("services/publisher/src/**/*.py"))
    noted = re.findall(r"INSERT INTO delivery_change .*?(?:\n    \)|\"\"\")", sources, re.DOTALL)
    words = {word for statement in noted for word in re.findall(r"'(\w+)'", statement)}
    assert len(noted) >= 9
    assert {"host_silent", "call_may_land", "lease_expired"} <= words <= {*Cause, *State}


def test_the_states_in_the_publishers_statements_are_those_of_the_lists() -> None:
    sources = "".join(path.read_text() for path in ROOT.glob("services/publisher/src/**/*.py"))
    compared = re.findall(r"\bstate(?: \|\| '')? (?:=|<>|IN|NOT IN) (?:\(([^)]*)\)|('\w+'))", sources)
    words = {word for found in compared for word in re.findall(r"'(\w+)'", "".join(found))}
    assert {"pending", "publishing", "unknown", "needs_attention"} <= words <= {*State, *ChannelState}


def test_a_connection_knows_every_type_of_which_statements_take_lists() -> None:
    used = {
        name
        for project in (CHASSIS, *SERVICES)
        for _, statement in statements_of(project)
        for name in ARRAY.findall(str(statement))
    }
    assert used == set(ARRAYS)


def test_statements_are_constants() -> None:
    inline: Counter[str] = Counter()
    for project in (CHASSIS, *SERVICES):
        for name, path in modules_of(project):
            # Fakes and harnesses ask for tables by the names that a test gives.
            if ".testing." not in name:
                inline.update(f"{name}.{function}" for function in inline_statements(ast.parse(path.read_text())))
    assert inline == INLINE


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
async def test_every_statement_can_be_prepared(service: Path, new_database: NewDatabase) -> None:
    database = await new_database(service / "migrations")
    url = make_url(database.url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(url)
    try:
        own = await refusals(connection, service)
        chassis = await refusals(connection, CHASSIS)
    finally:
        await connection.close()
    refused = [f"{name}: {message}" for name, message in (own | chassis).items()]
    assert not refused, "\n".join(refused)


async def refusals(connection: asyncpg.Connection[asyncpg.Record], project: Path) -> dict[str, str]:
    """Returns PostgreSQL's message for each statement of a project that it refuses, by module and name."""
    refused: dict[str, str] = {}
    for name, statement in statements_of(project):
        try:
            await connection.prepare(str(statement.compile(dialect=dialect())))
        except asyncpg.PostgresError as error:
            refused[name] = str(error)
    return refused


def statements_of(project: Path) -> Iterator[tuple[str, TextClause]]:
    """Returns the module constants that are statements, or hold some."""
    for module, path in modules_of(project):
        if path.name != "__main__.py":
            for name, value in vars(importlib.import_module(module)).items():
                yield from ((f"{module}.{name}", statement) for statement in statements_in(value))


def statements_in(value: object) -> list[TextClause]:
    """Returns the statement, or those of a list or a mapping."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [one for one in value if isinstance(one, TextClause)]
    return [value] if isinstance(value, TextClause) else []


def modules_of(project: Path) -> Iterator[tuple[str, Path]]:
    """Returns the modules of a project by name; a package goes by its own."""
    source = project / "src"
    for path in sorted(source.rglob("*.py")):
        yield ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__"), path


def inline_statements(node: ast.AST, names: tuple[str, ...] = (), *, inside: bool = False) -> Iterator[str]:
    """Returns the function of each `text(…)` that stands in one."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        names, inside = (*names, node.name), inside or not isinstance(node, ast.ClassDef)
    if inside and isinstance(node, ast.Call) and ast.unparse(node.func) in {"text", "sa.text"}:
        yield ".".join(names)
    for child in ast.iter_child_nodes(node):
        yield from inline_statements(child, names, inside=inside)
