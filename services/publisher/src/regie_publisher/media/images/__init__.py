"""Pictures: normalised once at upload and made smaller for networks, in child processes with limits (ADR 0022).

`pool` is the way in. What runs in a child imports neither gRPC nor the database, so that a child starts fast and holds
no secret.
"""
