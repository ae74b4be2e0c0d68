"""Makes the test kit's fixtures known to every test of the workspace, and orders the tests for several workers."""

from __future__ import annotations

import pytest

pytest_plugins = ["regie_local.testing.fixtures", "regie_local.testing.service_fixtures"]

SHARED = "installation"
"""The one fixture that is dear to make and that whole files share: its tests run in one worker."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts the long tests first, two at a time: each starts processes that a small machine has no room for."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for number, item in enumerate(items):
        if item.get_closest_marker("xdist_group") is not None:
            continue
        if SHARED in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group(SHARED))
        elif item.get_closest_marker("long") is not None:
            item.add_marker(pytest.mark.xdist_group(f"long {number % 2}"))
