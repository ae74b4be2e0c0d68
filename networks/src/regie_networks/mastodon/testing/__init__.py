"""What tests of the Mastodon connector stand on: a server in memory, its description, and drafts to publish."""
