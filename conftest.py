"""Makes the chassis' fixtures known to every test of the workspace."""

from __future__ import annotations

pytest_plugins = ["regie_chassis.testing.fixtures", "regie_chassis.testing.service_fixtures"]
