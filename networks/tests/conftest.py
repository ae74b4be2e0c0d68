"""A Mastodon server in memory, held against the network's own description, and the connector to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from regie_networks.contract import Connector
from regie_networks.mastodon.connector import MastodonConnector
from regie_networks.mastodon.testing.description import Description, load_description
from regie_networks.mastodon.testing.drafts import StepClock
from regie_networks.mastodon.testing.server import FakeMastodon

pytest.register_assert_rewrite("regie_networks.conformance")


@pytest.fixture(scope="session")
def description() -> Description:
    """Mastodon's OpenAPI description."""
    return load_description(Path(__file__).parents[2])


@pytest.fixture
def server(description: Description) -> FakeMastodon:
    """A server that checks each exchange against the description."""
    return FakeMastodon(watch=description.check)


@pytest.fixture
def clock() -> StepClock:
    """A clock with waits that end at once."""
    return StepClock()


@pytest.fixture
def mastodon(server: FakeMastodon, clock: StepClock) -> Connector:
    """The connector to the server."""
    return MastodonConnector(server.client(), clock=clock)
