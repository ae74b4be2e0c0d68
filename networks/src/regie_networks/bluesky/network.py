"""The descriptor of Bluesky."""

from __future__ import annotations

from regie_networks.bluesky.client import DEFAULT_SERVER
from regie_networks.bluesky.connector import BlueskyConnector
from regie_networks.bluesky.credentials import FIELDS
from regie_networks.bluesky.metrics import METRICS
from regie_networks.bluesky.rules import RULES
from regie_networks.network import Network, Once, ServerAddress, Verb
from regie_networks.observation import ACCOUNT_METRICS

NETWORK = Network(
    name="bluesky",
    title="Bluesky",
    documentation_url="https://docs.bsky.app",
    rules=RULES,
    metrics=METRICS,
    account_metrics=ACCOUNT_METRICS,
    credentials=FIELDS,
    oauth=None,
    server_address=ServerAddress.OPTIONAL,
    main_server=DEFAULT_SERVER,
    once=Once.OWN_KEY,
    verbs=(Verb.PUBLISH, Verb.POST_METRICS, Verb.DELETE, Verb.ACCOUNT_METRICS, Verb.REPLIES),
    connector=BlueskyConnector,
)
