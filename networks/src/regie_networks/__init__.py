"""Connectors to social networks; they know no database, no events and no service."""
