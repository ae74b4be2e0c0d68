"""docs/operations.md names every setting there is, and no page one that there is not."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings
from regie_chassis.process.settings import ServiceSettings
from regie_local.services import all_specs

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "operations.md"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("services/*/README.md")]
OF_MAKE = {"REGIE_PORT", "REGIE_SANDBOX_PORT", "REGIE_FOLDER"}
EVERY_SERVICE = "<SERVICE>_"
OF_COMPOSE = {"NATS_IMAGE"}
IN_A_TABLE = re.compile(r"^\| `([A-Z<>_]+)`", re.MULTILINE)


def settings_of(package: str) -> type[BaseSettings]:
    """Returns the one settings class of a service."""
    module = import_module(f"{package}.settings")
    (found,) = (
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, BaseSettings) and one.__module__ == module.__name__
    )
    return found


SERVICES = [settings_of(one.package) for one in all_specs()]


def names_of(settings: type[BaseSettings]) -> set[str]:
    """Returns the environment variables of a settings class; shared settings with a common prefix."""
    prefix = str(settings.model_config.get("env_prefix", ""))
    names = set()
    for name, field in settings.model_fields.items():
        shared = issubclass(settings, ServiceSettings) and name in ServiceSettings.model_fields
        names.add(str(field.validation_alias or (EVERY_SERVICE if shared else prefix) + name.upper()))
    return names


@pytest.mark.parametrize("settings", SERVICES, ids=lambda settings: settings.__module__)
def test_every_setting_is_in_a_table_of_the_operations_page(settings: type[BaseSettings]) -> None:
    missing = names_of(settings) - set(IN_A_TABLE.findall(DOCUMENT.read_text()))
    assert not missing, f"docs/operations.md does not tell of {sorted(missing)}"


def test_the_operations_page_tells_of_no_setting_that_does_not_exist() -> None:
    known = set().union(*(names_of(settings) for settings in SERVICES)) | OF_MAKE
    unknown = set(IN_A_TABLE.findall(DOCUMENT.read_text())) - known
    assert not unknown, f"docs/operations.md tells of {sorted(unknown)}, which nothing reads"


def test_the_pages_name_no_setting_that_does_not_exist() -> None:
    names = set().union(*(names_of(settings) for settings in SERVICES)) | OF_MAKE | OF_COMPOSE
    of_each = {name.removeprefix(EVERY_SERVICE) for name in names if name.startswith(EVERY_SERVICE)}
    prefixes = [one.name.upper() for one in all_specs()]
    known = names | {f"{prefix}_{name}" for prefix in prefixes for name in of_each}
    form = re.compile(rf"(?:<SERVICE>|\b(?:{'|'.join([*prefixes, 'NATS', 'REGIE'])}))_[A-Z_]+\b")
    told = {name for page in PAGES for name in form.findall(page.read_text())}
    assert len(told) > 40
    assert not told - known
