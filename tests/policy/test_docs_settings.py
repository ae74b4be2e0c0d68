"""docs/operations.md names every setting there is, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings
from regie_audience.settings import AudienceSettings
from regie_chassis.settings import ServiceSettings
from regie_gateway.settings import GatewaySettings
from regie_metrics.settings import MetricsSettings
from regie_publisher.settings import PublisherSettings
from regie_sandbox.settings import Settings as SandboxSettings
from regie_scheduler.settings import SchedulerSettings

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
SERVICES: tuple[type[BaseSettings], ...] = (
    AudienceSettings,
    GatewaySettings,
    MetricsSettings,
    PublisherSettings,
    SandboxSettings,
    SchedulerSettings,
)
OF_MAKE = {"REGIE_PORT", "REGIE_SANDBOX_PORT", "REGIE_FOLDER"}
EVERY_SERVICE = "<SERVICE>_"
IN_A_TABLE = re.compile(r"^\| `([A-Z<>_]+)`", re.MULTILINE)


def names_of(settings: type[BaseSettings]) -> set[str]:
    """Returns the environment variables of a settings class; those that all services have with a common prefix."""
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
