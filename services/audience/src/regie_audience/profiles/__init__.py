"""Profiles: people as far as a workspace knows them."""
