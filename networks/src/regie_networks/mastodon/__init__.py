"""Mastodon, and the servers that speak its API: GoToSocial, Takahe, Hollo, Pleroma and others."""
