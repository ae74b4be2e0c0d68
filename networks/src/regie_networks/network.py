"""The descriptor of a network: every fact about it that is data and no code."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

import httpx2

from regie_networks.content import ContentRules
from regie_networks.contract import NetworkConnector
from regie_networks.credentials import CredentialField
from regie_networks.oauth import OAuth


class Once(StrEnum):
    """The means by which a post is published once (docs/networks.md)."""

    OWN_KEY = "own_key"
    """A key of our own makes the write idempotent."""
    SERVER_KEY = "server_key"
    """The server honours a key for a while, as far as it is known to."""
    COMMIT_STATE = "commit_state"
    """The commit of a prepared post has a state of its own, which can be asked for."""
    DUPLICATE_REFUSED = "duplicate_refused"
    """The network refuses the same content twice."""
    NONE = "none"
    """Nothing prevents a second post; only an absence that is proven by reading permits one."""


class Verb(StrEnum):
    """The operations of a connector on the network."""

    PUBLISH = "publish"
    POST_METRICS = "post_metrics"
    DELETE = "delete"
    ACCOUNT_METRICS = "account_metrics"
    REPLIES = "replies"
    OAUTH = "oauth"


class ServerAddress(StrEnum):
    """Whether `server_url` is asked for when a channel is connected."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"


class ConnectorFactory(Protocol):
    """Makes a network's connector. `main_server` replaces the network's own main server where it is not empty."""

    def __call__(self, client: httpx2.AsyncClient, *, quiet: timedelta, main_server: str = "") -> NetworkConnector:
        """Returns the connector; makes no call."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network.

    `documentation_url` is the network's own documentation, empty where it has none on the web.
    `metrics` are names of the metrics service's list, `account_metrics` those of `ACCOUNT_METRICS`.
    `is_stand_in` is true for a network that exists for trials alone and is offered only where a setting allows it.
    """

    name: str
    title: str
    documentation_url: str
    rules: ContentRules
    metrics: tuple[str, ...]
    account_metrics: tuple[str, ...]
    credentials: tuple[CredentialField, ...]
    oauth: OAuth | None
    server_address: ServerAddress
    main_server: str
    once: Once
    verbs: tuple[Verb, ...]
    connector: ConnectorFactory
    is_stand_in: bool = False
