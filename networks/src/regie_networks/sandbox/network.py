"""The descriptor of the sandbox network."""

from __future__ import annotations

from regie_networks.network import Network, Once, ServerAddress, Verb
from regie_networks.observation import ACCOUNT_METRICS
from regie_networks.sandbox.connector import MAIN_SERVER, METRICS, SandboxConnector
from regie_networks.sandbox.credentials import FIELDS
from regie_networks.sandbox.oauth import OAUTH
from regie_networks.sandbox.rules import RULES

NETWORK = Network(
    name="sandbox",
    title="Sandbox",
    documentation_url="",
    rules=RULES,
    metrics=METRICS,
    account_metrics=ACCOUNT_METRICS,
    credentials=FIELDS,
    oauth=OAUTH,
    server_address=ServerAddress.OPTIONAL,
    main_server=MAIN_SERVER,
    once=Once.NONE,
    verbs=(Verb.PUBLISH, Verb.POST_METRICS, Verb.DELETE, Verb.ACCOUNT_METRICS, Verb.REPLIES, Verb.OAUTH),
    connector=SandboxConnector,
    is_stand_in=True,
)
