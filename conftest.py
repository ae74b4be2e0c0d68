"""Makes the chassis' fixtures known to every test of the workspace."""

from __future__ import annotations

pytest_plugins = ["regie_local.testing.fixtures", "regie_local.testing.service_fixtures"]
