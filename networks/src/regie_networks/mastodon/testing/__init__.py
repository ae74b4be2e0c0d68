"""The test kit of the Mastodon connector: a server in memory, its description, and drafts to publish."""
