"""A Bluesky server in memory, for tests."""
