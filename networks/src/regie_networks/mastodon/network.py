"""The descriptor of Mastodon and its relatives."""

from __future__ import annotations

from regie_networks.mastodon.connector import MastodonConnector
from regie_networks.mastodon.credentials import FIELDS
from regie_networks.mastodon.metrics import METRICS
from regie_networks.mastodon.oauth import OAUTH
from regie_networks.mastodon.rules import RULES
from regie_networks.network import Network, Once, ServerAddress, Verb
from regie_networks.observation import ACCOUNT_METRICS

NETWORK = Network(
    name="mastodon",
    title="Mastodon and its relatives",
    documentation_url="https://docs.joinmastodon.org/client/intro/",
    rules=RULES,
    metrics=METRICS,
    account_metrics=ACCOUNT_METRICS,
    credentials=FIELDS,
    oauth=OAUTH,
    server_address=ServerAddress.REQUIRED,
    main_server="",
    once=Once.SERVER_KEY,
    verbs=(Verb.PUBLISH, Verb.POST_METRICS, Verb.DELETE, Verb.ACCOUNT_METRICS, Verb.REPLIES, Verb.OAUTH),
    connector=MastodonConnector,
)
