"""The public resources over HTTP, one folder an area."""
