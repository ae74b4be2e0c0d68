"""The workspace and its API keys."""
