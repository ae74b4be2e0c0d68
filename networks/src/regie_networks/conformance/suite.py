"""The behaviour that the delivery protocol relies on, as tests that each network runs."""

from __future__ import annotations

from regie_networks.conformance.accounts import Accounts
from regie_networks.conformance.authorization import Authorization
from regie_networks.conformance.content import Content
from regie_networks.conformance.conversations import Conversations
from regie_networks.conformance.hostility import Hostility
from regie_networks.conformance.publishing import Publishing


class Conformance(Publishing, Content, Conversations, Accounts, Authorization, Hostility):
    """The suite. A subclass has a fixture `harness` that returns a fresh `Harness`."""
