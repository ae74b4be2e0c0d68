"""Mastodon, and the servers that speak its API: GoToSocial, Takahe, Hollo, Pleroma and others."""

from regie_publisher.connectors.mastodon.connector import MastodonConnector

__all__ = ["MastodonConnector"]
