"""The outside face: HTTP in, messages to the services behind, JSON out."""
