"""Channels, media, and deliveries to networks."""
