"""The descriptor of Bluesky."""

from __future__ import annotations

from regie_networks.bluesky.client import DEFAULT_SERVER
from regie_networks.bluesky.connector import BlueskyConnector
from regie_networks.bluesky.credentials import FIELDS
from regie_networks.bluesky.metrics import METRICS
from regie_networks.bluesky.rules import RULES
from regie_networks.network import Network, Once, ServerAddress, Verb

NETWORK = Network(
    name="bluesky",
    title="Bluesky",
    documentation_url="https://docs.bsky.app",
    rules=RULES,
    metrics=METRICS,
    credentials=FIELDS,
    server_address=ServerAddress.OPTIONAL,
    main_server=DEFAULT_SERVER,
    once=Once.OWN_KEY,
    verbs=(Verb.PUBLISH, Verb.POST_METRICS),
    connector=BlueskyConnector,
)
